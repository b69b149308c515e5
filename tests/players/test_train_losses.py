"""The losses of training, against closed forms on a linear classifier of two classes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from advcomp.players.classifier.classifier_recipe import TrainingObjective
from advcomp.players.classifier.networks import NETWORKS
from advcomp.players.classifier.training_losses import loss_of
from advcomp.players.classifiers import Classifier
from advcomp.players.fitting.fit import LabelledBatch
from advcomp.training.draws import ImageDraws

N, SIDE = 6, 4
EPS = 8 / 255


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> Classifier:
    def build(classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, classes))

    monkeypatch.setitem(NETWORKS, "linear", build)
    torch.manual_seed(1)
    return Classifier("linear", 2).train()


def batch(epoch: int = 0) -> LabelledBatch:
    generator = torch.Generator().manual_seed(2)
    clean = torch.rand(N, 3, SIDE, SIDE, generator=generator) / 2 + 0.25
    draws = ImageDraws(2, tuple(range(N)), step=0)
    return LabelledBatch(clean=clean, labels=torch.arange(N) % 2, epoch=epoch, draws=draws)


def uphill(linear: Classifier, labels: Tensor) -> Tensor:
    """The sign of the gradient of the cross-entropy: away from the label's own row of weights."""
    weight = linear.network[1].weight.detach()  # type: ignore[index]
    towards_one = (weight[1] - weight[0]).sign().view(1, 3, SIDE, SIDE)
    return torch.where(labels.view(-1, 1, 1, 1) == 0, towards_one, -towards_one)


def cross_entropy(linear: Classifier, x: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(linear(x), labels, reduction="none")


def test_plain_is_the_cross_entropy(linear: Classifier) -> None:
    given = batch()
    expected = cross_entropy(linear, given.clean, given.labels)
    assert torch.equal(loss_of(TrainingObjective())(linear, given), expected)


def test_pgd_trains_on_the_worst_image_of_the_ball(linear: Classifier) -> None:
    given = batch()
    worst = given.clean + EPS * uphill(linear, given.labels)
    loss = loss_of(TrainingObjective(name="pgd", max_epsilon=8, steps=4))(linear, given)
    torch.testing.assert_close(loss, cross_entropy(linear, worst, given.labels))


def test_one_step_goes_from_a_random_start_and_stays_in_the_ball(linear: Classifier) -> None:
    given, twin = batch(), batch()
    start = given.clean + twin.draws.uniform(given.clean, -EPS, EPS)
    stepped = start + 1.25 * EPS * uphill(linear, given.labels)
    x = torch.minimum(torch.maximum(stepped, given.clean - EPS), given.clean + EPS)
    loss = loss_of(TrainingObjective(name="fgsm", max_epsilon=8))(linear, given)
    torch.testing.assert_close(loss, cross_entropy(linear, x, given.labels))


def test_an_ensemble_weighs_clean_and_adversarial_images_alike(linear: Classifier) -> None:
    given = batch()
    worst = given.clean + EPS * uphill(linear, given.labels)
    objective = TrainingObjective(name="ensemble", max_epsilon=8, networks=("other",))
    expected = (
        cross_entropy(linear, given.clean, given.labels)
        + cross_entropy(linear, worst, given.labels)
    ) / 2
    torch.testing.assert_close(loss_of(objective)(linear, given), expected)


def test_an_ensembles_examples_come_from_every_network_and_itself(linear: Classifier) -> None:
    """The other network is the opposite one, so its examples are the easiest of the ball."""
    opposite = Classifier("linear", 2)
    for theirs, ours in zip(opposite.parameters(), linear.parameters(), strict=True):
        theirs.data = -ours.data
    loss = loss_of(
        TrainingObjective(name="ensemble", max_epsilon=8, networks=("other",)), [opposite]
    )
    given = batch()
    clean, hard, easy = (
        cross_entropy(
            linear, given.clean + sign * EPS * uphill(linear, given.labels), given.labels
        )
        for sign in (0, 1, -1)
    )
    found = [loss(linear, given) for _ in range(20)]
    expected = [(clean + hard) / 2, (clean + easy) / 2]
    sources = [[torch.allclose(each, one, atol=1e-6) for one in expected] for each in found]
    assert all(sum(source) == 1 for source in sources)
    assert {source.index(True) for source in sources} == {0, 1}


def test_trades_adds_the_largest_divergence_of_the_ball(linear: Classifier) -> None:
    """Of a linear classifier, it lies at one of the two corners along the weights."""
    given = batch()
    clean = linear(given.clean).log_softmax(1)
    corners = [
        linear(given.clean + sign * EPS * uphill(linear, given.labels)).log_softmax(1)
        for sign in (1, -1)
    ]
    at_corners = [
        cross_entropy(linear, given.clean, given.labels)
        + 3 * (clean.exp() * (clean - corner)).sum(1)
        for corner in corners
    ]
    loss = loss_of(TrainingObjective(name="trades", max_epsilon=8, steps=5, beta=3))(linear, given)
    nearest = torch.stack([(loss - one).abs() for one in at_corners]).amin(0)
    assert nearest.max() < 1e-6
    assert (loss > cross_entropy(linear, given.clean, given.labels)).all()


def test_trades_moves_the_clean_answer_too(linear: Classifier) -> None:
    given = batch()
    loss = loss_of(TrainingObjective(name="trades", max_epsilon=8, steps=2))(linear, given)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in linear.parameters())


def test_noise_is_gaussian_and_not_clipped(linear: Classifier) -> None:
    given, twin = batch(), batch()
    noisy = given.clean + 2.0 * twin.draws.normal(given.clean)
    loss = loss_of(TrainingObjective(name="noise", sigma=2.0))(linear, given)
    torch.testing.assert_close(loss, cross_entropy(linear, noisy, given.labels))


def test_the_radius_is_that_of_the_epoch(linear: Classifier) -> None:
    objective = TrainingObjective(name="pgd", max_epsilon=8, steps=4, ramp_epochs=2)
    for epoch, eps in ((0, EPS / 2), (1, EPS)):
        given = batch(epoch)
        x = given.clean + eps * uphill(linear, given.labels)
        expected = cross_entropy(linear, x, given.labels)
        torch.testing.assert_close(loss_of(objective)(linear, given), expected)


def test_adversarial_images_leave_running_statistics_and_modes_alone() -> None:
    classifier = Classifier("vgg_net", 10).train()
    draws = ImageDraws(2, tuple(range(4)), step=0)
    given = LabelledBatch(
        clean=torch.rand(4, 3, 32, 32), labels=torch.arange(4), epoch=0, draws=draws
    )
    loss_of(TrainingObjective(name="pgd", max_epsilon=8, steps=3))(classifier, given)
    seen = {
        int(module.num_batches_tracked or 0)
        for module in classifier.modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    assert seen == {1}
    assert classifier.training
    assert all(parameter.requires_grad for parameter in classifier.parameters())
