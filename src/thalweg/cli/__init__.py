"""The command line: one file a command, no logic.

Exit codes: 0 done; 1 done, but no run finished; 2 the input cannot be used; 130 interrupted.
"""

from thalweg.cli.application import main

__all__ = ["main"]
