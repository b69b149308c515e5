"""What attacks and defenses leave a classifier: as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from advcomp.players.classifier.answers import CheckedModel, Model


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """Within it, a module is in evaluation mode and asks for no gradient of its parameters."""
    asked = model.model if isinstance(model, CheckedModel) else model
    if not isinstance(asked, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in asked.modules()]
    asking = [parameter for parameter in asked.parameters() if parameter.requires_grad]
    asked.eval()
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in asking:
            parameter.requires_grad_(True)
