"""Shampoo."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.space import Choice, Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.blocks import block_shapes, cut, join, merged_shape
from thalweg.engine.distributed import gathered, in_shares
from thalweg.engine.linear_algebra import symmetric_product
from thalweg.engine.numeric import wide
from thalweg.engine.orthogonal import at_least_single
from thalweg.engine.rule import require


@dataclass(frozen=True)
class ShampooRule(Rule):
    """The formula of `Shampoo`."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    lr: float = 1e-2
    betas: tuple[float, float] = (0.9, 1.0)
    beta3: float = -1.0
    eps: float = 1e-12
    max_preconditioner_dim: int = 1024
    target_dims: int | None = 1
    precondition_frequency: int = 1
    start_preconditioning_step: int = -1
    use_bias_correction: bool = True
    drop_weighting_factor: bool = False
    inverse_exponent: float | None = None
    grafting: Literal["none", "sgd", "adagrad", "rmsprop", "adam"] = "none"
    grafting_beta2: float = 0.999
    grafting_eps: float = 1e-10
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def check(self) -> None:
        """Refuse impossible values; beta2 may be 1."""
        for name in ("lr", "weight_decay", "eps", "grafting_eps"):
            require(self, name, getattr(self, name) >= 0, "at least 0")
        beta1, beta2 = self.betas
        require(self, "betas", 0 <= beta1 < 1 and 0 <= beta2 <= 1, "in [0, 1) and [0, 1]")
        possible = self.beta3 == -1 or 0 <= self.beta3 < 1
        require(self, "beta3", possible, "-1 (for beta1) or in [0, 1)")
        require(self, "max_preconditioner_dim", self.max_preconditioner_dim >= 1, "at least 1")
        possible = self.target_dims is None or self.target_dims >= 1
        require(self, "target_dims", possible, "None (do not merge) or at least 1")
        require(self, "precondition_frequency", self.precondition_frequency >= 1, "at least 1")
        start = self.start_preconditioning_step
        possible = start == -1 or start >= 1
        require(self, "start_preconditioning_step", possible, "-1 (the frequency) or at least 1")
        possible = self.inverse_exponent is None or self.inverse_exponent > 0
        require(self, "inverse_exponent", possible, "None or positive")
        require(self, "grafting_beta2", 0 <= self.grafting_beta2 < 1, "in [0, 1)")
        require(self, "momentum", 0 <= self.momentum < 1, "in [0, 1)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the mean of gradients, zero, the factors, zero, and their roots, identities."""
        zeros = torch.zeros(self._shape(p), dtype=at_least_single(p), device=p.device)
        state = {"exp_avg": zeros}
        if self.grafting not in ("none", "sgd"):
            state["grafting_sq"] = torch.zeros_like(zeros)
        if self.momentum != 0:
            state["momentum_buffer"] = torch.zeros_like(zeros)
        for i, (count, shape) in enumerate(block_shapes(zeros.shape, self.max_preconditioner_dim)):
            for axis, size in enumerate(shape):
                state[f"factor_{i}_{axis}"] = zeros.new_zeros(count, size, size)
                eye = torch.eye(size, dtype=zeros.dtype, device=p.device)
                state[f"root_{i}_{axis}"] = eye.repeat(count, 1, 1)
        return state

    def scalars(self, t: int) -> dict[str, float]:
        """Return the decays, weights and bias corrections, and what happens on this step."""
        beta1, beta2 = self.betas
        beta3 = beta1 if self.beta3 == -1 else self.beta3
        adds = beta2 == 1 or self.drop_weighting_factor
        corrects = self.use_bias_correction
        every, start = self.precondition_frequency, self.start_preconditioning_step
        start = every if start == -1 else start
        sums = self.grafting == "adagrad"
        return {
            "beta1": beta1,
            "beta2": beta2,
            "beta3": beta3,
            "eps": self.eps,
            "weight": 1.0 if adds else 1 - beta2,
            "bias_correction1": 1 - beta3 * beta1 ** (t - 1) if corrects else 1.0,
            "bias_correction2": 1 - beta2**t if corrects and not adds else 1.0,
            "refreshes": t >= start and (t == start or t % every == 0),
            "waits": t < start,
            "grafting_beta2": 1.0 if sums else self.grafting_beta2,
            "grafting_weight": 1.0 if sums else 1 - self.grafting_beta2,
            "grafting_eps": self.grafting_eps,
            "grafting_correction": 1 - self.grafting_beta2**t if self.grafting == "adam" else 1.0,
            "momentum": self.momentum,
            "direction_weight": 1 - self.dampening,
        }

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and 0: the decay joins the direction, before any momentum."""
        return k.lr, 0.0

    def update_all(
        self, g: Sequence[Tensor], p: Sequence[Tensor], s: Sequence[State], k: Numbers
    ) -> Iterator[Tensor]:
        """Return the preconditioned means of gradients; roots of equal sizes are found at once."""
        whole = [wide(gathered(x)).reshape(y.exp_avg.shape) for x, y in zip(g, s, strict=True)]
        for x, state in zip(whole, s, strict=True):
            self._accumulate(x, state, k)
        if k.refreshes:
            self._refresh(s, p[0], k)
        for x, weight, state in zip(whole, p, s, strict=True):
            d = self._direction(x, state, k)
            if k.weight_decay != 0:
                d = d.add(gathered(weight).reshape(d.shape), alpha=k.weight_decay)
            yield self._with_momentum(d, state, k).to(weight.dtype).reshape(weight.shape)

    def _shape(self, p: Tensor) -> tuple[int, ...]:
        if self.target_dims is None:
            return p.shape or (1,)
        return merged_shape(p.shape, self.max_preconditioner_dim, self.target_dims)

    def _accumulate(self, g: Tensor, s: State, k: Numbers) -> None:
        if hasattr(s, "grafting_sq"):
            s.grafting_sq.mul_(k.grafting_beta2).add_(g * g, alpha=k.grafting_weight)
        for i, blocks in enumerate(cut(g, self.max_preconditioner_dim)):
            for axis in range(g.ndim):
                flat = blocks.movedim(axis + 1, 1).flatten(2) if g.ndim > 1 else blocks[..., None]
                name = f"factor_{i}_{axis}"
                added = symmetric_product(
                    flat, flat.mT, getattr(s, name), beta=k.beta2, alpha=k.weight
                )
                setattr(s, name, added)

    def _refresh(self, states: Sequence[State], p: Tensor, k: Numbers) -> None:
        """Find the inverse roots of all factors, those of one size in one stack."""
        alike: dict[object, list[tuple[Tensor, Tensor, float]]] = {}
        for s in states:
            power = self.inverse_exponent or 1 / (2 * s.exp_avg.ndim)
            for name, factor in vars(s).items():
                if name.startswith("factor_"):
                    root = getattr(s, name.replace("factor", "root"))
                    alike.setdefault(factor.size(-1), []).append((factor, root, power))
        for entries in alike.values():
            factors, roots, powers = zip(*entries, strict=True)
            counts = [len(factor) for factor in factors]
            stack = torch.cat(factors) / k.bias_correction2
            exponents = torch.cat(
                [stack.new_full((n, 1), -power) for n, power in zip(counts, powers, strict=True)]
            )
            found = in_shares(lambda x, e: _power(x, e, k.eps), p, stack, exponents)
            for root, one in zip(roots, found.split(counts), strict=True):
                root.copy_(one)

    def _direction(self, g: Tensor, s: State, k: Numbers) -> Tensor:
        """Move the mean on and return what was made of it, preconditioned and grafted."""
        mean = s.exp_avg.lerp(g, 1 - k.beta3) / k.bias_correction1
        s.exp_avg.lerp_(g, 1 - k.beta1)
        grafted = mean
        if hasattr(s, "grafting_sq"):
            root = (s.grafting_sq / k.grafting_correction).sqrt()
            grafted = mean / (root + k.grafting_eps)
        if k.waits or g.numel() == 0:
            return grafted
        limit = self.max_preconditioner_dim
        stacks = cut(mean, limit)
        for i, blocks in enumerate(stacks):
            for axis in range(mean.ndim):
                root = getattr(s, f"root_{i}_{axis}")
                flat = blocks.movedim(axis + 1, 1)
                blocks = (root @ flat.reshape(*root.shape[:2], -1)).reshape(flat.shape)
                blocks = blocks.movedim(1, axis + 1)
            stacks[i] = blocks
        if self.grafting != "none":
            sizes = map(_sizes, cut(grafted, limit))
            stacks = [
                x * (size / (_sizes(x) + 1e-16)) for x, size in zip(stacks, sizes, strict=True)
            ]
        return join(stacks, mean.shape, limit)

    def _with_momentum(self, d: Tensor, s: State, k: Numbers) -> Tensor:
        if not hasattr(s, "momentum_buffer"):
            return d
        b = s.momentum_buffer.mul_(k.momentum).add_(d, alpha=k.direction_weight)
        return (d * k.direction_weight).add(b, alpha=k.momentum) if self.nesterov else b


def _power(x: Tensor, exponents: Tensor, eps: float) -> Tensor:
    """Return the powers of symmetric matrices, their eigenvalues raised to eps at least.

    One with an entry that is not finite becomes NaN.
    """
    finite = torch.isfinite(x).flatten(1).all(1)[:, None, None]
    values, vectors = torch.linalg.eigh(torch.where(finite, x, 0.0))
    values = values - values.amin(1, keepdim=True).clamp(max=0.0) + eps
    root = symmetric_product(vectors * values.pow(exponents)[:, None, :], vectors.mT)
    return torch.where(finite, root, torch.nan)


def _sizes(blocks: Tensor) -> Tensor:
    """Return the norm of each block of a stack, shaped to multiply it."""
    norms = torch.linalg.vector_norm(blocks.flatten(1), dim=1)
    return norms.reshape(-1, *[1] * (blocks.ndim - 1))


class Shampoo(
    RuleOptimizer,
    rule=ShampooRule,
    slug="shampoo",
    reference="Gupta et al. 2018, arXiv 1802.09568; Shi et al. 2023, arXiv 2309.06497",
    space={
        "lr": Log(1e-4, 1e-1),
        "grafting": Choice(("sgd", "adam")),
        "weight_decay": Log(1e-4, 1.0),
    },
):
    r"""Shampoo: a preconditioner for each axis of a tensor, from the gradient's second moments.

    With G_i the gradient flattened along axis i of a block with n axes::

        H_i <- beta2 H_i + (1 - beta2) G_i G_i^T                       (beta2 = 1: H_i + G_i G_i^T)
        u    = (beta3 m + (1 - beta3) g) / (1 - beta3 beta1^(t-1)),    m <- beta1 m + (1 - beta1) g
        P    = u multiplied along every axis by (H_i / (1 - beta2^t) + eps)^(-1/(2n))
        P   <- P |D| / |P|                                             (with grafting)
        p   <- p - lr (P + weight_decay p)

    A tensor's axes of length 1 are dropped, neighbouring axes merged while their product stays
    within ``max_preconditioner_dim``, and the result cut into blocks of at most that length along
    each axis; every block has its own H and norms.

    D is what the grafted method would step by: u itself ("sgd"), or u over the root of the sum of
    squares ("adagrad"), of their mean ("rmsprop") or of their corrected mean ("adam"), plus
    grafting_eps. Before ``start_preconditioning_step`` it is D alone, and u without grafting.

    Mind that with the defaults a tensor of at most 1024 entries is merged into one vector, whose
    single H makes this full-matrix AdaGrad. ``target_dims=None`` keeps the axes apart. The original
    rule, where H starts at eps and nothing is averaged, is ``betas=(0, 1)``,
    ``use_bias_correction=False``, ``target_dims=None`` and an eps of its size, such as 1e-4.

    When to use: where steps are expensive beside a few eigendecompositions, as with large batches:
    with beta2 of 0.99 or more, grafting of the method that works so far, and that method's lr,
    and a precondition_frequency of 10 to 100. `SOAP` needs less tuning.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of the mean, in [0, 1), and of the factors, in [0, 1].
        beta3: decay of the old mean in u (Lion's look at the gradient), -1 for beta1.
        eps: added to the factors' eigenvalues.
        max_preconditioner_dim: longest axis of a block.
        target_dims: merge axes no further than to this many; None does not merge.
        precondition_frequency: steps between eigendecompositions.
        start_preconditioning_step: first eigendecomposition, -1 for precondition_frequency.
        use_bias_correction: divide by the two corrections.
        drop_weighting_factor: add G_i G_i^T whole though H decays; no second correction then.
        inverse_exponent: positive, in place of 1 / (2n).
        grafting: "none", "sgd", "adagrad", "rmsprop" or "adam".
        grafting_beta2: decay of the mean of squares in D, in [0, 1).
        grafting_eps: added to the root in D.
        momentum: of the direction P with its decay, in [0, 1).
        dampening: what the direction's weight in the momentum lacks to 1.
        nesterov: look ahead along the momentum.
        weight_decay: decoupled; it joins P before the momentum.

    State, all of float32 (float64 for float64 parameters): ``exp_avg`` (m), one tensor like the
    parameter, as are ``grafting_sq`` and ``momentum_buffer`` where there is grafting or momentum;
    for the i-th shape of block and axis j ``factor_i_j`` (H) and ``root_i_j``, each
    (blocks, n, n) for an axis of n: for one square block twice as much as the parameter each.

    In a sharded run the eigendecompositions are shared out among the processes in turn; factors
    and roots are kept by all.

    Reference: Gupta, Koren & Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization",
    ICML 2018, arXiv 1802.09568; Anil et al., arXiv 2002.09018; grafting: Agarwal et al., arXiv
    2002.11803; Shi et al., "A Distributed Data-Parallel PyTorch Implementation of the Distributed
    Shampoo Optimizer", arXiv 2309.06497, and the authors' code, which is followed. The first paper
    starts H at eps, which a beta2 below 1 would forget; here eps is added before each root.
    """
