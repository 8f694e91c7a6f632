"""The README's commands exist as they are spelt, and its Python runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from thalweg.cli.application import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def blocks(language: str) -> list[str]:
    return [
        body
        for document in DOCUMENTS
        for found, body in BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))
        if found == language
    ]


def commands() -> list[str]:
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def test_the_two_commands_are_there() -> None:
    assert {"make race", "make test"} <= set(commands())


@pytest.mark.parametrize("command", commands())
def test_command_is_spelt_right(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "thalweg":
        group = typer.main.get_command(app)
        assert isinstance(group, click.Group | typer.core.TyperGroup)
        found = group.get_command(click.Context(group), words[1])  # type: ignore[arg-type]
        assert found is not None, f"there is no command {words[1]}"
        # Parses every option and argument without running anything.
        found.make_context(words[1], words[2:])
    elif words[0] == "python":
        assert (ROOT / words[1]).exists()
    else:
        assert words[0] in {"git", "cd", "pip"}, f"what is {words[0]}?"


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
