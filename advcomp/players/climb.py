"""The loop of all attacks, and the hooks that make a variant of it.

A step looks at the gradient of an objective and goes somewhere, inside the ball around the clean
image. Hooks change what the classifier sees (`Views`), how the gradient comes about (`Gradient`),
where the step goes (`Direction`) and where the climb begins (`Start`). They are made anew for a
run, so they may remember; nothing is kept between runs.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from advcomp.players.objectives import Objective, slope
from advcomp.players.pixels import ball

View = Callable[[Tensor], Tensor]
"""What the classifier sees of images (N, C, H, W); differentiable, one image from one image."""

Views = Callable[[], Iterable[View]]
"""Hook: the views of one step, drawn anew for it; the gradient is averaged over them."""

Field = Callable[[Tensor], Tensor]
"""Images to the gradient there."""

Gradient = Callable[[Field], Field]
"""Hook: another gradient from the plain one: smoothed, from elsewhere, of a neighbourhood."""

Direction = Callable[[Tensor], Tensor]
"""Hook: the gradient of a step to what a step of size 1 adds to the images."""

Start = Callable[[Tensor], Tensor]
"""Hook: where the climb begins, for clean images; projected."""


@torch.no_grad()
def climb(
    field: Field,
    clean: Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float,
    start: Start | None = None,
    direction: Direction = torch.sign,
) -> Tensor:
    """Follow a gradient for some steps, inside the ball around `clean`.

    Args:
        field: The gradient of what is climbed.
        clean: Images (N, C, H, W) in [0, 1].
        eps: Radius of the ball.
        steps: How many.
        step_size: Of each.
        start: Hook; the clean image where not given.
        direction: Hook; the gradient's sign where not given.

    Raises:
        ValueError: `eps` is not on the [0, 1] scale, or `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"expected at least one step; got {steps}")
    low, high = ball(clean, eps)
    x = clean.detach() if start is None else torch.clamp(start(clean.detach()), low, high)
    for _ in range(steps):
        x = torch.add(x, direction(field(x)), alpha=step_size).clamp_(low, high)
    return x


def field_of(objective: Objective, views: Views | None = None) -> Field:
    """The gradient of an objective, averaged over views; one view is in memory at a time."""
    if views is None:
        return partial(slope, objective)

    def field(x: Tensor) -> Tensor:
        return mean(slope(compose(view, objective), x) for view in views())

    return field


def mean(gradients: Iterable[Tensor]) -> Tensor:
    """Of one or more freshly made tensors, added up in the first."""
    rest = iter(gradients)
    total, count = next(rest, None), 1
    if total is None:
        raise ValueError("expected at least one view or sample in each step; got none")
    for g in rest:
        total, count = total.add_(g), count + 1
    return total.div_(count)


def stack(first: Views, *others: Views) -> Views:
    """Each view of the first hook, seen through each view of the next, and so on."""
    if not others:
        return first
    rest = stack(*others)

    def stacked() -> Iterator[View]:
        for inner in first():
            for outer in rest():
                yield compose(inner, outer)

    return stacked


def chain(*gradients: Gradient) -> Gradient:
    """One hook from several: the first works on the plain gradient, the next on its result."""

    def chained(field: Field) -> Field:
        for gradient in gradients:
            field = gradient(field)
        return field

    return chained


def compose(inner: View, outer: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`inner`, then `outer`."""
    return lambda x: outer(inner(x))


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
        g = per_mean(g)
        self.velocity = g if self.velocity is None else self.decay * self.velocity + g
        return self.velocity.sign()

    def ahead(self, reach: float) -> Gradient:
        """The gradient where `reach` times the velocity leads, not at x (Nesterov's).

        Lin et al. 2020, arXiv 1908.06281, equation 6; `reach` is the step size times the decay.
        """

        def hook(field: Field) -> Field:
            def looked_up(x: Tensor) -> Tensor:
                return field(x if self.velocity is None else x + reach * self.velocity)

            return looked_up

        return hook


def per_mean(g: Tensor) -> Tensor:
    """Gradients (N, C, H, W) over the mean absolute value of each; 0 where an image has none."""
    scale = g.abs().mean(dim=(1, 2, 3), keepdim=True)
    return g / scale.clamp_min_(torch.finfo(g.dtype).tiny)
