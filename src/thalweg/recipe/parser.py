"""From a line of text to a recipe, with errors that point at the place."""

import ast
import math
import re
from dataclasses import dataclass
from typing import Any

from thalweg.core.errors import UsageError
from thalweg.core.registry import RECIPE_KINDS, get
from thalweg.recipe.value import Recipe, Use, place_of, settable, unknown_setting

_EXAMPLE = '"adamw(lr=1e-3) + warmup(0.05) + linear"'
_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
    r"""|(?P<slug>(?<![\w.])[A-Za-z]\w*(?:-[A-Za-z0-9]\w*)+)"""
    r"""|(?P<comment>\#)|(?P<space>\s)"""
)


def parse(text: str | Recipe) -> Recipe:
    """Return the recipe that a line of text spells.

    Parts are joined by ``+``, each a name with settings in parentheses where it has any, by
    position or by name: ``sgd(momentum=0.9) + sam(0.05) + swa(start=0.75)``. Values are numbers,
    ``inf``, strings in quotes, ``True``, ``False``, ``None`` and tuples. The order of parts does
    not matter, except that wrappers go around what stands before them. Nothing is evaluated.

    Args:
        text: the line; a recipe is returned as it is.

    Raises:
        UsageError: what is wrong, and under the text a caret where.
    """
    if isinstance(text, Recipe):
        return text
    if not isinstance(text, str):
        raise UsageError(f"a recipe is text such as {_EXAMPLE}, found {type(text).__name__}")
    return _Parser(text).recipe()


@dataclass(frozen=True)
class _Span:
    start: int
    end: int


