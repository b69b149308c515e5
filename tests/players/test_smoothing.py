"""Randomised smoothing against closed forms: binomial bounds, and a linear classifier."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from advcomp.players.classifiers import Classifier
from advcomp.players.defense.smoothing import (
    ABSTAIN,
    certified_radius,
    certify,
    count_under_noise,
    lower_bound,
    predict,
    smoothed,
)
from advcomp.players.image.randomness import image_generators

SIGMA = 0.25


class Halfspace(nn.Module):
    """Class 1 where the mean of an image is above a threshold, class 0 below, never class 2."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        margin = x.mean((1, 2, 3)) - self.threshold
        return torch.stack([-margin, margin, torch.full_like(margin, -9)], dim=1)

    def distance(self, images: Tensor) -> Tensor:
        """Signed L2 distance (N,) to where the class changes."""
        margin: Tensor = images.mean((1, 2, 3)) - self.threshold
        return torch.mul(margin, images[0].numel() ** 0.5)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("draws", [1, 7, 20])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_bound_is_where_so_many_hits_get_as_rare_as_alpha(draws: int, alpha: float) -> None:
    hits = np.arange(draws + 1)
    bound = lower_bound(hits, draws, alpha)
    assert bound[0] == 0
    rarity = stats.binom.sf(hits[1:] - 1, draws, bound[1:])
    np.testing.assert_allclose(rarity, alpha)
    interval = [
        stats.binomtest(int(k), draws, alternative="greater").proportion_ci(1 - alpha, "exact").low
        for k in hits
    ]
    np.testing.assert_allclose(bound, interval)


def test_the_radius_of_a_halfspace_is_the_distance_to_it() -> None:
    """A linear classifier's probability under noise is the normal one of its distance."""
    distances = np.array([0.0, 0.01, 0.25, 0.6])
    np.testing.assert_allclose(
        certified_radius(stats.norm.cdf(distances / SIGMA), SIGMA), distances, atol=1e-12
    )
    assert certified_radius(np.array([0.0, 0.3, 0.5]), SIGMA).tolist() == [0, 0, 0]


def test_the_certificate_of_a_halfspace_is_close_to_its_distance_and_below(
    images: Tensor,
) -> None:
    classifier = Halfspace(threshold=0.495)
    found = certify(classifier, images, sigma=SIGMA, draws=4000)
    distance = classifier.distance(images).numpy()
    assert np.abs(distance).min() > 0.05
    np.testing.assert_array_equal(found.classes, distance > 0)
    assert (found.radii <= np.abs(distance)).all()
    hits = np.round(4000 * stats.norm.cdf(np.abs(distance) / SIGMA)).astype(int)
    typical = certified_radius(lower_bound(hits, 4000, 0.001), SIGMA)
    np.testing.assert_allclose(found.radii, typical, atol=0.03)


def test_what_lies_on_the_border_is_not_answered(images: Tensor) -> None:
    classifier = Halfspace(threshold=float(images[0].mean()))
    assert predict(classifier, images[:1], sigma=SIGMA, draws=1000).tolist() == [ABSTAIN]
    found = certify(classifier, images[:1], sigma=SIGMA, draws=1000)
    assert (found.classes.tolist(), found.radii.tolist()) == ([ABSTAIN], [0])


def test_a_prediction_needs_eleven_draws_of_one_class(images: Tensor) -> None:
    """2 / 2^n is the two-sided rarity of n equal draws: at most 0.001 from n = 11 on."""
    classifier = Halfspace(threshold=-9.0)
    for draws, answer in ((10, ABSTAIN), (11, 1)):
        assert predict(classifier, images, sigma=SIGMA, draws=draws).tolist() == [answer] * 5


def test_abstention_compares_the_two_first_classes_only() -> None:
    """Thirty draws of the first class and five of the second decide, whatever the others have."""
    answers = torch.tensor([2] * 30 + [0] * 5 + list(range(3, 30)))
    classes = iter([nn.functional.one_hot(answers, 30).float()] * 2)
    image = torch.zeros(1, 3, 2, 2)
    assert predict(lambda x: next(classes), image, sigma=1, draws=62, alpha=1e-3).tolist() == [2]
    assert stats.binomtest(30, 62).pvalue > 0.5
    assert predict(lambda x: next(classes), image, sigma=1, draws=62, alpha=1e-5).tolist() == [
        ABSTAIN
    ]


def test_a_tournaments_answer_is_the_prediction_where_there_is_one(images: Tensor) -> None:
    torch.manual_seed(3)
    classifier = Classifier("conv_net", 10)
    shares = smoothed(classifier, images, sigma=SIGMA, draws=50)
    torch.testing.assert_close(shares.sum(1), torch.ones(5))
    decided = predict(classifier, images, sigma=SIGMA, draws=50)
    answered = decided != ABSTAIN
    assert answered.any()
    np.testing.assert_array_equal(shares.argmax(1).numpy()[answered], decided[answered])


def test_counts_are_those_of_a_loop_over_the_draws(images: Tensor) -> None:
    torch.manual_seed(3)
    classifier = Classifier("conv_net", 10)
    counts = count_under_noise(
        classifier, images, image_generators(images, "loop"), sigma=SIGMA, draws=230
    )
    for image, own, count in zip(images, image_generators(images, "loop"), counts, strict=True):
        expected = torch.zeros(10, dtype=torch.int64)
        for draws in (100, 100, 30):
            for noise in torch.randn(draws, 3, 8, 8, generator=own):
                expected[classifier((image + SIGMA * noise).unsqueeze(0)).argmax()] += 1
        assert torch.equal(count, expected)


def test_an_image_is_smoothed_alone_and_the_model_comes_back_as_it_was(images: Tensor) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(Classifier("conv_net", 10), nn.Dropout(0.9)).train()
    shares = smoothed(model, images, sigma=SIGMA, draws=30)
    assert torch.equal(smoothed(model, images[[3, 1]], sigma=SIGMA, draws=30), shares[[3, 1]])
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_the_draws_that_choose_a_class_do_not_bound_it(images: Tensor) -> None:
    """Otherwise a class that was lucky would be certified by its own luck."""
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.eye(2)[torch.zeros(len(x), dtype=torch.int64)]

    found = certify(model, images[:1], sigma=SIGMA, selection_draws=50, draws=50)
    first, second = seen
    assert not (first.unsqueeze(0) == second.unsqueeze(1)).flatten(2).all(2).any()
    lower = 0.001 ** (1 / 50)
    assert found.radii[0] == pytest.approx(SIGMA * stats.norm.ppf(lower))
