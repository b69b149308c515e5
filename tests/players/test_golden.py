"""Stored outputs of torchattacks 3.5.1, foolbox 3.3.4 and ART 1.20.1 (torch 2.15, CPU).

`golden/peers.npz` holds a small network's weights, six images, and what the peers made of them at
16/255 in ten steps of a tenth of that (PGD: of a quarter, after `torch.manual_seed(0)`). Ours are
the same pixels, but for those of the patch-wise attack: torchattacks asks whether a pixel was sent
beyond the budget by comparing floats that are equal but for their last bit, and passes on what is
no excess. Variance tuning is compared without randomness (beta 0), translation invariance with a
kernel of 5 and without diverse inputs.

No oracles, and why: torchattacks' DI and the one inside its TI leave the image small and take one
size for the whole batch, its VMI and VNI draw for the whole batch, its AutoPGD keeps the step size
also where exactly three quarters of the steps rose (the paper: fewer) and gives back the last
successful point; foolbox's MI-FGSM accumulates signs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from advcomp.players.attack_catalogue import ATTACKS
from advcomp.players.image.pixels import quantise, to_float

EPS = 16 / 255
PEERS = Path(__file__).parent / "golden" / "peers.npz"

with np.load(PEERS) as file:
    GOLDEN: dict[str, NDArray[Any]] = dict(file)

OUTPUTS = sorted(name for name in GOLDEN if "/" in name)

SETTINGS: dict[str, dict[str, Any]] = {
    "pgd": {"step_size": EPS / 4, "generator": torch.default_generator},
    "ti_fgsm": {"size": 5},
    "vni_fgsm": {"samples": 2, "beta": 0.0},
}

ROUNDING = {"pi_fgsm": 0.01}
"""Share of pixels in which a peer follows a rounding error."""


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    classifier = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(72, 10)),
    )
    weights = {
        name.removeprefix("weights."): torch.from_numpy(value)
        for name, value in GOLDEN.items()
        if name.startswith("weights.")
    }
    classifier.load_state_dict(weights)
    return classifier


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_attack_gives_the_pixels_of_its_peers(output: str, classifier: nn.Module) -> None:
    name = output.partition("/")[2]
    targeted = name.startswith("targeted_")
    name = name.removeprefix("targeted_")
    labels = torch.tensor(GOLDEN["targets" if targeted else "labels"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = ATTACKS[name](
            classifier,
            to_float(GOLDEN["clean"]),
            labels,
            eps=EPS,
            targeted=targeted,
            **SETTINGS.get(name, {}),
        )
    assert (quantise(ours) != GOLDEN[output]).mean() <= ROUNDING.get(name, 0)


def test_every_peer_that_is_an_oracle_is_compared() -> None:
    peers = {output.partition("/")[0] for output in OUTPUTS}
    assert peers == {"torchattacks-3.5.1", "foolbox-3.3.4", "art-1.20.1"}
    for peer, attacks in {
        "torchattacks-3.5.1": {"fgsm", "i_fgsm", "pgd", "mi_fgsm", "targeted_mi_fgsm"},
        "foolbox-3.3.4": {"fgsm", "i_fgsm", "pgd", "targeted_pgd"},
        "art-1.20.1": {"fgsm", "i_fgsm", "mi_fgsm", "targeted_mi_fgsm"},
    }.items():
        assert {f"{peer}/{attack}" for attack in attacks} <= set(OUTPUTS)
