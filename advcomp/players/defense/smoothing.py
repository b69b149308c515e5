"""Randomised smoothing: what a classifier answers most often under normal noise.

Cohen et al. 2019 (arXiv 1902.02918). The smoothed classifier's answer at an image comes with a
radius in L2 within which it cannot change, whatever the attack; both hold with probability
1 - alpha over the noise. `predict` and `certify` are the paper's, and abstain where the draws do
not decide. A tournament has no abstention: `smoothed`, for a submission, always answers with the
class that came most often, which is what `predict` says where it does not abstain.

The radius is on the [0, 1] scale, in L2. An L-inf budget of eps reaches as far as
eps * sqrt(3 H W) in L2, so certificates say little about a tournament's budgets. A classifier
should be trained on images with the same noise.

The noise of an image comes from a generator seeded from its pixels, and images go through the
model one by one, in batches of their own noise: nothing depends on the neighbours.

SciPy loads its statistics when they are used: that takes a second, and every defense of the
library imports this file.
"""

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from advcomp.players.classifier.answers import Model
from advcomp.players.classifier.frozen import frozen
from advcomp.players.defense.defense_call import defense
from advcomp.players.image.randomness import image_generators

ABSTAIN = -1
"""The class of an image whose draws do not decide."""

DRAWS_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """What a smoothed classifier answers, and how far that is certain.

    Args:
        classes: int64 (N,); `ABSTAIN` where it does not answer.
        radii: float64 (N,), L2 on the [0, 1] scale; 0 where it does not answer.
    """

    classes: NDArray[np.int64]
    radii: NDArray[np.float64]


@defense
def smoothed(model: Model, images: Tensor, *, sigma: float = 0.25, draws: int = 100) -> Tensor:
    """Share of the draws in which each class came first (N, classes); the largest is the answer.

    Args:
        model: The classifier below; images with noise may leave [0, 1].
        images: (N, 3, H, W) in [0, 1].
        sigma: Standard deviation of the noise on the [0, 1] scale.
        draws: Of noise, for each image.
    """
    generators = image_generators(images, f"smoothing {sigma}")
    return count_under_noise(model, images, generators, sigma=sigma, draws=draws) / draws


def predict(
    model: Model, images: Tensor, *, sigma: float, draws: int = 100, alpha: float = 0.001
) -> NDArray[np.int64]:
    """The class of each image (N,), or `ABSTAIN` (section 3.2.1, PREDICT).

    It answers where a fair coin would give the first class so many of the first two classes' draws
    with probability alpha or less. An answer differs from the smoothed classifier's own with
    probability alpha at most.
    """
    generators = image_generators(images, f"smoothing {sigma}")
    counts = count_under_noise(model, images, generators, sigma=sigma, draws=draws)
    first_two = counts.topk(2, dim=1)
    decided = [
        scipy.stats.binomtest(int(first), int(first + second), 0.5).pvalue <= alpha
        for first, second in first_two.values.tolist()
    ]
    return np.where(decided, first_two.indices[:, 0].numpy(), ABSTAIN)


def certify(
    model: Model,
    images: Tensor,
    *,
    sigma: float,
    selection_draws: int = 100,
    draws: int = 100_000,
    alpha: float = 0.001,
) -> Certificates:
    """The class of each image and its radius, or abstention (section 3.2.2, CERTIFY).

    The first `selection_draws` choose the class, fresh `draws` bound its probability.
    """
    generators = image_generators(images, f"smoothing {sigma}")
    chosen = count_under_noise(
        model, images, generators, sigma=sigma, draws=selection_draws
    ).argmax(1)
    counts = count_under_noise(model, images, generators, sigma=sigma, draws=draws)
    hits = counts.gather(1, chosen.unsqueeze(1)).squeeze(1).numpy()
    lower = lower_bound(hits, draws, alpha)
    return Certificates(
        classes=np.where(lower > 0.5, chosen.numpy(), ABSTAIN),
        radii=certified_radius(lower, sigma),
    )


def lower_bound(hits: NDArray[np.int64], draws: int, alpha: float) -> NDArray[np.float64]:
    """One-sided lower bound of a probability, at confidence 1 - alpha (Clopper and Pearson 1934).

    Args:
        hits: How often each came up, (N,).
        draws: Out of how many.
        alpha: How often the bound may be above the truth.
    """
    bound = scipy.stats.beta.ppf(alpha, np.maximum(hits, 1), draws - hits + 1)
    return np.where(hits > 0, bound, 0.0)


def certified_radius(lower: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """The L2 radius of a class whose probability is at least `lower` (equation 3, p_B = 1 - p_A).

    0 where the class need not be the likeliest.
    """
    radius: NDArray[np.float64] = sigma * scipy.stats.norm.ppf(np.maximum(lower, 0.5))
    return radius


@defense
@torch.no_grad()
def count_under_noise(
    model: Model, images: Tensor, generators: list[Generator], *, sigma: float, draws: int
) -> Tensor:
    """How often each class comes first under noise: int64 (N, classes), on the CPU."""
    with frozen(model):
        # Where there are no images, one that stands in for them has no generator.
        pairs = zip(images, generators or [Generator()], strict=True)
        return torch.stack([_count(model, image, own, sigma, draws) for image, own in pairs])


def _count(model: Model, image: Tensor, generator: Generator, sigma: float, draws: int) -> Tensor:
    counts = torch.zeros((), dtype=torch.int64)
    for done in range(0, draws, DRAWS_AT_ONCE):
        noise = torch.randn(
            (min(DRAWS_AT_ONCE, draws - done), *image.shape), generator=generator
        ).to(image)
        logits = model(image + sigma * noise)
        counts = counts + logits.argmax(1).bincount(minlength=logits.shape[1]).cpu()
    return counts
