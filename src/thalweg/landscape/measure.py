"""Several quantities at the same weights."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from thalweg.core.errors import UsageError
from thalweg.landscape.objective import Objective, Progress

Series = tuple[float, ...]


def check_also(objective: Objective, also: Mapping[str, Objective] | None) -> dict[str, Objective]:
    """Return the objectives; raise UsageError unless all are of one and the same model object."""
    for name, other in (also or {}).items():
        if other.module is not objective.module:
            raise UsageError(
                f'"{name}" is an objective of another model object; quantities side by side '
                "are of one model, so make all objectives with the same"
            )
    return dict(also or {})


def measured(
    loss_at: Callable[[Sequence[float]], float],
    also: Mapping[str, Objective],
    mixes: Iterable[Sequence[float]],
    tell: Callable[[], None],
) -> tuple[Series, dict[str, Series]]:
    """Return the loss at each mix, and the other quantities at the same weights by name.

    Args:
        loss_at: of `Objective.span` or `Objective.around`.
        also: evaluated at the weights and statistics that it leaves.
        mixes: its arguments.
        tell: called after each.
    """
    rows = []
    for mix in mixes:
        rows.append((loss_at(mix), *(one.here() for one in also.values())))
        tell()
    columns = [tuple(row[i] for row in rows) for i in range(1 + len(also))]
    return columns[0], dict(zip(also, columns[1:], strict=True))


def counting(progress: Progress | None, total: int) -> Callable[[], None]:
    """Return a function that tells of one more point each time it is called."""
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return tell
