"""Trying a workload's first step before any work starts."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.workload.batch import move, sample_count
from thalweg.workload.batches import Batches, in_order
from thalweg.workload.tally import Tally
from thalweg.workload.trace import describe_error
from thalweg.workload.workload import Workload


def check(workload: Workload, device: str | torch.device = "cpu") -> None:
    """Try the first step and the metric on a model that is then thrown away.

    Builds two models, computes the loss of one training batch and its gradient, and the metric of
    one validation batch. Global random generators are as before afterwards.

    Raises:
        UsageError: the model is no ``nn.Module``, has nothing to train or is not new each time;
            the loss is no scalar, has no gradient or is not finite; its gradient is not finite or
            reaches no parameter; the metric is neither one finite number nor one for each
            sample; or any of the workload's functions raises an error.
    """
    device = torch.device(device)
    with GlobalStream(derive_seed(0, "check"), device):
        model = new_model(workload).to(device)
        _independent(workload, model)
        try:
            batch = Batches(workload.train, workload.batch_size, 0, device, workload.collate).at(0)
        except UsageError:
            raise
        except Exception as error:
            raise _failed(workload, "reading the first batch", error) from error
        model.train()
        _first_step(workload, model, batch)
        model.eval()
        _first_metric(workload, model, device)


def new_model(workload: Workload) -> nn.Module:
    """Return ``workload.model()``, checked.

    Raises:
        UsageError: the function raises an error or returns no ``nn.Module``, or the model has
            no parameter to train.
    """
    try:
        model = workload.model()
    except Exception as error:
        raise _failed(workload, "model()", error) from error
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{workload.name}: model() must return a torch.nn.Module, found {type(model).__name__}"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(f"{workload.name}: the model has no parameter to train")
    return model


def check_loss(workload: Workload, loss: Any) -> Tensor:
    """Return the loss, checked.

    Raises:
        UsageError: it is not a scalar tensor of real numbers that can be differentiated.
    """
    if not isinstance(loss, Tensor):
        raise UsageError(
            f"{workload.name}: loss() must return a scalar tensor, found {type(loss).__name__}"
        )
    if loss.ndim or not loss.is_floating_point():
        raise UsageError(
            f"{workload.name}: loss() must return a scalar, found a tensor of shape "
            f"{tuple(loss.shape)} and type {loss.dtype}; take the mean over the batch"
        )
    if not loss.requires_grad:
        raise UsageError(
            f"{workload.name}: the loss has no gradient; compute it from the model's output "
            "without .item(), .detach() or torch.no_grad()"
        )
    return loss


def _independent(workload: Workload, model: nn.Module) -> None:
    other = new_model(workload)
    known = {id(parameter) for parameter in model.parameters()}
    shared = [name for name, parameter in other.named_parameters() if id(parameter) in known]
    if shared:
        raise UsageError(
            f"{workload.name}: model() must build a new model each time; two calls share the "
            f'parameter "{shared[0]}"'
        )


def _first_step(workload: Workload, model: nn.Module, batch: Any) -> None:
    try:
        loss = check_loss(workload, workload.loss(model, batch))
    except UsageError:
        raise
    except Exception as error:
        raise _failed(workload, "loss(model, batch)", error) from error
    value = float(loss.detach())
    if not math.isfinite(value):
        raise UsageError(
            f"{workload.name}: the loss is {value} at the first step, before anything was "
            "trained; look for a division by zero, a log of zero, or data that hold NaN"
        )
    try:
        loss.backward()
    except Exception as error:
        raise _failed(workload, "the gradient of the loss", error) from error
    gradients = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    if not gradients:
        raise UsageError(
            f"{workload.name}: the loss does not depend on any parameter of the model; compute "
            "it with the model that loss(model, batch) is given"
        )
    for name, gradient in gradients:
        if not bool(torch.isfinite(gradient).all()):
            raise UsageError(
                f'{workload.name}: the gradient of "{name}" is not finite at the first step, '
                f"while the loss is {value:.6g}"
            )


def _first_metric(workload: Workload, model: nn.Module, device: torch.device) -> None:
    try:
        batch = next(
            in_order(workload.validation, workload.batch_size, device, workload.collate), None
        )
    except Exception as error:
        raise _failed(workload, "reading the first validation batch", error) from error
    if batch is None:
        raise UsageError(f"{workload.name}: the validation data yield no batch")
    tally = Tally(workload)
    try:
        with torch.no_grad():
            value = workload.metric(model, move(batch, device))
    except Exception as error:
        raise _failed(workload, "metric(model, batch)", error) from error
    tally.add(value, sample_count(batch))
    try:
        result = tally.result()
    except UsageError:
        raise
    except Exception as error:
        raise _failed(workload, "combine(rows)", error) from error
    # What combines all samples may have no value for a few of them.
    if workload.combine is None and not math.isfinite(result):
        raise UsageError(
            f"{workload.name}: the metric is {result} for the untrained model; it must be a "
            "finite number"
        )


def _failed(workload: Workload, what: str, error: Exception) -> UsageError:
    found = describe_error(error, workload.source_file)
    return UsageError(f"{workload.name}: {what} failed:\n{found}")
