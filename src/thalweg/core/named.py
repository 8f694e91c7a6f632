"""Parts that are named with their settings on one line: ``hyperband(eta=4)``."""

import ast
import re
from typing import Any, TypeVar

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.core.plugins import load
from thalweg.core.registry import Kind, get

Made = TypeVar("Made")


def build(given: str | Made, kind: Kind, made: type[Made], example: str) -> Made:
    """Return what the part of a name makes, with the settings in parentheses.

    Nothing is evaluated: values are literals.

    Args:
        given: ``"tpe"`` or ``"hyperband(eta=4)"``; or what such a part makes, which is returned as
            it is.
        kind: of which kind the part is.
        made: the class of what it makes.
        example: a name with settings, for the message.

    Raises:
        UsageError: neither of the two, text of another form, no such part or setting (the message
            offers the nearest), or an impossible value.
    """
    if isinstance(given, made):
        return given
    if not isinstance(given, str):
        raise UsageError(f"expected the name of a {kind}, found {type(given).__name__}")
    slug, settings = _parsed(given, kind, example)
    load()
    part = get(slug, kind)
    for key in settings:
        if key not in part.parameters:
            known = ", ".join(part.parameters) or "no settings"
            hint = did_you_mean(key, part.parameters)
            raise UsageError(f'{slug} has no "{key}".{hint} It takes {known}.')
    found = part.factory(**settings)
    if not isinstance(found, made):
        raise UsageError(f'"{given}" makes a {type(found).__name__}, which is no {kind}')
    return found


def _parsed(text: str, kind: str, example: str) -> tuple[str, dict[str, Any]]:
    slug, bracket, rest = text.strip().partition("(")
    slug = slug.strip()
    if not bracket:
        return slug, {}
    wrong = UsageError(
        f'a {kind} is written as a name, or with settings as "{example}"; found "{text}"'
    )
    if not re.fullmatch(r"[a-z][a-z0-9-]*", slug):
        raise wrong
    try:
        call = ast.parse(f"part({rest}", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args:
            raise ValueError
        return slug, {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise wrong from None
