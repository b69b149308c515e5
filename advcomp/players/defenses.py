"""Transformations that take the edge off a perturbation before a classifier sees the image.

All take float images (N, 3, H, W) in [0, 1], and treat each as if it were alone. Filters give
images back; what is random takes the model too, averages its answers over several draws, and seeds
them from the image's own pixels: a label depends on the image alone, not on its batch and not on
the run.

Filters cut the gradient, which protects nobody: an attack goes through with the gradient of
something similar (Athalye et al. 2018, arXiv 1802.00420). None is a defense against an attacker
who knows of it.

SciPy and scikit-image load their parts when they are used, not when they are imported: a program
starts in a second less.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import restoration
from torch import Generator, Tensor
from torch.nn import functional

from advcomp.players.classifier.answers import Model
from advcomp.players.classifier.frozen import frozen
from advcomp.players.defense.defense_call import defense, image_filter, none_of_none
from advcomp.players.image.pixels import quantise, to_float
from advcomp.players.image.randomness import image_generators, normal_like
from advcomp.players.image.resizing import resize_and_pad

RandomTransform = Callable[[Tensor, Sequence[Generator]], Tensor]
"""Images, and where the randomness of each comes from, to as many images."""


@image_filter
def bit_depth(images: Tensor, bits: int = 5) -> Tensor:
    """Round to 2^bits levels (Xu et al. 2018, arXiv 1704.01155, section III.A).

    Args:
        images: Images.
        bits: 1 to 8; the paper's are 1 for MNIST, 4 or 5 for CIFAR-10 and 5 for ImageNet.

    Raises:
        ValueError: There is no such number of bits.

    Example:
        >>> bit_depth(torch.tensor([[[[0.1, 0.4, 0.9]]]]), bits=1).tolist()
        [[[[0.0, 0.0, 1.0]]]]
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"expected 1 to 8 bits; got {bits}")
    steps = 2**bits - 1
    rounded: Tensor = (images * steps).round() / steps
    return rounded


@image_filter
def median_filter(images: Tensor, size: int = 3) -> Tensor:
    """The median of the `size` x `size` pixels around each (arXiv 1704.01155, section III.B).

    SciPy's, as in the paper: edges are mirrored, edge pixels included; the middle of an even
    window is its lower right pixel, and its median the upper of the two in question.

    Args:
        images: Images.
        size: In pixels; the paper's are 3 for MNIST, 2 for CIFAR-10 and ImageNet.
    """
    levels = scipy.ndimage.median_filter(images.detach().cpu().numpy(), size=(1, 1, size, size))
    return torch.from_numpy(levels).to(images)


@image_filter
def jpeg(images: Tensor, quality: int = 75) -> Tensor:
    """Compress and decompress (Dziugaite et al. 2016, arXiv 1608.00853).

    Args:
        images: Images.
        quality: Pillow's, 1 (small) to 95 (faithful); 75 in Guo et al. 2018, arXiv 1711.00117.
    """
    compressed = [_jpeg(levels, quality) for levels in quantise(images)]
    return to_float(np.stack(compressed)).to(images)


@image_filter
def total_variation(images: Tensor, weight: float = 0.1) -> Tensor:
    """The image nearby with little total variation (Rudin, Osher and Fatemi 1992).

    scikit-image's, by Chambolle's projections, the three channels together. Guo et al. 2018
    (arXiv 1711.00117, section 3) made it a defense, with pixels dropped at random beforehand; here
    none are.

    Args:
        images: Images.
        weight: Of the variation: more is smoother.
    """
    return _each(images, partial(restoration.denoise_tv_chambolle, weight=weight, channel_axis=-1))


@image_filter
def wavelet(images: Tensor, sigma: float = 0.04) -> Tensor:
    """Shrink wavelet coefficients as noise of `sigma` calls for (BayesShrink, Chang et al. 2000).

    scikit-image's, on luma and chroma; with the noise that Prakash et al. 2018 (arXiv 1801.08926)
    assume in their defense.

    Args:
        images: Images.
        sigma: Standard deviation of the noise on the [0, 1] scale.
    """
    denoise = partial(
        restoration.denoise_wavelet,
        sigma=sigma,
        method="BayesShrink",
        convert2ycbcr=True,
        channel_axis=-1,
    )
    return _each(images, denoise)


