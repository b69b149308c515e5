"""What an ensemble answers, and what an attack on it maximises, by the paper."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advcomp.players.attack.objectives import Loss, cross_entropy, margin
from advcomp.players.ensemble import Ensemble, Fusion

WEIGHTS = [3.0, 1.0, 0.0]


class Answers(nn.Module):
    """Gives the same logits whatever it is shown."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.tensor([0, 4, 2, 2])


def fused(logits: torch.Tensor, fusion: Fusion) -> Ensemble:
    return Ensemble([Answers(each) for each in logits], weights=WEIGHTS, fusion=fusion)


def test_logits_are_averaged_by_weight(logits: torch.Tensor, labels: torch.Tensor) -> None:
    mean = 0.75 * logits[0] + 0.25 * logits[1]
    losses, answer = fused(logits, Fusion.LOGITS).loss_and_logits(
        torch.zeros(4), labels, cross_entropy
    )
    torch.testing.assert_close(answer, mean)
    torch.testing.assert_close(losses, functional.cross_entropy(mean, labels, reduction="none"))


def test_probabilities_are_averaged_by_weight(logits: torch.Tensor, labels: torch.Tensor) -> None:
    mean = 0.75 * logits[0].softmax(1) + 0.25 * logits[1].softmax(1)
    ensemble = fused(logits, Fusion.PROBABILITIES)
    losses, answer = ensemble.loss_and_logits(torch.zeros(4), labels, cross_entropy)
    torch.testing.assert_close(answer.exp(), mean)
    torch.testing.assert_close(losses, -mean[range(4), labels].log())


@pytest.mark.parametrize("loss", [cross_entropy, margin])
def test_losses_are_averaged_by_weight(
    loss: Loss, logits: torch.Tensor, labels: torch.Tensor
) -> None:
    ensemble = fused(logits, Fusion.LOSSES)
    losses, answer = ensemble.loss_and_logits(torch.zeros(4), labels, loss)
    torch.testing.assert_close(
        losses, 0.75 * loss(logits[0], labels) + 0.25 * loss(logits[1], labels)
    )
    assert torch.equal(answer, fused(logits, Fusion.PROBABILITIES)(torch.zeros(4)))


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0]])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="one weight for each"):
        Ensemble([nn.Identity(), nn.Identity()], weights=weights)


def test_an_ensemble_has_a_member() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])
