"""The attacks against a linear classifier, whose best perturbation is known in closed form."""

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
import torch
from torch import Tensor, nn

from advcomp.players.attacks import (
    cross_entropy,
    fgsm,
    iterative_fgsm,
    momentum_iterative_fgsm,
    objective,
    pgd,
)
from advcomp.players.classifiers import Classifier
from advcomp.players.ensemble import Ensemble, Fusion
from advcomp.players.pixels import project, quantise, to_float
from advcomp.players.randomness import image_generators
from advcomp.players.transfer import diverse_inputs, translation_invariant
from advcomp.rules.threat import eps_of

EPS = 16 / 255


class Attack(Protocol):
    __name__: str

    def __call__(
        self,
        classifier: Callable[[Tensor], Tensor],
        clean: Tensor,
        labels: Tensor,
        /,
        *,
        eps: float,
        targeted: bool = False,
    ) -> Tensor: ...


ATTACKS: list[Attack] = [fgsm, iterative_fgsm, pgd, momentum_iterative_fgsm]
DETERMINISTIC: list[Attack] = [fgsm, iterative_fgsm, momentum_iterative_fgsm]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def images(n: int = 4, side: int = 8) -> Tensor:
    return to_float(torch.randint(256, (n, side, side, 3), dtype=torch.uint8).numpy())


