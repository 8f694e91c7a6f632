"""Merges whose numbers differ among tensors, as recipes say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.merge.method import Around, Measure, Merge, Piece
from thalweg.merge.soup import UniformSoup


@dataclass(frozen=True)
class ByTensor(Around):
    """A merge whose numbers differ among tensors.

    Attributes:
        usual: the merge for tensors that nothing else is said about.
        rules: of each number that varies, what the file says.
        layers: how many layers the models have, for numbers that change along them.
    """

    usual: Merge = field(default_factory=UniformSoup)
    rules: Mapping[str, Any] = field(default_factory=dict)
    layers: int = 1

    @property
    def following(self) -> Merge:
        """Return the usual merge."""
        return self.usual

    def of(self, name: str) -> Merge:
        """Return the merge with the numbers for one tensor."""
        found = {}
        for setting, rule in self.rules.items():
            if isinstance(rule, tuple):
                found[setting] = tuple(number_at(one, name, self.layers) for one in rule)
            else:
                found[setting] = number_at(rule, name, self.layers)
        return dataclasses.replace(self.usual, **found)

    def measure(self, count: int) -> Measure | None:
        """Return the usual merge's measure."""
        return self.usual.measure(count)

    def combine(self, piece: Piece, measured: Any) -> Tensor:
        """Return the entries by the tensor's own merge."""
        return self.of(piece.name).combine(piece, measured)


def is_plain(rule: Any) -> bool:
    """Return whether a rule is one number, or one a model, for all tensors."""
    return not isinstance(rule, (list, dict)) and not (
        isinstance(rule, tuple) and not all(map(is_plain, rule))
    )


def number_at(rule: Any, name: str, layers: int) -> float:
    """Return a number as it is for one tensor; for no tensor, as it is outside of layers.

    A list of numbers changes linearly along the layers; of filters the first that occurs in the
    tensor's name counts, one without a filter always does.
    """
    if isinstance(rule, dict):
        rule = [rule]
    if not isinstance(rule, list):
        return float(rule)
    if all(isinstance(one, dict) for one in rule):
        for one in rule:
            if one.get("filter") in (None, "*") or (name and one["filter"] in name):
                return number_at(one["value"], name, layers)
        raise ValueError(rule)
    if name and not layers:
        raise UsageError(
            "a recipe changes a number along the layers, and the first model's config.json does "
            "not say how many there are (num_hidden_layers)"
        )
    layer = re.search(r"\.(\d+)\.", name)
    place = min(int(layer[1]) / max(layers - 1, 1), 1.0) if layer else 0.0
    at = place * (len(rule) - 1)
    before = int(at)
    after = min(before + 1, len(rule) - 1)
    return float(rule[before]) * (1 - at + before) + float(rule[after]) * (at - before)
