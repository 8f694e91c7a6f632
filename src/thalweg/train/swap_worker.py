"""One worker process of `thalweg.train.swap`: ``python -m thalweg.train.swap_worker FOLDER I``."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.files import write_atomically
from thalweg.core.seeds import derive_seed
from thalweg.train.events import Callback
from thalweg.train.fit import fit
from thalweg.train.result import Point, Result
from thalweg.train.run import Run
from thalweg.workload import Workload, load
from thalweg.workload.check import new_model


class _Reached(Exception):  # noqa: N818 - it ends a phase, and is no error
    """The first phase is over."""


class _Until(Callback):
    """Ends the first phase, and keeps the training weights that it ends with, and facts."""

    def __init__(self, until: float) -> None:
        self._until = until
        self.weights: dict[str, Tensor] = {}
        self.facts: dict[str, Any] = {}

    def on_evaluate(self, run: Run, point: Point) -> None:
        metric = run.training_metric()
        if run.workload.reached(metric, self._until):
            self._keep(run, metric, True)
            raise _Reached

    def on_end(self, run: Run, result: Result) -> None:
        # Here and not at the last evaluation, which a run that goes on from its end has behind it.
        if result.status == "ok":
            self._keep(run, run.training_metric(), False)

    def _keep(self, run: Run, metric: float, reached: bool) -> None:
        state = run.model.state_dict()
        self.weights = {name: x.detach().cpu().clone() for name, x in state.items()}
        self.facts = {
            "first_steps": run.step,
            "first_metric": metric,
            "reached": reached,
            "metric": run.curve[-1].metric,
        }


def main(folder: Path, number: int) -> None:
    """Take part in the first phase, do the second, write weights and what they are worth."""
    done = folder / f"worker-{number}.json"
    # Without the end of the first phase all have to take part in it again, whatever they have done.
    if done.exists() and (folder / "first.json").exists():
        return
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    problem = load(plan["workload"])
    weights, facts = _first(folder, number, plan, problem)
    if plan["second_steps"]:
        weights, facts["metric"] = _second(folder, number, plan, problem, weights)
    write_atomically(folder / f"worker-{number}.safetensors", save(weights))
    write_atomically(done, json.dumps(facts).encode())


def _first(folder: Path, number: int, plan: dict, problem: Workload) -> tuple[dict, dict]:
    """Return the weights of the first phase, and facts of its end, the same for all workers."""
    file, facts = folder / "first.safetensors", folder / "first.json"
    if facts.exists():
        return load_file(file), json.loads(facts.read_text(encoding="utf-8"))
    until = _Until(plan["until"])
    try:
        result = fit(
            dataclasses.replace(problem, batch_size=plan["first_batch"]),
            plan["first"],
            steps=plan["first_steps"],
            seed=plan["seed"],
            device="cpu",
            evaluate_every=plan["evaluate_every"],
            callbacks=[until],
            checkpoint=folder / "first",
            threads=plan["threads"],
            parallel="ddp" if plan["workers"] > 1 else None,
        )
    except _Reached:
        pass
    else:
        if result.status != "ok":
            raise UsageError(f"the first phase {result.status}: {result.error}")
    if number == 0:
        write_atomically(file, save(until.weights))
        write_atomically(facts, json.dumps(until.facts).encode())
    return until.weights, until.facts


def _second(
    folder: Path, number: int, plan: dict, problem: Workload, weights: dict[str, Tensor]
) -> tuple[dict[str, Tensor], float]:
    """Return a worker's own weights and metric after the second phase."""

    def start() -> nn.Module:
        model = new_model(problem)
        model.load_state_dict(weights)
        return model

    result = fit(
        dataclasses.replace(problem, model=start),
        plan["second"],
        steps=plan["second_steps"],
        seed=derive_seed(plan["seed"], "swap", number) >> 32,
        device="cpu",
        evaluate_every=plan["second_steps"],
        checkpoint=folder / f"second-{number}",
        checkpoint_every=plan["evaluate_every"],
        threads=plan["threads"],
    )
    if result.status != "ok" or result.final_metric is None:
        raise UsageError(f"the second phase of worker {number} {result.status}: {result.error}")
    return result.weights, result.final_metric


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
