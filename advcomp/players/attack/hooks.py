"""What makes a variant of the attack loop: hooks for what is seen, its gradient, and the step.

Hooks change what the classifier sees (`InputTransforms`), how the gradient comes about
(`GradientHook`), where a step goes (`Direction`) and where the loop begins (`Start`); the loop is
`attacks.attack_loop`. Hooks are made anew for a run, so they may remember; nothing is kept between
runs.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from advcomp.players.attack.objectives import Objective, input_gradient

InputTransform = Callable[[Tensor], Tensor]
"""What the classifier sees of images (N, C, H, W); differentiable, one image from one image."""

InputTransforms = Callable[[], Iterable[InputTransform]]
"""Hook: the transforms of one step, drawn anew for it; the gradient is averaged over them."""

GradientFunction = Callable[[Tensor], Tensor]
"""Images to the gradient there."""

GradientHook = Callable[[GradientFunction], GradientFunction]
"""Hook: another gradient from the plain one: smoothed, from elsewhere, of a neighbourhood."""

Direction = Callable[[Tensor], Tensor]
"""Hook: the gradient of a step to what a step of size 1 adds to the images."""

Start = Callable[[Tensor], Tensor]
"""Hook: where the loop begins, for clean images; projected."""


def gradient_of(
    objective: Objective, transforms: InputTransforms | None = None
) -> GradientFunction:
    """The gradient of an objective, averaged over input transforms; one is in memory at a time."""
    if transforms is None:
        return partial(input_gradient, objective)

    def averaged(x: Tensor) -> Tensor:
        return mean_gradient(
            input_gradient(compose(transform, objective), x) for transform in transforms()
        )

    return averaged


def mean_gradient(gradients: Iterable[Tensor]) -> Tensor:
    """Of one or more freshly made tensors, summed in the first."""
    rest = iter(gradients)
    total, count = next(rest, None), 1
    if total is None:
        raise ValueError("expected at least one transform or sample in each step; got none")
    for g in rest:
        total, count = total.add_(g), count + 1
    return total.div_(count)


def l1_normalised(g: Tensor) -> Tensor:
    """Gradients (N, C, H, W) over the mean absolute value of each; 0 where an image has none."""
    scale = g.abs().mean(dim=(1, 2, 3), keepdim=True)
    return g / scale.clamp_min_(torch.finfo(g.dtype).tiny)


def stack(first: InputTransforms, *others: InputTransforms) -> InputTransforms:
    """Each transform of the first hook, followed by each of the next, and so on."""
    if not others:
        return first
    rest = stack(*others)

    def stacked() -> Iterator[InputTransform]:
        for inner in first():
            for outer in rest():
                yield compose(inner, outer)

    return stacked


def chain(*hooks: GradientHook) -> GradientHook:
    """One hook from several: the first works on the plain gradient, the next on its result."""

    def chained(gradient: GradientFunction) -> GradientFunction:
        for hook in hooks:
            gradient = hook(gradient)
        return gradient

    return chained


def compose(
    inner: InputTransform, outer: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """`inner`, then `outer`."""
    return lambda x: outer(inner(x))
