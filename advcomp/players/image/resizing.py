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


def resize_and_pad(images: Tensor, enlarged: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Enlarge each image by a random amount, and put it somewhere on black.

    Args:
        images: (N, C, H, W), N >= 1.
        enlarged: Side of the black square that a paper has for 299x299; for other lengths, each
            by itself, `padded_side`. An image grows to less than that, by one share of the room.
        generators: One for each image, on the CPU.
    """
    pairs = zip(images, generators, strict=True)
    return torch.stack([_resize_and_pad(image, enlarged, generator) for image, generator in pairs])


def resize_pad_and_restore(images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Enlarge each image by a random amount, put it on black, and scale the square back.

    Xie et al. 2019, arXiv 1803.06978, section 3.3: 299x299 to 299..329 on a black 330x330; other
    sizes in proportion. The result has the images' own size, for models that take one size only.

    Args:
        images: (N, C, H, W), N >= 1.
        generators: One for each image, on the CPU.
    """
    squares = resize_and_pad(images, 330, generators)
    size = (images.shape[-2], images.shape[-1])
    return functional.interpolate(squares, size=size, mode="bilinear", align_corners=False)


def _resize_and_pad(image: Tensor, enlarged: int, generator: torch.Generator) -> Tensor:
    height, width = image.shape[-2:]
    rows, columns = (padded_side(side, enlarged) for side in (height, width))
    more = _draw(0, columns - width, generator)
    tall, wide = height + more * (rows - height) // (columns - width), width + more
    top, left = (_draw(0, room + 1, generator) for room in (rows - tall, columns - wide))
    resized = functional.interpolate(image.unsqueeze(0), size=(tall, wide), mode="nearest")
    margins = (left, columns - wide - left, top, rows - tall - top)
    return functional.pad(resized, margins).squeeze(0)


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high, (), generator=generator))
