"""The hook of BSR: blocks of an image change places and are rotated, each about its middle.

All of it is arithmetic on tensors (which pixel of the image does each pixel of the result show?),
for all images at once and on their device.
"""

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from advcomp.players.attack.hooks import InputTransforms
from advcomp.players.image.randomness import image_generators, uniform_like


def shuffled_blocks(
    clean: Tensor,
    *,
    eps: float,
    samples: int = 20,
    blocks: int = 2,
    degrees: float = 24.0,
    seed: int = 0,
) -> InputTransforms:
    """Blocks of the image, moved and rotated (Wang et al. 2024, arXiv 2308.10299, 3.3; BSR).

    Rows are cut at random into strips, and columns; the strips change their order, and each block
    is rotated. Where no pixel of a block lies, its place is black. The blocks stay a grid: the
    authors' code cuts and orders every strip's columns anew.

    Args:
        clean: The images that will be attacked; the randomness is seeded from them.
        eps: The budget, which seeds it too.
        samples: How many a step has; N in the paper.
        blocks: Along each side; n in the paper.
        degrees: The largest rotation either way; tau in the paper.
        seed: For other draws.
    """
    generators = image_generators(clean, f"shuffled_blocks {eps} {seed}", clean.device)
    return lambda: [lambda x: shuffle_blocks(x, blocks, degrees, generators)] * samples


def shuffle_blocks(
    x: Tensor, blocks: int, degrees: float, generators: Sequence[torch.Generator]
) -> Tensor:
    """Images after one such transform, (N, C, H, W); differentiable. See `shuffled_blocks`.

    Args:
        generators: One for each image.
    """
    rows, columns = (Strips(length, x, blocks, generators) for length in x.shape[-2:])
    block = rows.strip.unsqueeze(2) * blocks + columns.strip.unsqueeze(1)
    radians = math.radians(degrees)
    angles = uniform_like(x.new_empty(len(x), blocks**2), -radians, radians, generators)
    angle = angles.gather(1, block.flatten(1)).view_as(block)
    down, across = rows.offset.unsqueeze(2), columns.offset.unsqueeze(1)
    return _sample(
        x,
        rows,
        columns,
        rows.middle.unsqueeze(2) + down * angle.cos() - across * angle.sin(),
        columns.middle.unsqueeze(1) + down * angle.sin() + across * angle.cos(),
    )


class Strips:
    """One side of images cut at random into strips that are laid in another order.

    For each of N images and each place along the side, (N, length): which strip lies there now
    (`strip`), how far from its middle the place is (`offset`); and of that strip, where it came
    from: its `first` pixel, the one after its last (`end`) and its `middle`.
    """

    def __init__(
        self, length: int, like: Tensor, count: int, generators: Sequence[torch.Generator]
    ) -> None:
        weights, keys = (
            uniform_like(like.new_empty(len(like), count), 0, 1, generators) for _ in range(2)
        )
        ends = (weights.cumsum(1) / weights.sum(1, keepdim=True) * length).round()
        lengths = ends.diff(dim=1, prepend=ends.new_zeros(len(like), 1))
        order = keys.argsort(1)
        laid_ends = lengths.gather(1, order).cumsum(1)
        place = torch.arange(length, device=like.device)
        slot = (place.view(1, -1, 1) >= laid_ends.unsqueeze(1)).sum(2)
        self.strip = order.gather(1, slot)
        self.end = ends.gather(1, self.strip)
        extent = lengths.gather(1, self.strip)
        self.first = self.end - extent
        self.middle = self.first + (extent - 1) / 2
        laid_first = laid_ends.gather(1, slot) - extent
        self.offset = place - laid_first - (extent - 1) / 2


def _sample(x: Tensor, rows: Strips, columns: Strips, row: Tensor, column: Tensor) -> Tensor:
    """Bilinear values of images (N, C, H, W) at points (N, H, W), 0 outside a point's block."""
    flat, width = x.flatten(2), x.shape[3]
    above, below = (_neighbours(row, rows, 2, further) for further in (0, 1))
    left, right = (_neighbours(column, columns, 1, further) for further in (0, 1))
    total = torch.zeros_like(flat)
    for (i, down), (j, across) in product((above, below), (left, right)):
        index = (i * width + j).flatten(1).unsqueeze(1)
        weight = (down * across).flatten(1).unsqueeze(1)
        # In place: at this size, memory costs more than sums.
        total += flat.gather(2, index.expand_as(flat)).mul_(weight)
    return total.view(x.shape)


def _neighbours(at: Tensor, strips: Strips, dim: int, further: int) -> tuple[Tensor, Tensor]:
    """The pixel before each place along a side, or `further` on, and its bilinear weight.

    Outside of the place's strip the weight is 0, and any pixel will do.
    """
    pixel = at.floor() + further
    within = _within(pixel, strips, dim)
    return (pixel * within).long(), (1 - (at - pixel).abs()) * within


def _within(at: Tensor, strips: Strips, dim: int) -> Tensor:
    return (at >= strips.first.unsqueeze(dim)) & (at < strips.end.unsqueeze(dim))
