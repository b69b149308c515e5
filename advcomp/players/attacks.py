"""Gradient attacks in the L-inf ball, as pure functions: one loop, and hooks for its variants.

`attack(classifier, clean, labels, *, eps, ...) -> adversarial`. `clean` and `adversarial` are
float images (N, C, H, W) in [0, 1]; `labels` are the classes (N,) that the attack leads away
from or, with `targeted=True`, leads to; where it leads away they may be soft
(`attack.objectives`). The loss is summed over the batch and no image sees another, so a batch may
be split anywhere. Nothing is kept between calls, and the classifier comes back as it was.

This page has the loop and what is built from it directly. An attack that transfers better is the
same loop with other hooks: `attack.transfer` names them, `attack.input_transforms` and
`attack.gradients` have the hooks.
"""

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

from advcomp.players.attack.attack_call import attack
from advcomp.players.attack.hooks import (
    Direction,
    GradientFunction,
    GradientHook,
    InputTransforms,
    Start,
    chain,
    gradient_of,
    l1_normalised,
)
from advcomp.players.attack.objectives import margin, objective
from advcomp.players.classifier.answers import Model
from advcomp.players.classifier.frozen import frozen
from advcomp.players.image.pixels import ball
from advcomp.players.image.randomness import Generators, image_generators, uniform_like

STEPS = 10
"""Of every loop, where not given."""


