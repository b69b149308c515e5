"""Randomness that depends on an image and on nothing else.

A generator drawn from one seed for a whole batch makes an image depend on its place in the batch.
A generator for each image, seeded from its pixels, does not: results are the same in any order,
in any batch, on every run.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advcomp.players.pixels import quantise

Generators = torch.Generator | Sequence[torch.Generator]
"""One generator for the batch, or one for each image of it."""


def image_generators(images: Tensor, salt: str) -> list[torch.Generator]:
    """A generator for each image, seeded from its pixels and `salt` (purpose, epsilon, ...).

    Args:
        images: (N, C, H, W) in [0, 1]; read to the nearest of 256 levels.
    """
    return [torch.Generator().manual_seed(_seed(image, salt)) for image in quantise(images)]


def uniform(like: Tensor, low: float, high: float, generator: Generators | None) -> Tensor:
    """Uniform numbers in [low, high) in the shape of a batch."""
    if generator is None or isinstance(generator, torch.Generator):
        return torch.empty_like(like).uniform_(low, high, generator=generator)
    drawn = [torch.empty(like.shape[1:]).uniform_(low, high, generator=own) for own in generator]
    return torch.stack(drawn).to(like)


def _seed(levels: NDArray[np.uint8], salt: str) -> int:
    digest = hashlib.sha256(levels.tobytes() + salt.encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
