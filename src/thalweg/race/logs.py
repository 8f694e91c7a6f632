"""The loggers of a race's runs, in whichever process a run is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from thalweg import log
from thalweg.race.plan import Planned

FOLDER = "logs"


def loggers_of(names: Sequence[str], race: Path, workload: str, run: Planned) -> list[log.Logger]:
    """Return the loggers of a run.

    Args:
        names: of `thalweg.log`.
        race: the race's folder.
        workload: the workload's name.
        run: the run.

    Raises:
        UsageError: as `thalweg.log.make`.
    """
    return log.make(
        names,
        folder=race / FOLDER,
        project=re.sub(r"[^\w.-]+", "-", f"thalweg-{workload}"),
        name=run.run_id,
        facts={
            "entrant": run.entrant,
            "recipe": run.recipe,
            "phase": run.phase,
            "trial": run.trial,
        },
    )
