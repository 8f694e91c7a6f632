"""Merge recipes in YAML, in the convention that mergekit's users know."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.merge.dare import DARE
from thalweg.merge.files.by_tensor import ByTensor, is_plain, number_at
from thalweg.merge.files.checkpoint import _json
from thalweg.merge.method import Merge
from thalweg.merge.model_stock import ModelStock
from thalweg.merge.slerp import SLERP
from thalweg.merge.soup import UniformSoup
from thalweg.merge.task_arithmetic import TaskArithmetic
from thalweg.merge.ties import TIES

_METHODS = (
    "linear",
    "task_arithmetic",
    "ties",
    "dare_linear",
    "dare_ties",
    "slerp",
    "model_stock",
)
_KNOWN = {
    "models",
    "slices",
    "merge_method",
    "base_model",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "name",
    "chat_template",
}
_PARAMETERS = {"weight", "density", "t", "normalize", "lambda", "rescale", "int8_mask"}
_DTYPES = {"float16", "bfloat16", "float32", "float64"}


@dataclass(frozen=True)
class MergeRecipe:
    """A merge as a file says it.

    Attributes:
        method: the merge; settings may differ among tensors.
        models: paths, without the base.
        base: its path, if there is one.
        dtype: of the result, if the file names it.
        notes: what the file says that is done otherwise, or not at all.
    """

    method: Merge
    models: tuple[str, ...]
    base: str | None
    dtype: torch.dtype | None
    notes: tuple[str, ...]


def read_recipe(path: str | Path) -> MergeRecipe:
    """Return the merge that a YAML file in mergekit's convention says.

    Read are ``merge_method`` linear, task_arithmetic, ties, dare_linear, dare_ties, slerp and
    model_stock; ``models`` or one slice over all layers; ``base_model``; ``parameters`` of the
    whole and of models (weight, density, t, normalize, lambda, rescale), as numbers, lists along
    the layers, or lists of filters; ``dtype`` and ``out_dtype``. Relative paths are relative to
    the working directory. TIES has the scope "tensor" there. DARE rescales by 1 / (1 - p) as its
    paper does, mergekit to the tensor's L1 norm. Stacks of layers are refused.

    Raises:
        UsageError: no such file, no such convention, or a part of it that is not read.
    """
    path = Path(path)
    document = _yaml(path)
    unknown = [key for key in document if key not in _KNOWN]
    if unknown:
        raise UsageError(
            f'{path}: "{unknown[0]}" is not read.{did_you_mean(str(unknown[0]), _KNOWN)}'
        )
    return _Reader(path, document).recipe()


class _Reader:
    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path, self.document = path, document
        self.layers = 0  # not known
        self.notes: list[str] = []
        self.rules: dict[str, Any] = {}

    def recipe(self) -> MergeRecipe:
        kind = self.document.get("merge_method")
        if kind not in _METHODS:
            raise self._wrong(
                f'merge_method is "{kind}".{did_you_mean(str(kind), _METHODS)} Read are: '
                f"{', '.join(_METHODS)}"
            )
        listed = self._models()
        base = self.document.get("base_model")
        if kind == "slerp" and base is not None and len(listed) == 2:
            listed.sort(key=lambda pair: pair[0] != base)  # t = 0 is the base
        elif kind == "slerp" and base is not None and len(listed) == 1:
            listed.insert(0, (str(base), {}))
        elif kind != "linear":
            listed = [pair for pair in listed if pair[0] != base]
        method = self._method(kind, [parameters for _, parameters in listed])
        rules = {n: r for n, r in self.rules.items() if not is_plain(r)}
        if rules:
            method = ByTensor(method, rules, self.layers)
        if self.document.get("tokenizer_source") not in (None, "base"):
            self.notes.append("tokenizer_source is not read: the base's tokenizer is carried along")
        if self.document.get("chat_template"):
            self.notes.append("chat_template is not read: the base's is carried along")
        return MergeRecipe(
            method,
            tuple(name for name, _ in listed),
            None if base is None else str(base),
            self._dtype(),
            tuple(self.notes),
        )

    def _models(self) -> list[tuple[str, dict[str, Any]]]:
        models, slices = self.document.get("models"), self.document.get("slices")
        if (models is None) == (slices is None):
            raise self._wrong('there must be "models" or "slices", and not both')
        if slices is not None:
            if not isinstance(slices, list) or len(slices) != 1:
                raise self._wrong("stacks of layers are not read; give one slice, or models")
            models = slices[0].get("sources") if isinstance(slices[0], dict) else None
            models = models if isinstance(models, list) else []
            ranges = [one.get("layer_range") for one in models if isinstance(one, dict)]
            first = ranges[0] if ranges else None
            if (
                any(found != first for found in ranges)
                or not (isinstance(first, list) and len(first) == 2 and first[0] == 0)
                or not isinstance(first[1], int)
            ):
                raise self._wrong("a slice is read if it covers the same layers, from 0, of all")
            self.layers = first[1]
            self.document.setdefault("parameters", slices[0].get("parameters"))
        found = []
        for one in models if isinstance(models, list) else ():
            if not isinstance(one, dict) or not isinstance(one.get("model"), str):
                raise self._wrong('each model needs "model", its path')
            parameters = one.get("parameters") or {}
            self._check_parameters(parameters)
            found.append((one["model"], parameters))
        if not found:
            raise self._wrong("there are no models")
        layers = _json(Path(found[0][0]) / "config.json").get("num_hidden_layers")
        if slices is None:
            self.layers = layers if isinstance(layers, int) else 0
        elif layers not in (None, self.layers):
            raise self._wrong(
                f"the slice ends at layer {self.layers} of {layers}; shortened models are not read"
            )
        return found

    def _method(self, kind: str, own: list[dict[str, Any]]) -> Merge:
        shared = self.document.get("parameters") or {}
        self._check_parameters(shared)

        def every(name: str, default: float | None) -> tuple[float, ...]:
            rules = tuple(one.get(name, shared.get(name, default)) for one in own)
            if None in rules:
                raise self._wrong(f'every model needs a "{name}"')
            return self._numbers(_SETTING.get(name, name), rules)

        def one(name: str, setting: str, default: float) -> float:
            return self._numbers(setting, shared.get(name, default))

        if kind == "slerp":
            return SLERP(one("t", "t", 0.5))
        if kind == "model_stock":
            return ModelStock()
        weights = every("weight", 1.0 if kind == "linear" else None)
        if kind == "linear":
            if shared.get("normalize", True):
                return UniformSoup(weights)
            raise self._wrong("linear without normalize is no mean; use task_arithmetic")
        scale = one("lambda", "scale", 1.0)
        normalise = bool(shared.get("normalize", kind in ("ties", "dare_ties")))
        if kind in ("task_arithmetic", "dare_linear") and normalise:
            if any(not is_plain(rule) for rule in self.rules.values()):
                raise self._wrong("numbers that differ among tensors are not read with normalize")
            total = sum(weights) or 1.0
            weights = tuple(w / total for w in weights)
        ties = TIES(1.0, scale, weights, "tensor", normalise) if kind.endswith("ties") else None
        densities = every("density", 1.0) if kind != "task_arithmetic" else ()
        if kind == "ties":
            return dataclasses.replace(ties, density=densities)  # type: ignore[type-var]
        if kind == "task_arithmetic":
            return TaskArithmetic(scale, weights)
        inner = ties or TaskArithmetic(scale, weights)
        if any(not is_plain(rule) for rule in self.rules.values()):
            raise self._wrong("numbers that differ among tensors are not read with DARE")
        rescale = bool(shared.get("rescale", True))
        return DARE(tuple(1 - d for d in densities), inner, rescale)

    def _numbers(self, setting: str, rule: Any) -> Any:
        """Return the usual numbers of a setting, and keep what is said about single tensors."""
        self.rules[setting] = rule
        try:
            if isinstance(rule, tuple):
                return tuple(number_at(one, "", self.layers) for one in rule)
            return number_at(rule, "", self.layers)
        except (TypeError, ValueError, AttributeError, KeyError):
            raise self._wrong(f"{setting} cannot be read: {rule!r}") from None

    def _check_parameters(self, parameters: Any) -> None:
        if not isinstance(parameters, dict):
            raise self._wrong("parameters must be numbers by name")
        for name in parameters:
            if name not in _PARAMETERS:
                hint = did_you_mean(str(name), _PARAMETERS)
                raise self._wrong(f'the parameter "{name}" is not read.{hint}')

    def _dtype(self) -> torch.dtype | None:
        name = self.document.get("out_dtype") or self.document.get("dtype")
        if name is None:
            return None
        if not isinstance(name, str) or name not in _DTYPES:
            raise self._wrong(f'the dtype "{name}" is none of {", ".join(sorted(_DTYPES))}')
        return getattr(torch, name)

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"{self.path}: {what}")


_SETTING = {"weight": "weights"}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise UsageError(
            'merge recipes need PyYAML, which is not installed; pip install "thalweg[recipes]"'
        ) from None
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is no merge recipe: it should name a merge_method and models")
    return found
