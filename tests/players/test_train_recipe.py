"""Recipes of training: what is wrong is told by file, line and nearest key, all at once."""

from itertools import pairwise
from pathlib import Path

import pytest

from advcomp.errors import InvalidConfig
from advcomp.players.classifier.classifier_recipe import (
    ClassifierRecipes,
    TrainingObjective,
    read_classifier_recipes,
)

TOURNAMENTS = Path(__file__).parents[2] / "tournament"

TOP = 'dataset = "digits"\nevaluation = { max_epsilon = 8 }\n'


def read(tmp_path: Path, text: str) -> ClassifierRecipes:
    (tmp_path / "train.toml").write_text(TOP + text)
    return read_classifier_recipes(tmp_path / "train.toml")


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(InvalidConfig) as caught:
        read(tmp_path, text)
    assert all(str(tmp_path / "train.toml") in problem for problem in caught.value.problems)
    return str(caught.value)


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_the_tournaments_recipes_are_read(name: str) -> None:
    assert read_classifier_recipes(TOURNAMENTS / name / "train.toml").dataset == name


def test_the_classifiers_for_attack_networks_are_of_three_sets_half_of_them_robust() -> None:
    """Targets, validation and held-out share no network, with each other or the tournament."""
    played = read_classifier_recipes(TOURNAMENTS / "cifar10" / "train.toml").classifier
    file = TOURNAMENTS / "cifar10" / "attack_network" / "classifiers.toml"
    found = read_classifier_recipes(file).classifier
    assert len(found) >= 12
    assert not found.keys() & played.keys()
    seeds = [one.seed for one in (*played.values(), *found.values())]
    assert len(set(seeds)) == len(seeds)
    sets = {name: name.removesuffix("_robust").split("_")[0] for name in found}
    assert set(sets.values()) == {"target", "validation", "held"}
    for each in ("target", "validation", "held"):
        robust = [found[name].objective.max_epsilon > 0 for name in found if sets[name] == each]
        assert 2 * sum(robust) == len(robust) >= 2
    for name, one in found.items():
        assert name.endswith("_robust") is (one.objective.max_epsilon > 0)
    kinds = {(one.objective.name, one.objective.max_epsilon) for one in found.values()}
    assert len(kinds) >= 4
    assert len({one.architecture for one in found.values()}) >= 6
    assert len({(one.shift, one.flip) for one in found.values()}) >= 4


def test_every_problem_of_a_recipe_is_told(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text('dataset = "digit"\n[classifier.a]\nseed = 1\nepoch = 3\n')
    with pytest.raises(InvalidConfig) as caught:
        read_classifier_recipes(path)
    assert [str(problem).removeprefix(str(path)) for problem in caught.value.problems] == [
        ": evaluation: missing; expected a table with max_epsilon",
        ':1: dataset: expected one of digits, cifar10, folder, arrays; got "digit"',
        ":2: [classifier] a architecture: missing; expected the name of an architecture",
        ':4: [classifier] a epoch: unknown key; the nearest known one is "epochs"',
    ]


def test_a_classifier_has_what_it_says_and_otherwise_the_defaults(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        "[defaults]\nepochs = 3\nflip = true\n"
        '[classifier.a]\narchitecture = "conv_net"\n'
        '[classifier.b]\narchitecture = "conv_net"\nepochs = 5\n',
    )
    assert [recipe.classifier[name].epochs for name in "ab"] == [3, 5]
    assert [recipe.classifier[name].flip for name in "ab"] == [True, True]
    assert "nearest known one" in refused(tmp_path, "[defaults]\nepoch = 3\n[classifier]\n")


def test_half_precision_has_one_word_and_the_old_one_is_read(tmp_path: Path) -> None:
    table = '[classifier.a]\narchitecture = "conv_net"\nprecision = '
    for word in ("bf16", "bfloat16"):
        assert read(tmp_path, f'{table}"{word}"\n').classifier["a"].precision == "bf16"
    assert "expected one of float32, bf16, fp16, float64" in refused(tmp_path, f'{table}"half"\n')


def test_an_unknown_architecture_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    told = refused(tmp_path, '[classifier.a]\narchitecture = "torchvision/resnet5"\n')
    assert "[classifier] a architecture" in told
    assert "torchvision/resnet50" in told


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ('{ name = "plane" }', "expected one of plain, fgsm, pgd, ensemble, trades, noise"),
        ('{ name = "plain", steps = 3 }', '"plain" takes no other key; it has no steps'),
        ('{ name = "fgsm", beta = 1.0 }', "it has no beta; missing: max_epsilon"),
        ('{ name = "pgd", max_epsilon = 8 }', "missing: steps"),
        ('{ name = "trades", max_epsilon = 8, steps = 2, sigma = 0.1 }', "it has no sigma"),
        ('{ name = "noise" }', "missing: sigma"),
        ('{ name = "noise", sigma = 0.0 }', "expected a standard deviation above 0"),
        ('{ name = "ensemble", max_epsilon = 8 }', "missing: networks"),
        ('{ name = "fgsm", max_epsilom = 8 }', 'the nearest known one is "max_epsilon"'),
        ('{ name = "fgsm", max_epsilon = 0.03 }', "expected pixel levels, 0..255; got 0.03"),
    ],
)
def test_an_objective_takes_its_own_keys_only(objective: str, told: str, tmp_path: Path) -> None:
    table = f'[classifier.a]\narchitecture = "conv_net"\nobjective = {objective}\n'
    assert told in refused(tmp_path, table)


def test_an_ensembles_networks_stand_above_it(tmp_path: Path) -> None:
    tables = (
        '[classifier.{}]\narchitecture = "conv_net"\n',
        '[classifier.{}]\narchitecture = "conv_net"\n'
        'objective = {{ name = "ensemble", max_epsilon = 8, networks = ["a"] }}\n',
    )
    assert read(tmp_path, tables[0].format("a") + tables[1].format("b")).classifier.keys() == {
        *"ab"
    }
    for text in (tables[1].format("b") + tables[0].format("a"), tables[1].format("a")):
        assert "expected classifiers that stand above it, none; got a" in refused(tmp_path, text)


def test_the_radius_of_an_adversary_grows_and_then_stays() -> None:
    adversary = TrainingObjective(name="pgd", max_epsilon=32, steps=4, ramp_epochs=5)
    radii = [adversary.eps(epoch) * 255 for epoch in range(10)]
    assert radii[0] == pytest.approx(32 / 5)
    assert all(before < after for before, after in pairwise(radii[:5]))
    assert radii[4:] == [pytest.approx(32)] * 6
