"""Transformations that take the edge off a perturbation before a classifier sees the image.

All take float images (N, 3, H, W) in [0, 1]. What is random is seeded from the image's own
pixels: its label depends on the image alone, not on its batch and not on the run.
"""

from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from advcomp.players.attacks import Model
from advcomp.players.pixels import quantise, to_float
from advcomp.players.randomness import image_generators
from advcomp.players.resizing import padded_side, resize_and_pad


def jpeg(images: Tensor, quality: int = 75) -> Tensor:
    """Compress and decompress (Dziugaite et al. 2016, arXiv 1608.00853).

    Args:
        images: Images.
        quality: Pillow's, 1 (small) to 95 (faithful).
    """
    compressed = [_jpeg(levels, quality) for levels in quantise(images)]
    return to_float(np.stack(compressed)).to(images)


def bit_depth(images: Tensor, bits: int) -> Tensor:
    """Round to 2^bits levels (Xu et al. 2018, arXiv 1704.01155, section III.A)."""
    steps = 2**bits - 1
    rounded: Tensor = (images * steps).round() / steps
    return rounded


def median_filter(images: Tensor, size: int = 3) -> Tensor:
    """The median of the `size` x `size` pixels around each (arXiv 1704.01155, section III.B).

    Edges are mirrored.

    Raises:
        ValueError: `size` is even.
    """
    if size % 2 == 0:
        raise ValueError(f"expected an odd size, which has a middle; got {size}")
    padded = functional.pad(images, (size // 2,) * 4, mode="reflect")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)
    return windows.flatten(4).median(dim=4).values


def random_resize_pad(model: Model, images: Tensor, draws: int = 1) -> Tensor:
    """Log-probabilities (N, classes) averaged over random sizes and places (arXiv 1711.01991).

    The paper enlarges 299x299 to 299..330 on a black 331x331; other sizes in proportion.

    Args:
        model: Takes images of the enlarged size.
        images: Square images.
        draws: Over how many draws the probabilities are averaged.
    """
    generators = image_generators(images, "random_resize_pad")
    side = padded_side(images.shape[-1], 331)
    answers = [model(resize_and_pad(images, side, generators)) for _ in range(draws)]
    return torch.stack(answers).softmax(2).mean(0).log()


def _jpeg(levels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
