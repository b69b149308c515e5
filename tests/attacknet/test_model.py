"""The network: within the budget by construction, of any size, and no image sees another."""

from itertools import product

import pytest
import torch
from torch import Tensor

from advcomp.attacknet.network.generator import (
    AdversarialGenerator,
    levels_moved,
    rounded_to_levels,
)
from advcomp.attacknet.network.hint import GradientHint
from advcomp.attacknet.network.model import AttackNetwork, HintLayer, NetworkSpec
from advcomp.attacknet.network.pixel_gradients import PixelGradients
from advcomp.attacknet.recipe import EpsilonInput, HintMode, NetworkTable, OutputForm
from advcomp.players.attack.label_kind import LabelKind
from advcomp.players.attack.objectives import cross_entropy, soft_labels
from advcomp.players.attack.transfer import da_fgsm
from advcomp.players.classifiers import Classifier
from advcomp.players.ensemble import Ensemble
from advcomp.players.image.pixels import quantise
from advcomp.rules.threat import eps_of

LEVELS = (4, 8, 16)


def spec(
    epsilon: EpsilonInput = EpsilonInput.BOTH,
    *,
    widths: tuple[int, ...] = (8, 16),
    stem_stride: int = 1,
    target_labels: tuple[int, ...] | None = None,
    hint: tuple[HintLayer, ...] = (),
    gradients: int = 0,
    output: OutputForm = OutputForm.GATED,
    sharpness: float = 4.0,
    filter_size: int = 1,
) -> NetworkSpec:
    table = NetworkTable(
        epsilon=epsilon,
        widths=widths,
        stem_stride=stem_stride,
        embedding=8,
        output=output,
        sharpness=sharpness,
        filter_size=filter_size,
    )
    return NetworkSpec(
        table=table,
        max_epsilons=LEVELS,
        target_labels=target_labels,
        hint=hint,
        gradients=gradients,
    )


def network(of: NetworkSpec, gain: float = 1.0) -> AttackNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = AttackNetwork(of)
    with torch.no_grad():
        built.last.weight.mul_(gain)
    return built


def images(n: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, 3, height, width), generator=generator).float() / 255


@pytest.mark.parametrize("epsilon", EpsilonInput)
def test_no_rounded_image_leaves_the_budget_even_when_everything_saturates(
    epsilon: EpsilonInput,
) -> None:
    generator = AdversarialGenerator(network(spec(epsilon), gain=1e4))
    clean = images(6, 9, 7)
    for level in (1, *LEVELS, 40):
        eps = torch.full((6,), eps_of(level))
        with torch.no_grad():
            adversarial = generator(clean, eps)
        assert torch.isfinite(adversarial).all()
        levels = quantise(adversarial).astype(int) - quantise(clean).astype(int)
        assert abs(levels).max() == level
        assert levels_moved(clean, adversarial).max().round() == level


@pytest.mark.parametrize(
    ("size", "stride"), list(product([(1, 1), (5, 9), (32, 32), (33, 47)], [1, 2]))
)
def test_images_of_any_size_keep_their_size(size: tuple[int, int], stride: int) -> None:
    net = network(spec(widths=(8, 8, 8), stem_stride=stride))
    with torch.no_grad():
        assert net(images(2, *size), torch.full((2,), 8 / 255)).shape == (2, 3, *size)


