"""Settings of the documentation; `make docs` builds it into docs/_build."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pages

project = "Thalweg"
author = "The Thalweg developers"
project_copyright = author
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
html_theme = "furo"
html_title = "Thalweg"
html_static_path = ["_static"]
html_extra_path = ["reports"]
html_css_files = ["tables.css"]
html_js_files = ["sort.js"]
exclude_patterns = ["_build", "reports"]
autodoc_member_order = "bysource"
napoleon_google_docstring = True
nitpicky = False
# Formulas in docstrings are literal blocks of plain text.
highlight_language = "none"

pages.write(Path(__file__).parent)


def setup(app):
    """Connect what docstrings need before they are read as reStructuredText."""
    app.connect("autodoc-process-docstring", pages.escape, priority=100)