@defense
def average_over(
    model: Model,
    images: Tensor,
    transform: RandomTransform,
    *,
    draws: int = 30,
    salt: str = "average_over",
) -> Tensor:
    """Log of the mean probabilities (N, classes) over random versions of each image.

    Args:
        model: Takes what `transform` gives.
        images: Images.
        transform: For example `crop_and_rescale`.
        draws: How many versions; 30 in arXiv 1711.00117, and in 2017's second defense.
        salt: Purpose: averages with the same one draw the same numbers.
    """
    generators = image_generators(images, salt)
    with frozen(model):
        answers = [model(transform(images, generators)).log_softmax(1) for _ in range(draws)]
    return torch.stack(answers).logsumexp(0) - math.log(draws)


@defense
def random_resize_pad(
    model: Model, images: Tensor, draws: int = 1, *, flip: bool = False
) -> Tensor:
    """Log-probabilities (N, classes) averaged over random sizes and places (arXiv 1711.01991).

    The paper enlarges 299x299 to 299..330 on a black 331x331; other sizes in proportion. The entry
    that was second in 2017 took 30 draws, mirrored half of them, began at 310 and padded with
    mid-grey.

    Args:
        model: Takes images of the enlarged size.
        images: Images.
        draws: Over how many draws the probabilities are averaged.
        flip: Mirror a draw left to right with probability 0.5.
    """

    def transform(images: Tensor, generators: Sequence[Generator]) -> Tensor:
        seen = random_flip(images, generators) if flip else images
        return resize_and_pad(seen, 331, generators)

    return average_over(model, images, transform, draws=draws, salt="random_resize_pad")


@none_of_none
def random_flip(images: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Mirror each image left to right with probability 0.5."""
    chosen = torch.cat([torch.rand(1, generator=own) < 0.5 for own in generators])
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


@none_of_none
def crop_and_rescale(
    images: Tensor, generators: Sequence[Generator], share: float = 90 / 224
) -> Tensor:
    """A random part of each image, enlarged to the image's size (arXiv 1711.00117, 3.1).

    Args:
        images: Images.
        generators: One for each image, on the CPU.
        share: Sides of the part as a share of the image's; 90 of 224 pixels in the paper.
    """
    sides = images.shape[-2:]
    height, width = (max(1, round(share * side)) for side in sides)

    def crop(image: Tensor, own: Generator) -> Tensor:
        top, left = (
            int(torch.randint(side - part + 1, (), generator=own))
            for side, part in zip(sides, (height, width), strict=True)
        )
        return image[:, top : top + height, left : left + width]

    parts = torch.stack([crop(*pair) for pair in zip(images, generators, strict=True)])
    return functional.interpolate(parts, size=sides, mode="bilinear", align_corners=False)


@none_of_none
def add_noise(images: Tensor, generators: Sequence[Generator], sigma: float = 0.1) -> Tensor:
    """Add normal noise of standard deviation `sigma`; the sum may leave [0, 1]."""
    return images + normal_like(images, sigma, generators)


@none_of_none
def barrage(images: Tensor, generators: Sequence[Generator], count: int = 3) -> Tensor:
    """Some of our transformations, chosen, ordered and set at random for each image.

    After Raff et al. 2019 (Barrage of Random Transforms, CVPR), who have 25 in 10 groups and train
    the classifier behind them, too.

    Args:
        images: Images.
        generators: One for each image, on the CPU.
        count: How many are applied one after another, up to 5.
    """
    pairs = zip(images, generators, strict=True)
    return torch.cat([_barrage(image.unsqueeze(0), own, count) for image, own in pairs])


def _barrage(image: Tensor, generator: Generator, count: int) -> Tensor:
    for chosen in torch.randperm(len(_BARRAGE), generator=generator)[:count].tolist():
        strength = float(torch.rand((), generator=generator))
        image = _BARRAGE[chosen](image, generator, strength).clamp(0, 1)
    return image


_BARRAGE: tuple[Callable[[Tensor, Generator, float], Tensor], ...] = (
    lambda image, _, strength: bit_depth(image, 6 - round(3 * strength)),
    lambda image, _, strength: jpeg(image, 95 - round(40 * strength)),
    lambda image, _, strength: total_variation(image, 0.02 + 0.1 * strength),
    lambda image, own, strength: add_noise(image, [own], 0.05 * strength),
    lambda image, own, strength: crop_and_rescale(image, [own], 1 - 0.15 * strength),
)
"""An image of its own batch, its generator and a strength from 0 to 1."""


def _each(images: Tensor, denoise: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Tensor:
    """Apply a function of one image (H, W, 3) to every image, and clip what it gives."""
    arrays = images.detach().permute(0, 2, 3, 1).cpu().numpy()
    denoised = torch.from_numpy(np.stack([denoise(array) for array in arrays]))
    return denoised.permute(0, 3, 1, 2).contiguous().to(images).clamp(0, 1)


def _jpeg(levels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
