"""Randomness with an address: every draw is a function of the seed and of what it is for.

Nothing is drawn from a stream that somebody may have read before. So a step is the same on one
rank and on many, and after a restart.
"""

import hashlib

import torch


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
