"""Trackio."""

import contextlib
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from thalweg.log.logger import Logger, numbers


class Trackio(Logger):
    """A run of Trackio, in its own local store; ``trackio show`` serves it.

    Its own settings hold: ``TRACKIO_DIR`` says where the store is, ``TRACKIO_SPACE_ID`` sends runs
    to a Space. Nothing is written to ``folder``.
    """

    slug: ClassVar[str] = "trackio"
    package: ClassVar[str] = "trackio"

    def open(self, name: str, facts: Mapping[str, Any]) -> None:
        """Begin the run."""
        # It prints, and standard output is for results.
        with contextlib.redirect_stdout(sys.stderr):
            self._run = self.module.init(
                project=self.project,
                name=name,
                group=facts.get("entrant"),
                config=dict(facts),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """Keep the values."""
        for step, at_step in values.items():
            self._run.log(dict(at_step), step=step)

    def close(self, status: str, summary: Mapping[str, Any]) -> None:
        """Keep the summary's numbers at the last step and end the run."""
        del status
        found = {f"summary/{key}": value for key, value in numbers(summary).items()}
        self.log({summary["steps"]: found})
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()
