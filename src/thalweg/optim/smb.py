"""SMB and SMBi."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import ClosureOptimizer, Rule
from thalweg.engine.closure import Evaluations, move, zeros_where_absent
from thalweg.engine.numeric import wide
from thalweg.engine.rule import require

Tensors = list[Tensor]

_FLAT = 1e-8  # gradients of a smaller norm are followed without a test, as in the authors' code


@dataclass(frozen=True)
class SMBRule(Rule):
    """The numbers of `SMB`."""

    lr: float = 1.0
    eta: float = 0.99
    c: float = 0.1
    autoschedule: bool = False
    gamma: float = 0.05
    beta: float = 0.9
    lr_max: float = 20.0
    n_batches_per_epoch: int = 500

    def check(self) -> None:
        """Refuse fractions outside their ranges."""
        super().check()
        require(self, "eta", 0 < self.eta < 1, "in (0, 1)")
        require(self, "c", 0 <= self.c < 1, "in [0, 1)")
        require(self, "gamma", self.gamma >= 0, "at least 0")
        require(self, "beta", 0 < self.beta <= 1, "in (0, 1]")
        require(self, "n_batches_per_epoch", self.n_batches_per_epoch >= 1, "at least 1")

    def shared(self) -> dict[str, float]:
        """Return how many steps, and how many by the model, the epoch has had."""
        return {"epoch_steps": 0, "model_steps": 0}


@dataclass(frozen=True)
class SMBiRule(SMBRule):
    """The numbers of `SMBi`."""

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the gradient of the step before."""
        return {"previous_gradient": torch.zeros_like(p)}

    def shared(self) -> dict[str, float]:
        """Return also whether the step before failed."""
        return {**super().shared(), "failed": 0}


class SMB(
    ClosureOptimizer,
    rule=SMBRule,
    slug="smb",
    reference="Birbil et al. 2021, arXiv 2111.07058",
    space={"lr": Log(1e-2, 3.0), "weight_decay": Log(1e-5, 1e-2)},
):
    r"""SMB: gradient steps, and where one fails to descend, the step of a quadratic model.

    With the gradient g and the trial step s = -lr g, accepted if the same batch's loss descends::

        loss(p + s) <= loss(p) - c sum lr |g|^2

    Otherwise, with y = the gradient at p + s, less g, for every tensor by itself::

        sigma = (|s| (|y| + |g| / eta) - <y, s>) / 2,    h = <y, s> + 2 sigma
        step = a (g + (<y, y> <s, g> - h <y, g>) / theta s + (<s, s> <y, g> - h <s, g>) / theta y)
        a = -<s, s> / (2 sigma),    theta = h^2 - <s, s> <y, y>

    the minimum of a model that agrees with both gradients. With ``autoschedule``, after every
    ``n_batches_per_epoch`` steps lr is multiplied by beta if more than the share gamma of them
    were the model's, and else divided by it, up to ``lr_max``. The sum of the test is over
    all groups, each with its own lr. Weight decay is a penalty of the loss.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate of the trial step.
        eta: bounds the model's steps, in (0, 1).
        c: share of the predicted descent that a trial step has to reach.
        autoschedule: whether lr changes by itself.
        gamma: see above.
        beta: see above.
        lr_max: see above.
        n_batches_per_epoch: see above.
        weight_decay: weight of the penalty ``weight_decay / 2 |p|^2``.

    State: nothing for the parameters; in each group the numbers ``epoch_steps`` and
    ``model_steps``.

    When to use: where SGD is good but its learning rate unknown: too large a one is noticed and
    corrected at every step, for one more evaluation of the loss, and one more gradient then.

    Reference: Birbil, Martin, Onay & Oztoprak, "Bolstering Stochastic Gradient Descent with Model
    Building", 2021, arXiv 2111.07058, and the authors' code. There groups take turns, with a
    test each on a loss that the groups before have changed; here they step together.
    """

    def _step(self, evaluations: Evaluations) -> None:
        params = evaluations.params
        loss, found = evaluations.gradient()
        g = zeros_where_absent(found, params)
        trial = self._trial(params, g)
        step, by_model = trial, False
        with evaluations.at(_added(params, trial)):
            if self._fails(evaluations, loss, g):
                step, by_model = self._model_steps(evaluations, trial, g, g), True
        self._finish(params, step, by_model)

    def _trial(self, params: Tensors, g: Tensors) -> Tensors:
        """Return -lr g, in float32 at least."""
        return [-lr * wide(x) for lr, x in zip(self._rates(params), g, strict=True)]

    def _rates(self, params: Tensors) -> list[float]:
        """Return each parameter's learning rate."""
        rates = {p: group["lr"] for group in self.param_groups for p in group["params"]}
        return [rates[p] for p in params]

    def _fails(self, evaluations: Evaluations, loss: float, g: Tensors) -> bool:
        """Return whether the loss at the trial point has not descended enough."""
        squares = [wide(x).square().sum().item() for x in g]
        if sum(squares) ** 0.5 < _FLAT:
            return False
        rates = self._rates(evaluations.params)
        predicted = sum(lr * square for lr, square in zip(rates, squares, strict=True))
        # Written so that NaN fails.
        return not evaluations.loss() <= loss - self.common("c") * predicted

    def _model_steps(
        self, evaluations: Evaluations, trial: Tensors, g: Tensors, along: Tensors
    ) -> Tensors:
        """Return every tensor's step by the model, from the gradient at the trial point."""
        here = zeros_where_absent(evaluations.gradient()[1], evaluations.params)
        eta = self.common("eta")
        return [
            _model_step(s, x, d, wide(there) - x, eta)
            for s, x, d, there in zip(trial, g, along, here, strict=True)
        ]

    def _finish(self, params: Tensors, step: Tensors, by_model: bool) -> None:
        """Move, and count."""
        move(params, _added(params, step))
        for p in params:
            self.state_of(p)["step"] += 1
        for group in self.param_groups:
            group["epoch_steps"] += 1
            group["model_steps"] += by_model
            if group["autoschedule"] and group["epoch_steps"] >= group["n_batches_per_epoch"]:
                self._reschedule(group)

    def _reschedule(self, group: dict[str, Any]) -> None:
        """Change lr after an epoch."""
        if group["model_steps"] / group["epoch_steps"] > self._allowed * group["gamma"]:
            group["lr"] *= group["beta"]
        elif group["lr"] / group["beta"] <= group["lr_max"]:
            group["lr"] /= group["beta"]
        group.update(epoch_steps=0, model_steps=0)

    # The share of model steps that lowers lr, in units of gamma.
    _allowed = 1.0


