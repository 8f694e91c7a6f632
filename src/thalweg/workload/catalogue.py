"""Workloads by name, and the user's own by the path of a file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thalweg.core.errors import UnknownNameError
from thalweg.workload import digits, quadratic, text
from thalweg.workload.own import load_file
from thalweg.workload.workload import Workload

_FACTS: dict[str, Mapping[str, Any]] = {
    facts["name"]: facts for facts in (digits.FACTS, quadratic.FACTS, text.FACTS)
}
_BUILDERS: dict[str, Callable[[], Workload]] = {
    "digits": digits.digits,
    "quadratic": quadratic.quadratic,
    "text": text.text,
}
_RUNGS: dict[str, Callable[[], Workload]] = {"text-4x": text.text_4x}
"""Larger ones of the same, which `names` leaves out."""


def names() -> list[str]:
    """Return the names of the workloads that come with Thalweg."""
    return list(_BUILDERS)


def describe() -> list[dict[str, Any]]:
    """Return what the workloads that come with Thalweg are, without reading their data.

    Each is a dict with the keys name, title, description, architecture, loss_name, metric_name,
    higher_is_better, batch_size, steps, evaluate_every, data_source and licence.
    """
    return [dict(_FACTS[name]) for name in names()]


def load(name_or_path: str | Path) -> Workload:
    """Return a workload by its name, or the one that a Python file defines.

    Args:
        name_or_path: one of `names`, or the path of a file that ends in ``.py``.

    Raises:
        UsageError: there is no such name or file, its data are not installed, or the file cannot
            be used.
    """
    text = str(name_or_path)
    if text in _BUILDERS:
        return _BUILDERS[text]()
    if text in _RUNGS:
        return _RUNGS[text]()
    path = Path(text)
    if path.suffix == ".py" or path.exists() or len(path.parts) > 1:
        return load_file(path)
    raise UnknownNameError("workload", text, names())
