"""Opening a storage that Optuna has, by its address."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from thalweg.core.errors import UsageError

ANSWER_SECONDS = 10

EXAMPLES = "postgresql://user@host/database, grpc://host:13000, journal:///path, or a SQLite file"


def open_storage(address: str, create: bool = True) -> Any:
    """Return the storage at an address.

    A gRPC proxy should stand in front of PostgreSQL or MySQL: Optuna's own SQLite lets two workers
    claim one run, which is prevented here (and does no harm to the numbers there).

    Args:
        address: ``postgresql://user:password@host/database`` or another database of SQLAlchemy;
            ``grpc://host:port`` for Optuna's gRPC proxy in front of one; ``journal:///path`` for a
            journal file, which suits network file systems; ``sqlite:///path`` or a plain path for
            a SQLite file, for one machine or a file system whose locks work.
        create: whether a file that is not there is made; otherwise None is returned for it.

    Raises:
        UsageError: the extra or a database driver is missing, the address is none, or nothing
            answers there.
    """
    require_optuna()
    kind, path = _parsed(address)
    if path is not None and not path.exists():
        if not create:
            return None
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent} for the storage {path.name}")
    if kind == "sqlite" and path is not None and not create and not _has_studies(path):
        return None  # Optuna would put its tables into any file
    try:
        storage = _open(kind, path, address, create)
        storage.get_all_studies()
    except ImportError as error:
        raise UsageError(
            f"{shown(address)} needs a package that is not installed: {error}; PostgreSQL is "
            'reached with pip install "thalweg[postgresql]", gRPC with "thalweg[grpc]"'
        ) from None
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"the storage {shown(address)} does not answer: {reason}; check that it runs and that "
            "the address is right"
        ) from error
    return storage


def require_optuna() -> None:
    """Check that Optuna is there, and let it speak of warnings only.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "several workers share runs through Optuna, which is not installed; pip install "
            '"thalweg[scale]"'
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def shown(address: str) -> str:
    """Return an address as messages show it, without its password."""
    try:
        password = urlsplit(address).password
    except ValueError:
        return address
    return address.replace(f":{password}@", ":***@") if password else address


def _parsed(address: str) -> tuple[str, Path | None]:
    kind, separator, rest = address.partition("://")
    if not separator:
        return "sqlite", Path(address)
    kind = kind.lower()
    if kind in ("sqlite", "journal"):
        if not rest.startswith("/") or len(rest) < 2:
            raise UsageError(f"{address} names no file; write {kind}:///path, as in {EXAMPLES}")
        # As SQLAlchemy has it, sqlite:///a is relative and sqlite:////a is not.
        return kind, Path(rest if kind == "journal" else rest[1:])
    if kind == "grpc":
        try:
            split = urlsplit(address)
            known = split.hostname is not None and split.port is not None
        except ValueError:
            known = False
        if not known:
            raise UsageError(f"{address} is no address of a gRPC proxy; write grpc://host:port")
    elif kind in ("http", "https", "ray", "redis", "file"):
        raise UsageError(f"{shown(address)} is no storage; give {EXAMPLES}")
    return kind, None


def _one_at_a_time(engine: Any) -> None:
    """Let every transaction lock the SQLite file before it reads.

    Optuna reads a trial's state and then changes it, which SQLite otherwise lets two processes do
    at once: both would have claimed the run.
    """
    from sqlalchemy import event

    engine.dispose()

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself

    @event.listens_for(engine, "begin")
    def _(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.resolve()))}?mode=rw"


def _make(path: Path) -> None:
    """Make a SQLite file with Optuna's tables in it, whole or not at all.

    Who finds some of the tables would join in making them, and one of the two fail.
    """
    from optuna.storages import RDBStorage

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        made = Path(folder) / path.name
        storage = RDBStorage(f"sqlite:///{made}")
        storage.engine.dispose()
        try:
            os.link(made, path)
        except FileExistsError:
            return  # somebody else was quicker
        except OSError:  # a file system without hard links
            if not path.exists():
                os.replace(made, path)


def _has_studies(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(_uri(path), timeout=60, uri=True)) as connection:
            found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'studies'")
            return found.fetchone() is not None
    except sqlite3.Error:
        return False


def _open(kind: str, path: Path | None, address: str, create: bool) -> Any:
    from optuna.storages import GrpcStorageProxy, JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if kind == "journal":
        return JournalStorage(JournalFileBackend(str(path)))
    if kind == "grpc":
        split = urlsplit(address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls it experimental
            proxy = GrpcStorageProxy(host=split.hostname or "", port=split.port or 0)
        proxy.wait_server_ready(timeout=ANSWER_SECONDS)
        return proxy
    if kind == "sqlite":
        if create and path is not None and not path.exists():
            _make(path)
        # One who joins must not make anew a file that the end of its race has just removed.
        where = str(path) if create or path is None else f"{_uri(path)}&uri=true"
        storage = RDBStorage(f"sqlite:///{where}", engine_kwargs={"connect_args": {"timeout": 60}})
        _one_at_a_time(storage.engine)
        return storage
    waits = kind.startswith(("postgresql", "mysql"))
    arguments = {"connect_timeout": ANSWER_SECONDS} if waits else {}
    return RDBStorage(
        address,
        engine_kwargs={"connect_args": arguments, "pool_pre_ping": True},
    )
