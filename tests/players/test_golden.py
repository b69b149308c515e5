"""Stored outputs of torchattacks 3.5.1 (torch 2.15, CPU), which measured as an oracle.

`golden/torchattacks-3.5.1.npz` holds a small network's weights, six images, and what FGSM, BIM,
PGD (after `torch.manual_seed(0)`) and MI-FGSM made of them at 16/255 in ten steps of a tenth of
that, PGD's of a quarter. Ours are equal as pixels; another machine's float sums may turn the sign
of a gradient next to zero.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advcomp.players.attacks import fgsm, iterative_fgsm, momentum_iterative_fgsm, pgd
from advcomp.players.pixels import quantise, to_float

EPS = 16 / 255
STEPS = 10

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def golden() -> Arrays:
    with np.load(Path(__file__).parent / "golden" / "torchattacks-3.5.1.npz") as file:
        return dict(file)


def test_attacks_give_the_pixels_of_torchattacks(golden: Arrays) -> None:
    classifier = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(72, 10)),
    )
    prefix = "weights."
    weights = {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}
    classifier.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    clean = to_float(golden["clean"])
    labels, targets = torch.tensor(golden["labels"]), torch.tensor(golden["targets"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        started: Tensor = pgd(classifier, clean, labels, eps=EPS, steps=STEPS, step_size=EPS / 4)
    ours = {
        "fgsm": fgsm(classifier, clean, labels, eps=EPS),
        "iterative_fgsm": iterative_fgsm(classifier, clean, labels, eps=EPS, steps=STEPS),
        "momentum_iterative_fgsm": momentum_iterative_fgsm(
            classifier, clean, labels, eps=EPS, steps=STEPS
        ),
        "targeted_iterative_fgsm": iterative_fgsm(
            classifier, clean, targets, eps=EPS, steps=STEPS, targeted=True
        ),
        "pgd": started,
    }
    changed = {name: float((quantise(x) != golden[name]).mean()) for name, x in ours.items()}
    assert max(changed.values()) < 1e-3, changed
