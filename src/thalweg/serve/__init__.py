"""The live page of a race: a small server that shows a folder's race as it runs.

Example::

    from pathlib import Path

    from thalweg.serve import serve

    serve(Path("race"), on_ready=print)
"""

from thalweg.serve.application import application
from thalweg.serve.server import serve

__all__ = ["application", "serve"]
