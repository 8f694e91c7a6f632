"""What a benchmark consists of: base workloads, held-out variants, targets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalweg.core.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        base: the workloads that are scored, in order.
        variants: the base workload of each held-out variant.
        targets: validation target by workload, of those and of others that were run.
        budgets: allowed seconds of a run by workload, where they are known.
        version: the benchmark's own name of its version, or "".
    """

    base: tuple[str, ...]
    variants: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)
    budgets: Mapping[str, float] = field(default_factory=dict)
    version: str = ""

    @property
    def workloads(self) -> tuple[str, ...]:
        """Return base workloads and variants."""
        return (*self.base, *self.variants)


def read_suite(path: str | Path) -> Suite:
    """Read a benchmark from JSON, in the form of AlgoPerf's frozen targets.

    An object with ``base_workloads`` (names), ``held_out_workloads`` (names, may be missing; the
    variant of a base workload is named after it: ``<base>_<what differs>``) and ``workloads``,
    by name objects with ``validation_target_value`` and, if known, ``max_allowed_runtime_sec``.

    Raises:
        UsageError: no such file, not that form, a workload without a target, a variant of nothing.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read the targets {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    for key, kind in (("base_workloads", list), ("workloads", dict)):
        if not isinstance(found, dict) or not isinstance(found.get(key), kind):
            raise UsageError(
                f'{path} needs "{key}": a {"list of names" if kind is list else "table"}; '
                "see thalweg.scoring.read_suite for the form"
            )
    base, held_out = found["base_workloads"], found.get("held_out_workloads") or []
    known = found["workloads"]
    for name in (*base, *held_out):
        if name not in known:
            raise UsageError(
                f'{path}: "{name}" is to be scored and has no entry in "workloads".'
                f"{did_you_mean(str(name), known)}"
            )
    if not base or len({*base, *held_out}) < len(base) + len(held_out):
        raise UsageError(f"{path}: base and held-out workloads must be some, each named once")
    return Suite(
        base=tuple(base),
        variants={name: _base_of(path, name, base) for name in held_out},
        targets={name: _number(path, name, one, True) for name, one in known.items()},
        budgets={
            name: _number(path, name, one, False, "max_allowed_runtime_sec")
            for name, one in known.items()
            if isinstance(one, dict) and "max_allowed_runtime_sec" in one
        },
        version=str(found.get("benchmark_version", "")),
    )


def _base_of(path: Path, variant: str, base: list[str]) -> str:
    fitting = [name for name in base if variant.startswith(f"{name}_")]
    if not fitting:
        raise UsageError(
            f'{path}: the held-out workload "{variant}" is no variant of a base workload; its name '
            f"has to begin with one of {', '.join(base)}"
        )
    return max(fitting, key=len)


def _number(
    path: Path, name: str, entry: Any, may_be_negative: bool, key: str = "validation_target_value"
) -> float:
    value = entry.get(key) if isinstance(entry, dict) else None
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or (not may_be_negative and value <= 0):  # type: ignore[operator]
        wanted = "a finite number" if may_be_negative else "a positive number"
        raise UsageError(f'{path}: "{name}" needs "{key}", {wanted}; found {value!r}')
    return float(value)  # type: ignore[arg-type]