@pytest.mark.parametrize("epsilon", EpsilonInput)
def test_an_image_s_perturbation_depends_on_it_and_its_epsilon_alone(
    epsilon: EpsilonInput,
) -> None:
    net = network(spec(epsilon)).double()
    x, eps = images(3, 8, 8).double(), torch.tensor(LEVELS).double() / 255
    together = net(x, eps)
    alone = torch.cat([net(x[i : i + 1], eps[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, net(x, eps.flip(0)))


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_the_network_sees_every_pixel(stride: int) -> None:
    stem = network(spec(stem_stride=stride)).stem
    x = images(1, 24, 36).requires_grad_()
    seen = stem(x)
    assert seen.shape[-2:] == (24 // stride, 36 // stride)
    (gradient,) = torch.autograd.grad(seen.square().sum(), x)
    assert (gradient != 0).all()


def test_the_head_of_the_nearest_epsilon_is_taken() -> None:
    net = network(spec(EpsilonInput.HEADS))
    x = images(1, 8, 8).expand(6, -1, -1, -1)
    p = net(x, torch.tensor([1, 5, 7, 11, 13, 200]) / 255)
    near = net(x, torch.tensor([4, 4, 8, 8, 16, 16]) / 255)
    assert torch.equal(p, near)
    assert not torch.allclose(near[0], near[2])
    assert not torch.allclose(near[2], near[4])


def test_a_target_class_changes_the_perturbation_and_is_needed() -> None:
    net = network(spec(EpsilonInput.HEADS, target_labels=(1, 2, 3)))
    x, eps = images(2, 8, 8), torch.full((2,), 8 / 255)
    one, other = (net(x, eps, targets=torch.tensor(labels)) for labels in ([1, 2], [1, 3]))
    assert torch.equal(one[0], other[0])
    assert not torch.allclose(one[1], other[1])
    with pytest.raises(ValueError, match="target label"):
        net(x, eps)


def test_a_later_pass_stays_within_the_bounds_of_the_one_before() -> None:
    net = network(spec(), gain=1e3)
    x, eps = images(2, 8, 8), torch.full((2,), 8 / 255)
    previous = torch.ones_like(x)
    assert net(x, eps, previous=previous).abs().max() <= 1


def test_recomputing_activations_gives_the_same_gradients() -> None:
    x, eps = images(2, 8, 8), torch.full((2,), 8 / 255)
    gradients = []
    for recompute in (False, True):
        net = network(spec())
        net.recompute = recompute
        gradients.append(torch.autograd.grad(net(x, eps).square().sum(), list(net.parameters())))
    assert all(map(torch.equal, *gradients))


def test_rounding_gives_levels_and_passes_gradients_through() -> None:
    x = torch.tensor([0.0, 0.4999 / 255, 0.5001 / 255, 1.0], requires_grad=True)
    y = rounded_to_levels(x)
    torch.testing.assert_close(255 * y, torch.tensor([0.0, 0.0, 1.0, 255.0]))
    (gradient,) = torch.autograd.grad((y * torch.arange(4.0)).sum(), x)
    assert gradient.tolist() == [0, 1, 2, 3]
    every = torch.arange(256.0) / 255
    assert torch.equal((255 * rounded_to_levels(every)).round(), torch.arange(256.0))


@pytest.mark.parametrize("mode", [HintMode.ONE, HintMode.RECURRENT])
def test_a_hint_reaches_the_network_and_no_gradient_flows_through_it(mode: HintMode) -> None:
    surrogate = Classifier("conv_net", 10).freeze()
    hint = GradientHint(surrogate, ["network.0", "network.2"])
    layers = hint.spec((32, 32), (1, 2, 4))
    assert [layer.level for layer in layers] == [1, 2]
    assert [layer.channels for layer in layers] == [32, 128]
    net = network(spec(widths=(8, 8, 8), hint=layers))
    generator = AdversarialGenerator(net, hint, mode)
    x, eps = images(2, 32, 32), torch.full((2,), 8 / 255)
    gradients = torch.autograd.grad(
        generator(x, eps).square().sum(), list(net.parameters()), allow_unused=True
    )
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)
    told = hint(x.requires_grad_())
    assert not any(each.requires_grad for each in told)
    without = net(x, eps, hints=[torch.zeros_like(each) for each in told])
    assert not torch.allclose(without, net(x, eps, hints=told))


def test_the_second_pass_is_told_the_gradient_at_the_first_one_s_image() -> None:
    """As a dumb loop writes it; a hint at x + p without eps, as in 2017, is another image."""
    hint = GradientHint(Classifier("conv_net", 10).freeze(), ["network.1"])
    net = network(spec(hint=hint.spec((32, 32), (1, 2))))
    x, eps = images(2, 32, 32), torch.tensor([8, 16]) / 255
    first = net(x, eps, hints=hint(x))
    between = (x + eps.view(-1, 1, 1, 1) * first).clamp(0, 1)
    second = net(x, eps, hints=hint(between), previous=first)
    expected = (x + eps.view(-1, 1, 1, 1) * second).clamp(0, 1)
    assert torch.equal(AdversarialGenerator(net, hint, HintMode.RECURRENT)(x, eps), expected)
    assert torch.equal(
        AdversarialGenerator(net, hint, HintMode.RECURRENT)(x, eps, passes=1), between
    )


def test_a_hint_is_the_gradient_of_the_surrogate_s_own_answer() -> None:
    """On a linear layer before the logits the gradient is known: W (softmax - one hot)."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(3, 4)
    surrogate = Classifier("conv_net", 4, label_offset=1, mean=(0, 0, 0), std=(1, 1, 1))
    surrogate.network = torch.nn.Sequential(
        torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), linear
    )
    x = images(2, 1, 1)
    logits = surrogate(x)
    for targets in (None, torch.tensor([1, 2])):
        at = logits.argmax(1) if targets is None else targets - 1
        answer = logits.softmax(1) - torch.nn.functional.one_hot(at, 4)
        gradient = answer @ linear.weight
        (told,) = GradientHint(surrogate, ["network.0"])(x, targets)
        torch.testing.assert_close(
            told[:, 3:, 0, 0], gradient / gradient.abs().mean(1, keepdim=True)
        )
        torch.testing.assert_close(told[:, :3], x / x.abs().mean((1, 2, 3), keepdim=True))


def two_surrogates() -> Ensemble:
    """Whose labels begin at 1."""
    members = [Classifier("conv_net", 10, label_offset=1).freeze() for _ in range(2)]
    return Ensemble(members).double()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("labels", LabelKind)
def test_gradients_by_the_pixel_are_those_of_dual_averaging(count: int, labels: LabelKind) -> None:
    """The sign of their sum is its last step; every image has a budget of its own."""
    surrogates, x = two_surrogates(), images(3, 32, 32).double()
    eps = torch.tensor([4, 8, 16]).double() / 255
    told = PixelGradients(surrogates, count=count, labels=labels)(x, eps)
    assert told.shape == (3, count, 3, 32, 32)
    torch.testing.assert_close(told.abs().mean((2, 3, 4)), torch.ones(3, count).double())
    found = (x + eps.view(-1, 1, 1, 1) * told.sum(1).sign()).clamp(0, 1)
    answer = soft_labels(surrogates, x)
    seen = answer if labels is LabelKind.SOFT else answer.argmax(1)
    for i, radius in enumerate(eps.tolist()):
        rows = slice(i, i + 1)
        expected = da_fgsm(surrogates, x[rows], seen[rows], eps=radius, steps=count)
        torch.testing.assert_close(found[rows], expected)


@pytest.mark.parametrize("count", [1, 2])
def test_gradients_told_apart_are_each_surrogate_s_own(count: int) -> None:
    """Each in its own size; the next ones where the sum of all leads."""
    surrogates, x = two_surrogates(), images(3, 32, 32).double()
    eps = torch.full((3,), 8 / 255).double()
    told = PixelGradients(surrogates, count=count, labels=LabelKind.SOFT, apart=True)
    found = told(x, eps)
    assert found.shape == (3, told.told, 3, 32, 32) == (3, 2 * count, 3, 32, 32)
    answer, at = soft_labels(surrogates, x), x
    for step in range(count):
        for number, member in enumerate(surrogates.members):
            seen = at.clone().requires_grad_(True)
            (g,) = torch.autograd.grad(cross_entropy(member(seen), answer).sum(), seen)
            expected = g / g.abs().mean((1, 2, 3), keepdim=True)
            torch.testing.assert_close(found[:, 2 * step + number], expected)
        at = (x + 8 / 255 * found[:, : 2 * step + 2].sum(1).sign()).clamp(0, 1)


def test_gradients_of_a_targeted_network_lead_to_its_target_labels() -> None:
    surrogates, x = two_surrogates(), images(2, 32, 32).double()
    eps, targets = torch.full((2,), 8 / 255).double(), torch.tensor([1, 10])
    told = PixelGradients(surrogates, count=2, labels=LabelKind.SOFT)(x, eps, targets)
    found = (x + 8 / 255 * told.sum(1).sign()).clamp(0, 1)
    expected = da_fgsm(surrogates, x, targets - 1, eps=8 / 255, steps=2, targeted=True)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("epsilon", EpsilonInput)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_output_begins_as_the_gradients_attack_and_learns_what_is_missing(
    epsilon: EpsilonInput, stride: int
) -> None:
    net = network(
        spec(epsilon, stem_stride=stride, gradients=2, output=OutputForm.RESIDUAL)
    ).double()
    x, eps = images(3, 9, 7).double(), torch.tensor(LEVELS).double() / 255
    told = torch.randn(3, 2, 3, 9, 7, generator=torch.Generator().manual_seed(2)).double()
    p = net(x, eps, gradients=told)
    torch.testing.assert_close(p, torch.tanh(4.0 * told.sum(1)))
    with torch.no_grad():
        net.weights.copy_(torch.tensor([0.5, -2.0]))
        net.last.bias.fill_(0.25)  # type: ignore[union-attr]
    p = net(x, eps, gradients=told)
    torch.testing.assert_close(p, torch.tanh(4.0 * (0.5 * told[:, 0] - 2 * told[:, 1] + 0.25)))
    with torch.no_grad():
        net.last.weight.normal_(generator=torch.Generator().manual_seed(3))
    written = [net(x, eps, gradients=g) for g in (told, told.roll(1, 1))]
    assert not torch.allclose(*written)
    gradients = torch.autograd.grad(written[0].square().sum(), list(net.parameters()))
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


def test_gradients_are_added_through_filters_that_begin_as_nothing() -> None:
    """The sum over a neighbourhood, pixel by pixel and colour by colour."""
    net = network(spec(gradients=2, output=OutputForm.RESIDUAL, filter_size=3)).double()
    x, eps = images(2, 8, 8).double(), torch.full((2,), 8 / 255).double()
    told = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(net(x, eps, gradients=told), torch.tanh(4.0 * told.sum(1)))
    assert isinstance(net.filters, torch.nn.Conv2d)
    with torch.no_grad():  # to each red pixel the second gradient's blue, below on the right
        net.filters.weight[0, 5, 2, 2] = 3.0
    expected = told.sum(1)
    expected[:, 0, :-1, :-1] += 3 * told[:, 1, 2, 1:, 1:]
    torch.testing.assert_close(net(x, eps, gradients=told), torch.tanh(4.0 * expected))


def test_without_layers_gradients_are_added_and_no_more() -> None:
    """Their weights and filters are all that is learnt, and epsilon and image do not matter."""
    of = spec(widths=(), gradients=2, output=OutputForm.RESIDUAL, filter_size=3)
    net = AttackNetwork(of).double()
    assert {name for name, _ in net.named_parameters()} == {"weights", "filters.weight"}
    x = images(2, 5, 8).double()
    told = torch.randn(2, 2, 3, 5, 8, generator=torch.Generator().manual_seed(2)).double()
    p = [
        net(seen, torch.full((2,), eps), gradients=told) for seen, eps in ((x, 0.1), (1 - x, 0.2))
    ]
    assert torch.equal(*p)
    torch.testing.assert_close(p[0], torch.tanh(4.0 * told.sum(1)))
    gradients = torch.autograd.grad(p[0].square().sum(), list(net.parameters()))
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


def test_a_sign_is_the_whole_budget_and_learns_as_the_residual_does() -> None:
    x, eps = images(2, 8, 8).double(), torch.full((2,), 8 / 255).double()
    told = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(2)).double()
    learnt: dict[OutputForm, tuple[Tensor, ...]] = {}
    for output in (OutputForm.RESIDUAL, OutputForm.SIGN):
        net = network(spec(gradients=2, output=output, sharpness=0.5, filter_size=3)).double()
        p = net(x, eps, gradients=told)
        by = torch.autograd.grad((p * x).sum(), [net.weights, net.last.weight])
        learnt[output] = (p.detach(), *by)
    residual, sign = learnt.values()
    assert torch.equal(sign[0], told.sum(1).sign())
    for one, other in zip(residual[1:], sign[1:], strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().sum() > 0


def test_a_residual_output_needs_no_gradients() -> None:
    net = network(spec(output=OutputForm.RESIDUAL))
    x, eps = images(2, 8, 8), torch.full((2,), 8 / 255)
    assert 0 < net(x, eps).abs().max() < 1


@pytest.mark.parametrize("output", OutputForm)
def test_gradients_reach_the_first_layer(output: OutputForm) -> None:
    surrogates = two_surrogates()
    net = network(spec(gradients=2, output=output)).double()
    told = PixelGradients(surrogates, count=2, labels=LabelKind.SOFT)
    generator = AdversarialGenerator(net, gradients=told)
    x, eps = images(2, 32, 32).double(), torch.full((2,), 8 / 255).double()
    adversarial = generator(x, eps)
    (by_stem,) = torch.autograd.grad(adversarial.sum(), net.stem.weight, allow_unused=True)
    if output is OutputForm.GATED:  # a residual one begins with a last layer of zeros
        assert (by_stem[:, 3:] != 0).any()
    p = net(x, eps, gradients=told(x, eps))
    torch.testing.assert_close(adversarial, (x + 8 / 255 * p).clamp(0, 1))
    assert levels_moved(x, adversarial).max().round() <= 8
