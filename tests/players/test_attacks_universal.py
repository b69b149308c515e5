"""One perturbation for many images: the best one is known where the classifier is linear."""

import pytest
import torch
from support.attack_cases import EPS, images, network, two_way, weight_of

from advcomp.players.attack.objectives import cross_entropy
from advcomp.players.attack.universal import fit_universal, universal
from advcomp.players.image.pixels import project_to_ball, quantise


def test_the_best_perturbation_of_a_linear_classifier_is_found() -> None:
    classifier, training, clean = two_way(), images(20), images(4)
    sign = weight_of(classifier).sign()
    zeros = torch.zeros(20, dtype=torch.int64)
    away = fit_universal(classifier, training, zeros, eps=EPS)
    assert torch.equal(away, -sign)
    towards = fit_universal(classifier, training, zeros, eps=EPS, classes=2)
    assert torch.equal(towards, torch.cat([sign, -sign]))
    labels = torch.tensor([0, 1, 1, 0])
    for perturbations, targeted, expected in (
        (away, False, -sign),
        (towards, True, torch.cat([sign, -sign, -sign, sign])),
    ):
        found = universal(
            classifier, clean, labels, eps=EPS, perturbations=perturbations, targeted=targeted
        )
        best = project_to_ball(clean + EPS * expected, clean, EPS)
        assert (quantise(found) == quantise(best)).all()


def test_one_perturbation_raises_the_loss_of_images_that_it_was_not_fitted_on() -> None:
    classifier, training, others = network(), images(30, 32), images(30, 32)
    seen = [classifier(x).argmax(1) for x in (training, others)]
    fitted = fit_universal(classifier, training, seen[0], eps=EPS)
    found = universal(classifier, others, seen[1], eps=EPS, perturbations=fitted)
    before, after = (cross_entropy(classifier(x), seen[1]) for x in (others, found))
    assert (after > before).float().mean() > 0.9


def test_a_perturbation_fits_every_budget_and_depends_on_no_image() -> None:
    clean = torch.full((2, 3, 8, 8), 0.5)
    perturbations = torch.rand(1, 3, 8, 8) * 2 - 1
    for eps in (0.0, 4 / 255, 16 / 255):
        found = universal(
            two_way(), clean, torch.tensor([0, 1]), eps=eps, perturbations=perturbations
        )
        torch.testing.assert_close(found[0] - clean[0], eps * perturbations[0])
        assert torch.equal(found[0], found[1])


def test_a_fit_depends_on_its_seed_and_on_the_order_of_no_global_generator() -> None:
    classifier, training = network(), images(12, 32)
    seen = classifier(training).argmax(1)
    first, same, other = (
        fit_universal(classifier, training, seen, eps=EPS, epochs=2, batch_size=5, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 1


def test_no_image_counts_once_it_is_lost() -> None:
    """Where its loss is beyond 9, an image has no say; the clipped one would outvote the other."""
    classifier, clean = two_way(), torch.full((2, 3, 8, 8), 0.5)

    def lost(x: torch.Tensor) -> torch.Tensor:
        """Class 1 for certain of the first image, for which the weight of a pixel is turned."""
        logits: torch.Tensor = classifier(x)
        return torch.stack([-100 * logits[0] - torch.tensor([50.0, 0, 0, 0, 0]), logits[1]])

    zeros = torch.zeros(2, dtype=torch.int64)
    fitted = fit_universal(lost, clean, zeros, eps=EPS, epochs=1, batch_size=2)
    assert torch.equal(fitted.sign(), -weight_of(classifier).sign())


@pytest.mark.parametrize(
    ("shape", "targeted"),
    [((1, 3, 4, 4), False), ((2, 3, 8, 8), False), ((1, 3, 8, 8), True)],
)
def test_perturbations_for_another_size_or_use_are_refused(
    shape: tuple[int, ...], targeted: bool
) -> None:
    with pytest.raises(ValueError, match="make them with fit_universal"):
        universal(
            two_way(),
            images(),
            torch.zeros(4, dtype=torch.int64),
            eps=EPS,
            perturbations=torch.zeros(shape),
            targeted=targeted,
        )
