"""The file that chooses a defense: what it may say, and that what it says is what runs."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import Classifier
from advcomp.players.defense.smoothing import smoothed
from advcomp.players.defense_catalogue import DEFENSES, LibraryDefense, load_defense, parameters_of
from advcomp.players.defenses import (
    average_over,
    barrage,
    bit_depth,
    crop_and_rescale,
    median_filter,
    random_resize_pad,
)

OFFSET = 3


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A submission's folder with a classifier whose labels begin at 3."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = Classifier("separable_net", 10, label_offset=OFFSET)
    # Drawn answers that do not all name one class.
    last = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
    torch.nn.init.normal_(last.weight, generator=torch.Generator().manual_seed(0))
    classifier.save(tmp_path / "classifier.safetensors")
    return tmp_path


def choose(folder: Path, defense: str, **parameters: object) -> None:
    lines = [f'defense = "{defense}"', "[parameters]"]
    lines += [f"{key} = {value!r}" for key, value in parameters.items()]
    (folder / "defense.toml").write_text("\n".join(lines))


def load_defense_of(folder: Path, name: str, **parameters: object) -> LibraryDefense:
    choose(folder, name, **parameters)
    return load_defense(folder)


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_answers_with_labels_of_its_classifier(
    name: str, folder: Path, images: Tensor
) -> None:
    few = {"draws": 2} if "draws" in parameters_of(DEFENSES[name]) else {}
    choose(folder, name, **few)
    defense = load_defense(folder)
    labels = defense.labels(images)
    scores = defense.defended(defense.classifiers, images)
    assert scores.shape == (4, 10)
    assert torch.equal(labels, scores.argmax(1) + OFFSET)
    assert torch.equal(defense.labels(images[[2, 0]]), labels[[2, 0]])


def test_parameters_reach_the_defense(folder: Path, images: Tensor) -> None:
    model = load_defense_of(folder, "plain").classifiers
    expected: list[tuple[str, dict[str, float], Tensor]] = [
        ("bit_depth", {"bits": 2}, model(bit_depth(images, 2))),
        ("median_filter", {"size": 5}, model(median_filter(images, 5))),
        ("random_resize_pad", {"draws": 2}, random_resize_pad(model, images, 2)),
        (
            "random_crops",
            {"draws": 2, "share": 0.9},
            average_over(
                model,
                images,
                partial(crop_and_rescale, share=0.9),
                draws=2,
                salt="random_crops",
            ),
        ),
        (
            "random_barrage",
            {"draws": 2, "count": 1},
            average_over(model, images, partial(barrage, count=1), draws=2, salt="random_barrage"),
        ),
        (
            "smoothed",
            {"draws": 9, "sigma": 0.1},
            smoothed(model, images, sigma=0.1, draws=9),
        ),
    ]
    for name, parameters, scores in expected:
        chosen = load_defense_of(folder, name, **parameters)
        torch.testing.assert_close(chosen.defended(model, images), scores)


def test_several_classifiers_answer_with_their_mean_probability(
    folder: Path, images: Tensor
) -> None:
    first = load_defense_of(folder, "plain").classifiers
    second = Classifier("conv_net", 10, label_offset=OFFSET).freeze()
    second.save(folder / "classifier_2.safetensors")
    both = load_defense(folder)
    mean = (first(images).softmax(1) + second(images).softmax(1)) / 2
    torch.testing.assert_close(both.defended(both.classifiers, images).softmax(1), mean)


def test_everything_wrong_with_a_choice_is_told(folder: Path) -> None:
    choose(folder, "median_filter", size=2.5, sise=3)
    with pytest.raises(InvalidConfig) as caught:
        load_defense(folder)
    path = folder / "defense.toml"
    assert caught.value.problems == (
        f"{path}:3: [parameters] size: expected int; got 2.5",
        f'{path}:4: [parameters] sise: expected a parameter of "median_filter": size; '
        'the nearest is "size"',
    )
    choose(folder, "median")
    with pytest.raises(
        InvalidConfig,
        match=r':1: defense: expected one of plain.*got "median"; the nearest is "median_filter"',
    ):
        load_defense(folder)
    choose(folder, "plain", size=3)
    with pytest.raises(InvalidConfig, match='of "plain": it has none'):
        load_defense(folder)


def test_hooks_are_not_for_files() -> None:
    for defended in DEFENSES.values():
        assert not parameters_of(defended).keys() & {"model", "images", "transform", "salt"}