def linear(side: int = 8) -> nn.Sequential:
    """Two classes; class 0 minus class 1 is a weight for every pixel and channel."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, 2))


def network() -> Classifier:
    return Classifier("conv_net", 10)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_finds_the_best_perturbation_of_a_linear_classifier(
    attack: Attack, targeted: bool
) -> None:
    classifier, clean = linear(), images()
    labels = torch.tensor([0, 1, 0, 1])
    rows = classifier.get_parameter("1.weight")
    weight = (rows[0] - rows[1]).view(3, 8, 8)
    away = torch.where(labels.view(-1, 1, 1, 1) == 0, -weight.sign(), weight.sign())
    best = project(clean + EPS * (-away if targeted else away), clean, EPS)
    found = attack(classifier, clean, labels, eps=EPS, targeted=targeted)
    assert (quantise(found) == quantise(best)).all()


@pytest.mark.parametrize("max_epsilon", range(0, 256, 5))
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_budget_holds_exactly_after_the_round_trip_through_pixels(
    attack: Attack, max_epsilon: int
) -> None:
    clean = images()
    adversarial = attack(
        linear(), clean, torch.zeros(4, dtype=torch.int64), eps=eps_of(max_epsilon)
    )
    before, after = quantise(clean).astype(int), quantise(adversarial).astype(int)
    reachable = ((before >= max_epsilon) | (before <= 255 - max_epsilon)).any()
    assert abs(after - before).max() == max_epsilon or not reachable


@pytest.mark.parametrize("attack", DETERMINISTIC)
def test_an_image_does_not_depend_on_its_neighbours(attack: Attack) -> None:
    classifier, clean, labels = network(), images(6, 32), torch.arange(6)
    whole = attack(classifier, clean, labels, eps=EPS)
    alone = [attack(classifier, clean[[i]], labels[[i]], eps=EPS) for i in range(6)]
    changed = quantise(whole) != quantise(torch.cat(alone))
    assert changed.mean() < 1e-3  # float sums may differ by a bit between batch sizes


def test_random_starts_from_generators_of_images_do_not_depend_on_the_batch() -> None:
    classifier, clean, labels = network(), images(6, 32), torch.arange(6)
    whole = pgd(
        classifier, clean, labels, eps=EPS, steps=1, generator=image_generators(clean, "pgd")
    )
    some = clean[[4, 1]]
    again = pgd(
        classifier, some, labels[[4, 1]], eps=EPS, steps=1, generator=image_generators(some, "pgd")
    )
    torch.testing.assert_close(whole[[4, 1]], again, rtol=0, atol=1e-6)


def test_pgd_is_a_function_of_its_generator() -> None:
    classifier, clean, labels = network(), images(2, 32), torch.arange(2)
    first, same, other = (
        pgd(classifier, clean, labels, eps=EPS, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("attack", ATTACKS)
def test_targeted_raises_the_probability_of_the_target(attack: Attack) -> None:
    classifier, clean, targets = network(), images(8, 32), torch.arange(8)
    adversarial = attack(classifier, clean, targets, eps=EPS, targeted=True)
    before, after = (cross_entropy(classifier(x), targets) for x in (clean, adversarial))
    assert (after < before).all()


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_classifier_comes_back_as_it_was(attack: Attack) -> None:
    classifier = network().train()
    classifier.get_submodule("network.0").eval()
    classifier.get_submodule("network.1").requires_grad_(False)
    modes = [module.training for module in classifier.modules()]
    asking = [parameter.requires_grad for parameter in classifier.parameters()]
    gradients = [torch.randn_like(parameter) for parameter in classifier.parameters()]
    for parameter, gradient in zip(classifier.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    attack(classifier, images(2, 32), torch.tensor([0, 1]), eps=EPS)
    assert [module.training for module in classifier.modules()] == modes
    assert [parameter.requires_grad for parameter in classifier.parameters()] == asking
    for parameter, gradient in zip(classifier.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


def test_the_classifier_comes_back_as_it_was_also_after_an_error() -> None:
    classifier = network().train()
    with pytest.raises(RuntimeError):
        fgsm(classifier, torch.rand(1, 1, 32, 32).expand(1, 5, 32, 32), torch.tensor([0]), eps=EPS)
    assert classifier.training
    assert all(parameter.requires_grad for parameter in classifier.parameters())


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_in_evaluation_mode_while_it_runs(attack: Attack) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.99), nn.Linear(192, 2)).train()
    clean, labels = images(), torch.zeros(4, dtype=torch.int64)
    torch.manual_seed(1)
    first = attack(classifier, clean, labels, eps=EPS)
    torch.manual_seed(1)
    assert torch.equal(first, attack(classifier.eval(), clean, labels, eps=EPS))


@pytest.mark.parametrize("attack", ATTACKS)
def test_parameters_are_frozen_while_an_attack_runs(attack: Attack) -> None:
    classifier = linear()
    asked: list[bool] = []

    def watch(module: nn.Module, x: object) -> None:
        asked.extend(parameter.requires_grad for parameter in module.parameters())

    classifier.register_forward_pre_hook(watch)
    attack(classifier, images(), torch.zeros(4, dtype=torch.int64), eps=EPS)
    assert asked
    assert not any(asked)


def test_an_objective_is_the_sum_over_the_batch_and_its_negative_where_targeted() -> None:
    classifier, clean, labels = network(), images(4, 32), torch.arange(4)
    losses = nn.functional.cross_entropy(classifier(clean), labels, reduction="none")
    for targeted, sign in ((False, 1), (True, -1)):
        climbed = objective(classifier, labels, targeted=targeted)(clean)
        torch.testing.assert_close(climbed, sign * losses.sum())


@pytest.mark.parametrize("attack", ATTACKS)
def test_adversarial_images_are_floats_within_0_and_1(attack: Attack) -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    for eps in (0.0, EPS, 1.0):
        adversarial = attack(linear(), images(), labels, eps=eps)
        assert adversarial.dtype == torch.float32
        assert 0 <= adversarial.amin() <= adversarial.amax() <= 1


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_works_where_gradients_are_off(attack: Attack) -> None:
    with torch.no_grad():
        adversarial = attack(linear(), images(), torch.zeros(4, dtype=torch.int64), eps=EPS)
    assert not adversarial.requires_grad


@pytest.mark.parametrize("attack", DETERMINISTIC)
def test_a_gradient_of_zero_leaves_an_image_finite_and_in_place(attack: Attack) -> None:
    clean = images()
    flat = attack(
        lambda x: x.flatten(1)[:, :2] * 0, clean, torch.zeros(4, dtype=torch.int64), eps=EPS
    )
    assert torch.equal(flat, clean)


def test_momentum_survives_steps_without_a_gradient() -> None:
    """Blind in every second step: a velocity that became NaN would freeze the image."""
    steps = iter(range(10))
    classifier, clean = linear(), images()

    def blinking(x: Tensor) -> Tensor:
        logits: Tensor = classifier(x)
        return logits * (next(steps) % 2)

    labels = torch.zeros(4, dtype=torch.int64)
    found = momentum_iterative_fgsm(blinking, clean, labels, eps=EPS, steps=10)
    # The first step is blind and has no velocity yet; the other nine all move.
    best = momentum_iterative_fgsm(classifier, clean, labels, eps=0.9 * EPS, steps=9)
    torch.testing.assert_close(found, best)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_classifier_that_is_sure_of_itself_is_attacked_all_the_same(attack: Attack) -> None:
    """Its probabilities round to 1 and 0 in float32, and with them the gradient to 0."""
    classifier, clean = linear(), images()
    labels = classifier(clean).argmax(1)

    def sure(x: Tensor) -> Tensor:
        logits: Tensor = classifier(x) * 1e5
        return logits

    assert (cross_entropy(sure(clean), labels) < 1e-6).all()
    expected = attack(classifier, clean, labels, eps=EPS)
    assert (quantise(attack(sure, clean, labels, eps=EPS)) == quantise(expected)).all()


def test_the_steps_of_an_attack_are_those_of_its_paper() -> None:
    """Written out by hand, one image after another, in float64."""
    classifier, clean, labels = network().double(), images(3, 32).double(), torch.arange(3)

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        loss = nn.functional.cross_entropy(classifier(x), labels, reduction="sum")
        return torch.autograd.grad(loss, x)[0]

    plain, moving, velocity = clean, clean, torch.zeros_like(clean)
    for _ in range(10):
        plain = project(plain + EPS / 10 * gradient(plain).sign(), clean, EPS)
        g = gradient(moving)
        velocity = velocity + g / g.abs().mean((1, 2, 3), keepdim=True)
        moving = project(moving + EPS / 10 * velocity.sign(), clean, EPS)
    single = project(clean + EPS * gradient(clean).sign(), clean, EPS)
    assert torch.equal(fgsm(classifier, clean, labels, eps=EPS), single)
    assert torch.equal(iterative_fgsm(classifier, clean, labels, eps=EPS), plain)
    assert torch.equal(momentum_iterative_fgsm(classifier, clean, labels, eps=EPS), moving)


@pytest.mark.parametrize("eps", [16, -0.1, float("nan")])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_budget_in_pixel_levels_is_refused(attack: Attack, eps: float) -> None:
    with pytest.raises(ValueError, match=r"pixel levels / 255"):
        attack(linear(), images(), torch.zeros(4, dtype=torch.int64), eps=eps)


def test_a_loss_of_one_saturated_image_is_still_continuous() -> None:
    gaps = torch.linspace(5, 200, 400).double()
    loss = cross_entropy(
        torch.stack([gaps, -gaps], 1).float(), torch.zeros(400, dtype=torch.int64)
    )
    assert (loss.abs() < 1e-2).all()


@pytest.mark.parametrize("fusion", list(Fusion))
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_ensemble_of_one_is_that_one(attack: Attack, fusion: Fusion) -> None:
    classifier, clean, labels = linear(), images(), torch.tensor([0, 1, 0, 1])
    torch.manual_seed(1)
    alone = attack(classifier, clean, labels, eps=EPS)
    torch.manual_seed(1)
    ensemble = Ensemble([classifier], fusion=fusion)
    assert (quantise(attack(ensemble, clean, labels, eps=EPS)) == quantise(alone)).all()


def test_diverse_inputs_depend_on_the_image_alone() -> None:
    clean = images(6, 32)
    whole = diverse_inputs(clean, eps=EPS)(clean)
    some = diverse_inputs(clean[[4, 1]], eps=EPS)(clean[[4, 1]])
    torch.testing.assert_close(whole[[4, 1]], some, rtol=0, atol=1e-6)
    assert any(not torch.equal(seen, image) for seen, image in zip(whole, clean, strict=True))


def test_a_translation_invariant_gradient_is_the_plain_one_convolved() -> None:
    point = torch.zeros(1, 3, 9, 9)
    point[..., 4, 4] = 1
    blurred = translation_invariant(size=5, sigma=1.0)(lambda x: (x * point).sum(), images(1, 9))
    offsets = torch.arange(9) - 4
    line = torch.exp(-(offsets**2) / 2) * (offsets.abs() <= 2)
    torch.testing.assert_close(blurred[0, 0], torch.outer(line, line) / line.sum() ** 2)
