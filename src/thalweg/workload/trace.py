"""Saying in one or two lines where an error happened, in the user's own code."""

import os
import traceback
from pathlib import Path

import torch

import thalweg

_LIBRARIES = tuple(
    os.path.dirname(os.path.abspath(str(package.__file__))) + os.sep for package in (torch, thalweg)
)


def describe_error(error: BaseException, source_file: str | None = None) -> str:
    """Return the error's type and message, after the line of the user's code that led to it.

    Args:
        error: the error, with its traceback.
        source_file: the user's file; the innermost line in it is named. Without it, or when the
            error never passed through it, the innermost line outside torch and Thalweg is.
    """
    message = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, SyntaxError):
        return message  # names the file, the line and the place in it by itself
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if source_file and _same(frame.filename, source_file)]
    if not own:
        own = [frame for frame in frames if not _in_library(frame.filename)]
    if not own:
        return message
    place = own[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    if place.name != "<module>":
        where += f", in {place.name}"
    return f"{where}: {place.line}\n{message}" if place.line else f"{where}\n{message}"


def _same(one: str, other: str) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)


def _in_library(file: str) -> bool:
    return file.startswith("<") or os.path.abspath(file).startswith(_LIBRARIES)
