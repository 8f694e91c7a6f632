"""Parts from other packages, found by their entry points."""

import warnings
from functools import cache
from importlib.metadata import entry_points

GROUP = "thalweg"


@cache
def load(group: str = GROUP) -> tuple[str, ...]:
    """Import what installed packages name under an entry-point group, ``thalweg``, once.

    An entry point is a module, or a class in one; importing it registers its parts::

        [project.entry-points.thalweg]
        my-rule = "my_package.my_rule"

    One that fails to import costs a warning and nothing else.

    Returns:
        The names of those that were loaded.
    """
    loaded = []
    for entry in entry_points(group=group):
        try:
            entry.load()
        except Exception as error:
            warnings.warn(
                f'the plug-in "{entry.name}" ({entry.value}) could not be loaded: '
                f"{type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            loaded.append(entry.name)
    return tuple(loaded)
