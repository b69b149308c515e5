"""What the demo lives on: gradients of a surrogate fool networks that the attack never saw."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from advcomp.players.attack.transfer import di_fgsm, pi_fgsm, ti_fgsm
from advcomp.players.attacks import fgsm, iterative_fgsm, momentum_iterative_fgsm
from advcomp.players.classifier.train_classifier import as_tensors
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.datasets import Part, digits
from advcomp.players.ensemble import Ensemble
from advcomp.players.image.pixels import project_to_ball, quantise, to_float

WEIGHTS = Path(__file__).parents[2] / "tournament" / "digits" / "weights"
SURROGATES = ("conv_net_a", "residual_net_a", "mlp_mixer_a")
TARGETS = (
    "residual_net_b",
    "conv_net_b",
    "separable_net_b",
    "mlp_mixer_b",
    "separable_net_c",
    "conv_net_adversarial",
)


def load(name: str) -> Classifier:
    return load_classifier(WEIGHTS / f"{name}.safetensors")


def misclassification_rate(adversarial: Tensor, labels: Tensor) -> float:
    """Mean over the defenses' networks, after the round trip through pixels."""
    pixels = to_float(quantise(adversarial))
    wrong = [load(name)(pixels).argmax(1) != labels for name in TARGETS]
    return float(torch.stack(wrong).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    "max_epsilon",
    [pytest.param(16, marks=pytest.mark.long), 32, pytest.param(48, marks=pytest.mark.long)],
)
def test_random_noise_stays_below_every_gradient_attack(max_epsilon: int) -> None:
    images, labels = as_tensors(digits(Part.TOURNAMENT))
    images, labels = images[:150], labels[:150]
    eps = max_epsilon / 255
    signs = torch.randint(2, images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = misclassification_rate(project_to_ball(images + eps * signs, images, eps), labels)
    members = [load(name) for name in SURROGATES]
    for surrogate in (members[0], Ensemble(members)):
        seen = surrogate(images).argmax(1)
        for attack in (fgsm, iterative_fgsm, momentum_iterative_fgsm):
            rate = misclassification_rate(attack(surrogate, images, seen, eps=eps), labels)
            assert rate > noise, attack.__name__


@pytest.mark.slow
def test_diverse_blurred_and_patchwise_steps_transfer_better_than_momentum_alone() -> None:
    """Scaled copies do not, here: a digit on black at a sixteenth of its brightness is black."""
    images, labels = as_tensors(digits(Part.TOURNAMENT))
    images, labels = images[:150], labels[:150]
    surrogate, eps = load(SURROGATES[0]), 32 / 255
    seen = surrogate(images).argmax(1)
    rates = [
        misclassification_rate(attack(surrogate, images, seen, eps=eps), labels)
        for attack in (momentum_iterative_fgsm, di_fgsm, ti_fgsm, pi_fgsm)
    ]
    assert min(rates[1:]) > rates[0] + 0.02, rates
