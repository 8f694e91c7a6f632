# Each target sets itself up in .venv with python3 -m venv and pip; nothing else is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SETTINGS := pyproject.toml constraints.txt
# An independent library of curvature matrices that tests compare with. It goes in without what it
# asks for, which brings a torchvision of another build than torch.
ORACLES := curvlinops-for-pytorch backpack-for-pytorch einconv einops jaxtyping linear_operator \
	opt-einsum unfoldnd wadler-lindig

.PHONY: race test check mutate bench docs clean browser

## race: train real digits with several algorithms and write race/report.html
race: $(VENV)/.ready-to-race
	$(BIN)/thalweg race digits --out race

## test: run every test
test: $(VENV)/.ready-to-test browser
	$(BIN)/python -m pytest -n auto

## check: lint, types, the import contract, the README's commands
check: $(VENV)/.ready-to-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_readme.py

## mutate: break every rule in turn and see that the tests notice
mutate: $(VENV)/.ready-to-test
	$(BIN)/python tests/mutation/mutate.py

## bench: step times and the training loop's overhead, on an idle machine
bench: $(VENV)/.ready-to-race
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/matrix_rules.py
	$(BIN)/python benchmarks/train_overhead.py

## docs: build the pages into docs/_build/html
docs: $(VENV)/.ready-to-test
	$(BIN)/python -m sphinx -q -b html docs docs/_build/html

# Torch goes first, so that nothing else chooses its build.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	@touch $@

$(VENV)/.ready-to-race: $(VENV)/.torch $(SETTINGS)
	$(PIP) --editable '.[digits,text]'
	@touch $@

$(VENV)/.ready-to-test: $(VENV)/.torch $(SETTINGS)
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps $(ORACLES)
	@touch $@ $(VENV)/.ready-to-race

# The report is tested in a real browser: $CHROMIUM, one on the PATH, or else one that is installed
# here, by apt-get if that is possible and by Playwright if not.
browser: $(VENV)/.ready-to-test
	@[ -n "$$CHROMIUM" ] && exit 0; \
	for name in chromium chromium-browser google-chrome chrome; do \
		command -v $$name > /dev/null && exit 0; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && apt-get install -y -qq chromium > /dev/null && exit 0; \
	fi; \
	$(BIN)/playwright install chromium

clean:
	rm -rf $(VENV) race docs/_build docs/rules
