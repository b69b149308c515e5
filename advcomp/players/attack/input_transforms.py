"""Hooks that show the classifier an image transformed, so that a gradient suits all of them.

What is random is drawn anew for every step, for each image from a generator of its own.
"""

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from advcomp.players.attack.hooks import InputTransform, InputTransforms
from advcomp.players.attack.objectives import likeliest
from advcomp.players.image.randomness import image_generators, normal_like, uniform_like
from advcomp.players.image.resizing import resize_pad_and_restore


def diverse_inputs(
    clean: Tensor, *, eps: float, probability: float = 0.5, seed: int = 0
) -> InputTransforms:
    """Each step sees the image at another size and place (Xie et al. 2019, arXiv 1803.06978, 3.3).

    See `resize_pad_and_restore`.

    Args:
        clean: The images that will be attacked; the randomness is seeded from them.
        eps: The budget, which seeds it too.
        probability: How often an image is transformed.
        seed: For other draws.
    """
    # Sizes and places are Python's numbers: drawn on the CPU, whatever the images are on.
    generators = image_generators(clean, f"diverse_inputs {eps} {seed}")

    def seen(x: Tensor) -> Tensor:
        chosen = [float(torch.rand((), generator=own)) < probability for own in generators]
        moving = [own for own, picked in zip(generators, chosen, strict=True) if picked]
        if not moving:
            return x
        images = [image for image, picked in zip(x, chosen, strict=True) if picked]
        changed = iter(resize_pad_and_restore(torch.stack(images), moving))
        pairs = zip(x, chosen, strict=True)
        return torch.stack([next(changed) if picked else image for image, picked in pairs])

    return lambda: [seen]


def scaled_copies(copies: int = 5) -> InputTransforms:
    """The image at 1, 1/2, 1/4, ... of its brightness (Lin et al. 2020, arXiv 1908.06281, eq. 8).

    Args:
        copies: How many; m in the paper.
    """
    return lambda: [partial(_dimmed, factor=0.5**i) for i in range(copies)]


def _dimmed(x: Tensor, factor: float) -> Tensor:
    return x * factor


def admixed(
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    pool: Tensor,
    pool_labels: Tensor,
    mixtures: int = 3,
    strength: float = 0.2,
    seed: int = 0,
) -> InputTransforms:
    """A bit of images of other classes mixed in (Wang et al. 2021, arXiv 2102.00436, equation 5).

    The authors draw them from the batch; here they come from a pool, so that an image does not
    depend on its neighbours (`batch_as_pool` is theirs).

    Args:
        clean: The images that will be attacked; the randomness is seeded from them.
        labels: Their classes, or the target classes (N,): images of these are not mixed in; of
            soft labels, the likeliest.
        eps: The budget, which seeds the randomness too.
        pool: Images (M, C, H, W) to mix in.
        pool_labels: Their classes (M,).
        mixtures: How many are drawn for a step; m2 in the paper.
        strength: How much of one is added; eta in the paper.
        seed: For other draws.

    Raises:
        ValueError: The pool does not fit the images, or has no other class for one of them.
    """
    own = likeliest(labels)
    other = pool_labels.to(own) != own.unsqueeze(1)
    if pool.shape[1:] != clean.shape[1:] or len(pool_labels) != len(pool):
        raise ValueError(
            f"pool: expected images {tuple(clean.shape[1:])} and a label for each; "
            f"got {tuple(pool.shape)} and {len(pool_labels)} labels"
        )
    if not bool(other.any(1).all()):
        raise ValueError("pool: expected an image of another class for every label; got none")
    pool = pool.to(clean)
    generators = image_generators(clean, f"admixed {eps} {seed}", clean.device)

    def transforms() -> Iterator[InputTransform]:
        for _ in range(mixtures):
            # The largest of random numbers, each where it may be, is a uniform draw.
            scores = uniform_like(other.to(clean), 0, 1, generators).masked_fill_(~other, -1)
            yield partial(torch.add, other=pool[scores.argmax(1)], alpha=strength)

    return transforms


def batch_as_pool(clean: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The batch as the pool that it is mixed with, and its classes.

    Where all of it is of one class, a black image, which adds nothing.
    """
    if bool((labels == labels[0]).all()):
        return torch.zeros_like(clean[:1]), labels[:1] + 1
    return clean.detach(), labels


def spectrum_noise(
    clean: Tensor,
    *,
    eps: float,
    samples: int = 20,
    spread: float = 0.5,
    sigma: float | None = None,
    seed: int = 0,
) -> InputTransforms:
    """Noise in pixels and frequencies (Long et al. 2022, arXiv 2207.05382, equation 7; SSA).

    Args:
        clean: The images that will be attacked; the randomness is seeded from them.
        eps: The budget, which seeds it too.
        samples: How many a step has; N in the paper.
        spread: Each frequency is scaled by 1 - spread to 1 + spread; rho in the paper.
        sigma: Standard deviation of the noise in pixels; `eps` where not given, as there.
        seed: For other draws.
    """
    generators = image_generators(clean, f"spectrum_noise {eps} {seed}", clean.device)
    rows, columns = (cosines(length).to(clean) for length in clean.shape[-2:])
    deviation = eps if sigma is None else sigma

    def seen(x: Tensor) -> Tensor:
        noisy = x + normal_like(x, deviation, generators)
        scales = uniform_like(x, 1 - spread, 1 + spread, generators)
        return rows.T @ (rows @ noisy @ columns.T * scales) @ columns

    return lambda: [seen] * samples


def cosines(length: int) -> Tensor:
    """The orthonormal matrix (length, length) of the discrete cosine transform, type II."""
    frequency = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    place = torch.arange(length, dtype=torch.float64) + 0.5
    matrix = torch.cos(math.pi / length * frequency * place) * math.sqrt(2 / length)
    matrix[0] /= math.sqrt(2)
    return matrix
