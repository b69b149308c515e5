"""What tests of attacks share: images, classifiers with a known answer, attacks by name."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advcomp.players.attack.universal import fit_universal
from advcomp.players.attack_catalogue import ATTACKS, AttackFunction, settings_of
from advcomp.players.classifiers import Classifier
from advcomp.players.image.pixels import to_float

EPS = 16 / 255
CLASSES = 5
UNTARGETED_ONLY = {"autopgd_targets"}

_FEW: dict[str, dict[str, Any]] = {
    "admix": {"mixtures": 2, "copies": 2},
    "bsr": {"samples": 2},
    "di_ti_si_mi_fgsm": {"copies": 2},
    "pgn": {"samples": 2},
    "ssa": {"samples": 2},
    "vmi_fgsm": {"samples": 2},
    "vni_fgsm": {"samples": 2},
}

QUICK: dict[str, dict[str, Any]] = {
    name: ({"steps": 4} if "steps" in settings_of(ATTACKS[name]) else {}) | _FEW.get(name, {})
    for name in ATTACKS
}
"""Fewer samples and steps than the papers', for tests that do not depend on them."""

RANDOM = {
    *("pgd", "di_fgsm", "di_ti_si_mi_fgsm", "admix", "vmi_fgsm", "vni_fgsm", "ssa", "pgn", "bsr"),
    *("autopgd_ce", "autopgd_dlr", "autopgd_targets"),
}
"""The attacks that take a seed."""

EXACT: dict[str, dict[str, Any]] = {
    "di_fgsm": {"probability": 0.0},
    "ssa": {"spread": 0.0, "sigma": 0.0},
    "bsr": {"blocks": 1, "degrees": 0.0},
    "pi_fgsm": {"steps": 10},
}
"""Settings under which the classifier sees the image as it is, where an attack alters it, and
those under which what a pixel passes on never outweighs its own step."""


def images(n: int = 4, side: int = 8) -> Tensor:
    return to_float(torch.randint(256, (n, side, side, 3), dtype=torch.uint8).numpy())


def two_way(side: int = 8) -> nn.Sequential:
    """Linear; class 0 minus class 1 is a weight for every pixel, and no other class matters."""
    layer = nn.Linear(3 * side * side, CLASSES)
    with torch.no_grad():
        layer.weight[1] = -layer.weight[0]
        layer.weight[2:] = 0
        layer.bias[:] = torch.tensor([0.0, 0.0, -50.0, -51.0, -52.0])
    return nn.Sequential(nn.Flatten(), layer)


def weight_of(classifier: nn.Sequential, side: int = 8) -> Tensor:
    """What raises class 0 over class 1, (1, 3, side, side)."""
    return classifier.get_parameter("1.weight")[0].detach().view(1, 3, side, side)


def network() -> Classifier:
    return Classifier("conv_net", 10)


def attack(name: str, classifier: Callable[[Tensor], Tensor], side: int = 8) -> AttackFunction:
    """An attack with quick settings, and with the tensors it needs for images of a size."""
    given = QUICK[name]
    if name == "admix":
        pool_labels = torch.arange(CLASSES).repeat(2)
        given = given | {"pool": images(2 * CLASSES, side), "pool_labels": pool_labels}
    if name == "universal":
        return partial(_universal, classifier, images(8, side))
    return partial(ATTACKS[name], classifier, **given)


def _universal(
    classifier: Callable[[Tensor], Tensor],
    training: Tensor,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    targeted: bool = False,
) -> Tensor:
    """Fitted first, on other images than those attacked."""
    training = training.to(clean)
    seen = classifier(training).argmax(1)
    classes = int(labels.max()) + 2 if targeted else None
    fitted = fit_universal(classifier, training, seen, eps=eps, classes=classes)
    return ATTACKS["universal"](
        classifier, clean, labels, eps=eps, perturbations=fitted, targeted=targeted
    )


NO_IMAGES: list[tuple[Any, str]] = [
    (images() * 255, "got .* to 2"),
    (images() * 2 - 1, "got -.* to "),
    (images() + 1, "got 1.* to (2|1.9)"),
    (images().index_fill(2, torch.tensor([0]), 1 + 1e-3), "to 1.001"),
    (images().index_fill(2, torch.tensor([0]), -1e-3), "got -0.001 to"),
    (torch.full((4, 3, 8, 8), float("nan")), "got nan to nan"),
    (images().index_fill(0, torch.tensor([2]), float("inf")), "to inf"),
    ((images() * 255).byte(), r"got uint8 \(4, 3, 8, 8\); of levels"),
    (images()[0], r"got float32 \(3, 8, 8\)"),
    (images().numpy(), "got ndarray"),
]
"""What all that take images refuse, and what they say they got."""
