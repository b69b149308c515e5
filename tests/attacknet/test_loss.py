"""The losses, against their formulas written out, and what leads which way."""

import math

import pytest
import torch
from torch import Tensor, nn

from advcomp.attacknet.objective.losses import (
    NETWORK_LOSSES,
    Answers,
    TargetClassifier,
    feature_distance,
    margin_loss,
    plain_cross_entropy,
    relativistic_cross_entropy,
)
from advcomp.attacknet.recipe import LossTable, TransformItem, TransformName
from advcomp.players.classifiers import Classifier

Z, Z0 = [[2.0, 1.0, -1.0], [0.5, 0.0, 3.0]], [[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]


def answers(*, targeted: bool = False, confidence: float = 100) -> Answers:
    return Answers(
        adversarial=torch.tensor(Z),
        clean=torch.tensor(Z0),
        features=torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
        clean_features=torch.tensor([[1.0, 1.0], [2.0, 0.0]]),
        classes=torch.tensor([0, 1]),
        targeted=targeted,
        confidence=confidence,
    )


def cross_entropy(z: list[float], label: int) -> float:
    return math.log(sum(map(math.exp, z))) - z[label]


@pytest.mark.parametrize("targeted", [False, True])
def test_losses_are_their_formulas(targeted: bool) -> None:
    given = answers(targeted=targeted)
    sign = 1 if targeted else -1
    plain = [sign * cross_entropy(Z[0], 0), sign * cross_entropy(Z[1], 1)]
    change = [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(Z, Z0, strict=True)]
    relative = [sign * cross_entropy(change[0], 0), sign * cross_entropy(change[1], 1)]
    assert plain_cross_entropy(given).tolist() == pytest.approx(plain)
    assert relativistic_cross_entropy(given).tolist() == pytest.approx(relative)
    assert margin_loss(given).tolist() == pytest.approx([-sign * 1.0, -sign * -3.0])
    assert feature_distance(given).tolist() == pytest.approx([-1 / 2, -(4 + 1) / 4])


@pytest.mark.parametrize("targeted", [False, True])
def test_the_margin_is_satisfied_at_its_confidence(targeted: bool) -> None:
    found = margin_loss(answers(targeted=targeted, confidence=0.5)).tolist()
    assert found == pytest.approx([-0.5, 3.0] if targeted else [1.0, -0.5])


@pytest.mark.parametrize("name", NETWORK_LOSSES)
def test_an_image_s_loss_falls_when_its_classifier_is_led_astray(name: str) -> None:
    """Each loss, descended on the image itself, changes what the classifier says."""
    torch.manual_seed(0)
    classifier = Classifier("conv_net", 10).freeze()
    clean = torch.rand(4, 3, 32, 32)
    labels = classifier(clean).argmax(1)
    target = TargetClassifier(classifier=classifier, weight=1.0, feature_layer="network.2")
    x = clean + 0.01 * torch.rand_like(clean)
    found = []
    for _ in range(30):
        x = x.detach().requires_grad_()
        table = LossTable.model_validate({name: 1.0})
        loss = target.losses(x, clean, labels, table=table, targeted=False).sum()
        found.append(loss.item())
        x = x - 0.02 * torch.autograd.grad(loss, x)[0].sign()
    assert found[-1] < found[0]
    assert (classifier(x).argmax(1) != labels).any()


def test_sums_and_weights_add_up() -> None:
    torch.manual_seed(0)
    classifier = Classifier("conv_net", 10).freeze()
    clean, x = torch.rand(2, 4, 3, 32, 32)
    labels = torch.arange(4)

    def losses(weight: float, **table: float) -> Tensor:
        target = TargetClassifier(classifier=classifier, weight=weight)
        return target.losses(x, clean, labels, table=LossTable(**table), targeted=False)

    one, other = losses(1, cross_entropy=1.0), losses(1, margin=1.0)
    torch.testing.assert_close(losses(3, cross_entropy=2.0, margin=0.5), 3 * (2 * one + other / 2))


def test_labels_are_the_classifier_s_own() -> None:
    """A classifier whose labels count from 1 is asked about the class that a label means."""
    torch.manual_seed(0)
    zero, one = Classifier("conv_net", 10), Classifier("conv_net", 10, label_offset=1)
    one.load_state_dict(zero.state_dict())
    x = torch.rand(4, 3, 32, 32)
    found = [
        TargetClassifier(classifier=c.freeze(), weight=1.0).losses(
            x, x, torch.arange(4) + c.label_offset, table=LossTable(margin=1.0), targeted=False
        )
        for c in (zero, one)
    ]
    assert torch.equal(*found)


def test_clean_and_adversarial_image_go_through_the_same_transforms() -> None:
    """So an unchanged image has no distance to itself, whatever was drawn."""
    classifier = Classifier("conv_net", 10).freeze()
    target = TargetClassifier(classifier=classifier, weight=1.0, feature_layer="network.1")
    clean = torch.rand(3, 3, 32, 32)
    moved = target.losses(
        clean,
        clean,
        torch.arange(3),
        table=LossTable(feature_distance=1.0),
        targeted=False,
        transforms=[TransformItem(name=name) for name in TransformName],
        keys=[5, 6, 7],
    )
    assert moved.tolist() == [0, 0, 0]


def test_a_classifier_that_is_sure_still_gives_a_gradient() -> None:
    """Where the probability rounds to 1 the loss is flat in float32; the image would freeze."""

    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) * 1e4

    classifier = Classifier("conv_net", 3)
    classifier.network = Sure()
    x = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).requires_grad_()
    target = TargetClassifier(classifier=classifier, weight=1.0)
    loss = target.losses(
        x, x.detach(), torch.tensor([0]), table=LossTable(cross_entropy=1.0), targeted=False
    )
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    assert gradient[0, 0] > 0
    assert gradient[0, 1] < 0
