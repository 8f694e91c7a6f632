"""Ways to break the source of a rule, one at a time."""

import ast
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Names in a rule's file whose code checks input, and changes no number.
CHECKING_METHODS = {"check"}
CHECKING_CALLS = {"require", "register"}

# Methods and functions that return something of the kind of their first argument.
_SHAPED = """
    abs sqrt square sign exp log neg rsqrt reciprocal clone detach float double pow
    add sub mul div lerp addcmul addcdiv clamp clamp_min clamp_max maximum minimum
    max min mT flip where copy norm mean sum t
"""
SHAPED = set(_SHAPED.split())
CHOOSING = {"max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum"}

OTHER_OPERATOR: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.FloorDiv: ast.Div,
}
OTHER_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}


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


Change = tuple[str, ast.AST | None]


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a rule's file that differs from it and from those before it."""
    tree = ast.parse(source)
    original = ast.unparse(tree)
    seen = {original}
    sites = list(_sites(tree))
    swaps = _name_pairs(node for node, _ in sites)
    for index, (node, statement) in enumerate(sites):
        for number, (kind, _) in enumerate(_changes(node, swaps)):
            fresh = ast.parse(source)
            target, whole = list(_sites(fresh))[index]
            replacement = list(_changes(target, swaps))[number][1]
            before = _header(statement)
            mutated = _replaced(fresh, target, replacement)
            text = ast.unparse(ast.fix_missing_locations(mutated))
            if text in seen:
                continue
            seen.add(text)
            after = "(removed)" if target is whole and replacement is None else _header(whole)
            if target is whole and replacement is not None:
                after = _header(replacement)
            yield Mutant(node.lineno, kind, before, after, text)  # type: ignore[attr-defined]


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
    if any(base.id == "RuleOptimizer" for base in node.bases if isinstance(base, ast.Name)):
        return  # what users see of a rule: its name, reference and search space
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
    for node in ast.walk(expression):
        if isinstance(node, ast.expr):
            yield node, statement


def _changes(node: ast.AST, swaps: dict[str, str]) -> Iterator[Change]:
    """Yield (kind, replacement) for one node; a replacement of None removes a statement."""
    handler: Callable[..., Iterator[Change]] | None = _HANDLERS.get(type(node))
    if handler is not None:
        yield from handler(node)
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
        yield from _other_names(node, swaps)


def _statement(node: ast.stmt) -> Iterator[Change]:
    yield "statement removed", None
    if isinstance(node, ast.AugAssign) and type(node.op) in OTHER_OPERATOR:
        other = copy.deepcopy(node)
        other.op = OTHER_OPERATOR[type(node.op)]()
        yield "operator changed", other


def _method(node: ast.FunctionDef) -> Iterator[Change]:
    yield "method removed", None


def _negated_if(node: ast.If) -> Iterator[Change]:
    other = copy.deepcopy(node)
    other.test = ast.UnaryOp(ast.Not(), other.test)
    yield "branch negated", other


def _negated_choice(node: ast.IfExp) -> Iterator[Change]:
    yield "branch negated", ast.IfExp(node.test, node.orelse, node.body)


def _binary(node: ast.BinOp) -> Iterator[Change]:
    yield "operand lost", node.left
    if not isinstance(node.op, ast.Pow | ast.Mod | ast.FloorDiv):
        yield "operand lost", node.right
    if isinstance(node.op, ast.MatMult):
        yield "operands swapped", ast.BinOp(node.right, node.op, node.left)
    if type(node.op) in OTHER_OPERATOR:
        yield "operator changed", ast.BinOp(node.left, OTHER_OPERATOR[type(node.op)](), node.right)


def _unary(node: ast.UnaryOp) -> Iterator[Change]:
    if not isinstance(node.operand, ast.Constant):
        yield "sign flipped" if isinstance(node.op, ast.USub) else "negation lost", node.operand
    elif isinstance(node.op, ast.USub):
        yield "sign flipped", node.operand


def _boolean(node: ast.BoolOp) -> Iterator[Change]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and/or swapped", ast.BoolOp(other, node.values)
    for value in node.values:
        yield "condition reduced", value


def _compare(node: ast.Compare) -> Iterator[Change]:
    for other in OTHER_COMPARISONS.get(type(node.ops[0]), ()):
        yield (
            "comparison changed",
            ast.Compare(node.left, [other(), *node.ops[1:]], node.comparators),
        )


def _constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield "constant changed", ast.Constant(not value)
    elif isinstance(value, int):
        yield "constant nudged", ast.Constant(value + 1)
        if value > 1:
            yield "constant nudged", ast.Constant(value - 1)
    elif isinstance(value, float):
        yield "constant nudged", ast.Constant(value * 1.2 if value else 0.1)


def _tuple(node: ast.Tuple) -> Iterator[Change]:
    if isinstance(node.ctx, ast.Load | ast.Store) and len(node.elts) >= 2:
        first, second, *rest = node.elts
        yield "first two swapped", ast.Tuple([second, first, *rest], node.ctx)


def _call(node: ast.Call) -> Iterator[Change]:
    function = node.func
    name = ""
    if isinstance(function, ast.Attribute):
        name = function.attr.rstrip("_")
        module = isinstance(function.value, ast.Name) and function.value.id in ("torch", "math")
        if not module and name in SHAPED:
            yield f"{name} lost", function.value
    elif isinstance(function, ast.Name):
        name = function.id
    if name in CHOOSING:
        other = copy.deepcopy(node)
        end = "_" if isinstance(function, ast.Attribute) and function.attr.endswith("_") else ""
        if isinstance(other.func, ast.Attribute):
            other.func.attr = CHOOSING[name] + end
        else:
            other.func = ast.Name(CHOOSING[name], ast.Load())
        yield f"{name} became {CHOOSING[name]}", other
    for argument in node.args:
        if not isinstance(argument, ast.Starred | ast.Constant) and name != "Parameter":
            yield f"{name or 'call'} lost", argument
    for index in range(len(node.keywords)):
        other = copy.deepcopy(node)
        del other.keywords[index]
        yield "keyword lost", other


def _other_names(node: ast.Name | ast.Attribute, swaps: dict[str, str]) -> Iterator[Change]:
    name = node.id if isinstance(node, ast.Name) else node.attr
    if name in swaps:
        if isinstance(node, ast.Name):
            yield "names swapped", ast.Name(swaps[name], node.ctx)
        else:
            yield "names swapped", ast.Attribute(node.value, swaps[name], node.ctx)
    if name == "t" and isinstance(node, ast.Name):
        for operator in (ast.Add(), ast.Sub()):
            yield "step shifted", ast.BinOp(node, operator, ast.Constant(1))


_HANDLERS: dict[type[ast.AST], Callable[..., Iterator[Change]]] = {
    ast.Expr: _statement,
    ast.Assign: _statement,
    ast.AugAssign: _statement,
    ast.FunctionDef: _method,
    ast.If: _negated_if,
    ast.IfExp: _negated_choice,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolean,
    ast.Compare: _compare,
    ast.Constant: _constant,
    ast.Tuple: _tuple,
    ast.Call: _call,
}


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


def _replaced(tree: ast.Module, target: ast.AST, replacement: ast.AST | None) -> ast.Module:
    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            if node is target:
                return ast.Pass() if replacement is None else replacement
            return self.generic_visit(node)

    return Replace().visit(tree)


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
