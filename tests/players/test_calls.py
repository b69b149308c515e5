"""What every attack and every defense refuses, and what it makes of nothing."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.attack_cases import (
    CLASSES,
    EPS,
    NO_IMAGES,
    UNTARGETED_ONLY,
    attack,
    images,
    network,
    two_way,
)
from torch import Tensor, nn

from advcomp.players.attack_catalogue import ATTACKS
from advcomp.players.classifier.answers import CheckedModel
from advcomp.players.classifiers import Classifier
from advcomp.players.defense.smoothing import certify, predict
from advcomp.players.defense_catalogue import DEFENSES, LibraryDefense
from advcomp.players.defenses import bit_depth, jpeg, median_filter, total_variation, wavelet
from advcomp.players.ensemble import Ensemble, Fusion

LABELS = torch.tensor([0, 1, 0, 1])
GRADIENT = [name for name in ATTACKS if name != "universal"]
FEW: dict[str, dict[str, Any]] = {
    "random_resize_pad": {},
    "random_crops": {"draws": 2},
    "random_barrage": {"draws": 2},
    "smoothed": {"draws": 2},
}
Named = namedtuple("Named", ["logits", "aux_logits"])
Wrap = Callable[[Tensor], object]


def brightness(x: Tensor) -> Tensor:
    """Logits of three classes, of images of any size."""
    level = x.mean((1, 2, 3))
    return torch.stack([level, 1 - level, level * 2 - 0.5], 1)


def broken_at(where: str) -> Callable[[Tensor], Tensor]:
    """A linear classifier with something in the logits of dark images that is no number."""
    classifier, value = two_way(), float(where.removesuffix(" gradient"))

    def broken(x: Tensor) -> Tensor:
        logits: Tensor = classifier(x)
        dark = (x.mean((1, 2, 3)) < 0.4).unsqueeze(1)
        if where.endswith("gradient"):
            return logits + torch.where(dark, (0 * x.sum((1, 2, 3))).sqrt().unsqueeze(1), 0)
        return torch.where(dark, value, logits)

    return broken


def half_dark() -> Tensor:
    clean = images() * 0.2 + 0.6
    clean[1] -= 0.5
    return clean


@pytest.mark.parametrize("name", ATTACKS)
def test_all_attacks_are_called_alike(name: str) -> None:
    """Without the tensors that some take besides; a batch of one class, too."""
    classifier, clean = two_way(), images()
    for labels in (LABELS, torch.zeros_like(LABELS)):
        found = ATTACKS[name](classifier, clean, labels, eps=EPS)
        assert 0 < (found - clean).abs().amax() <= EPS + 1e-6
    if name not in UNTARGETED_ONLY:
        found = ATTACKS[name](classifier, clean, 1 - LABELS, eps=EPS, targeted=True)
        towards = classifier(found).gather(1, 1 - LABELS.unsqueeze(1))
        assert (towards > classifier(clean).gather(1, 1 - LABELS.unsqueeze(1))).all()


@pytest.mark.parametrize("name", ["admix", "universal"])
def test_an_attack_without_its_tensors_makes_do_with_the_batch(name: str) -> None:
    """Which is what it would do with the batch as its tensors, or with what is fitted to it."""
    from advcomp.players.attack.universal import fit_universal

    classifier, clean = two_way(), images()
    given: dict[str, Tensor] = {"pool": clean, "pool_labels": LABELS}
    if name == "universal":
        given = {"perturbations": fit_universal(classifier, clean, LABELS, eps=EPS)}
    found = ATTACKS[name](classifier, clean, LABELS, eps=EPS)
    assert torch.equal(found, ATTACKS[name](classifier, clean, LABELS, eps=EPS, **given))


def test_half_a_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="pool and pool_labels together"):
        ATTACKS["admix"](two_way(), images(), LABELS, eps=EPS, pool=images())


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32])
@pytest.mark.parametrize("name", ATTACKS)
def test_labels_may_be_integers_of_any_kind(name: str, kind: torch.dtype) -> None:
    classifier, clean = two_way(), images()
    run = attack(name, classifier)
    expected = run(clean, LABELS, eps=EPS)
    assert torch.equal(run(clean, LABELS.to(kind), eps=EPS), expected)


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (torch.tensor([1, 2, 5, 3]), r"0 to 4; got 1 to 5; labels that count from 1"),
        (torch.tensor([0, -1, 0, 1]), r"0 to 4; got -1 to 1; is it a model of"),
        (torch.tensor([0, 1, 5, 3]), r"0 to 4; got 0 to 5; is it a model of these classes"),
        (torch.tensor([0.0, 1.0, 0.0, 1.0]), r"got float32 \(4,\)"),
        (torch.tensor([0, 1, 0]), r"got int64 \(3,\)"),
        (torch.eye(4, CLASSES, dtype=torch.int64), r"got int64 \(4, 5\)"),
        (torch.full((4, CLASSES), 0.3), r"rows are at least 0 and sum to 1"),
        (torch.tensor([[1.5, -0.5, 0, 0, 0]]).repeat(4, 1), r"rows are at least 0 and sum to 1"),
        ([0, 1, 0, 1], r"got list; torch.as_tensor"),
        (np.array([0, 1, 0, 1]), r"got ndarray; torch.as_tensor"),
    ],
)
@pytest.mark.parametrize("name", GRADIENT)
def test_labels_that_are_no_classes_are_refused(name: str, labels: Any, got: str) -> None:
    run = attack(name, two_way())
    with pytest.raises(ValueError, match=rf"^labels: expected .*{got}"):
        run(images(), labels, eps=EPS)


@pytest.mark.parametrize("fusion", list(Fusion))
def test_an_ensemble_refuses_labels_that_are_no_classes(fusion: Fusion) -> None:
    ensemble = Ensemble([two_way(), two_way()], fusion=fusion)
    with pytest.raises(ValueError, match="labels that count from 1"):
        ATTACKS["fgsm"](ensemble, images(), LABELS + 4, eps=EPS)


def test_targets_without_a_perturbation_of_their_own_are_refused() -> None:
    with pytest.raises(ValueError, match="0 to 1; got 1 to 2; labels that count from 1"):
        ATTACKS["universal"](
            two_way(),
            images(),
            LABELS + 1,
            eps=EPS,
            targeted=True,
            perturbations=torch.zeros(2, 3, 8, 8),
        )


@pytest.mark.parametrize(("clean", "got"), NO_IMAGES)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_refuses_what_are_no_images(name: str, clean: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"^images: expected .*\[0, 1\].*{got}"):
        ATTACKS[name](two_way(), clean, LABELS, eps=EPS)


@pytest.mark.parametrize(("clean", "got"), NO_IMAGES)
@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_refuses_what_are_no_images(name: str, clean: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"^images: expected .*\[0, 1\].*{got}"):
        DEFENSES[name](brightness, clean)


@pytest.mark.parametrize(("clean", "got"), NO_IMAGES)
@pytest.mark.parametrize(
    "function",
    [bit_depth, median_filter, jpeg, total_variation, wavelet],
    ids=lambda f: f.__name__,
)
def test_a_filter_alone_refuses_what_are_no_images(
    function: Callable[[Tensor], Tensor], clean: Any, got: str
) -> None:
    with pytest.raises(ValueError, match=rf"^images: expected .*\[0, 1\].*{got}"):
        function(clean)


@pytest.mark.parametrize("name", ATTACKS)
def test_images_that_rounding_carried_beyond_1_are_taken(name: str) -> None:
    clean = images().index_fill(2, torch.tensor([0]), 1 + 1e-6)
    assert attack(name, two_way())(clean, LABELS, eps=EPS).amax() <= 1


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ATTACKS)
def test_of_no_images_an_attack_makes_none(name: str, kind: torch.dtype) -> None:
    def unasked(x: Tensor) -> Tensor:
        raise AssertionError("there is nothing to ask")

    found = ATTACKS[name](unasked, images(0).to(kind), LABELS[:0], eps=EPS)
    assert (found.shape, found.dtype) == ((0, 3, 8, 8), kind)
    with pytest.raises(ValueError, match="eps"):
        ATTACKS[name](unasked, images(0), LABELS[:0], eps=16)


@pytest.mark.parametrize("eps", [16, -0.1, float("nan"), "8/255", None, [0.1]])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "autopgd_ce", "universal"])
def test_what_is_no_budget_is_refused(name: str, eps: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected eps on the \[0, 1\] scale"):
        ATTACKS[name](two_way(), images(), LABELS, eps=eps)


@pytest.mark.parametrize("name", GRADIENT)
def test_a_model_without_a_gradient_is_told(name: str) -> None:
    model = two_way()
    for blind in (torch.no_grad()(model), lambda x: model(x).detach()):
        with pytest.raises(ValueError, match=r"^model: expected logits with a gradient .*no_grad"):
            attack(name, blind)(images(), LABELS, eps=EPS)


@pytest.mark.parametrize("name", DEFENSES)
def test_of_no_images_a_defense_says_nothing(name: str) -> None:
    given = FEW.get(name, {})
    scores, some = (DEFENSES[name](brightness, images(n, 32), **given) for n in (0, 2))
    assert (scores.shape, scores.dtype) == ((0, 3), some.dtype)
    classifiers = Ensemble([network()])
    found = LibraryDefense(defended=DEFENSES[name], classifiers=classifiers).labels(images(0, 32))
    assert (found.shape, found.dtype) == ((0,), torch.int64)


def test_of_no_images_nothing_is_certified() -> None:
    none = images(0, 32)
    assert predict(brightness, none, sigma=0.25, draws=2).shape == (0,)
    certificates = certify(brightness, none, sigma=0.25, selection_draws=2, draws=2)
    assert (certificates.classes.shape, certificates.radii.shape) == ((0,), (0,))


@pytest.mark.parametrize("where", ["nan", "inf", "-inf", "nan gradient"])
@pytest.mark.parametrize("name", GRADIENT)
def test_an_attack_tells_what_is_no_number(name: str, where: str) -> None:
    """In one image of four; it would come back as it was, and nobody would know."""
    run = attack(name, broken_at(where))
    with pytest.raises(ValueError, match=r"^model: expected finite logits.*got NaN or infinity"):
        run(half_dark(), LABELS, eps=EPS)


@pytest.mark.parametrize("where", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_tells_what_is_no_number(name: str, where: str) -> None:
    def broken(x: Tensor) -> Tensor:
        dark = (x.mean((1, 2, 3)) < 0.4).unsqueeze(1)
        return torch.where(dark, float(where), brightness(x))

    with pytest.raises(ValueError, match=r"^model: expected finite logits.*got NaN or infinity"):
        DEFENSES[name](broken, half_dark(), **FEW.get(name, {}))


def test_a_defense_of_another_package_is_held_to_numbers() -> None:
    defense = LibraryDefense(
        defended=lambda model, x: model(x) * torch.nan, classifiers=Ensemble([network()])
    )
    with pytest.raises(ValueError, match="got NaN or infinity for some of 2 images"):
        defense.labels(images(2, 32))


@pytest.mark.parametrize("where", ["nan", "inf"])
def test_smoothing_certifies_no_answer_that_is_no_number(where: str) -> None:
    def broken(x: Tensor) -> Tensor:
        return brightness(x) * float(where)

    for function in (predict, certify):
        with pytest.raises(ValueError, match="got NaN or infinity"):
            function(broken, images(2, 32), sigma=0.25, draws=2)


def test_a_single_class_may_have_no_chance() -> None:
    def impossible(x: Tensor) -> Tensor:
        logits: Tensor = classifier(x)
        return torch.cat([logits, torch.full_like(logits[:, :1], -torch.inf)], 1)

    classifier, clean = two_way(), images()
    found = ATTACKS["mi_fgsm"](impossible, clean, LABELS, eps=EPS)
    assert torch.equal(found, ATTACKS["mi_fgsm"](classifier, clean, LABELS, eps=EPS))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: {"logits": logits, "hidden": None},
        lambda logits: OrderedDict(loss=None, logits=logits),
        lambda logits: Named(logits, None),
        lambda logits: SimpleNamespace(logits=logits),
    ],
)
def test_answers_that_name_their_logits_are_taken(wrap: Wrap) -> None:
    classifier, clean = two_way(), images()

    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> object:
            return wrap(classifier(x))

    for model in (Wrapped(), Ensemble([Wrapped()])):
        found = ATTACKS["mi_fgsm"](model, clean, LABELS, eps=EPS)
        assert torch.equal(found, ATTACKS["mi_fgsm"](classifier, clean, LABELS, eps=EPS))
        assert torch.equal(DEFENSES["jpeg"](model, clean), DEFENSES["jpeg"](classifier, clean))


def test_torchvisions_inception_is_taken_also_with_its_auxiliary_logits() -> None:
    classifier = Classifier("torchvision/googlenet", 3, input_size=(32, 32)).train()
    assert classifier(images(2, 32)).shape == (2, 3)
    assert ATTACKS["fgsm"](classifier, images(2, 32), LABELS[:2], eps=EPS).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("wrap", "got"),
    [
        (lambda logits: (logits, logits), r"got a tuple of 2; wrap it .*model\(x\)\[0\]"),
        (lambda logits: [logits], "got a list of 1"),
        (
            lambda logits: {"out": logits},
            r"got dict with the keys out; wrap .*model\(x\)\['out'\]$",
        ),
        (lambda logits: {"logits": None}, "got dict with the keys logits$"),
        (lambda logits: logits.detach().numpy(), "got ndarray$"),
        (lambda logits: logits.argmax(1), r"got int64 \(4,\)"),
        (lambda logits: logits[:, 0], r"got float32 \(4,\)"),
        (lambda logits: logits[:2], r"got float32 \(2, 5\)"),
        (lambda logits: logits[..., None, None], r"got float32 \(4, 5, 1, 1\)"),
        (lambda logits: logits[:, :1], r"two classes.*got float32 \(4, 1\)"),
    ],
)
def test_answers_that_are_no_logits_are_refused(wrap: Wrap, got: str) -> None:
    classifier = two_way()

    def model(x: Tensor) -> Any:
        return wrap(classifier(x))

    for name in GRADIENT:
        with pytest.raises(ValueError, match=rf"^model: expected .*{got}"):
            attack(name, model)(images(), LABELS, eps=EPS)
    for name in ("plain", "jpeg", "random_crops"):
        with pytest.raises(ValueError, match=rf"^model: expected .*{got}"):
            DEFENSES[name](model, images())


def test_a_model_without_a_fault_reports_none() -> None:
    asked = CheckedModel(brightness)
    asked.report()
    asked(images())
    asked.report()
