"""The user's own workload: a plain Python file with a model, data, a loss and a metric."""

import importlib.resources
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.workload.batches import Batches
from thalweg.workload.trace import describe_error
from thalweg.workload.workload import Workload, model_loss

FUNCTIONS: dict[str, tuple[str, ...]] = {
    "model": (),
    "data": (),
    "loss": ("model", "batch"),
    "metric": ("model", "batch"),
}
SETTINGS: dict[str, Any] = {
    "title": "",
    "metric_name": "metric",
    "higher_is_better": True,
    "batch_size": 64,
    "steps": 300,
    "target": None,
    "evaluate_every": None,
    "collate": None,
    "description": "",
    "architecture": "",
    "loss_name": "",
    "data_source": "",
    "licence": "",
}


def load_file(path: str | Path) -> Workload:
    """Return the workload that a Python file defines.

    The file has functions ``model()``, ``data()`` (returns training and validation data),
    ``loss(model, batch)`` and ``metric(model, batch)``. ``loss`` may be left out if batches are
    dicts and ``model(**batch).loss`` is the loss. It may set, at its top level, ``metric_name``,
    ``higher_is_better``, ``batch_size``, ``steps``, ``target``, ``evaluate_every``, ``collate``,
    and the texts ``title``, ``description``, ``architecture``, ``loss_name``, ``data_source`` and
    ``licence``. The file runs as a script would, with its own folder first on the import path.

    Raises:
        UsageError: the file is missing or fails, a function is missing, not a function or takes
            other arguments, a setting is misspelt or impossible, or ``data()`` fails or returns
            something else than two data sets.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"there is no task file {path}; write one with: thalweg new {path}")
    if not path.is_file():
        raise UsageError(f"a task file is a Python file, and {path} is a folder")
    module = _run(path)
    functions = {name: _function(module, path, name) for name in FUNCTIONS}
    settings = _settings(module, path)
    train, validation = _data(functions["data"], path)
    workload = {
        "name": path.stem,
        "model": functions["model"],
        "train": train,
        "validation": validation,
        "metric": functions["metric"],
        "loss": functions["loss"] or model_loss,
        "source_file": str(path.resolve()),
        **settings,
    }
    workload["title"] = settings["title"] or path.stem
    found = Workload(**workload)
    if functions["loss"] is None and not _batches_are_dicts(found):
        raise UsageError(
            f"{path} has no function loss(model, batch); it may be left out only if batches are "
            "dicts and the loss is model(**batch).loss"
        )
    return found


def write_template(path: str | Path) -> Path:
    """Write a short, commented task file that runs as it is.

    Returns:
        The path of the file.

    Raises:
        UsageError: the name does not end in ``.py``, the folder does not exist, or there is such
            a file already, which is left alone.
    """
    path = Path(path)
    if path.suffix != ".py":
        raise UsageError(f"a task file is a Python file: its name ends in .py, found {path.name}")
    text = importlib.resources.files("thalweg.workload").joinpath("starter.py").read_text("utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already and was left as it is") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return path


def _batches_are_dicts(workload: Workload) -> bool:
    if isinstance(workload.train, Mapping):
        return True
    batches = Batches(workload.train, workload.batch_size, collate=workload.collate)
    try:
        return isinstance(batches.at(0), Mapping)
    except UsageError:
        raise
    except Exception as error:
        place = describe_error(error, workload.source_file)
        raise UsageError(f"{workload.name}: reading the first batch failed:\n{place}") from error


def _run(path: Path) -> ModuleType:
    name = f"thalweg_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"a task file is a Python file: its name ends in .py, found {path.name}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # data-loader workers and dataclasses look it up
    try:
        with GlobalStream(derive_seed(0, "task file")):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(
            f"the task file {path} does not import:\n{describe_error(error, str(path))}"
        ) from error
    return module


def _function(module: ModuleType, path: Path, name: str) -> Any:
    found = getattr(module, name, None)
    arguments = FUNCTIONS[name]
    wanted = f"{name}({', '.join(arguments)})"
    if found is None:
        if name == "loss":
            return None  # allowed if batches are dicts
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        near = get_close_matches(name, set(functions) - set(FUNCTIONS), n=1)
        hint = f' It has "{near[0]}"; rename it?' if near else ""
        raise UsageError(f"{path} has no function {wanted}.{hint}")
    if not callable(found):
        raise UsageError(
            f"{path}: {name} must be a function {wanted}, found {type(found).__name__}"
        )
    try:
        signature = inspect.signature(found)
    except ValueError:  # some built-in callables have none
        return found
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise UsageError(
            f"{path}: {name}{signature} cannot be called as {wanted}: {error}"
        ) from None
    return found


def _settings(module: ModuleType, path: Path) -> dict[str, Any]:
    settings = {key: getattr(module, key, default) for key, default in SETTINGS.items()}
    known = [*SETTINGS, *FUNCTIONS]
    for key, value in vars(module).items():
        plain = value is None or isinstance(value, (bool, int, float, str))
        if key.startswith("_") or key in known or key.isupper() or not plain:
            continue
        near = get_close_matches(key.lower(), SETTINGS, n=1, cutoff=0.8)
        if near:
            raise UsageError(
                f'{path} sets "{key}", which is not a setting. Did you mean "{near[0]}"? '
                f"(If it is yours, call it _{key} or {key.upper()}.)"
            )
    return settings


def _data(function: Any, path: Path) -> tuple[Any, Any]:
    try:
        with GlobalStream(derive_seed(0, "data")):
            found = function()
    except Exception as error:
        raise UsageError(f"{path}: data() failed:\n{describe_error(error, str(path))}") from error
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        what = f"{len(found)} things" if isinstance(found, (tuple, list)) else type(found).__name__
        raise UsageError(
            f"{path}: data() must return two things, training data and validation data; "
            f"found {what}"
        )
    return found[0], found[1]
