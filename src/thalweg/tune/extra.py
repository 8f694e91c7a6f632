"""Optuna, if it is there."""

from __future__ import annotations

import warnings
from typing import Any

from thalweg.core.errors import UsageError


def optuna(what: str) -> Any:
    """Return the package Optuna, quiet.

    Args:
        what: what needs it, for the message.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError(f'{what} needs Optuna; pip install "thalweg[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
