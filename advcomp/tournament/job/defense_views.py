"""What one run of a defense sees: the views of the tournament file.

The images of a wave form a table: M columns of adversarial images and one column of clean ones,
N source images long. A view cuts the table into shards; a shard is what one run classifies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

CLEAN = -1
"""The column of the clean images."""

PER_ATTACK_IMAGES = 100
"""Images per run under `per-attack`, as on 2017's infrastructure."""


class DefenseView(StrEnum):
    """How a wave is cut into shards."""

    LATIN = "latin"
    POOLED = "pooled"
    PER_ATTACK = "per-attack"


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a shard: a source image (index) as a column of the wave shows it."""

    image: int
    column: int


Shard = tuple[Item, ...]


def cut(
    view: DefenseView, exists: NDArray[np.bool_], offsets: Sequence[int], *, first_wave: bool
) -> dict[int, Shard]:
    """The shards of a wave, by number; a shard without images is left out.

    Args:
        exists: bool (M, N), which adversarial images there are.
        offsets: For each source image a secret number in 0..M (`latin` only).
        first_wave: Whether this wave's clean labels are the ones that count.
    """
    columns, images = exists.shape
    match view:
        case DefenseView.LATIN:
            shards = [
                [
                    (k, column if column < columns else CLEAN)
                    for k in range(images)
                    for column in [(s + offsets[k]) % (columns + 1)]
                ]
                for s in range(columns + 1)
            ]
        case DefenseView.POOLED:
            shards = [
                [(k, c) for c in [CLEAN, *range(columns)] for k in range(images)],
            ]
        case DefenseView.PER_ATTACK:
            table = [[(k, CLEAN) for k in range(images)]] if first_wave else []
            table += [[(k, c) for k in range(images) if exists[c, k]] for c in range(columns)]
            shards = [
                column[start : start + PER_ATTACK_IMAGES]
                for column in table
                for start in range(0, len(column), PER_ATTACK_IMAGES)
            ]
    kept = (tuple(Item(k, c) for k, c in shard if c == CLEAN or exists[c, k]) for shard in shards)
    return {number: shard for number, shard in enumerate(kept) if shard}