@torch.no_grad()
def attack_loop(
    gradient: GradientFunction,
    clean: Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float,
    start: Start | None = None,
    direction: Direction = torch.sign,
    from_clean: bool = False,
) -> Tensor:
    """Follow a gradient for some steps, inside the ball around `clean`.

    Args:
        gradient: Of what is maximised.
        clean: Images (N, C, H, W) in [0, 1].
        eps: Radius of the ball.
        steps: How many.
        step_size: Of each.
        start: Hook; the clean image where not given.
        direction: Hook; the gradient's sign where not given.
        from_clean: Whether a step begins at the clean image, not where the last one ended.

    Raises:
        ValueError: `eps` is not on the [0, 1] scale, or `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"expected at least one step; got {steps}")
    low, high = ball(clean, eps)
    x = clean.detach() if start is None else torch.clamp(start(clean.detach()), low, high)
    for _ in range(steps):
        base = clean.detach() if from_clean else x
        x = torch.add(base, direction(gradient(x)), alpha=step_size).clamp_(low, high)
    return x


@attack
def fgsm(
    classifier: Model, clean: Tensor, labels: Tensor, *, eps: float, targeted: bool = False
) -> Tensor:
    """One step along the sign of the gradient (Goodfellow et al. 2015, arXiv 1412.6572, 4).

    Example:
        >>> classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
        >>> clean = torch.full((2, 3, 2, 2), 0.5)
        >>> adversarial = fgsm(classifier, clean, torch.tensor([0, 2]), eps=8 / 255)
        >>> (255 * (adversarial - clean)).abs().round().unique().tolist()
        [8.0]
    """
    return iterative_fgsm(
        classifier, clean, labels, eps=eps, steps=1, step_size=eps, targeted=targeted
    )


@attack
def iterative_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = STEPS,
    step_size: float | None = None,
    accumulate: bool = False,
    targeted: bool = False,
    transforms: InputTransforms | None = None,
    gradient: GradientHook | None = None,
    direction: Direction | None = None,
    start: Start | None = None,
) -> Tensor:
    """Small steps along the sign (Kurakin et al. 2017, arXiv 1607.02533, section 2.2; BIM).

    Every hook of the loop is an argument: this is the function to build other attacks from.

    Args:
        classifier, clean, labels: As above.
        eps: Radius of the ball.
        steps: How many.
        step_size: Of each; `eps / steps` where not given, `eps` where accumulated.
        accumulate: Whether each step leads from the clean image along all gradients so far, not
            from the last step along the last one (`transfer.da_fgsm` says why).
        targeted: Whether the labels are where to go.
        transforms, gradient, direction, start: Hooks (`attack.hooks`). Where no direction is
            given it is the sign: of the gradient or, accumulated, of the sum of all, each over its
            mean absolute value.
    """
    if direction is None:
        direction = Momentum(decay=1.0) if accumulate else torch.sign
    plain = gradient_of(objective(classifier, labels, targeted=targeted), transforms)
    with frozen(classifier):
        return attack_loop(
            plain if gradient is None else gradient(plain),
            clean,
            eps=eps,
            steps=steps,
            step_size=step_of(eps, steps, step_size, accumulate=accumulate),
            start=start,
            direction=direction,
            from_clean=accumulate,
        )


def step_of(eps: float, steps: int, step_size: float | None, *, accumulate: bool = False) -> float:
    """The step size where given, otherwise `eps / steps`: the ball's edge at the last step.

    From the clean image, where steps are accumulated, every step leads to the edge.
    """
    if step_size is not None:
        return step_size
    return eps if accumulate else eps / max(steps, 1)


@attack
def pgd(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = STEPS,
    step_size: float | None = None,
    accumulate: bool = False,
    restarts: int = 1,
    targeted: bool = False,
    seed: int = 0,
    generator: Generators | None = None,
) -> Tensor:
    """Iterative FGSM from random points of the ball (Madry et al. 2018, arXiv 1706.06083, 2.1).

    Args:
        classifier, clean, labels, eps, steps, accumulate, targeted: As in `iterative_fgsm`.
        step_size: `2.5 * eps / steps` where not given (their section 5), so that every point of
            the ball can be reached from every other; `eps` where accumulated, and then only the
            first gradient is from the random point.
        restarts: From how many points; of what they lead to, each image keeps what the
            classifier gets most wrong, by its margin.
        seed: The starts depend on it and on the image's pixels alone.
        generator: Where the starts come from instead; one for the batch, or one for each image.
    """
    if restarts < 1:
        raise ValueError(f"expected at least one start; got {restarts}")
    if generator is None:
        generator = image_generators(clean, f"pgd {eps} {seed}", clean.device)
    if step_size is None and not accumulate:
        step_size = 2.5 * step_of(eps, steps, None)
    found = (
        iterative_fgsm(
            classifier,
            clean,
            labels,
            eps=eps,
            steps=steps,
            step_size=step_size,
            accumulate=accumulate,
            targeted=targeted,
            start=start,
        )
        for start in repeat(
            lambda clean: clean + uniform_like(clean, -eps, eps, generator), restarts
        )
    )
    return _most_wrong(classifier, labels, found, targeted=targeted)


def _most_wrong(
    classifier: Model, labels: Tensor, found: Iterator[Tensor], *, targeted: bool
) -> Tensor:
    """Of several answers, for each image the one with the largest margin."""
    best, *others = found
    if not others:
        return best
    with torch.no_grad(), frozen(classifier):
        top = _gain(classifier(best), labels, targeted=targeted)
        for other in others:
            gain = _gain(classifier(other), labels, targeted=targeted)
            best = torch.where((gain > top).view(-1, 1, 1, 1), other, best)
            top = torch.maximum(gain, top)
    return best


def _gain(logits: Tensor, labels: Tensor, *, targeted: bool) -> Tensor:
    return -margin(logits, labels) if targeted else margin(logits, labels)


class Momentum:
    """A velocity, `decay` times itself plus the gradient over its mean absolute value; its sign.

    Dong et al. 2018, arXiv 1710.06081, equations 6 and 7. An image whose gradient is zero keeps
    its velocity.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.velocity: Tensor | None = None

    def __call__(self, g: Tensor) -> Tensor:
        """The direction of a step, for the gradient found there."""
        g = l1_normalised(g)
        self.velocity = g if self.velocity is None else self.decay * self.velocity + g
        return self.velocity.sign()

    def lookahead(self, distance: float) -> GradientHook:
        """The gradient where `distance` times the velocity leads, not at x (Nesterov's).

        Lin et al. 2020, arXiv 1908.06281, equation 6; `distance` is the step size times the decay.
        """

        def hook(gradient: GradientFunction) -> GradientFunction:
            def looked_up(x: Tensor) -> Tensor:
                return gradient(x if self.velocity is None else x + distance * self.velocity)

            return looked_up

        return hook


@attack
def momentum_iterative_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = STEPS,
    step_size: float | None = None,
    accumulate: bool = False,
    decay: float = 1.0,
    nesterov: bool = False,
    targeted: bool = False,
    transforms: InputTransforms | None = None,
    gradient: GradientHook | None = None,
) -> Tensor:
    """Steps along a velocity (Dong et al. 2018, arXiv 1710.06081, algorithm 1; MI-FGSM).

    Args:
        classifier, clean, labels, eps, steps, step_size, accumulate, targeted: As in
            `iterative_fgsm`; accumulated, the velocity leads from the clean image.
        decay: How much of the velocity a step keeps; mu in the paper.
        nesterov: Whether a step's gradient is taken where the velocity alone would lead.
        transforms, gradient: Hooks of the loop.
    """
    velocity = Momentum(decay)
    step_size = step_of(eps, steps, step_size, accumulate=accumulate)
    hooks = [velocity.lookahead(step_size * decay)] if nesterov else []
    hooks += [gradient] if gradient else []
    return iterative_fgsm(
        classifier,
        clean,
        labels,
        eps=eps,
        steps=steps,
        step_size=step_size,
        accumulate=accumulate,
        targeted=targeted,
        transforms=transforms,
        gradient=chain(*hooks),
        direction=velocity,
    )
