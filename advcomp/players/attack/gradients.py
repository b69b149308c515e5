"""Hooks that make a step's gradient from gradients round about: blurred, tuned, flattened."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from advcomp.players.attack.hooks import (
    GradientFunction,
    GradientHook,
    l1_normalised,
    mean_gradient,
)
from advcomp.players.image.randomness import image_generators, uniform_like
from advcomp.players.image.resizing import in_proportion


def translation_invariant(clean: Tensor, *, size: int | None = None) -> GradientHook:
    """The gradient, blurred (Dong et al. 2019, arXiv 1904.02884, equation 8, Gaussian kernel).

    Its radius is three standard deviations (their section 3.2 and code).

    Args:
        clean: The images that will be attacked.
        size: Of the kernel in pixels, odd. The paper's 15 is for 299x299, a radius of 7; other
            sizes in proportion, where the radius is at least 2: at 1, 96 % of the weight is in
            the middle.

    Raises:
        ValueError: `size` has no middle, or is 1 and blurs nothing.
    """
    if size is not None and (size % 2 == 0 or size < 3):
        raise ValueError(f"expected an odd size of at least 3; got {size}")
    radius = in_proportion(7, clean.shape[-1], least=2) if size is None else size // 2
    offsets = torch.arange(-radius, radius + 1)
    line = torch.exp(-((3 * offsets / radius) ** 2) / 2).to(clean)
    return _filtered(torch.outer(line, line) / line.sum() ** 2)


def _filtered(kernel: Tensor) -> GradientHook:
    def hook(gradient: GradientFunction) -> GradientFunction:
        return lambda x: filtered(gradient(x), kernel)

    return hook


def filtered(images: Tensor, kernel: Tensor) -> Tensor:
    """Each channel of (N, C, H, W) convolved with a symmetric kernel (odd, odd); zeros outside."""
    channels = images.shape[1]
    weight = kernel.expand(channels, 1, *kernel.shape)
    return functional.conv2d(images, weight, padding="same", groups=channels)


def variance_tuned(
    clean: Tensor,
    *,
    eps: float,
    samples: int = 20,
    beta: float = 1.5,
    seed: int = 0,
    lookahead: GradientHook | None = None,
) -> GradientHook:
    """The gradient, and by how much the last step's neighbours differed from its own.

    Wang and He 2021, arXiv 2103.15571, algorithm 1. The variance of a step is found at the next
    one, which uses it: the last step needs none, so ten steps cost 190 gradients, not 210.

    Args:
        clean: The images that will be attacked; the randomness is seeded from them.
        eps: The budget.
        samples: Neighbours of a step; N in the paper.
        beta: How far they lie, in budgets.
        seed: For other draws.
        lookahead: Where a step takes its own gradient instead (VNI-FGSM); neighbours are x's.
    """
    generators = image_generators(clean, f"variance_tuned {eps} {seed}", clean.device)

    def hook(gradient: GradientFunction) -> GradientFunction:
        own = gradient if lookahead is None else lookahead(gradient)
        last: tuple[Tensor, Tensor] | None = None

        def tuned(x: Tensor) -> Tensor:
            nonlocal last
            g = own(x)
            before, last = last, (x, g)
            if before is None:
                return g
            there, g_there = before
            neighbours = (
                gradient(there + uniform_like(there, -beta * eps, beta * eps, generators))
                for _ in range(samples)
            )
            return g + (mean_gradient(neighbours) - g_there)

        return tuned

    return hook


def flat_maximum(
    clean: Tensor,
    *,
    eps: float,
    step_size: float,
    samples: int,
    reach: float,
    balance: float,
    seed: int,
) -> GradientHook:
    """The gradient of the loss minus its norm, in a neighbourhood; leads to flat maxima.

    Ge et al. 2023, arXiv 2306.05225, algorithm 1: each sample's gradient is mixed with the one a
    step downhill from there, which stands for the Hessian (equation 5).

    Args:
        clean: The images that will be attacked; the randomness is seeded from them.
        eps: The budget.
        step_size: Of the attack, and of the step downhill.
        samples: Points of the neighbourhood; N in the paper.
        reach: How far they lie, in budgets; zeta / eps in the paper.
        balance: Share of the gradient downhill; delta in the paper.
        seed: For other draws.
    """
    generators = image_generators(clean, f"flat_maximum {eps} {seed}", clean.device)

    def hook(gradient: GradientFunction) -> GradientFunction:
        def mixed(x: Tensor) -> Iterator[Tensor]:
            for _ in range(samples):
                near = x + uniform_like(x, -reach * eps, reach * eps, generators)
                g = gradient(near)
                yield g.lerp(gradient(near - step_size * l1_normalised(g)), balance)

        return lambda x: mean_gradient(mixed(x))

    return hook
