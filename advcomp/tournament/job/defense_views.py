"""What one run of a defense sees: the views of the tournament file.

The images of a wave form a table: M columns of adversarial images and one column of clean ones,
N source images long. A view cuts the table into shards; a shard is what one run classifies.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, overload

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


@dataclass(frozen=True, slots=True, eq=False)
class Shard(Sequence[Item]):
    """What one run classifies; arrays, since a tournament has millions of items.

    Args:
        images, columns: int32 (n,), of each item.
    """

    images: NDArray[np.int32]
    columns: NDArray[np.int32]

    @classmethod
    def of(cls, items: Sequence[Item]) -> Self:
        """These items, in this order."""
        images = np.array([item.image for item in items], np.int32)
        return cls(images, np.array([item.column for item in items], np.int32))

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, at: int) -> Item: ...

    @overload
    def __getitem__(self, at: slice) -> "Shard": ...

    def __getitem__(self, at: int | slice) -> "Item | Shard":
        if isinstance(at, slice):
            return Shard(self.images[at], self.columns[at])
        return Item(int(self.images[at]), int(self.columns[at]))

    def __iter__(self) -> Iterator[Item]:
        return map(Item, self.images.tolist(), self.columns.tolist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Shard):
            return NotImplemented
        return np.array_equal(self.images, other.images) and np.array_equal(
            self.columns, other.columns
        )

    def __hash__(self) -> int:
        return hash((self.images.tobytes(), self.columns.tobytes()))


def cut(
    view: DefenseView, exists: NDArray[np.bool_], offsets: Sequence[int], *, first_wave: bool
) -> dict[int, Shard]:
    """The shards of a wave, by number; a shard without images is left out.

    Args:
        exists: bool (M, N), which adversarial images there are.
        offsets: For each source image a secret number in 0..M (`latin` only).
        first_wave: Whether this wave's clean labels are the ones that count.
    """
    match view:
        case DefenseView.LATIN:
            shards = _latin(exists, np.array(offsets, np.int64))
        case DefenseView.POOLED:
            shards = iter([_pooled(exists)])
        case DefenseView.PER_ATTACK:
            shards = _per_attack(exists, first_wave=first_wave)
    return {number: shard for number, shard in enumerate(shards) if len(shard)}


def _latin(exists: NDArray[np.bool_], offsets: NDArray[np.int64]) -> Iterator[Shard]:
    clean, images = exists.shape  # the clean images are the last column
    present = np.vstack([exists, np.ones(images, np.bool_)])
    every = np.arange(images)
    for number in range(clean + 1):
        columns = (number + offsets) % (clean + 1)
        kept = np.flatnonzero(present[columns, every])
        yield _shard(kept, np.where(columns == clean, CLEAN, columns)[kept])


def _pooled(exists: NDArray[np.bool_]) -> Shard:
    images = exists.shape[1]
    columns, shown = np.nonzero(np.vstack([np.ones(images, np.bool_), exists]))
    return _shard(shown, columns - 1)  # the clean images are the first column


def _per_attack(exists: NDArray[np.bool_], *, first_wave: bool) -> Iterator[Shard]:
    table = [(CLEAN, np.arange(exists.shape[1]))] if first_wave else []
    table += [(column, np.flatnonzero(row)) for column, row in enumerate(exists)]
    for column, images in table:
        for start in range(0, len(images), PER_ATTACK_IMAGES):
            shown = images[start : start + PER_ATTACK_IMAGES]
            yield _shard(shown, np.full(len(shown), column))


def _shard(images: NDArray[np.intp], columns: NDArray[np.intp]) -> Shard:
    return Shard(images.astype(np.int32), columns.astype(np.int32))
