"""What happens to an image between the network and a classifier; differentiable.

A network that has seen through them fools classifiers that it has never met: what it writes may
not depend on one size, place or scale. Each image draws from a key of its own, so that the clean
image can be sent through exactly what the adversarial one went through.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from advcomp.attacknet.recipe import TransformItem, TransformName
from advcomp.players.attack.block_shuffle import shuffle_blocks
from advcomp.players.image.resizing import resize_pad_and_restore
from advcomp.training.draws import generator_of, uniform


def transformed(x: Tensor, items: Sequence[TransformItem], keys: Sequence[int]) -> Tensor:
    """Images (N, 3, H, W) after all transforms of a recipe, in the same shape.

    Args:
        keys: One for each image; the same key, the same draws.
    """
    for place, item in enumerate(items):
        generators = [generator_of(key, place) for key in keys]
        drawn = [row for row, own in enumerate(generators) if uniform(own) < item.probability]
        if drawn:
            rows = torch.tensor(drawn).to(x.device, non_blocking=True)
            own = [generators[row] for row in drawn]
            x = x.index_copy(0, rows, _TRANSFORMS[item.name](x[rows], item, own))
    return x


def block_shuffle(x: Tensor, item: TransformItem, generators: Sequence[Generator]) -> Tensor:
    """Blocks of random sizes, each turned, change places (Wang et al. 2024, arXiv 2308.10299, 4).

    What a turn leaves empty is black, as in the paper.
    """
    return shuffle_blocks(x, item.blocks, item.max_degrees, generators)


def scale(x: Tensor, item: TransformItem, generators: Sequence[Generator]) -> Tensor:
    """Darkened by a random factor (scale invariance: Lin et al. 2020, arXiv 1908.06281, 3.2)."""
    factors = [uniform(generator, item.low, 1) for generator in generators]
    drawn = torch.tensor(factors, dtype=x.dtype).to(x.device, non_blocking=True)
    return x * drawn.view(-1, 1, 1, 1)


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
    TransformName.DIVERSE_INPUTS: lambda x, _item, own: resize_pad_and_restore(x, own),
    TransformName.BLOCK_SHUFFLE: block_shuffle,
    TransformName.SCALE: scale,
    TransformName.SMOOTH: smooth,
}
