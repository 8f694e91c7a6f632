"""Files that are either whole or absent, and a lock that the system releases."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from thalweg.core.errors import UsageError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    with replaced(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a path to write a file to, which takes the place of another once it is on the disk.

    After an error in the block the other is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have a file's content, or the list of files in a folder, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_folder(content: str) -> Path:
    """Return where a kind of content is cached: ``$THALWEG_CACHE`` or the user's cache folder."""
    chosen = os.environ.get("THALWEG_CACHE")
    if chosen:
        return Path(chosen) / content
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "thalweg" / content


def check_folder(path: Path) -> None:
    """Check, without creating anything, that a folder exists or can be created and written to.

    Raises:
        UsageError: a file is in the way, or the nearest existing folder is not writable.
    """
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UsageError(f"cannot write to {path}: {nearest} is a file; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(
            f"cannot write to {path}: no permission to write in {nearest}; choose another folder"
        )


def make_folder(path: Path) -> None:
    """Create a folder with its parents and check that a file can be written there.

    Raises:
        UsageError: the system refused; folders that were created on the way are removed again.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".probe.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        reason = error.strerror or error
        raise UsageError(f"cannot write to {path}: {reason}; choose another folder") from error


@contextlib.contextmanager
def locked(path: Path, message: str, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock file while the block runs.

    The lock is an exclusive transaction on an empty SQLite database: it works on every system,
    also between threads of one process, and the system releases it when the process dies,
    however it dies.

    Args:
        path: of the lock file, which is created.
        message: of the error.
        patience: seconds to wait for whoever holds it.

    Raises:
        UsageError: someone else holds it; with ``message``.
    """
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            raise UsageError(message) from error
        yield
    finally:
        connection.close()
