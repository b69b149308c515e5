"""Random resizing and padding, which a defense and an attack share."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def padded_side(side: int, enlarged: int) -> int:
    """What `enlarged`, chosen in a paper for 299x299 images, is for images of `side` pixels."""
    return max(side + 1, round(side * enlarged / 299))


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
