"""The page of each rule and the table of all, from docstrings and measurements.

Imported by conf.py; writes rules/<slug>.rst and rules/index.rst next to itself.
"""

import html
import json
import math
import re
from pathlib import Path
from typing import Any

import thalweg.recipe  # noqa: F401 - fills the registry
from thalweg.core import registry
from thalweg.core.registry import Part
from thalweg.engine import ClosureOptimizer

COLUMNS = (
    ("Rule", "the name, and its slug in recipes"),
    ("Published", "year of the paper"),
    ("digits", "accuracy after 100 steps at the best of seven learning rates"),
    ("text", "validation loss after 40 steps at the better of two learning rates"),
    ("Step", "time of a training step on digits as a multiple of AdamW's"),
    ("State", "bytes of state per parameter on digits"),
    ("Peak", "peak memory of a training step on digits, MB"),
    ("Needs", "what it needs besides gradients"),
)


def write(folder: Path) -> None:
    """Write all pages."""
    measured = json.loads((folder / "measurements.json").read_text())
    target = folder / "rules"
    target.mkdir(exist_ok=True)
    parts = registry.parts("rule")
    for part in parts:
        (target / f"{part.slug}.rst").write_text(page(part, measured.get(part.slug, {})))
    (target / "index.rst").write_text(table(parts, measured))
    (target / "modifiers.rst").write_text(modifiers())


def page(part: Part, facts: dict[str, Any]) -> str:
    """Return a rule's page."""
    cls: Any = part.factory
    lines = [part.name, "=" * len(part.name), ""]
    lines += [".. list-table::", "   :widths: 30 70", ""]
    for name, value in rows(part, facts):
        lines += [f"   * - {name}", f"     - {value}"]
    lines += [""]
    curve = [(run["lr"], run["loss"], run["accuracy"]) for run in facts.get("sensitivity", ())]
    if len(curve) > 1:
        lines += [".. raw:: html", ""]
        lines += [f"   {line}" for line in picture(curve, part.name).splitlines()]
        lines += [""]
    if facts.get("error"):
        lines += [f"It could not be measured on this machine: {facts['error']}", ""]
    lines += [
        f".. autoclass:: {cls.__module__}.{cls.__qualname__}",
        "   :no-index:",
        "",
    ]
    return "\n".join(lines)


def spelt(space: dict[str, Any]) -> str:
    """Return a search space in words."""
    if "values" in space:
        return "one of " + ", ".join(map(str, space["values"]))
    how = {"linear": "", "log": ", logarithmically"}.get(space["type"], ", near to 1")
    return f"{space['low']:g} to {space['high']:g}{how}"


