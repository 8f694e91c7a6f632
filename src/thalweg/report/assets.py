"""What every page embeds: templates, styles, scripts and plotly.js."""

import base64
import gzip
from functools import lru_cache
from importlib.resources import files

import jinja2
from markupsafe import Markup


def environment(package: str = "thalweg.report") -> jinja2.Environment:
    """Return the templates of a package, and those of the report behind them."""
    loaders = [jinja2.PackageLoader(name) for name in dict.fromkeys((package, "thalweg.report"))]
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@lru_cache(maxsize=1)
def plotly() -> Markup:
    """Return plotly.js as gzip in base64, which needs no escaping; the same bytes every time."""
    source = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return Markup(base64.b64encode(gzip.compress(source, 9, mtime=0)).decode())


def static(name: str, package: str = "thalweg.report") -> Markup:
    """Return a style or a script of a package."""
    return Markup((files(package) / "static" / name).read_text(encoding="utf-8"))
