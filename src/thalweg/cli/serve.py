"""``thalweg serve``."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.console import console
from thalweg.core.errors import UsageError


def serve(
    race: Annotated[Path, typer.Argument(help="Folder of a race, under way or finished.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; one beyond this machine needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8765,
) -> None:
    """Show a race in the browser as it runs; the page becomes the report when it ends."""
    try:
        from thalweg.serve import serve
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the live page needs the package {error.name}, which is not installed: "
            "pip install 'thalweg[serve]'"
        ) from error

    def ready(address: str) -> None:
        console().print(f"open {address} (Ctrl-C stops)", soft_wrap=True)

    serve(race, host, port, ready)