def rows(part: Part, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the box at the top says."""
    digits, text = facts.get("digits") or {}, facts.get("text") or {}
    found = [
        ("In a recipe", f"``{part.slug}``"),
        ("In Python", f"``thalweg.optim.{part.factory.__name__}``"),  # type: ignore[attr-defined]
        ("Published in", part.reference),
        ("Needs", needs(part)),
    ]
    space = [f"``{name}`` {spelt(one.describe())}" for name, one in part.space.items()]
    if space:
        found.append(("Search space", "; ".join(space)))
    if digits.get("accuracy") is not None:
        said = f"accuracy {digits['accuracy']:.3f} after 100 steps with lr = {digits['lr']:.2g}"
        if digits.get("options"):
            said += f" and ``{digits['options']}``"
        if smaller(digits, "digits"):
            said += f"; on {digits['task']}, instead of the network"
        found.append(("On ``digits``", said))
    elif digits.get("reason"):
        found.append(("On ``digits``", digits["reason"]))
    if text.get("metric") is not None:
        said = f"loss {text['metric']:.3f} after 40 steps with lr = {text['lr']:.2g}"
        if smaller(text, "text"):
            said += f"; on {text['task']}, instead of the network"
        found.append(("On ``text``", said))
    elif text.get("reason"):
        found.append(("On ``text``", text["reason"]))
    if facts.get("step_ratio") is not None:
        found.append(("Training step", f"{facts['step_ratio']:.2f} times AdamW's, on ``digits``"))
    if digits.get("state_bytes_per_parameter") is not None:
        found.append(("State", f"{digits['state_bytes_per_parameter']:g} bytes per parameter"))
    return found


def smaller(found: dict[str, Any], workload: str) -> bool:
    """Return whether a rule was measured on less than the workload's network."""
    return found.get("task", workload) != workload


def needs(part: Part) -> str:
    """Return what a rule needs besides gradients, in words."""
    cls: Any = part.factory
    if not (isinstance(cls, type) and issubclass(cls, ClosureOptimizer)):
        loss = getattr(getattr(cls, "rule", None), "needs_loss", False)
        return "the loss" if loss else "nothing more"
    found = ["a closure"]
    if cls.needs_graph:
        found.append("second derivatives")
    if cls.needs_outputs:
        found.append("the model's outputs")
    found += cls.provisions
    return ", ".join(found).replace("_", " ")


def table(parts: list[Part], measured: dict[str, Any]) -> str:
    """Return the page with the table of all rules, which sorts by a click."""
    head = "".join(f'<th title="{tip}">{name}</th>' for name, tip in COLUMNS)
    body = []
    for part in parts:
        facts = measured.get(part.slug, {})
        digits, text = facts.get("digits") or {}, facts.get("text") or {}
        peak = digits.get("peak_bytes")
        values = [
            (year(part.reference), "{:.0f}"),
            (digits.get("accuracy"), "{:.3f}*" if smaller(digits, "digits") else "{:.3f}"),
            (text.get("metric"), "{:.3f}*" if smaller(text, "text") else "{:.3f}"),
            (facts.get("step_ratio"), "{:.2f}"),
            (digits.get("state_bytes_per_parameter"), "{:g}"),
            (None if peak is None else peak / 1e6, "{:.1f}"),
        ]
        cells = "".join(number(*one) for one in values)
        name = f'<a href="{part.slug}.html">{html.escape(part.name)}</a> <code>{part.slug}</code>'
        body.append(f"<tr><td>{name}</td>{cells}<td>{html.escape(needs(part))}</td></tr>")
    lines = [
        "All rules",
        "=========",
        "",
        f"{len(parts)} rules, {len(measured)} of them measured. Click a heading to sort.",
        "A measured rule trained both workloads with one seed on one thread, at the best learning",
        "rate of a coarse grid and its own defaults otherwise: this shows that a rule works and",
        "what it costs, and is too little to rank rules by: ``thalweg race`` them on your task.",
        "A star marks rules that hold large matrices, or are for convex sums: they were measured",
        "on softmax regression of the same data instead of the network.",
        "",
        ".. raw:: html",
        "",
        '   <div class="wide"><table class="sortable">',
        f"   <thead><tr>{head}</tr></thead><tbody>",
        *(f"   {row}" for row in body),
        "   </tbody></table></div>",
        "",
        ".. toctree::",
        "   :hidden:",
        "   :maxdepth: 1",
        "",
        "   modifiers",
        *(f"   {part.slug}" for part in parts),
        "",
    ]
    return "\n".join(lines)


def modifiers() -> str:
    """Return the page of the modifiers."""
    lines = ["Modifiers", "=========", "", ".. automodule:: thalweg.modifier", ""]
    for part in registry.parts("modifier"):
        title = f"{part.name} (``{part.slug}``)"
        cls: Any = part.factory
        lines += [title, "-" * len(title), ""]
        lines += [f".. autoclass:: {cls.__module__}.{cls.__qualname__}", "   :no-index:", ""]
    return "\n".join(lines)


def number(value: float | None, form: str) -> str:
    """Return a cell that sorts by its number."""
    if value is None or not math.isfinite(value):
        return "<td></td>"
    return f'<td data-value="{value!r}">{form.format(value)}</td>'


def year(reference: str) -> float | None:
    """Return the first year that a reference names."""
    words = "".join(c if c.isdigit() else " " for c in reference).split()
    years = [int(word) for word in words if len(word) == 4 and 1950 <= int(word) <= 2100]
    return float(years[0]) if years else None


_LITERAL = re.compile(r"(``.+?``|:\w+:`.+?`|`.+?`)")


def escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Change norms such as |p| and names such as h_ in prose, which are markup otherwise.

    The bar is replaced by one of the same width, so that tables keep their columns.
    """
    del app, what, name, obj, options
    margin: int | None = None
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if margin is not None and (not line.strip() or indent > margin):
            continue
        margin = indent if line.rstrip().endswith("::") or ".. math::" in line else None
        parts = _LITERAL.split(line)
        for j in range(0, len(parts), 2):
            parts[j] = re.sub(r"(\w)_(?=\W|$)", r"\1\\_", parts[j].replace("|", "\u2223"))
        lines[i] = "".join(parts)


WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 560, 250, 52, 26, 16, 40


def picture(curve: list[tuple[float, float | None, float | None]], name: str) -> str:
    """Return a drawing of the last training loss against the learning rate, both logarithmic."""
    points = [(lr, loss) for lr, loss, _ in curve if loss is not None and loss > 0 and lr > 0]
    if len(points) < 2:
        return ""
    rates = [lr for lr, *_ in curve]
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    high = max(high, low * 1.1)

    def x(lr: float) -> float:
        share = math.log(lr / rates[0]) / math.log(rates[-1] / rates[0])
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(loss: float) -> float:
        share = math.log(loss / low) / math.log(high / low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    line = " ".join(f"{x(lr):.1f},{y(loss):.1f}" for lr, loss in points)
    marks = "".join(
        f'<circle cx="{x(lr):.1f}" cy="{y(loss):.1f}" r="3.5"><title>lr {lr:.3g}: loss '
        f"{loss:.3g}</title></circle>"
        for lr, loss in points
    )
    lost = [lr for lr, loss, _ in curve if loss is None]
    crosses = "".join(
        f'<text x="{x(lr):.1f}" y="{TOP + 4}" text-anchor="middle">diverged</text>' for lr in lost
    )
    ticks = "".join(
        f'<text x="{x(lr):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{lr:.1g}</text>'
        for lr in rates[::2]
    )
    ends = "".join(
        f'<text x="{LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2g}</text>'
        for loss in (low, high)
    )
    return (
        f'<svg class="sensitivity" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(name)}: training loss on digits against learning rate">'
        f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
        f'<polyline points="{line}"/>{marks}{crosses}{ticks}{ends}'
        f'<text x="{LEFT}" y="{TOP - 10}">training loss on digits after 100 steps</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">learning rate</text></svg>'
    )
