"""The loss over fixed batches as a function of the weights."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg.core.batch_norm import recalibrate_batch_norm
from thalweg.core.errors import UsageError
from thalweg.core.streams import GlobalStream
from thalweg.landscape.arrangement import Outputs, arranged
from thalweg.landscape.loss import check_loss, check_repeated, outputs_of, own_loss, samples_of
from thalweg.landscape.memory import check_memory
from thalweg.landscape.mix import Mix, Weights
from thalweg.landscape.policy import Policy, settled_between
from thalweg.landscape.restored import dense_gradients, restored

Progress = Callable[[int, int], None]
"""Told how many of how many points are evaluated."""


class Objective:
    r"""The mean loss over fixed batches, at the model's weights or at any affine mix of points.

    :math:`L(w) = \sum_i n_i \ell(w; B_i) / \sum_i n_i` with :math:`n_i` samples in batch
    :math:`B_i`, in evaluation mode. The batches, their order and any augmentation are fixed when
    the objective is made. Every method leaves the model bitwise as it was: weights, buffers,
    training flags, gradients, ``requires_grad`` and the state of the random generators.

    Args:
        model: the network; a compiled one serves too.
        loss: ``loss(model, batch)`` gives the mean loss over the batch, a tensor of one number;
            ``None`` means ``model(**batch).loss`` of dict batches.
        batches: batches the model's loss takes: tensors, tuples or dicts of them, whose first
            dimension counts samples. They are read once and kept. On a CPU large ones are
            evaluated in pieces and images with channels last, where that gives the same mean.
        calibration: batches on which the policy ``recalibrate`` recomputes batch-norm statistics;
            ``batches`` unless given.
        combine: for a metric that is no mean over samples: ``combine(rows)`` makes one number of
            the rows that ``loss`` then returns for each sample, joined over all batches in
            float64. Such an objective has values, and no derivatives.

    Attributes:
        module: the model, without what compilation puts around it.
        sizes: the number of samples of each batch.

    Raises:
        UsageError: no batches, a loss of more than one number, one that differs when evaluated
            twice at the same weights, or parameters that lie in the same memory.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor] | None,
        batches: Iterable[Any],
        *,
        calibration: Iterable[Any] | None = None,
        combine: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.model = model
        self.loss = loss or own_loss
        self._combine = combine
        with GlobalStream(0):  # a loader shuffles and augments with it
            self.batches = list(batches)
            self.calibration = self.batches if calibration is None else list(calibration)
        if not self.batches or not self.calibration:
            raise UsageError("an objective needs at least one batch; none was given")
        self.sizes = [samples_of(batch) for batch in self.batches]
        # Names and tensors are those of the original module, compiled or not.
        self.module: nn.Module = getattr(model, "_orig_mod", model)
        check_memory(self.module)
        self._pieces = list(zip(self.batches, self.sizes, strict=True))
        with self._untouched():
            self._settle()

    def value(self) -> float:
        """Return the loss at the model's own weights and statistics."""
        with self._untouched():
            return self._evaluate()

    def here(self) -> float:
        """Return the loss at the weights that the model holds at this moment.

        For use inside `span` or `around` of another objective of the same model, which have put
        the model into evaluation mode and will put its weights back.
        """
        return self._evaluate()

    def trainable(self) -> list[Tensor]:
        """Return the parameters that derivatives are taken by, in the model's order.

        Raises:
            UsageError: there is none, or one is complex.
        """
        named = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        if not named:
            raise UsageError("no parameter of the model requires a gradient: nothing is trainable")
        complex_one = next((name for name, p in named.items() if p.is_complex()), None)
        if complex_one is not None:
            raise UsageError(
                f'"{complex_one}" is complex; derivatives and directions are of real parameters '
                "only, such as torch.view_as_real gives"
            )
        return list(named.values())

    def sound(self) -> list[Tensor]:
        """Return what `trainable` does.

        Raises:
            UsageError: there is none, or a weight is not finite.
        """
        for name, p in self.module.named_parameters():
            if not bool(p.isfinite().all()):
                raise UsageError(
                    f'the weights are not all finite ("{name}" holds NaN or infinity), so nothing '
                    "is measured around them; take weights from before the run diverged"
                )
        return self.trainable()

    def loss_of(self, batch: Any) -> Tensor:
        """Return a batch's mean loss with its graph; call it inside `differentiable`."""
        value = self.loss(self.module, batch)
        check_loss(value)
        if torch.is_grad_enabled() and not value.requires_grad:
            raise UsageError(
                "the loss has no derivative by the weights: it was detached, computed under "
                "no_grad, or is a count such as the accuracy"
            )
        return value.reshape(())

    def loss_and_outputs(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return a batch's mean loss and the model's outputs with their graph.

        The outputs of the model's last call: a tensor, or ``logits`` or the first tensor of what
        it returned. Call it inside `differentiable`.

        Raises:
            UsageError: the loss does not call the model, or the outputs hold no tensor.
        """
        seen: list[Any] = []
        hook = self.module.register_forward_hook(lambda module, args, out: seen.append(out))
        try:
            loss = self.loss_of(batch)
        finally:
            hook.remove()
        if not seen:
            raise UsageError("the loss does not call the model, so there are no outputs of it")
        return loss, outputs_of(seen[-1])

    @contextmanager
    def differentiable(self) -> Iterator[None]:
        """Run in evaluation mode with graphs that can be differentiated twice.

        Everything is put back afterwards, also after an error.
        """
        with (
            self._untouched(),
            torch.enable_grad(),
            dense_gradients(self.module),
            sdpa_kernel(SDPBackend.MATH),  # attention's fast kernels have no second derivative
        ):
            yield

    @contextmanager
    def span(
        self,
        points: Mapping[str, Weights],
        *,
        batch_norm: Policy | None = None,
        frozen_at: str | None = None,
    ) -> Iterator[Callable[[Sequence[float]], float]]:
        r"""Give the loss on the affine hull of points as a function of their coefficients.

        ``with objective.span(points) as loss_at:`` gives ``loss_at(c)``, the loss at
        :math:`\sum_i c_i w_i` with :math:`\sum_i c_i = 1`; a unit vector gives the point's stored
        weights bit for bit. Floating-point buffers that no batch-norm layer owns mix like weights,
        integer buffers are those of the point with the largest coefficient. Batch-norm statistics
        follow the policy: ``recalibrate`` recomputes them on the calibration batches for every
        mix, ``interpolate`` mixes them like weights (a mix outside the points can make a variance
        negative and the loss NaN), ``frozen`` keeps those of one point.

        Args:
            points: weights by the points' names; all of this model.
            batch_norm: the policy; may be left out for models without batch norm.
            frozen_at: the point whose statistics ``frozen`` keeps.

        Raises:
            UsageError: weights that are not the model's, no policy for a model with batch norm,
                an unknown policy or point.
        """
        batch_norm = settled_between(self.module, batch_norm, frozen_at, points)
        if batch_norm == "interpolate":
            mix = Mix(self.module, points)
        else:
            mix = Mix(self.module, points, statistics_of=[frozen_at] if frozen_at else [])
        inside = True

        def loss_at(coefficients: Sequence[float]) -> float:
            if not inside:
                raise UsageError("this span is closed; use its function inside the with block")
            mix.write(coefficients)
            if batch_norm == "recalibrate":
                recalibrate_batch_norm(self.module, self.calibration, self.loss)
            return self._evaluate()

        with self._untouched():
            if frozen_at is not None:
                mix.write_statistics(frozen_at)
            try:
                yield loss_at
            finally:
                inside = False

    @contextmanager
    def around(
        self,
        directions: Sequence[Sequence[Tensor]],
        *,
        recalibrate: bool = False,
        origin: Weights | None = None,
    ) -> Iterator[Callable[[Sequence[float]], float]]:
        r"""Give the loss at displaced weights as a function of the displacement's coefficients.

        ``with objective.around([d1, d2]) as loss_at:`` gives ``loss_at((a, b))``, the loss at
        :math:`w + a d_1 + b d_2`, w the model's own weights or other ones of it, to which zeros
        give the exact loss.

        Args:
            directions: tensors like the trainable parameters, in their order.
            recalibrate: whether batch-norm statistics are recomputed on the calibration batches
                for every point; else they stay the model's own, or the origin's.
            origin: weights to take for w, as of ``state_dict``.

        Raises:
            UsageError: weights that are not the model's.
        """
        inside = True
        here = [p.data for p in self.trainable()]
        elsewhere = None if origin is None else Mix(self.module, {"origin": origin})

        def loss_at(coefficients: Sequence[float]) -> float:
            if not inside:
                raise UsageError("this neighbourhood is closed; use its function inside the block")
            torch._foreach_copy_(here, start)
            for c, direction in zip(coefficients, directions, strict=True):
                if c != 0:
                    torch._foreach_add_(here, list(direction), alpha=c)
            if recalibrate:
                recalibrate_batch_norm(self.module, self.calibration, self.loss)
            return self._evaluate()

        with self._untouched():
            if elsewhere is not None:
                elsewhere.write((1.0,))
            start = [p.clone() for p in here]
            try:
                yield loss_at
            finally:
                inside = False

    def _settle(self) -> None:
        """Choose how batches are evaluated, and refuse a loss that is not deterministic."""
        plain, outputs = self._pieces, Outputs()
        if self.model is self.module:
            with outputs.watching(self.module):
                first = self._evaluate()
            quick = arranged(self.module, self.batches, self.sizes, outputs.largest)
        else:  # compiled: another shape would compile it anew
            first, quick = self._evaluate(), None
        if quick is not None:
            self._pieces = list(zip(*quick, strict=True))
            try:
                value = self._evaluate()
            except Exception:  # code of the user's that takes no such batches
                value = math.nan
            if math.isclose(value, first, rel_tol=1e-5):
                first = value
            else:  # no mean over samples, or no finite one
                self._pieces = plain
        check_repeated(first, self._evaluate())

    def _evaluate(self) -> float:
        if self._combine is not None:
            rows = [self.loss(self.model, batch).cpu().double() for batch, _ in self._pieces]
            return float(self._combine(torch.cat(rows)))
        total = 0.0
        for batch, size in self._pieces:
            value = self.loss(self.model, batch)
            check_loss(value)
            total += float(value) * size
        return total / sum(self.sizes)

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        """Run in evaluation mode without gradients; put everything back, also after an error."""
        device = next((t.device for t in self.module.parameters()), torch.device("cpu"))
        with GlobalStream(0, device), torch.no_grad(), restored(self.module):
            for module in self.module.modules():
                module.training = False
            yield
