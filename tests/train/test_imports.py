"""What importing the training loop does not import."""

import subprocess
import sys

import pytest

import thalweg.train


def test_the_loop_is_lean():
    code = (
        "import sys, thalweg.train; "
        "heavy = {'scipy', 'matplotlib', 'plotly', 'thalweg.landscape'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_names_are_there():
    for name in thalweg.train.__all__:
        assert getattr(thalweg.train, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        thalweg.train.nothing  # noqa: B018
