"""Files of published data sets, in a folder of the user's."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from thalweg.core.errors import UsageError


def published_files(folder: Path, patterns: tuple[str, ...], workload: str) -> list[Path]:
    """Return the files of a folder that match the first pattern that any matches, sorted.

    Raises:
        UsageError: none matches.
    """
    for pattern in patterns:
        files = sorted(folder.glob(pattern))
        if files:
            return files
    raise UsageError(
        f'the workload "{workload}" found no file named {" or ".join(patterns)} in {folder}'
    )


def fingerprint(files: Sequence[Path]) -> str:
    """Return 16 hexadecimal digits that change with the files' paths, sizes or times."""
    total = hashlib.sha256()
    for file in files:
        status = file.stat()
        total.update(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return total.hexdigest()[:16]
