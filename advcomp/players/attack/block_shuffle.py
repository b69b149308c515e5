"""The hook of BSR: blocks of an image change places and are rotated, each about its middle.

All of it is arithmetic on tensors (which point of the image does each pixel of the result show?),
for all images at once and on their device; then the image is looked up once. A point outside its
block's pixels is moved to their edge and darkened by how far it lay off, which is what bilinear
interpolation with black around the block gives.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

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
    radians = math.radians(degrees)
    angles = uniform_like(x.new_empty(len(x), blocks**2), -radians, radians, generators)
    cos, sin = (
        _of_blocks(values.view(-1, blocks, blocks), rows, columns)
        for values in (angles.cos(), angles.sin())
    )
    down, across = rows.offset.unsqueeze(2), columns.offset.unsqueeze(1)
    # In place: at this size, memory costs more than sums.
    row = (cos * down).addcmul_(sin, across, value=-1)
    column = cos.mul_(across).addcmul_(sin, down)
    row, above = _within(row, rows, 2)
    column, beside = _within(column, columns, 1)
    seen = functional.grid_sample(
        x, torch.stack([column, row], 3), padding_mode="border", align_corners=False
    )
    return seen * above.mul_(beside).unsqueeze(1)


class Strips:
    """One side of images cut at random into strips that are laid in another order.

    For each of N images and each place along the side, (N, length): which strip lies there now
    (`strip`), how far from its middle the place is (`offset`); and of that strip, its `extent` and
    where its `middle` came from, in pixels.
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
        self.extent = lengths.gather(1, self.strip)
        half = (self.extent - 1) / 2
        self.middle = ends.gather(1, self.strip) - 1 - half
        self.offset = place - laid_ends.gather(1, slot) + 1 + half


def _of_blocks(values: Tensor, rows: Strips, columns: Strips) -> Tensor:
    """A block's value (N, rows of blocks, columns of blocks) at each of its places, (N, H, W)."""
    height, width = rows.strip.shape[1], columns.strip.shape[1]
    of_rows = values.gather(1, rows.strip.unsqueeze(2).expand(-1, -1, values.shape[2]))
    return of_rows.gather(2, columns.strip.unsqueeze(1).expand(-1, height, width))


def _within(offset: Tensor, strips: Strips, dim: int) -> tuple[Tensor, Tensor]:
    """The nearest points of their strips, as `grid_sample` counts, and the light that is left.

    Between a strip's last pixel and where the next one would be, it goes down to 0.

    Args:
        offset: From the middle of the strip, in pixels, (N, H, W); is overwritten.
        dim: Along which of these the strips do not change.
    """
    length = offset.shape[3 - dim]
    half = (strips.extent.unsqueeze(dim) - 1) / 2
    inside = offset.clamp(-half, half)
    light = offset.sub_(inside).abs_().neg_().add_(1).clamp_(min=0)
    middle = ((2 * strips.middle + 1) / length - 1).unsqueeze(dim)
    return torch.add(middle, inside, alpha=2 / length), light
