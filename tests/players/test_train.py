"""Training: the same recipe gives the same weights, and the committed ones are the recipe's."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import load_classifier
from advcomp.players.datasets import Part, digits
from advcomp.players.train import (
    Adversary,
    ClassifierRecipe,
    accuracy,
    as_tensors,
    random_shift,
    read_recipe,
    train,
)

DIGITS = Path(__file__).parents[2] / "tournament" / "digits"


@pytest.fixture(scope="module")
def few() -> tuple[Tensor, Tensor]:
    images, labels = as_tensors(digits(Part.TRAINING))
    return images[:200], labels[:200]


@pytest.mark.parametrize(
    "adversary", [None, Adversary(max_epsilon=32, steps=2, ramp_epochs=2)], ids=["plain", "pgd"]
)
def test_training_is_a_function_of_the_recipe(
    adversary: Adversary | None, few: tuple[Tensor, Tensor]
) -> None:
    recipe = ClassifierRecipe(architecture="conv_net", seed=1, epochs=2, adversary=adversary)
    first = train(recipe, *few)
    torch.rand(1)
    same = train(recipe, *few)
    other = train(recipe.model_copy(update={"seed": 2}), *few)
    weights = [c.state_dict()["network.0.0.weight"] for c in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_training_learns(few: tuple[Tensor, Tensor]) -> None:
    recipe = ClassifierRecipe(architecture="residual_net", seed=1, epochs=25, shift=0)
    assert accuracy(train(recipe, *few), *few) > 0.9


def test_the_radius_of_an_adversary_grows_and_then_stays() -> None:
    adversary = Adversary(max_epsilon=32, steps=4, ramp_epochs=5)
    radii = [adversary.eps(epoch) * 255 for epoch in range(10)]
    assert radii[0] == pytest.approx(32 / 5)
    assert all(before < after for before, after in pairwise(radii[:5]))
    assert radii[4:] == [pytest.approx(32)] * 6


def test_shifts_move_whole_images_by_every_amount() -> None:
    images = torch.zeros(200, 3, 7, 7)
    images[:, :, 3, 3] = 1
    moved = random_shift(images, 2, torch.Generator().manual_seed(0))
    assert moved.sum((1, 2, 3)).tolist() == [3] * 200
    assert {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()} == {
        (row, column) for row in range(1, 6) for column in range(1, 6)
    }


def test_every_problem_of_a_recipe_is_told(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text('dataset = "digit"\n[classifier.a]\nseed = 1\nepoch = 3\n')
    with pytest.raises(InvalidConfig) as caught:
        read_recipe(path)
    assert len(caught.value.problems) == 3
    assert all(str(path) in problem for problem in caught.value.problems)


def test_the_committed_weights_are_those_of_the_recipe() -> None:
    recipe = read_recipe(DIGITS / "train.toml")
    files = {path.stem: path for path in (DIGITS / "weights").glob("*.safetensors")}
    assert files.keys() == recipe.classifier.keys()
    images, labels = as_tensors(digits(Part.TOURNAMENT))
    for name, one in recipe.classifier.items():
        classifier = load_classifier(files[name])
        assert classifier.architecture == one.architecture
        assert accuracy(classifier, images, labels) > 0.94
