"""Weights & Biases."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from thalweg.log.logger import Logger


class WandB(Logger):
    """A run of Weights & Biases; offline files lie under ``<folder>/wandb``.

    Its own settings hold: ``WANDB_MODE=offline`` or ``disabled``, ``WANDB_ENTITY``,
    ``WANDB_API_KEY`` and the rest. ``WANDB_PROJECT`` and ``WANDB_DIR`` go before ``project`` and
    ``folder``. Several runs may be open in one process.
    """

    slug: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"

    def open(self, name: str, facts: Mapping[str, Any]) -> None:
        """Begin the run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run = self.module.init(
            project=os.environ.get("WANDB_PROJECT", self.project),
            dir=os.environ.get("WANDB_DIR", str(self.folder)),
            name=name,
            group=facts.get("entrant"),
            config=dict(facts),
            reinit="create_new",
            # Neither its messages nor its capture of the terminal go with a progress display.
            settings=self.module.Settings(console="off", silent=True),
        )

    def log(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """Send the values."""
        for step, at_step in values.items():
            self._run.log(dict(at_step), step=step)

    def close(self, status: str, summary: Mapping[str, Any]) -> None:
        """Send the summary and end the run, as failed unless it is ok."""
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if status == "ok" else 1)
