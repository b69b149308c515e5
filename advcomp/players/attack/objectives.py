"""What an attack maximises: losses that keep a gradient, and the gradient itself.

Labels are classes (N,), or *soft*: the probability q of each class (N, classes), for an attack
that is not told the right one. Losses see soft labels through p(label) = sum_c q_c p_c, how likely
it is that an answer drawn from the classifier is the label: raising the cross-entropy then lowers
the accuracy that is to be expected, also where the likeliest label is wrong. All of q on one class
is that class. Source: this project's measurements (docs/attack-network.md).
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from advcomp.players.classifier.answers import Model

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (N, classes) and labels to the loss of every image, (N,)."""

Objective = Callable[[Tensor], Tensor]
"""Images to the scalar that an attack maximises."""

_SATURATED = 2.0**-24


@runtime_checkable
class BringsLoss(Protocol):
    """A model with a say in how its losses come about, such as an ensemble fused in losses."""

    def loss_and_logits(self, x: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """The loss of every image, (N,), and the logits (N, classes)."""
        ...


def loss_and_logits(
    classifier: Model, x: Tensor, labels: Tensor, loss: Loss
) -> tuple[Tensor, Tensor]:
    """The loss of every image, (N,), and the logits (N, classes), from one forward pass."""
    if isinstance(classifier, BringsLoss):
        return classifier.loss_and_logits(x, labels, loss)
    logits = classifier(x)
    return loss(logits, labels), logits


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p(label) of every image, (N,), with a gradient also where p(label) rounds to 1.

    There the loss is 0 and its gradient is lost. Cross-entropy is softplus of the margin
    log sum_{j != label} exp z_j - z_label, so the margin's gradient points the same way.
    """
    others, own = _sides(logits, labels)
    if is_soft(labels):
        loss = logits.logsumexp(1) - own.logsumexp(1)
    else:
        loss = functional.cross_entropy(logits, labels, reduction="none")
    surplus = others.logsumexp(1) - own.logsumexp(1)
    # Scaled to the size that the gradient has just before it vanishes.
    return torch.where(loss > 0, loss, surplus * _SATURATED)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the best other class beats the label, (N,): above 0 is misclassified.

    With soft labels, max_c (z_c + log(1 - q_c)) - max_c (z_c + log q_c).
    """
    others, own = _sides(logits, labels)
    return others.amax(1) - own.amax(1)


def _sides(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of what is not the label, and of what is; each class in its share of both."""
    if is_soft(labels):
        return logits + (1 - labels).log(), logits + labels.log()
    index = labels.unsqueeze(1)
    return logits.scatter(1, index, -torch.inf), logits.gather(1, index)


def is_soft(labels: Tensor) -> bool:
    """Whether labels are probabilities (N, classes), not classes (N,)."""
    return labels.is_floating_point()


def likeliest(labels: Tensor) -> Tensor:
    """Classes (N,), also of soft labels."""
    return labels.argmax(1) if is_soft(labels) else labels


@torch.no_grad()
def soft_labels(classifier: Model, clean: Tensor) -> Tensor:
    """A classifier's own answer as soft labels (N, classes), for clean images."""
    return classifier(clean).softmax(1)


def objective(
    classifier: Model, labels: Tensor, *, targeted: bool, loss: Loss = cross_entropy
) -> Objective:
    """What an attack maximises: the loss at `labels`, or minus the loss at them where targeted.

    Summed over the batch: the gradient of an image does not depend on its neighbours.

    Raises:
        ValueError: Targeted with soft labels: there is one class to go to.
    """
    towards = direction_of(labels, targeted=targeted)

    def summed(x: Tensor) -> Tensor:
        return towards * loss_and_logits(classifier, x, labels, loss)[0].sum()

    return summed


def direction_of(labels: Tensor, *, targeted: bool) -> int:
    """1 for away from the labels, -1 where targeted.

    Raises:
        ValueError: Targeted with soft labels.
    """
    if targeted and is_soft(labels):
        raise ValueError(
            f"labels: expected target classes (N,); got soft labels {tuple(labels.shape)}, which "
            "an attack only leads away from"
        )
    return -1 if targeted else 1


def input_gradient(objective: Objective, x: Tensor) -> Tensor:
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
