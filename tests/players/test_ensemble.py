"""What an ensemble answers, and what an attack on it maximises, by the paper."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advcomp.players.attack.objectives import Loss, cross_entropy, margin
from advcomp.players.attack_catalogue import ATTACKS
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


def linear(gain: float, seed: int) -> nn.Module:
    """A classifier of images of 2x2 whose logits are `gain` times as steep."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(gain)
    return network.requires_grad_(False)


@pytest.mark.parametrize("name", ["fgsm", "mi_fgsm", "autopgd_ce"])
def test_gradients_are_averaged_by_weight_whatever_their_size(name: str) -> None:
    """A member's gradient counts by its weight, not by how steep its losses are."""
    x = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.tensor([0, 1, 2, 0])
    members = [linear(0.01, 1), linear(3.0, 2)]
    ensemble = Ensemble(members, weights=[3.0, 1.0], fusion=Fusion.GRADIENTS).double()
    seen = x.clone().requires_grad_(True)
    losses, answer = ensemble.loss_and_logits(seen, labels, cross_entropy)
    (found,) = torch.autograd.grad(losses.sum(), seen)
    expected = torch.zeros_like(x)
    for member, weight in zip(members, (0.75, 0.25), strict=True):
        own = x.clone().requires_grad_(True)
        (g,) = torch.autograd.grad(cross_entropy(member(own), labels).sum(), own)
        expected += weight * g / g.abs().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(answer, 0.75 * members[0](x) + 0.25 * members[1](x))
    adversarial = ATTACKS[name](ensemble, x, labels, eps=0.01)
    one_step = (x + 0.01 * expected.sign()).clamp(0, 1)
    assert (adversarial == one_step).double().mean() > 0.8
    fused = ATTACKS[name](Ensemble(members, weights=[3.0, 1.0]).double(), x, labels, eps=0.01)
    assert (adversarial != fused).any()


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0]])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="one weight for each"):
        Ensemble([nn.Identity(), nn.Identity()], weights=weights)


def test_an_ensemble_has_a_member() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])
