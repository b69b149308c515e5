"""Hooks that make what fools a surrogate fool other classifiers too."""

import torch
from torch import Tensor
from torch.nn import functional

from advcomp.players.attacks import Gradient, Objective, Transform, input_gradient
from advcomp.players.randomness import image_generators
from advcomp.players.resizing import padded_side, resize_and_pad


def diverse_inputs(clean: Tensor, *, eps: float, probability: float = 0.5) -> Transform:
    """Each step sees the image at another size and place (Xie et al. 2019, arXiv 1803.06978, 3.3).

    The paper enlarges 299x299 to 299..329 on a black 330x330; other sizes in proportion. The
    square is scaled back, for surrogates that take one size only.

    Args:
        clean: The images that will be attacked; the randomness is seeded from their pixels.
        eps: The budget, which seeds it too.
        probability: How often an image is transformed.
    """
    generators = image_generators(clean, f"diverse_inputs {eps}")
    height, width = clean.shape[-2:]
    side = padded_side(height, 330)

    def transform(x: Tensor) -> Tensor:
        chosen = torch.cat([torch.rand(1, generator=own) < probability for own in generators])
        square = resize_and_pad(x, side, generators)
        changed = functional.interpolate(
            square, size=(height, width), mode="bilinear", align_corners=False
        )
        return torch.where(chosen.to(x.device).view(-1, 1, 1, 1), changed, x)

    return transform


def translation_invariant(size: int = 15, sigma: float = 3.0) -> Gradient:
    """The gradient, blurred (Dong et al. 2019, arXiv 1904.02884, equation 8, Gaussian kernel).

    Args:
        size: Of the kernel in pixels, odd; the paper's 15 is for 299x299.
        sigma: Standard deviation of the kernel in pixels.
    """
    offsets = torch.arange(size) - size // 2
    line = torch.exp(-(offsets**2) / (2 * sigma**2))
    line = line / line.sum()

    def gradient(objective: Objective, x: Tensor) -> Tensor:
        g = input_gradient(objective, x)
        channels = g.shape[1]
        kernel = line.to(g).view(1, 1, -1, 1).repeat(channels, 1, 1, 1)
        for weight in (kernel, kernel.transpose(2, 3)):
            g = functional.conv2d(g, weight, padding="same", groups=channels)
        return g

    return gradient
