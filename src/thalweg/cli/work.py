"""``thalweg work``."""

import signal
import sys
from typing import Annotated, Any

import typer

from thalweg.cli.console import console


def work(
    store: Annotated[
        str,
        typer.Argument(
            envvar="THALWEG_STORAGE",
            help="Folder of a race, or the --storage that it was begun with.",
        ),
    ],
    race: Annotated[str | None, typer.Option(help="Which race, if there are several.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a race to begin.")] = 0.0,
) -> None:
    """Do runs of a race that another process began, until it is over.

    Start as many as you like, on this machine or on others that reach the storage; all need the
    race's versions of Thalweg and torch. One that is stopped gives its run back, one that dies
    has it taken up again.
    """
    from thalweg.race.worker import work as do_runs

    def stop(*_: Any) -> None:
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)
    screen = console()
    done = do_runs(store, race, wait=wait, tell=lambda text: screen.print(text, soft_wrap=True))
    screen.print(f"{done} runs done")
