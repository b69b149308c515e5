"""The one rule for lengths of other image sizes; random resizing and padding, which a defense
and an attack share.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

PAPER_SIDE = 299
"""Side in pixels of the images for which the field's papers give their lengths."""


def in_proportion(length: int, side: int, *, least: int) -> int:
    """What `length`, chosen in a paper for 299x299 images, is for images of `side` pixels.

    In proportion, rounded, but never below `least`, the smallest that does anything.
    """
    return max(least, round(length * side / PAPER_SIDE))


def padded_side(side: int, enlarged: int) -> int:
    """The square for images of `side` pixels that was `enlarged` for a paper's 299x299."""
    return in_proportion(enlarged, side, least=side + 1)


def resize_and_pad(images: Tensor, side: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Enlarge each image by a random amount, and put it somewhere on a black square of `side`.

    Args:
        images: (N, C, H, W) with H = W < side; enlarged to H..side - 1 pixels.
        side: Of the square, in pixels.
        generators: One for each image, on the CPU.
    """
    pairs = zip(images, generators, strict=True)
    return torch.stack([_resize_and_pad(image, side, generator) for image, generator in pairs])


def _resize_and_pad(image: Tensor, side: int, generator: torch.Generator) -> Tensor:
    enlarged = _draw(image.shape[-1], side, generator)
    top, left = (_draw(0, side - enlarged + 1, generator) for _ in range(2))
    resized = functional.interpolate(image.unsqueeze(0), size=(enlarged, enlarged), mode="nearest")
    margins = (left, side - enlarged - left, top, side - enlarged - top)
    return functional.pad(resized, margins).squeeze(0)


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high, (), generator=generator))
