"""TensorBoard: event files in a folder."""

from collections.abc import Mapping
from typing import Any, ClassVar

from thalweg.log.logger import Logger, numbers


class TensorBoard(Logger):
    """Event files under ``<folder>/tensorboard/<name>``, read by ``tensorboard --logdir``.

    Hyper-parameters and the summary appear under HPARAMS in the same run. Numbers are kept as
    float32, which is all that the format has.
    """

    slug: ClassVar[str] = "tensorboard"
    package: ClassVar[str] = "torch.utils.tensorboard"

    def open(self, name: str, facts: Mapping[str, Any]) -> None:
        """Begin the event file."""
        self._settings = {key: str(v) if v is None else v for key, v in facts.items()}
        self._writer = self.module.SummaryWriter(self.folder / "tensorboard" / name)
        self._writer.add_text("facts", "\n".join(f"- {key}: {v}" for key, v in facts.items()))

    def log(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """Write scalars, to the disk at once."""
        for step, at_step in values.items():
            for key, value in at_step.items():
                self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def close(self, status: str, summary: Mapping[str, Any]) -> None:
        """Write the hyper-parameters with the summary's numbers and end the file."""
        from torch.utils.tensorboard.summary import hparams

        found = {f"summary/{key}": value for key, value in numbers(summary).items()}
        # Not add_hparams(), which puts them into another run, named by the time.
        for part in hparams({**self._settings, "status": status}, found):
            self._writer.file_writer.add_summary(part)
        self.log({summary["steps"]: found})
        self._writer.close()
