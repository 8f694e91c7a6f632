"""The live page, and the parts of it that change."""

from functools import lru_cache

import jinja2

from thalweg._version import __version__
from thalweg.report import assets, look
from thalweg.report.figure import Figure, to_json
from thalweg.serve.snapshot import Snapshot

PARTS = ("hero", "board", "runs")
"""Each is a template ``live_<part>.html.j2`` and an element of the page."""


def page(state: Snapshot) -> str:
    """Return the HTML of the live page, which needs nothing from anywhere else."""
    plots = [
        Figure("curve-metric", state.facts["metric"], [], {}, height=360),
        Figure("curve-loss", "training loss", [], {}, height=360),
    ]
    return (
        _environment()
        .get_template("live.html.j2")
        .render(
            **state.facts,
            plots=plots,
            theme=look.theme_css(),
            style=assets.static("page.css"),
            live_style=assets.static("live.css", "thalweg.serve"),
            script=assets.static("page.js"),
            live_script=assets.static("live.js", "thalweg.serve"),
            early_script=assets.static("theme.js"),
            figures=to_json(state.figures),
            plotly=assets.plotly(),
            version=__version__,
        )
    )


def parts(state: Snapshot) -> dict[str, str]:
    """Return the HTML of the parts that change, by the id of their elements."""
    environment = _environment()
    return {
        f"part-{name}": environment.get_template(f"live_{name}.html.j2").render(**state.facts)
        for name in PARTS
    } | {"title": f"{state.facts['headline']} · {state.facts['workload']} · Thalweg"}


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return assets.environment("thalweg.serve")
