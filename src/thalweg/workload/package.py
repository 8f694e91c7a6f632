"""Finding data that an installed package carries, without importing the package."""

import importlib.util
from pathlib import Path

from thalweg.core.errors import UsageError


def package_folder(package: str, workload: str, extra: str | None = None) -> Path:
    """Return the folder of an installed package.

    Args:
        package: the package's import name.
        workload: which workload needs it.
        extra: the extra that installs it, if it has another name than the workload.

    Raises:
        UsageError: it is not installed; the message says what to install.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise UsageError(
            f'the workload "{workload}" reads its data from the package {package}, which is not '
            f'installed; pip install "thalweg[{extra or workload}]"'
        )
    return Path(folders[0])
