"""Randomness with an address: every draw is a function of the seed and of what it is for.

Nothing is drawn from a stream that somebody may have read before. So a step is the same on one
rank and on many, and after a restart.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def key_of(*address: int | str) -> int:
    """A seed for an address such as (seed, "image", position); different for each."""
    digest = hashlib.blake2b(repr(address).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def generator_of(*address: int | str) -> torch.Generator:
    """A fresh generator on the CPU for an address."""
    return torch.Generator().manual_seed(key_of(*address))


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """A number from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def integer(generator: torch.Generator, below: int) -> int:
    """An integer from 0..below - 1."""
    return int(torch.randint(below, (), generator=generator))


def two_integers(generator: torch.Generator, below: int) -> tuple[int, int]:
    """What `integer` gives when it is called twice, in half the time."""
    first, second = torch.randint(below, (2,), generator=generator).tolist()
    return first, second


def index_at(seed: int, count: int, position: int) -> int:
    """Which of `count` images stands at a position, in the order of all images of all steps.

    Each epoch, of `count` positions, is a new order.
    """
    epoch, place = divmod(position, count)
    return int(_order(seed, count, epoch)[place])


@lru_cache(maxsize=2)
def _order(seed: int, count: int, epoch: int) -> NDArray[np.int64]:
    return torch.randperm(count, generator=generator_of(seed, "order", epoch)).numpy()


class ImageDraws:
    """Random numbers of each image of a batch, one draw after another.

    An image draws the same whatever batch, rank or process it is in.

    Args:
        seed: The recipe's.
        positions: Of the images, in the order of all images of all steps.
        step: What is drawn once for the whole batch is a function of it.
    """

    def __init__(self, seed: int, positions: tuple[int, ...], step: int) -> None:
        self._seed, self._positions, self._step = seed, positions, step
        self._generators: list[torch.Generator] | None = None
        self._of_batch: torch.Generator | None = None

    def uniform(self, like: Tensor, low: float, high: float) -> Tensor:
        """In [low, high), in the shape of the images `like`."""
        return self._each(like, lambda one, own: one.uniform_(low, high, generator=own))

    def normal(self, like: Tensor) -> Tensor:
        """Of mean 0 and variance 1, in the shape of the images `like`."""
        return self._each(like, lambda one, own: one.normal_(generator=own))

    def choice(self, among: int) -> int:
        """One number in 0..among - 1 for the whole batch."""
        if self._of_batch is None:
            self._of_batch = generator_of(self._seed, "batch", self._step)
        return integer(self._of_batch, among)

    def _each(self, like: Tensor, fill: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
        if self._generators is None:
            self._generators = [generator_of(self._seed, "draw", at) for at in self._positions]
        drawn = torch.empty(like.shape, dtype=like.dtype)
        for one, own in zip(drawn, self._generators, strict=True):
            fill(one, own)
        return drawn.to(like.device, non_blocking=True)


@contextmanager
def module_draws(device: torch.device, *address: int | str) -> Iterator[None]:
    """Within it, what a module draws itself, such as dropout, is a function of the address."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # torch.manual_seed does this and, where there is no GPU, takes half a millisecond to note
        # who would have seeded one.
        torch.default_generator.manual_seed(key_of(*address))
        if device.type == "cuda":
            torch.cuda.manual_seed_all(key_of(*address))
        yield
