"""What happens to an image between the network and a classifier; differentiable.

A network that has seen through them fools classifiers that it has never met: what it writes may
not depend on one size, place or scale. Each image draws from a key of its own, so that the clean
image can be sent through exactly what the adversarial one went through.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from advcomp.attacknet.config import TransformItem, TransformName
from advcomp.attacknet.draws import generator_of, uniform
from advcomp.players.resizing import padded_side, resize_and_pad


def transformed(x: Tensor, items: Sequence[TransformItem], keys: Sequence[int]) -> Tensor:
    """Images (N, 3, H, W) after all transforms of a recipe, in the same shape.

    Args:
        keys: One for each image; the same key, the same draws.
    """
    for place, item in enumerate(items):
        generators = [generator_of(key, place) for key in keys]
        chosen = [uniform(generator) < item.probability for generator in generators]
        changed = _TRANSFORMS[item.name](x, item, generators)
        x = torch.where(torch.tensor(chosen, device=x.device).view(-1, 1, 1, 1), changed, x)
    return x


def diverse_inputs(x: Tensor, _item: TransformItem, generators: Sequence[Generator]) -> Tensor:
    """Enlarged, padded at random and scaled back (Xie et al. 2019, arXiv 1803.06978, 3.3).

    The paper enlarges 299x299 to 299..329 on a black 330x330; other sizes in proportion.
    """
    square = resize_and_pad(x, padded_side(x.shape[-1], 330), generators)
    size = (x.shape[-2], x.shape[-1])
    return functional.interpolate(square, size=size, mode="bilinear", align_corners=False)


def block_shuffle(x: Tensor, item: TransformItem, generators: Sequence[Generator]) -> Tensor:
    """Blocks of random sizes, each turned, change places (Wang et al. 2024, arXiv 2308.10299, 4).

    What a turn leaves empty is black, as in the paper.
    """
    height, width = x.shape[-2:]
    maps = torch.stack([_block_map(height, width, item, g) for g in generators]).to(x)
    sampled = functional.grid_sample(x, maps[..., :2], align_corners=False)
    return sampled * maps[..., 2].unsqueeze(1)


def scale(x: Tensor, item: TransformItem, generators: Sequence[Generator]) -> Tensor:
    """Darkened by a random factor (scale invariance: Lin et al. 2020, arXiv 1908.06281, 3.2)."""
    factors = [uniform(generator, item.low, 1) for generator in generators]
    return x * x.new_tensor(factors).view(-1, 1, 1, 1)


def smooth(x: Tensor, item: TransformItem, _generators: Sequence[Generator]) -> Tensor:
    """Blurred by a Gaussian, as defenses that purify their input do."""
    radius = max(1, round(3 * item.sigma))
    offsets = torch.arange(-radius, radius + 1, device=x.device)
    line = torch.exp(-(offsets**2) / (2 * item.sigma**2)).to(x.dtype)
    kernel = (line / line.sum()).view(1, 1, -1, 1).repeat(x.shape[1], 1, 1, 1)
    x = functional.pad(x, (radius,) * 4, mode="replicate")
    for weight in (kernel, kernel.transpose(2, 3)):
        x = functional.conv2d(x, weight, groups=x.shape[1])
    return x


_TRANSFORMS: dict[
    TransformName, Callable[[Tensor, TransformItem, Sequence[Generator]], Tensor]
] = {
    TransformName.DIVERSE_INPUTS: diverse_inputs,
    TransformName.BLOCK_SHUFFLE: block_shuffle,
    TransformName.SCALE: scale,
    TransformName.SMOOTH: smooth,
}


def _block_map(height: int, width: int, item: TransformItem, generator: Generator) -> Tensor:
    """Where each pixel comes from, (H, W, 3): x and y from -1 to 1, and 0 where from nowhere."""
    map_ = torch.zeros(height, width, 3, dtype=torch.float64)
    for left, wide, from_left in _shuffled(width, item.blocks, generator):
        for top, high, from_top in _shuffled(height, item.blocks, generator):
            degrees = uniform(generator, -item.max_degrees, item.max_degrees)
            x, y, inside = _turned(high, wide, degrees)
            block = map_[top : top + high, left : left + wide]
            block[..., 0] = (2 * (from_left + x) + 1) / width - 1
            block[..., 1] = (2 * (from_top + y) + 1) / height - 1
            block[..., 2] = inside
    return map_


def _shuffled(length: int, parts: int, generator: Generator) -> list[tuple[int, int, int]]:
    """Cuts 0..length into parts at random, in a random order: (start, length, start before)."""
    inner = torch.randperm(length - 1, generator=generator)[: parts - 1] + 1
    cuts = [0, *sorted(inner.tolist()), length]
    order = torch.randperm(len(cuts) - 1, generator=generator).tolist()
    placed, at = [], 0
    for part in order:
        size = cuts[part + 1] - cuts[part]
        placed.append((at, size, cuts[part]))
        at += size
    return placed


def _turned(height: int, width: int, degrees: float) -> tuple[Tensor, Tensor, Tensor]:
    """Column and row (H, W) that each pixel of a turned block shows, and whether it is inside."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) - (height - 1) / 2,
        torch.arange(width, dtype=torch.float64) - (width - 1) / 2,
        indexing="ij",
    )
    column = angle.cos() * x - angle.sin() * y + (width - 1) / 2
    row = angle.sin() * x + angle.cos() * y + (height - 1) / 2
    inside = (column > -0.5) & (column < width - 0.5) & (row > -0.5) & (row < height - 0.5)
    return column, row, inside
