"""What an attack climbs: losses that keep a gradient, and the gradient itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

Model = Callable[[Tensor], Tensor]
"""Anything that gives logits (N, classes) for images (N, C, H, W) in [0, 1]."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (N, classes) and labels (N,) to the loss of every image, (N,)."""

Objective = Callable[[Tensor], Tensor]
"""Images to the scalar that an attack climbs."""

_SATURATED = 2.0**-24


@runtime_checkable
class BringsLoss(Protocol):
    """A model with a say in how its losses come about, such as an ensemble fused in losses."""

    def judge(self, x: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """The loss of every image, (N,), and the logits (N, classes)."""
        ...


def judge(classifier: Model, x: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """The loss of every image, (N,), and the logits (N, classes), from one forward pass."""
    if isinstance(classifier, BringsLoss):
        return classifier.judge(x, labels, loss)
    logits = classifier(x)
    return loss(logits, labels), logits


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p(label) of every image, (N,), with a gradient also where p(label) rounds to 1.

    There the loss is 0 and its gradient is lost. Cross-entropy is softplus of the margin
    log sum_{j != label} exp z_j - z_label, so the margin's gradient points the same way.
    """
    loss = functional.cross_entropy(logits, labels, reduction="none")
    index = labels.unsqueeze(1)
    others = logits.scatter(1, index, -torch.inf).logsumexp(1)
    surplus = others - logits.gather(1, index).squeeze(1)
    # Scaled to the size that the gradient has just before it vanishes.
    return torch.where(loss > 0, loss, surplus * _SATURATED)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the best other class beats the label, (N,): above 0 is misclassified."""
    index = labels.unsqueeze(1)
    others = logits.scatter(1, index, -torch.inf).amax(1)
    return others - logits.gather(1, index).squeeze(1)


def objective(
    classifier: Model, labels: Tensor, *, targeted: bool, loss: Loss = cross_entropy
) -> Objective:
    """What an attack climbs: the loss at `labels`, or minus the loss at them where targeted.

    Summed over the batch: the gradient of an image does not depend on its neighbours.
    """
    towards = -1 if targeted else 1

    def climbed(x: Tensor) -> Tensor:
        return towards * judge(classifier, x, labels, loss)[0].sum()

    return climbed


def slope(objective: Objective, x: Tensor) -> Tensor:
    """The gradient of an objective at images x; parameters get none."""
    with torch.enable_grad():
        x = leaf(x)
        return torch.autograd.grad(objective(x), x)[0]


def leaf(x: Tensor) -> Tensor:
    """Images that a gradient can be taken at, cut off from what they came from.

    Raises:
        RuntimeError: Within `torch.inference_mode`, where nothing has a gradient.
    """
    if torch.is_inference_mode_enabled() or x.is_inference():
        raise RuntimeError(
            "an attack needs gradients, which torch.inference_mode takes from all that is made "
            "within it; make the images and attack them outside, or use torch.no_grad"
        )
    return x.detach().requires_grad_()


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