class SMBi(
    SMB,
    rule=SMBiRule,
    slug="smbi",
    reference="Birbil et al. 2021, arXiv 2111.07058",
    space={"lr": Log(1e-2, 3.0), "weight_decay": Log(1e-5, 1e-2)},
):
    r"""SMBi: SMB whose model is built on the next, independent, batch.

    Where the test of `SMB` fails, p stays and g is kept as g'. The next step takes s = -lr g and
    y from its own batch, without a test, and the step of `SMB` with g' in place of g, but in
    sigma. Model steps are then half of the steps at most, and ``gamma`` is halved.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate of the trial step.
        eta: bounds the model's steps, in (0, 1).
        c: share of the predicted descent that a trial step has to reach.
        autoschedule: whether lr changes by itself; see `SMB`.
        gamma: see `SMB`.
        beta: see `SMB`.
        lr_max: see `SMB`.
        n_batches_per_epoch: see `SMB`.
        weight_decay: weight of the penalty ``weight_decay / 2 |p|^2``.

    State: ``previous_gradient`` (g'), like the parameter; in each group the numbers
    ``epoch_steps``, ``model_steps`` and ``failed``.

    When to use: as `SMB`, with batches so noisy that a step fitted to one of them is bad for the
    others.

    Reference: as `SMB`.
    """

    _allowed = 0.5

    def _step(self, evaluations: Evaluations) -> None:
        params = evaluations.params
        loss, found = evaluations.gradient()
        g = zeros_where_absent(found, params)
        states = [self.state_of(p) for p in params]
        step, build = self._trial(params, g), self.param_groups[0]["failed"]
        with evaluations.at(_added(params, step)):
            if build:
                before = [state["previous_gradient"] for state in states]
                step, failed = self._model_steps(evaluations, step, g, before), False
            else:
                failed = self._fails(evaluations, loss, g)
        if failed:
            step = [torch.zeros_like(x) for x in step]
        for state, x in zip(states, g, strict=True):
            state["previous_gradient"].copy_(x)
        for group in self.param_groups:
            group["failed"] = int(failed)
        self._finish(params, step, build)


def _added(params: Tensors, step: Tensors) -> Tensors:
    return [p + s for p, s in zip(params, step, strict=True)]


def _model_step(s: Tensor, g: Tensor, along: Tensor, y: Tensor, eta: float) -> Tensor:
    """Return the minimum of the model, where ``along`` stands for g but in sigma."""
    ss, yy, ys = _dot(s, s), _dot(y, y), _dot(y, s)
    if ss == 0:
        return s
    yg, sg, bound = _dot(y, along), _dot(s, along), _dot(g, g).sqrt() / eta
    h = ss.sqrt() * (yy.sqrt() + bound)
    theta = ss * bound * (2 * yy.sqrt() + bound)  # h^2 - ss yy, without its cancellation
    towards_s, towards_y = (yy * sg - h * yg) / theta, (ss * yg - h * sg) / theta
    return (along + towards_s * s + towards_y * y) * (-ss / (h - ys))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (wide(x) * y).sum(dtype=torch.float64)
