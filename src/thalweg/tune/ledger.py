"""Where the trials of a search are kept: in memory, or in a storage of Optuna."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg.core.errors import UsageError
from thalweg.core.files import check_folder
from thalweg.core.space import Choice, Log
from thalweg.tune.extra import optuna
from thalweg.tune.searcher import Trial
from thalweg.tune.space import SearchSpace

_KEY = "thalweg"
_FORMAT = 1
_STATES = {"ok": "COMPLETE", "pruned": "PRUNED", "diverged": "FAIL", "failed": "FAIL"}
_TIMEOUT = 10  # seconds


class Ledger:
    """Trials in the order in which they ended; each is written whole or not at all.

    In a storage of Optuna a trial has the values of its parameters and its loss, so that Optuna's
    own tools can show it; what else a search needs to go on is in its user attributes, as JSON.

    Args:
        space: the search space.
        storage: None for memory; the path of a journal file; or a URL: ``sqlite:///file``,
            ``postgresql://...``, ``grpc://host:port`` (a proxy that `optuna.storages` runs).
        name: the study's name in the storage.
        identity: what the search must agree on with what was begun there.

    Raises:
        UsageError: Optuna is not installed, the storage does not answer, or it holds another
            search under that name.
    """

    def __init__(
        self,
        space: SearchSpace,
        storage: str | Path | None = None,
        name: str = "search",
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.trials: list[Trial] = []
        self._space = space
        self._study: Any = None
        if storage is not None:
            self._package = optuna("a storage")
            self._study = self._opened(str(storage), name)
            self._agree(f'the study "{name}" in {storage}', dict(identity or {}))
            found = self._study.get_trials(deepcopy=False)
            self.trials = [self._read(one) for one in found]

    def add(self, trial: Trial) -> None:
        """Write a trial.

        Raises:
            UsageError: another process has written to the study.
        """
        if self._study is not None:
            if len(self._study.get_trials(deepcopy=False)) != len(self.trials):
                raise UsageError(
                    f'another process is searching in the study "{self._study.study_name}"; wait '
                    "for it, stop it, or give this search another name"
                )
            self._study.add_trial(self._written(trial))
        self.trials.append(trial)

    def _opened(self, storage: str, name: str) -> Any:
        try:
            return self._package.create_study(
                storage=self._storage(storage), study_name=name, load_if_exists=True
            )
        except UsageError:
            raise
        except ImportError as error:
            raise UsageError(
                f"the storage {storage} needs a package: {error}; PostgreSQL is reached with pip "
                'install "thalweg[postgresql]", gRPC with "thalweg[grpc]"'
            ) from error
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise UsageError(
                f"the storage {storage} does not answer: {type(error).__name__}: {reason}; check "
                "that it runs and that the address is right, or name a journal file"
            ) from error

    def _storage(self, storage: str) -> Any:
        storages = self._package.storages
        scheme, separator, rest = storage.partition("://")
        if not separator:
            check_folder(Path(storage).parent)
            if Path(storage).is_dir():
                raise UsageError(f"the storage {storage} is a folder; name a file in it")
            journal = storages.journal
            return journal.JournalStorage(journal.JournalFileBackend(storage))
        if scheme == "grpc":
            host, _, port = rest.rstrip("/").rpartition(":")
            if not host or not port.isdigit():
                raise UsageError(f"a proxy's address is grpc://host:port, found {storage}")
            proxy = storages.GrpcStorageProxy(host=host, port=int(port))
            proxy.wait_server_ready(timeout=_TIMEOUT)
            return proxy
        if scheme.partition("+")[0] not in ("sqlite", "postgresql", "mysql"):
            raise UsageError(
                f'a storage is the path of a journal file, or a URL of "sqlite", "postgresql", '
                f'"mysql" or "grpc"; found {storage}'
            )
        limits = {} if scheme.startswith("sqlite") else {"connect_timeout": _TIMEOUT}
        return storages.RDBStorage(storage, engine_kwargs={"connect_args": limits})

    def _agree(self, where: str, identity: dict[str, Any]) -> None:
        asked = json.loads(json.dumps({"format": _FORMAT, **identity}))
        begun = self._study.user_attrs.get(_KEY)
        if begun is None:
            if self._study.get_trials(deepcopy=False):
                raise UsageError(f"{where} holds trials of something else; give another name")
            self._study.set_user_attr(_KEY, asked)
            return
        differing = [key for key in {**begun, **asked} if begun.get(key) != asked.get(key)]
        if differing:
            words = [
                f"{key} was {_word(begun, key)} and is {_word(asked, key)}" for key in differing
            ]
            raise UsageError(
                f"{where} holds another search: {'; '.join(words)}. Repeat the settings that it "
                "was begun with to continue it, or search elsewhere"
            )

    def _written(self, trial: Trial) -> Any:
        distributions = self._package.distributions
        params: dict[str, Any] = {}
        kinds: dict[str, Any] = {}
        for name, value in trial.values.items():
            space = self._space.spaces[name]
            if isinstance(space, Choice):
                labels = [_label(one) for one in space.values]
                params[name] = _label(value)
                kinds[name] = distributions.CategoricalDistribution(labels)
            else:
                params[name] = min(max(value, space.low), space.high)
                kinds[name] = distributions.FloatDistribution(
                    space.low, space.high, log=isinstance(space, Log)
                )
        record = {
            "number": trial.number,
            "position": trial.position,
            "budget": trial.budget,
            "parent": trial.parent,
            "status": trial.status,
            "loss": trial.loss,
            "reached": trial.reached,
            "curve": [list(point) for point in trial.curve],
            "error": trial.error,
            "seconds": trial.seconds,
        }
        state = _STATES[trial.status]
        return self._package.trial.create_trial(
            state=self._package.trial.TrialState[state],
            value=trial.loss if state == "COMPLETE" else None,
            params=params,
            distributions=kinds,
            user_attrs={_KEY: json.dumps(record, allow_nan=False)},
            intermediate_values={round(step): loss for step, loss in trial.curve},
        )

    def _read(self, frozen: Any) -> Trial:
        record = json.loads(frozen.user_attrs[_KEY])
        curve = tuple((step, loss) for step, loss in record.pop("curve"))
        values = self._space.values(record["position"])
        return Trial(values=values, curve=curve, **record)


def _label(value: Any) -> Any:
    """Return a value of a choice as Optuna keeps it."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _word(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key)
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
