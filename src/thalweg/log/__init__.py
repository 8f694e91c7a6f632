"""Loggers: what a training run tells TensorBoard, Weights & Biases, MLflow and Trackio.

A logger is a callback of a run::

    from thalweg import log, train

    train.fit("digits", "adamw(lr=1e-3)", callbacks=[log.TensorBoard("logs")])

Another package brings its own as a subclass of `Logger` in the registry (kind ``logger``), under
the entry-point group ``thalweg.loggers``::

    [project.entry-points."thalweg.loggers"]
    my-logger = "my_package.my_logger"
"""

from collections.abc import Iterable
from typing import Any

from thalweg.core import plugins, registry
from thalweg.core.registry import Part, register
from thalweg.log.logger import Logger
from thalweg.log.mlflow import MLflow
from thalweg.log.tensorboard import TensorBoard
from thalweg.log.trackio import Trackio
from thalweg.log.wandb import WandB

__all__ = ["Logger", "MLflow", "TensorBoard", "Trackio", "WandB", "make"]

register(Part("tensorboard", "logger", "TensorBoard", "https://www.tensorflow.org", TensorBoard))
register(Part("wandb", "logger", "Weights & Biases", "https://docs.wandb.ai", WandB))
register(Part("mlflow", "logger", "MLflow", "https://mlflow.org", MLflow))
register(Part("trackio", "logger", "Trackio", "https://huggingface.co/docs/trackio", Trackio))

# A group of its own: the one for parts of recipes is loaded before training can be imported.
plugins.load("thalweg.loggers")


def make(names: Iterable[str], **settings: Any) -> list[Logger]:
    """Return the loggers of those names, each made with the same settings.

    Args:
        names: as in the registry, such as ``tensorboard``; a repeated one counts once.
        **settings: arguments of `Logger`.

    Raises:
        UsageError: an unknown name, a missing package, or a folder that cannot be written to.
    """
    return [registry.get(name, "logger").factory(**settings) for name in dict.fromkeys(names)]
