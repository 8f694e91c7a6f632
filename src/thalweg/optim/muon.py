"""Muon."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State, newton_schulz
from thalweg.engine.distributed import gathered
from thalweg.engine.linear_algebra import QUINTIC, orthogonalising_dtype
from thalweg.engine.rule import require
from thalweg.engine.stacks import in_stacks, stack


@dataclass(frozen=True)
class MuonRule(Rule):
    """The formula of `Muon`."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    lr: float = 0.02
    momentum: float = 0.95
    nesterov: bool = True
    ns_coefficients: tuple[float, float, float] = QUINTIC
    eps: float = 1e-7
    ns_steps: int = 5
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original"

    def check(self) -> None:
        """Refuse a momentum outside [0, 1) and fewer than one iteration."""
        super().check()
        require(self, "momentum", 0 <= self.momentum < 1, "in [0, 1)")
        require(self, "ns_steps", self.ns_steps >= 1, "at least 1")

    def takes(self, p: Tensor) -> bool:
        """Return whether ``p`` is a matrix, or a convolution's weight that flattens to one."""
        return p.ndim >= 2

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the momentum, zero."""
        return {"momentum_buffer": torch.zeros_like(p)}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the momentum."""
        del t
        return {"momentum": self.momentum}

    def update_all(
        self, g: Sequence[Tensor], p: Sequence[Tensor], s: Sequence[State], k: Numbers
    ) -> Iterator[Tensor]:
        """Return the orthogonalised momenta, scaled by the matrices' shapes.

        Small matrices of one shape are treated together.
        """
        return in_stacks(self._together, g, p, s, k)

    def _together(
        self, g: Sequence[Tensor], p: Sequence[Tensor], s: Sequence[State], k: Numbers
    ) -> Tensor:
        u = stack([gathered(self._momentum(*one, k)) for one in zip(g, s, strict=True)])
        matrices = u.flatten(2).to(orthogonalising_dtype(u))
        o = newton_schulz(matrices, self.ns_steps, self.ns_coefficients, self.eps)
        return o.mul_(self._scale(*matrices.shape[1:])).to(p[0].dtype).reshape(u.shape)

    def _momentum(self, g: Tensor, s: State, k: Numbers) -> Tensor:
        b = s.momentum_buffer.lerp_(g, 1 - k.momentum)
        return g.lerp(b, k.momentum) if self.nesterov else b

    def _scale(self, rows: int, columns: int) -> float:
        if self.adjust_lr_fn == "match_rms_adamw":
            return 0.2 * max(rows, columns) ** 0.5
        return max(1.0, rows / max(columns, 1)) ** 0.5


class Muon(
    RuleOptimizer,
    rule=MuonRule,
    slug="muon",
    reference="Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982",
    space={
        "lr": Log(1e-3, 3e-1),
        "adamw_lr": Log(1e-4, 1e-1),
        "weight_decay": Log(1e-3, 1.0),
    },
    rest="adamw",
    rest_defaults={"lr": 3e-4, "betas": (0.9, 0.95), "eps": 1e-10, "weight_decay": 0.0},
):
    r"""Muon: momentum whose matrix is orthogonalised, for hidden layers; AdamW for the rest.

    ::

        b <- momentum b + (1 - momentum) g
        u  = (1 - momentum) g + momentum b     (nesterov; else b)
        p <- (1 - lr weight_decay) p - lr scale newton_schulz(u)

    with ``scale = max(1, rows / columns)^(1/2)`` ("original") or ``0.2 max(rows, columns)^(1/2)``
    ("match_rms_adamw", which moves entries as far as AdamW does, so that its learning rate and
    weight decay can be kept). A convolution's weight is taken as the matrix (out, in * kernel).

    Vectors and scalars, embeddings and the output layer go to AdamW, in a parameter group of
    their own with ``rule="adamw"``. Pass the model itself and this needs no thought: embeddings
    are known by their modules, the output layer is the last one. Named parameters are sorted by
    their names, nameless ones by shape alone; a group with ``rule="muon"`` or ``rule="adamw"`` is
    left as you made it.

    Newton-Schulz runs in float64 for float64 parameters, else in float32, or in bfloat16 where
    the device multiplies matrices at least three times as fast in that; small matrices of one
    shape go through it together.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate of the matrices.
        momentum: decay of the mean of gradients, in [0, 1).
        nesterov: look ahead along the mean.
        ns_coefficients: (a, b, c) of the iteration, see `newton_schulz`.
        eps: added to the norm before it.
        ns_steps: number of iterations.
        adjust_lr_fn: "original" or "match_rms_adamw".
        weight_decay: decoupled, for the matrices.
        adamw_lr: learning rate of the rest.
        adamw_betas: as in AdamW.
        adamw_eps: as in AdamW.
        adamw_weight_decay: as in AdamW.

    State: ``momentum_buffer``, like the parameter; for the rest AdamW's.

    Reference: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024);
    Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982. Jordan's code takes the
    scale of a convolution from its kernel's two axes, which makes it 1; the flattened matrix is
    used here.
    """
