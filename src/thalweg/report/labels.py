"""Short names for entrants, where the full one is a whole recipe."""

from collections import Counter
from collections.abc import Sequence

LONGEST = 28


def short_labels(names: Sequence[str], recipes: Sequence[str | None]) -> list[str]:
    """Return a label for each entrant: short, and different from all others.

    An entrant that is called by its recipe gets the recipe's rule, and of its other parts those
    that not all such entrants with that rule share. A name of one's own, or one without a recipe,
    stays. What is still too long is cut in the middle, what is still the same is numbered.
    """
    unnamed = {
        name: _parts(name)
        for name, recipe in zip(names, recipes, strict=True)
        if recipe is not None and name.startswith(recipe)
    }
    labels = []
    for name in names:
        text = name
        if name in unnamed:
            rule, *others = unnamed[name]
            family = [set(parts) for parts in unnamed.values() if parts[0] == rule]
            shared = set.intersection(*family)
            text = " + ".join([rule, *(part for part in others if part not in shared)])
        labels.append(_cut(text))
    used = Counter(labels)
    seen: Counter[str] = Counter()
    taken = set(labels)
    for i, label in enumerate(labels):
        if used[label] > 1:
            seen[label] += 1
            if seen[label] > 1:
                labels[i] = _free(label, taken)
                taken.add(labels[i])
    return labels


def _parts(name: str) -> list[str]:
    """Return the parts of a recipe without their arguments; of other names, the whole name."""
    parts, depth, current = [], 0, ""
    for character in name:
        depth += character == "("
        if depth == 0 and character == "+":
            parts.append(current.strip())
            current = ""
        elif depth == 0:
            current += character
        depth -= character == ")"
    return [*parts, current.strip()]


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 10].rstrip()}\N{HORIZONTAL ELLIPSIS}{text[-9:].lstrip()}"


def _free(label: str, taken: set[str]) -> str:
    number = 2
    while f"{label} ({number})" in taken:
        number += 1
    return f"{label} ({number})"
