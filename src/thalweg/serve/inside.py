"""Reading files of a folder, and of nowhere else."""

import os
import stat
from pathlib import Path


def read_inside(folder: Path, name: str) -> bytes | None:
    """Return a regular file that lies in the folder itself, or None.

    Links are not followed, so what is read was put into the folder.

    Args:
        folder: the folder.
        name: a plain file name.
    """
    path = folder / name
    if Path(name).name != name or path.is_symlink():
        return None
    # A link that takes the file's place meanwhile is refused by the system; a pipe does not block.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    with os.fdopen(handle, "rb") as file:
        return file.read()
