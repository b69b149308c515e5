"""The threat model: how far an attack may move a pixel, and at which budget it meets which image.

The only module that converts between the two ways to write a budget: `max_epsilon`, an integer
number of pixel levels 0..255, and `eps`, a float on the [0, 1] scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray

ROUND_ROBIN_BATCH = 100
"""Images per budget batch under `round-robin`, as in 2017."""


class Schedule(StrEnum):
    """Which (image, budget) pairs a tournament consists of."""

    GRID = "grid"
    ROUND_ROBIN = "round-robin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One image (its index in the order of ImageIds) at one budget."""

    image: int
    max_epsilon: int


def eps_of(max_epsilon: int) -> float:
    """The budget on the [0, 1] scale; `max_epsilon` in pixel levels.

    Example:
        >>> eps_of(51)
        0.2
    """
    return max_epsilon / 255


def project(
    adversarial: NDArray[np.uint8], clean: NDArray[np.uint8], max_epsilon: int
) -> NDArray[np.uint8]:
    """Clip `adversarial` to the L-inf ball around `clean`, within 0..255, in integers.

    Args:
        adversarial, clean: uint8 images of the same shape.
        max_epsilon: Radius in pixel levels.

    Example:
        >>> clean = np.array([[100, 2, 250]], np.uint8)
        >>> project(np.array([[120, 0, 255]], np.uint8), clean, 8)
        array([[108,   0, 255]], dtype=uint8)
    """
    if adversarial.shape != clean.shape:
        raise ValueError(f"shapes differ: adversarial {adversarial.shape}, clean {clean.shape}")
    if adversarial.dtype != np.uint8 or clean.dtype != np.uint8:
        raise ValueError(f"expected uint8, got {adversarial.dtype} and {clean.dtype}")
    center = clean.astype(np.int16)
    low = np.maximum(center - max_epsilon, 0)
    high = np.minimum(center + max_epsilon, 255)
    return np.clip(adversarial.astype(np.int16), low, high).astype(np.uint8)


def schedule_pairs(
    images: int, max_epsilons: Sequence[int], schedule: Schedule
) -> tuple[Pair, ...]:
    """Every pair of a tournament, by budget in the order given, then by image.

    Under `grid` every image meets every budget; under `round-robin` batch b of 100 images (in the
    order of their ImageIds) has the budget `max_epsilons[b % len(max_epsilons)]` only.
    """
    if schedule is Schedule.GRID:
        return tuple(Pair(image=i, max_epsilon=e) for e, i in product(max_epsilons, range(images)))
    return tuple(
        Pair(image=i, max_epsilon=e)
        for turn, e in enumerate(max_epsilons)
        for i in range(images)
        if i // ROUND_ROBIN_BATCH % len(max_epsilons) == turn
    )
