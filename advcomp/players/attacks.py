"""Gradient attacks in the L-inf ball, as pure functions; one loop, and hooks for its variants.

`attack(classifier, clean, labels, *, eps, ...) -> adversarial`. `clean` and `adversarial` are
float images (N, C, H, W) in [0, 1]; `labels` are the classes (N,) that the attack leads away
from or, with `targeted=True`, leads to. The loss is summed over the batch and no image sees
another, so a batch may be split anywhere. Nothing is kept between calls, and the classifier comes
back as it was.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from advcomp.players.pixels import project
from advcomp.players.randomness import Generators, uniform

Model = Callable[[Tensor], Tensor]
"""Anything that gives logits (N, classes) for images (N, C, H, W) in [0, 1]."""

Objective = Callable[[Tensor], Tensor]
"""Images to the scalar that an attack climbs."""

Transform = Callable[[Tensor], Tensor]
"""Hook: what the images become before the classifier sees them; differentiable."""

Gradient = Callable[[Objective, Tensor], Tensor]
"""Hook: the gradient of an objective at x, plain, smoothed or averaged over a neighbourhood."""

Start = Callable[[Tensor], Tensor]
"""Hook: where the climb begins, for clean images; projected."""

Direction = Callable[[Tensor], Tensor]
"""Hook: the gradient of a step to where the step goes; made anew for a run, so it may remember."""

_SATURATED = 2.0**-24


@runtime_checkable
class BringsLoss(Protocol):
    """A model with a loss of its own, such as an ensemble that is fused in losses."""

    def attack_loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """The loss of every image, (N,)."""
        ...


def fgsm(
    classifier: Model, clean: Tensor, labels: Tensor, *, eps: float, targeted: bool = False
) -> Tensor:
    """One step along the sign of the gradient (Goodfellow et al. 2015, arXiv 1412.6572, 4)."""
    return iterative_fgsm(
        classifier, clean, labels, eps=eps, steps=1, step_size=eps, targeted=targeted
    )


def iterative_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = 10,
    step_size: float | None = None,
    targeted: bool = False,
    transform: Transform | None = None,
    gradient: Gradient | None = None,
) -> Tensor:
    """Small steps along the sign (Kurakin et al. 2017, arXiv 1607.02533, section 2.2; BIM).

    Args:
        step_size: `eps / steps` where not given.
        transform, gradient: Hooks of the loop.
    """
    with frozen(classifier):
        return climb(
            objective(classifier, labels, targeted=targeted, transform=transform),
            clean,
            eps=eps,
            steps=steps,
            step_size=step_size,
            gradient=gradient,
        )


def pgd(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = 10,
    step_size: float | None = None,
    targeted: bool = False,
    generator: Generators | None = None,
) -> Tensor:
    """Iterative FGSM from a random point of the ball (Madry et al. 2018, arXiv 1706.06083, 2.1).

    Args:
        step_size: `2.5 * eps / steps` where not given (their section 5), so that every point of
            the ball can be reached from every other.
        generator: Where the start comes from; one for the batch, or one for each image.
    """
    with frozen(classifier):
        return climb(
            objective(classifier, labels, targeted=targeted),
            clean,
            eps=eps,
            steps=steps,
            step_size=2.5 * eps / steps if step_size is None else step_size,
            start=lambda clean: clean + uniform(clean, -eps, eps, generator),
        )


def momentum_iterative_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    targeted: bool = False,
    transform: Transform | None = None,
    gradient: Gradient | None = None,
) -> Tensor:
    """Steps along a velocity (Dong et al. 2018, arXiv 1710.06081, algorithm 1; MI-FGSM).

    Args:
        step_size: `eps / steps` where not given.
        decay: How much of the velocity a step keeps; mu in the paper.
        transform, gradient: Hooks of the loop.
    """
    with frozen(classifier):
        return climb(
            objective(classifier, labels, targeted=targeted, transform=transform),
            clean,
            eps=eps,
            steps=steps,
            step_size=step_size,
            gradient=gradient,
            direction=momentum(decay),
        )


def climb(
    objective: Objective,
    clean: Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float | None = None,
    start: Start | None = None,
    gradient: Gradient | None = None,
    direction: Direction | None = None,
) -> Tensor:
    """The loop of all attacks: sign steps that climb `objective`, inside the ball around `clean`.

    Args:
        objective: What to climb.
        clean: Images (N, C, H, W) in [0, 1].
        eps: Radius of the ball.
        steps: How many.
        step_size: Of each; `eps / steps` where not given.
        start, gradient, direction: Hooks; the clean image, the plain gradient and its own
            direction where not given.

    Raises:
        ValueError: `eps` is not on the [0, 1] scale, or `steps` is below 1.
    """
    if not 0 <= eps <= 1 or steps < 1:
        raise ValueError(
            f"expected eps on the [0, 1] scale (pixel levels / 255) and at least one step; "
            f"got eps {eps}, steps {steps}"
        )
    step_size = eps / steps if step_size is None else step_size
    gradient = gradient or input_gradient
    x = clean.detach() if start is None else project(start(clean.detach()), clean, eps)
    for _ in range(steps):
        g = gradient(objective, x)
        ascent = g if direction is None else direction(g)
        x = project(x + step_size * ascent.sign(), clean, eps)
    return x


def objective(
    classifier: Model, labels: Tensor, *, targeted: bool, transform: Transform | None = None
) -> Objective:
    """What an attack climbs: the loss at `labels`, or minus the loss at them where targeted."""
    towards = -1 if targeted else 1

    def climbed(x: Tensor) -> Tensor:
        seen = x if transform is None else transform(x)
        if isinstance(classifier, BringsLoss):
            loss = classifier.attack_loss(seen, labels)
        else:
            loss = cross_entropy(classifier(seen), labels)
        return towards * loss.sum()

    return climbed


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p(label) of every image, (N,), with a gradient also where p(label) rounds to 1.

    There the loss is 0 and its gradient is lost. Cross-entropy is softplus of the margin
    log sum_{j != label} exp z_j - z_label, so the margin's gradient points the same way.
    """
    loss = functional.cross_entropy(logits, labels, reduction="none")
    index = labels.unsqueeze(1)
    others = logits.scatter(1, index, -torch.inf).logsumexp(1)
    margin = others - logits.gather(1, index).squeeze(1)
    # Scaled to the size that the gradient has just before it vanishes.
    return torch.where(loss > 0, loss, margin * _SATURATED)


def input_gradient(objective: Objective, x: Tensor) -> Tensor:
    """The gradient at x; parameters get none."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(objective(x), x)[0]


def momentum(decay: float) -> Direction:
    """A velocity: `decay` times itself plus the gradient over its mean absolute value.

    An image whose gradient is zero keeps its velocity.
    """
    velocity: Tensor | None = None

    def update(g: Tensor) -> Tensor:
        nonlocal velocity
        scale = g.abs().mean(dim=(1, 2, 3), keepdim=True)
        g = g / scale.clamp_min(torch.finfo(g.dtype).tiny)
        velocity = g if velocity is None else decay * velocity + g
        return velocity

    return update


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
