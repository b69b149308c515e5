"""Randomness that depends on an image and on nothing else.

A generator drawn from one seed for a whole batch makes an image depend on its place in the batch.
A generator for each image, seeded from its pixels, does not: results are the same in any order,
in any batch, on every run. A generator draws on its own device; numbers for images on a GPU come
from generators there, so that no step of a loop waits for a copy from the host.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advcomp.players.image.pixels import quantise

Generators = torch.Generator | Sequence[torch.Generator]
"""One generator for the batch, or one for each image of it."""

Fill = Callable[[Tensor, torch.Generator | None], Tensor]
"""Fills a tensor in place with random numbers."""


def image_generators(
    images: Tensor, salt: str, device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """A generator for each image, seeded from its pixels and `salt` (purpose, epsilon, ...).

    Args:
        images: (N, C, H, W) in [0, 1]; read to the nearest of 256 levels.
        salt: What the numbers are for.
        device: Where they are drawn.
    """
    levels = quantise(images)
    return [torch.Generator(device).manual_seed(_seed(image, salt)) for image in levels]


def uniform_like(like: Tensor, low: float, high: float, generator: Generators | None) -> Tensor:
    """Uniform numbers in [low, high) in the shape of a batch."""
    return _draw(like, generator, lambda empty, own: empty.uniform_(low, high, generator=own))


def normal_like(like: Tensor, std: float, generator: Generators | None) -> Tensor:
    """Normal numbers with mean 0 in the shape of a batch."""
    return _draw(like, generator, lambda empty, own: empty.normal_(0, std, generator=own))


def _draw(like: Tensor, generator: Generators | None, fill: Fill) -> Tensor:
    if generator is None or isinstance(generator, torch.Generator):
        return fill(torch.empty_like(like), generator)
    if len(generator) != len(like):
        raise ValueError(
            f"expected a generator for each of {len(like)} images; got {len(generator)}"
        )
    if not generator:
        return torch.empty_like(like)
    empty = [torch.empty(like.shape[1:], dtype=like.dtype, device=g.device) for g in generator]
    drawn = torch.stack([fill(e, g) for e, g in zip(empty, generator, strict=True)])
    return drawn.to(like, non_blocking=True)


def _seed(levels: NDArray[np.uint8], salt: str) -> int:
    digest = hashlib.sha256(levels.tobytes() + salt.encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
