"""What attacks and defenses ask of a classifier: logits, and to be left as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

Model = Callable[[Tensor], Tensor]
"""Anything that gives logits (N, classes) for images (N, C, H, W) in [0, 1]."""


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """Within it, a module is in evaluation mode and asks for no gradient of its parameters."""
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in asking:
            parameter.requires_grad_(True)