class _Parser:
    def __init__(self, text: str) -> None:
        self.original, self.source = text, text
        self.text = re.sub(r"\s", " ", text)  # one line, so that a caret can point into it
        self.whole = _Span(
            len(self.text) - len(self.text.lstrip()), max(len(self.text.rstrip()), 1)
        )

    def recipe(self) -> Recipe:
        if not self.text.strip():
            raise UsageError(f"the recipe is empty; write one such as {_EXAMPLE}")
        places: dict[str, list[Use]] = {}
        for node in self._parts(self._tree()):
            use = self._use(node)
            place = place_of(use.part)
            taken = places.setdefault(place, [])
            self._check_place(place, use, taken, self._span(node))
            taken.append(use)
        if "rule" not in places:
            raise self._error(self.whole, "a recipe needs one rule, such as adamw; there is none")

        def one(place: str) -> Any:
            return places.get(place, [None])[0]

        return Recipe(
            rule=one("rule"),
            modifiers=tuple(places.get("modifier", ())),
            around=tuple(places.get("around", ())),
            warmup=one("warmup"),
            schedule=one("schedule"),
            average=one("average"),
        )

    def _check_place(self, place: str, use: Use, taken: list[Use], span: _Span) -> None:
        if place in ("around", "modifier"):
            if any(other.slug == use.slug for other in taken):
                name = "wrapper" if place == "around" else place
                raise self._error(span, f'the {name} "{use.slug}" is there twice; use it once')
        elif taken:
            name = {"warmup": "warm-up"}.get(place, place)
            raise self._error(
                span,
                f'a recipe has one {name} at most, and "{taken[0].slug}" is one; remove one of '
                "the two",
            )

    def _tree(self) -> ast.expr:
        """Return the syntax tree, in which every position is one in the text."""

        def prepared(match: re.Match[str]) -> str:
            span = _Span(match.start(), match.end())
            if match["comment"]:
                raise self._error(span, 'a recipe has no comments ("#")')
            if match["string"] and re.search(r"[\n\r]", match[0]):
                raise self._error(span, r"a string stays on one line; write \n for a new one")
            if match["space"]:
                return " "
            return match[0].replace("-", "_") if match["slug"] else match[0]

        self.source = _TOKEN.sub(prepared, self.original)[self.whole.start :]
        try:
            return ast.parse(self.source, mode="eval").body
        except SyntaxError as error:
            start = self.whole.start + (error.offset or 1) - 1
            if not error.offset or start >= self.whole.end:  # something is missing at the end
                start = self.whole.end
            message = str(error.msg).partition(" (")[0]
            if message.startswith("invalid syntax"):
                message = f'a recipe is parts joined by "+", such as {_EXAMPLE}'
            raise self._error(
                _Span(start, start + 1), f"the recipe cannot be read here: {message}"
            ) from None
        except (ValueError, MemoryError, RecursionError) as error:
            reason = str(error) or type(error).__name__
            raise self._error(self.whole, f"the recipe cannot be read: {reason}") from None

    def _parts(self, tree: ast.expr) -> list[ast.expr]:
        found: list[ast.expr] = []
        waiting = [tree]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
                waiting += [node.right, node.left]
            elif isinstance(node, ast.BinOp):
                raise self._error(self._span(node.right), 'parts are joined by "+"')
            else:
                found.append(node)
        return found

    def _use(self, node: ast.expr) -> Use:
        name = node.func if isinstance(node, ast.Call) else node
        if not isinstance(name, ast.Name):
            raise self._error(
                self._span(node), f"expected a part, such as those of {_EXAMPLE}, found this"
            )
        span = self._span(name)
        slug = self.text[span.start : span.end]
        try:
            known = settable(get(slug, *RECIPE_KINDS))
        except UsageError as error:
            raise self._error(span, str(error)) from error
        arguments = self._arguments(slug, node, known) if isinstance(node, ast.Call) else {}
        values = {key: self._value(value) for key, value in arguments.items()}
        try:
            return Use(slug, **values)
        except UsageError as error:
            message = str(error)
            blamed = [key for key in arguments if re.search(rf"\b{re.escape(key)}\b", message)]
            place = arguments[blamed[0]] if blamed else node
            raise self._error(self._span(place), message) from error

    def _arguments(self, slug: str, call: ast.Call, known: dict[str, Any]) -> dict[str, ast.expr]:
        """Return the expressions of a part's settings by name."""
        names = list(known)
        found: dict[str, ast.expr] = {}
        for position, value in enumerate(call.args):
            if isinstance(value, ast.Starred):
                raise self._error(self._span(value), "settings are written out, not unpacked")
            if position >= len(names):
                listed = f": {', '.join(names)}" if names else ""
                raise self._error(self._span(value), f"{slug} takes {len(names)} settings{listed}")
            found[names[position]] = value
        for keyword in call.keywords:
            if keyword.arg is None:
                raise self._error(
                    self._span(keyword.value), "settings are written out, not unpacked"
                )
            start = self._position(keyword.col_offset)
            span = _Span(start, start + len(keyword.arg))
            if keyword.arg not in known:
                raise self._error(span, str(unknown_setting(slug, keyword.arg, known)))
            if keyword.arg in found:
                raise self._error(span, f"{slug} got {keyword.arg} twice")
            found[keyword.arg] = keyword.value
        return found

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and (
            node.value is None or isinstance(node.value, bool | int | float | str)
        ):
            return node.value
        if isinstance(node, ast.Name) and node.id == "inf":
            return math.inf
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self._value(node.operand)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.Tuple | ast.List):
            return tuple(map(self._value, node.elts))
        span = self._span(node)
        written = self.text[span.start : span.end]
        if isinstance(node, ast.Name) and written.capitalize() in ("True", "False", "None"):
            raise self._error(span, f"write {written.capitalize()}")
        if isinstance(node, ast.Name | ast.BinOp):
            raise self._error(
                span, f'"{written}" is no value; a string needs quotes, and nothing is computed'
            )
        raise self._error(
            span, "expected a number, a string in quotes, True, False, None or a tuple of them"
        )

    def _span(self, node: ast.expr) -> _Span:
        end = node.end_col_offset if node.end_col_offset is not None else node.col_offset + 1
        return _Span(self._position(node.col_offset), self._position(end))

    def _position(self, offset: int) -> int:
        """Return the place in the text of an offset of the tree, which counts bytes."""
        return self.whole.start + len(self.source.encode()[:offset].decode())

    def _error(self, span: _Span, message: str) -> UsageError:
        width = max(span.end - span.start, 1)
        pointer = " " * span.start + "^" + "~" * (width - 1)
        return UsageError(f"{message}\n  {self.text.rstrip()}\n  {pointer}")
