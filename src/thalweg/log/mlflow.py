"""MLflow."""

import os
import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from thalweg.log.logger import Logger, numbers

MOST = 1000
"""Metrics that a server takes in one batch."""


class MLflow(Logger):
    """A run of MLflow: on the server of ``MLFLOW_TRACKING_URI``, or in ``<folder>/mlflow.db``.

    The file is SQLite: ``mlflow ui --backend-store-uri sqlite:///<folder>/mlflow.db`` shows it.
    ``MLFLOW_EXPERIMENT_NAME`` goes before ``project``. MLflow's active run is left alone.
    """

    slug: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"

    def open(self, name: str, facts: Mapping[str, Any]) -> None:
        """Find or make the experiment, and begin the run."""
        address = os.environ.get("MLFLOW_TRACKING_URI")
        place = None
        if address is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            address = f"sqlite:///{(self.folder / 'mlflow.db').resolve()}"
            place = (self.folder / "mlflow").resolve().as_uri()
        self._client = self.module.MlflowClient(tracking_uri=address)
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", self.project)
        known = self._client.get_experiment_by_name(experiment)
        experiment_id = (
            known.experiment_id
            if known is not None
            else self._client.create_experiment(experiment, artifact_location=place)
        )
        run = self._client.create_run(experiment_id, run_name=name)
        self._run_id = run.info.run_id
        entities = self.module.entities
        parameters = [entities.Param(_name(key), str(value)) for key, value in facts.items()]
        self._client.log_batch(self._run_id, params=parameters)

    def log(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """Send the values in as few batches as its limit allows."""
        now = int(time.time() * 1000)
        metric = self.module.entities.Metric
        batch = [
            metric(_name(key), value, now, step)
            for step, at_step in values.items()
            for key, value in at_step.items()
        ]
        for i in range(0, len(batch), MOST):
            self._client.log_batch(self._run_id, metrics=batch[i : i + MOST])

    def close(self, status: str, summary: Mapping[str, Any]) -> None:
        """Send the summary (its numbers as metrics, its texts as tags) and end the run."""
        found = numbers(summary)
        self.log({summary["steps"]: {f"summary/{key}": value for key, value in found.items()}})
        for key in summary.keys() - found.keys():
            self._client.set_tag(self._run_id, key, str(summary[key]))
        ended = "FINISHED" if status == "ok" else "FAILED"
        self._client.set_terminated(self._run_id, status=ended)


def _name(key: str) -> str:
    """Return a key with what MLflow does not take in names replaced."""
    return re.sub(r"[^\w\-. /]", "_", key)
