"""What holds for every attack of the library, whatever it does on the way."""

from inspect import Parameter, signature

import numpy as np
import pytest
import torch
from support.attack_cases import (
    CLASSES,
    EPS,
    EXACT,
    QUICK,
    RANDOM,
    UNTARGETED_ONLY,
    attack,
    images,
    network,
    two_way,
    weight_of,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from advcomp.players.attack.objectives import cross_entropy, margin, soft_labels
from advcomp.players.attack_catalogue import ATTACKS
from advcomp.players.ensemble import Ensemble, Fusion
from advcomp.players.image.pixels import project_to_ball, quantise
from advcomp.rules.images import decode_png, encode_png
from advcomp.rules.threat import eps_of

EVERY = list(ATTACKS)
GRADIENT = [name for name in EVERY if name != "universal"]
TARGETED = [name for name in EVERY if name not in UNTARGETED_ONLY]
LABELS = torch.tensor([0, 1, 0, 1])


def loss(name: str, classifier: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """What an attack maximises, up to scale."""
    return (margin if "dlr" in name else cross_entropy)(classifier(x), labels)


@pytest.mark.parametrize("name", EVERY)
def test_settings_are_given_by_name_and_all_else_either_way(name: str) -> None:
    kinds = [(each.name, each.kind) for each in signature(ATTACKS[name]).parameters.values()]
    first, rest = kinds[:3], kinds[3:]
    assert first[0][1] == first[1][1] == first[2][1] == Parameter.POSITIONAL_OR_KEYWORD
    assert [each for each, _ in first][1:] == ["clean", "labels"]
    assert {kind for _, kind in rest} <= {Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD}


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("name", [name for name in GRADIENT if name != "di_ti_si_mi_fgsm"])
def test_an_attack_finds_the_best_perturbation_of_a_linear_classifier(
    name: str, targeted: bool
) -> None:
    if targeted and name in UNTARGETED_ONLY:
        pytest.skip("has no targeted form")
    classifier, clean = two_way(), images()
    weight = weight_of(classifier)
    if name == "tsail":
        # It leaves pixels alone that matter little.
        weight = (weight / weight.std(correction=0)).round()
    if name == "ti_fgsm":
        # It follows the blurred gradient.
        offsets = torch.arange(-2, 3)
        line = torch.exp(-((3 * offsets / 2) ** 2) / 2)
        kernel = torch.outer(line, line).expand(3, 1, 5, 5)
        weight = nn.functional.conv2d(weight, kernel, padding=2, groups=3)
    away = torch.where(LABELS.view(-1, 1, 1, 1) == 0, -weight.sign(), weight.sign())
    best = project_to_ball(clean + EPS * (-away if targeted else away), clean, EPS)
    found = attack(name, classifier)(
        clean, LABELS, eps=EPS, targeted=targeted, **EXACT.get(name, {})
    )
    assert (quantise(found) == quantise(best)).all()


@pytest.mark.parametrize("name", EVERY)
def test_the_budget_holds_exactly_after_the_round_trip_through_png(name: str) -> None:
    clean = images()
    run = attack(name, two_way())
    for max_epsilon in (0, 1, 2, 7, 16, 100, 255):
        adversarial = run(clean, LABELS, eps=eps_of(max_epsilon))
        before = quantise(clean).astype(int)
        written = [encode_png(levels) for levels in quantise(adversarial)]
        after = np.stack([decode_png(data, 8, 8) for data in written]).astype(int)
        moved = abs(after - before).max()
        assert moved == max_epsilon if max_epsilon <= 16 else moved <= max_epsilon


@pytest.mark.parametrize("name", EVERY)
def test_an_image_does_not_depend_on_its_neighbours(name: str) -> None:
    classifier, clean, labels = network().double(), images(6, 32).double(), torch.arange(6)
    run = attack(name, classifier, 32)
    whole = run(clean, labels, eps=EPS)
    order = [4, 1, 5, 0, 3, 2]
    parts = [run(clean[part], labels[part], eps=EPS) for part in (order[:1], order[1:])]
    assert (quantise(whole[order]) == quantise(torch.cat(parts))).all()


@pytest.mark.parametrize("name", EVERY)
def test_an_attack_is_a_function_of_its_arguments(name: str) -> None:
    classifier, clean, labels = network(), images(2, 32), torch.arange(2)
    run = attack(name, classifier, 32)
    before = torch.get_rng_state()
    first = run(clean, labels, eps=EPS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(run(clean, labels, eps=EPS), first)


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_another_seed_gives_other_images(name: str) -> None:
    classifier, clean, labels = network(), images(2, 32), torch.arange(2)
    run = attack(name, classifier, 32)
    first, other = (run(clean, labels, eps=EPS, seed=seed) for seed in (1, 2))
    assert all(not torch.equal(*pair) for pair in zip(first, other, strict=True))


@pytest.mark.parametrize("name", TARGETED)
def test_targeted_lowers_the_loss_at_the_target_and_untargeted_raises_it(name: str) -> None:
    classifier, clean = network(), images(8, 32)
    seen, targets = classifier(clean).topk(2).indices.unbind(1)
    run = attack(name, classifier, 32)
    to = run(clean, targets, eps=EPS, targeted=True)
    away = run(clean, seen, eps=EPS)
    assert (loss(name, classifier, to, targets) < loss(name, classifier, clean, targets)).all()
    assert (loss(name, classifier, away, seen) > loss(name, classifier, clean, seen)).all()


@pytest.mark.parametrize("name", EVERY)
def test_soft_labels_that_leave_no_doubt_are_classes(name: str) -> None:
    classifier, clean, labels = network().double(), images(3, 32).double(), torch.arange(3)
    state = torch.get_rng_state()
    expected = attack(name, classifier, 32)(clean, labels, eps=EPS)
    torch.set_rng_state(state)
    certain = nn.functional.one_hot(labels, 10).double()
    found = attack(name, classifier, 32)(clean, certain, eps=EPS)
    assert (quantise(found) == quantise(expected)).mean() > 0.999


@pytest.mark.parametrize("name", [name for name in TARGETED if name != "universal"])
def test_soft_labels_are_nowhere_to_go(name: str) -> None:
    classifier, clean = two_way(), images()
    with pytest.raises(ValueError, match=r"got soft labels \(4, 5\)"):
        attack(name, classifier)(clean, soft_labels(classifier, clean), eps=EPS, targeted=True)


@pytest.mark.parametrize("name", sorted(UNTARGETED_ONLY))
def test_an_attack_without_a_targeted_form_refuses_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        attack(name, two_way())(images(), LABELS, eps=EPS, targeted=True)


@pytest.mark.parametrize("name", EVERY)
def test_the_classifier_comes_back_as_it_was(name: str) -> None:
    classifier = network().train()
    classifier.get_submodule("network.0").eval()
    classifier.get_submodule("network.1").requires_grad_(False)
    modes = [module.training for module in classifier.modules()]
    asking = [parameter.requires_grad for parameter in classifier.parameters()]
    gradients = [torch.randn_like(parameter) for parameter in classifier.parameters()]
    for parameter, gradient in zip(classifier.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    attack(name, classifier, 32)(images(2, 32), torch.tensor([0, 1]), eps=EPS)
    assert [module.training for module in classifier.modules()] == modes
    assert [parameter.requires_grad for parameter in classifier.parameters()] == asking
    for parameter, gradient in zip(classifier.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("name", GRADIENT)
def test_the_classifier_comes_back_as_it_was_also_after_an_error(name: str) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(7, CLASSES)).train()
    with pytest.raises(RuntimeError):
        attack(name, classifier)(images(), LABELS, eps=EPS)
    assert all(module.training for module in classifier.modules())
    assert all(parameter.requires_grad for parameter in classifier.parameters())


@pytest.mark.parametrize("name", GRADIENT)
def test_a_classifier_is_in_evaluation_mode_and_frozen_while_an_attack_runs(name: str) -> None:
    classifier = nn.Sequential(*two_way(), nn.Dropout(0.99)).train()
    watched: list[bool] = []

    def watch(module: nn.Module, x: object) -> None:
        watched.extend(parameter.requires_grad for parameter in module.parameters())
        watched.append(module.training)

    classifier.register_forward_pre_hook(watch)
    attack(name, classifier)(images(), LABELS, eps=EPS)
    assert watched
    assert not any(watched)


@pytest.mark.parametrize("name", EVERY)
def test_adversarial_images_are_plain_floats_within_0_and_1(name: str) -> None:
    clean, run = images(), attack(name, two_way())
    for eps in (0.0, EPS, 1.0):
        with torch.no_grad():
            adversarial = run(clean, LABELS, eps=eps)
        assert adversarial.dtype == torch.float32
        assert 0 <= adversarial.amin() <= adversarial.amax() <= 1
        assert not adversarial.requires_grad


@pytest.mark.parametrize("asking", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_the_clean_images_are_left_alone(name: str, asking: bool) -> None:
    clean = images().requires_grad_(asking)
    copy = clean.clone()
    found = attack(name, two_way())(clean, LABELS, eps=EPS)
    assert torch.equal(clean, copy)
    assert clean.requires_grad is asking
    assert clean.grad is None
    assert not found.requires_grad


@pytest.mark.parametrize("shape", [(8, 13), (13, 8), (1, 1)])
@pytest.mark.parametrize("name", EVERY)
def test_an_attack_takes_images_of_any_shape(name: str, shape: tuple[int, int]) -> None:
    clean = torch.rand(4, 3, *shape)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(clean[0].numel(), CLASSES))
    given = QUICK[name]
    if name == "admix":
        given = given | {"pool": clean.flip(0), "pool_labels": torch.arange(4)}
    if name == "universal":
        given = {"perturbations": torch.full_like(clean[:1], -1)}
    found = ATTACKS[name](classifier, clean, LABELS, eps=EPS, **given)
    moved = (found - clean).abs().flatten(1).amax(1)
    torch.testing.assert_close(moved, torch.full_like(moved, EPS))


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("name", GRADIENT)
def test_of_no_images_an_attack_makes_none(name: str) -> None:
    run = attack(name, two_way())
    assert run(images(0), LABELS[:0], eps=EPS).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("name", GRADIENT)
def test_an_attack_says_why_it_needs_more_than_inference_mode(name: str) -> None:
    run, clean = attack(name, two_way()), images()
    with torch.inference_mode(), pytest.raises(RuntimeError, match="an attack needs gradients"):
        run(clean, LABELS, eps=EPS)


@pytest.mark.parametrize("name", GRADIENT)
def test_an_image_without_a_gradient_stays_finite_and_stops_no_other(name: str) -> None:
    classifier, clean = two_way(), images(3)

    def flat_where_dark(x: Tensor) -> Tensor:
        """Looks at the third image alone: the others are darker than any perturbation of it."""
        logits: Tensor = classifier(x)
        return logits * (x.amax((1, 2, 3)) > 0.5).unsqueeze(1)

    clean[:2] *= 0.1
    clean[2, :, 0, 0] = 1
    labels = torch.zeros(3, dtype=torch.int64)
    run = attack(name, flat_where_dark)
    together, alone = run(clean, labels, eps=EPS), run(clean[2:], labels[2:], eps=EPS)
    assert torch.isfinite(together).all()
    assert torch.equal(together[2:], alone)
    assert not torch.equal(alone, clean[2:])
    if name not in {"pgd", "autopgd_ce", "autopgd_dlr", "autopgd_targets"}:
        assert torch.equal(together[:2], clean[:2])


@pytest.mark.parametrize("name", [name for name in GRADIENT if "dlr" not in name])
def test_a_classifier_that_is_sure_of_itself_is_attacked_all_the_same(name: str) -> None:
    """Its probabilities round to 1 and 0 in float32, and with them the gradient to 0."""
    classifier, clean = two_way(), images()
    labels = classifier(clean).argmax(1)

    def sure(x: Tensor) -> Tensor:
        logits: Tensor = classifier(x) * 1e5
        return logits

    assert (cross_entropy(sure(clean), labels) < 1e-6).all()
    found = attack(name, sure)(clean, labels, eps=EPS)
    assert (
        cross_entropy(classifier(found), labels) > cross_entropy(classifier(clean), labels)
    ).all()


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("eps", [16, -0.1, float("nan")])
def test_a_budget_in_pixel_levels_is_refused(name: str, eps: float) -> None:
    with pytest.raises(ValueError, match=r"pixel levels / 255"):
        attack(name, two_way())(images(), LABELS, eps=eps)


FUSIONS = [
    *(Fusion.LOGITS, Fusion.PROBABILITIES, Fusion.LOSSES),
    pytest.param(Fusion.GRADIENTS, marks=pytest.mark.long),  # tests/players/test_ensemble.py
]


SUMMED = {"si_fgsm", "si_ni_fgsm", "di_ti_si_mi_fgsm", "admix", "ssa", "bsr", "universal"}
SUMMED |= {"vmi_fgsm", "vni_fgsm", "pgn"}
"""Step along a sum of gradients. Fused in gradients each of them counts alike, so that even a lone
classifier is attacked in another way than as it is."""


def lone(name: str, classifier: nn.Module, fusion: Fusion) -> nn.Module:
    """What an attack finds the same on as on an ensemble of one."""
    if fusion is Fusion.GRADIENTS and name in SUMMED:
        return Ensemble([classifier, classifier], fusion=fusion).double()
    return classifier


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("name", EVERY)
def test_an_ensemble_of_one_is_that_one(name: str, fusion: Fusion) -> None:
    classifier, clean, labels = network().double(), images(2, 32).double(), torch.arange(2)
    state = torch.get_rng_state()
    alone = attack(name, lone(name, classifier, fusion), 32)(clean, labels, eps=EPS)
    torch.set_rng_state(state)
    one = attack(name, Ensemble([classifier], fusion=fusion).double(), 32)
    assert (quantise(one(clean, labels, eps=EPS)) == quantise(alone)).mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("name", EVERY)
def test_weights_of_an_ensemble_decide_whom_an_attack_fools(name: str, fusion: Fusion) -> None:
    """A member of weight 0 changes nothing; weights that differ give other images.

    In float64, since signs of gradients near 0 depend on how sums are rounded.
    """
    members = [network().double(), network().double()]
    clean, labels = images(2, 32).double(), torch.arange(2)
    state = torch.get_rng_state()
    found = []
    for weights in ([1.0, 0.0], [1.0, 1.0], [0.0, 1.0]):
        torch.set_rng_state(state)
        run = attack(name, Ensemble(members, weights=weights, fusion=fusion).double(), 32)
        found.append(quantise(run(clean, labels, eps=EPS)))
    torch.set_rng_state(state)
    first = lone(name, members[0], fusion)
    alone = quantise(attack(name, first, 32)(clean, labels, eps=EPS))
    assert (found[0] == alone).mean() > 0.99
    assert all((found[i] != found[j]).mean() > 0.01 for i, j in ((0, 1), (1, 2), (0, 2)))


@pytest.mark.parametrize("name", EVERY)
def test_an_attack_works_in_bfloat16_autocast_and_with_channels_last(name: str) -> None:
    classifier = network().to(memory_format=torch.channels_last)
    clean = images(2, 32).contiguous(memory_format=torch.channels_last)
    seen = classifier(clean).argmax(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adversarial = attack(name, classifier, 32)(clean, seen, eps=EPS)
    assert adversarial.dtype == torch.float32
    assert abs(quantise(adversarial).astype(int) - quantise(clean)).max() == 16
    assert (loss(name, classifier, adversarial, seen) > loss(name, classifier, clean, seen)).all()


class HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often a number of a tensor is asked for, for which a GPU's host must wait."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func.overloadpacket in {
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.masked_select,
        }
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    # The sizes and places of diverse inputs are drawn on the CPU, and wait for no GPU.
    "name",
    [name for name in GRADIENT if name not in {"fgsm", "tsail", "di_fgsm", "di_ti_si_mi_fgsm"}],
)
def test_no_step_of_an_attack_waits_for_a_number(name: str) -> None:
    clean, counts = images(), []
    for steps in (1, 3):
        run = attack(name, two_way())
        with HostReads() as reads:
            run(clean, LABELS, eps=EPS, steps=steps)
        counts.append(reads.count)
    assert counts[0] == counts[1]
