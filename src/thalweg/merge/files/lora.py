"""LoRA adapters in the form of PEFT, merged into their base as it is read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.merge.files.checkpoint import ADAPTER, _json, load_weights, open_checkpoint
from thalweg.merge.source import Entry, Source

_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
_PAIR = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.default)?(?:\.weight)?")


@dataclass(frozen=True)
class _Delta:
    """A change of a flattened matrix, scale * left @ right, rows by rows."""

    left: Tensor
    right: Tensor
    scale: float

    def between(self, start: int, stop: int) -> Tensor:
        width = self.right.shape[1]
        first, last = start // width, -(-stop // width)
        rows = (self.left[first:last] @ self.right).flatten() * self.scale
        return rows[start - first * width : stop - first * width]


class Adapted:
    r"""A base with a LoRA adapter in it, :math:`W = W_0 + \frac{\alpha}{r} B A`, as a source.

    With ``use_rslora`` the scale is :math:`\alpha / \sqrt r`. Tensors that the adapter holds whole
    (``modules_to_save``, biases) take the base's place. The sum is made in float32, so nothing is
    rounded before the merge. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
    2021, arXiv:2106.09685.

    Attributes:
        label: the adapter's path.
        folder: the base's folder, whose configuration and tokenizer belong to the model.
        config: the base's.
        entries: the base's tensors, and whole ones that it lacks.
        tied: the base's ties, but for tensors that the adapter changes.
        implied: the same for implied names.
    """

    def __init__(
        self, path: Path, base: Source, deltas: dict[str, _Delta], whole: dict[str, Tensor]
    ) -> None:
        self.label = str(path)
        self.folder = getattr(base, "folder", None)
        self.config: dict[str, Any] = getattr(base, "config", {})
        self._base, self._deltas, self._whole = base, deltas, whole
        added = {n: Entry(tuple(x.shape), x.dtype) for n, x in whole.items()}
        self.entries = {**base.entries, **added}
        changed = {*deltas, *whole}
        self.tied = {n: t for n, t in base.tied.items() if not {n, t} & changed}
        self.implied = dict(base.implied)

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Return entries of a flattened tensor, float32 where the adapter changes it."""
        if name in self._whole:
            return self._whole[name].reshape(-1)[start:stop]
        found = self._base.read(name, start, stop)
        if name in self._deltas:
            return found.to(torch.float32) + self._deltas[name].between(start, stop)
        return found


def open_adapter(path: Path, base: str | Path | None) -> Adapted:
    """Open an adapter's folder over its base.

    Raises:
        UsageError: its base is not known, or not the one it was made for; a kind of adapter that
            is not LoRA.
    """
    config = _json(path / ADAPTER)
    kind = str(config.get("peft_type", "LORA")).upper()
    if kind != "LORA" or config.get("use_dora"):
        kind = "DoRA" if config.get("use_dora") else kind
        raise UsageError(f"{path} is an adapter of type {kind}; only LoRA is merged in")
    if base is None:
        base = config.get("base_model_name_or_path")
        if not isinstance(base, str) or not base or not Path(base).exists():
            raise UsageError(
                f"{path} is an adapter of {base or 'an unnamed base'}, which is not on this disk; "
                "give the base's path"
            )
    if (Path(base) / ADAPTER).exists():
        raise UsageError(f"the base {base} is an adapter itself; give a whole model")
    model = open_checkpoint(base)
    file = next((path / name for name in _FILES if (path / name).exists()), None)
    if file is None:
        raise UsageError(f"{path} has no {' or '.join(_FILES)}")
    tensors = {name.removeprefix(_PREFIX): x for name, x in load_weights(file).items()}
    return Adapted(path, model, *_sorted(tensors, config, model, path))


def _sorted(
    tensors: dict[str, Tensor], config: dict[str, Any], base: Source, path: Path
) -> tuple[dict[str, _Delta], dict[str, Tensor]]:
    """Return the changes and the whole tensors by the base's names."""
    pairs: dict[tuple[str, bool], dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for name, x in tensors.items():
        match = _PAIR.fullmatch(name)
        if match:
            pairs.setdefault((match[1], bool(match[2])), {})[match[3]] = x.float()
        elif "lora_" in name:
            raise UsageError(f'{path} holds "{name}", which is no part of plain LoRA')
        else:
            whole[re.sub(r"\.modules_to_save(\.default)?", "", name)] = x
    deltas = {}
    for (module, embedding), pair in pairs.items():
        name = f"{module}.weight"
        if name not in base.entries:
            raise UsageError(
                f'{path} changes "{name}", which {base.label} does not have: it is the wrong base'
            )
        if pair.keys() != {"A", "B"}:
            raise UsageError(f'{path} has only one of the two matrices of "{name}"')
        deltas[name] = _delta(name, pair["A"], pair["B"], embedding, config, base, path)
    return deltas, whole


def _delta(
    name: str,
    a: Tensor,
    b: Tensor,
    embedding: bool,
    config: dict[str, Any],
    base: Source,
    path: Path,
) -> _Delta:
    rank = a.shape[0] if a.ndim else 0
    if not rank or not b.ndim:
        raise UsageError(f'{path} changes "{name}" by matrices of rank 0; it is damaged')
    alpha = _alpha(name.removesuffix(".weight"), config)
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    left, right = b.reshape(len(b), -1), a.reshape(rank, -1)
    shape = (len(b), *a.shape[1:])
    if embedding or config.get("fan_in_fan_out"):
        left, right, shape = right.mT, left.mT, (a.shape[1], len(b))
    found = base.entries[name].shape
    if left.shape[1] != rank or found != tuple(shape):
        raise UsageError(
            f'{path} changes "{name}" by a matrix of shape {tuple(shape)}, {base.label} has '
            f"{found}: it is the wrong base"
        )
    return _Delta(left.contiguous(), right.contiguous(), scale)


def _alpha(module: str, config: dict[str, Any]) -> float:
    try:
        for pattern, alpha in (config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return float(alpha)
        return float(config["lora_alpha"])
    except (AttributeError, KeyError, TypeError, ValueError, re.error):
        raise UsageError(
            "the adapter's configuration has no lora_alpha, or an alpha_pattern that cannot be read"
        ) from None
