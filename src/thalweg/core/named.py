"""Parts that are named with their settings on one line: ``hyperband(eta=4)``."""

import ast
import re
from typing import Any

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.core.plugins import load
from thalweg.core.registry import Kind, get


def build(text: str, kind: Kind, example: str) -> Any:
    """Return what the part of a name makes, with the settings in parentheses.

    Nothing is evaluated: values are literals.

    Args:
        text: ``"tpe"`` or ``"hyperband(eta=4)"``.
        kind: of which kind the part is.
        example: a name with settings, for the message.

    Raises:
        UsageError: text of another form, no such part or setting (the message offers the
            nearest), or an impossible value.
    """
    slug, settings = _parsed(text, kind, example)
    load()
    part = get(slug, kind)
    for key in settings:
        if key not in part.parameters:
            known = ", ".join(part.parameters) or "no settings"
            hint = did_you_mean(key, part.parameters)
            raise UsageError(f'{slug} has no "{key}".{hint} It takes {known}.')
    return part.factory(**settings)


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
