"""Ways to break the source of a rule, one at a time."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from operators import CHECKING_KEYWORDS, changes

# Names in a rule's file whose code checks input, and changes no number.
CHECKING_METHODS = {"check"}
CHECKING_CALLS = {"require", "register"}

# Bases of classes without a formula: what users see of a rule (its name, reference and search
# space), and what a rule asks of others, for type checkers.
NO_FORMULA = {"RuleOptimizer", "Protocol"}


@dataclass(frozen=True)
class Mutant:
    """A broken source.

    Attributes:
        line: where it differs.
        kind: how it was broken.
        before: the statement as it was, on one line.
        after: the statement as it is.
        source: the whole file.
    """

    line: int
    kind: str
    before: str
    after: str
    source: str

    @property
    def change(self) -> str:
        """Return the difference on one line."""
        return f"{self.before}  ->  {self.after}"


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a rule's file that differs from it and from those before it."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    sites = list(_sites(tree))
    swaps = _name_pairs(node for node, _ in sites)
    places = {
        id(child): (parent, name, index)
        for parent in ast.walk(tree)
        for name, value in ast.iter_fields(parent)
        for index, child in (enumerate(value) if isinstance(value, list) else [(None, value)])
    }
    for node, statement in sites:
        before = _header(statement)
        for kind, replacement in list(changes(node, swaps)):
            put = _put(*places[id(node)])
            put(ast.Pass() if replacement is None else replacement)
            text = ast.unparse(ast.fix_missing_locations(tree))
            whole = replacement if node is statement else statement
            after = "(removed)" if whole is None else _header(whole)
            put(node)
            if text in seen:
                continue
            seen.add(text)
            yield Mutant(node.lineno, kind, before, after, text)  # type: ignore[attr-defined]


def _put(parent: ast.AST, name: str, index: int | None) -> Callable[[ast.AST], None]:
    """Return a function that puts a node into a place of the tree."""

    def put(node: ast.AST) -> None:
        if index is None:
            setattr(parent, name, node)
        else:
            getattr(parent, name)[index] = node

    return put


def _sites(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.stmt]]:
    """Yield the nodes that may be broken, with the statements that they are in."""
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _is_docstring(statement):
            continue
        if isinstance(statement, ast.ClassDef):
            yield from _class_sites(statement)
        elif isinstance(statement, ast.FunctionDef):
            yield from _body_sites(statement.body)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and not _is_dunder(statement):
            yield from _value_sites(statement)


def _class_sites(node: ast.ClassDef) -> Iterator[tuple[ast.AST, ast.stmt]]:
    if {base.id for base in node.bases if isinstance(base, ast.Name)} & NO_FORMULA:
        return
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            if statement.name not in CHECKING_METHODS:
                yield statement, statement
                for default in (*statement.args.defaults, *statement.args.kw_defaults):
                    if default is not None:
                        yield from _expression_sites(default, statement)
                yield from _body_sites(statement.body)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            yield from _value_sites(statement)


def _body_sites(body: list[ast.stmt]) -> Iterator[tuple[ast.AST, ast.stmt]]:
    for statement in body:
        if _is_docstring(statement) or isinstance(statement, ast.Raise | ast.Delete):
            continue
        if _calls(statement, CHECKING_CALLS) or _only_raises(statement):
            continue
        if isinstance(statement, ast.Expr | ast.Assign | ast.AugAssign):
            yield statement, statement
        if isinstance(statement, ast.FunctionDef):
            yield from _body_sites(statement.body)
            continue
        inner: list[ast.stmt] = []
        for name, value in ast.iter_fields(statement):
            if name in ("body", "orelse", "finalbody"):
                inner += value
            elif isinstance(value, ast.expr) and name != "annotation":
                yield from _expression_sites(value, statement)
            elif isinstance(value, list):
                for one in value:
                    if isinstance(one, ast.expr):
                        yield from _expression_sites(one, statement)
        if isinstance(statement, ast.If):
            yield statement, statement
        yield from _body_sites(inner)


def _value_sites(statement: ast.Assign | ast.AnnAssign) -> Iterator[tuple[ast.AST, ast.stmt]]:
    if statement.value is not None:
        yield from _expression_sites(statement.value, statement)


def _expression_sites(
    expression: ast.expr, statement: ast.stmt
) -> Iterator[tuple[ast.AST, ast.stmt]]:
    checking = {
        id(keyword.value)
        for keyword in ast.walk(expression)
        if isinstance(keyword, ast.keyword) and keyword.arg in CHECKING_KEYWORDS
    }
    for node in ast.walk(expression):
        if isinstance(node, ast.expr) and id(node) not in checking:
            yield node, statement


def _name_pairs(nodes: Iterator[ast.AST]) -> dict[str, str]:
    """Return which name to read instead of which: those that differ in a digit 1, 2 or 3."""
    names = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in nodes
        if isinstance(node, ast.Name | ast.Attribute)
    }
    pairs = {}
    for name in names:
        for digit, other in (("1", "2"), ("2", "1"), ("3", "2"), ("3", "1")):
            candidate = re.sub(rf"{digit}(?=_|$)", other, name)
            if candidate != name and candidate in names and name not in pairs:
                pairs[name] = candidate
    return pairs


def _header(node: ast.AST) -> str:
    """Return a statement on one line, without the body of a compound one."""
    if isinstance(node, ast.If):
        return f"if {ast.unparse(node.test)}:"
    lines = ast.unparse(node).splitlines()
    if isinstance(node, ast.FunctionDef):
        return next(line for line in lines if line.startswith("def "))
    return " ".join(line.strip() for line in lines)


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_dunder(node: ast.Assign | ast.AnnAssign) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(one, ast.Name) and one.id.startswith("__") for one in targets)


def _calls(node: ast.stmt, names: set[str]) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names


def _only_raises(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and all(isinstance(one, ast.Raise) for one in node.body)
