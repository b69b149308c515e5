"""Toy recipes: four small classifiers with random weights, a tiny network, float64."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from advcomp.players.classifiers import Classifier

RECIPE = """\
name = "toy"
seed = 3
[data]
source = "digits"
validation_images = 12
shift = 1
[threat]
max_epsilons = [16, 48]
[network]
widths = [8, 8]
epsilon = "both"
embedding = 4
[hint]
mode = "recurrent"
surrogate = "c0.safetensors"
layers = ["network.0", "network.1"]
[loss]
margin = 1.0
relativistic_cross_entropy = 0.5
[training]
steps = 4
batch_size = 8
learning_rate = 0.01
warm_up_steps = 2
clip_norm = 1000.0
[device]
name = "cpu"
precision = "float64"
[output]
evaluate_every = 4
checkpoint_every = 2
[[transforms]]
name = "diverse_inputs"
[[transforms]]
name = "block_shuffle"
probability = 0.5
[[validation]]
weights = "v.safetensors"
"""

ToyRecipe = Callable[..., Path]


def toy_in(folder: Path) -> ToyRecipe:
    """`toy(old=new, ...)` writes the recipe with some of its lines changed; returns its path."""
    torch.manual_seed(0)
    for name in ("c0", "c1", "c2", "c3", "v"):
        Classifier("conv_net", 10).save(folder / f"{name}.safetensors")
    targets = "".join(
        f'[[targets]]\nweights = "c{i}.safetensors"\nweight = {i + 1}.0\n' for i in range(4)
    )

    def write(*changes: tuple[str, str]) -> Path:
        text = RECIPE + targets
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = folder / "train.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def toy(tmp_path: Path) -> ToyRecipe:
    """The recipe of one test."""
    return toy_in(tmp_path)


@pytest.fixture(scope="module")
def toy_of_the_module(tmp_path_factory: pytest.TempPathFactory) -> ToyRecipe:
    """A recipe that several tests train by."""
    return toy_in(tmp_path_factory.mktemp("toy"))
