"""Models some of whose entries lie in the same memory."""

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from thalweg.core.errors import UsageError


def check_memory(module: nn.Module) -> None:
    """Raise UsageError if what is written to one entry of the model appears in another one.

    Tied weights are one parameter under several names, which is no such case.
    """
    params = [(name, p) for name, p in module.named_parameters() if not is_lazy(p)]
    places: dict[int, str] = {}
    for name, x in params:
        other = places.setdefault(x.data_ptr(), name) if x.numel() else name
        if other != name:
            raise UsageError(
                f'the parameters "{other}" and "{name}" are two that lie in the same memory, so '
                "that neither moves alone; tie them by assigning the parameter itself, not its data"
            )
    buffers = [(name, x) for name, x in module.named_buffers() if not is_lazy(x)]
    for name, x in [*params, *buffers]:
        if _expanded(x):
            raise UsageError(
                f'the entries of "{name}" lie in the same memory, as those of an expanded tensor '
                "do; give the model its clone()"
            )


def _expanded(x: Tensor) -> bool:
    return x.numel() > 0 and any(
        step == 0 and size > 1 for step, size in zip(x.stride(), x.shape, strict=True)
    )
