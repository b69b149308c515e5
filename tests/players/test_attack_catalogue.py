"""attack.toml: which attack of the library runs, on which surrogates, and what it refuses."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.attack_cases import EPS, images, network

from advcomp.errors import InvalidConfig
from advcomp.players.attack.objectives import soft_labels
from advcomp.players.attack.transfer import admix, da_fgsm, vmi_fgsm
from advcomp.players.attack_catalogue import ATTACKS, load_attack, settings_of
from advcomp.players.attacks import fgsm, momentum_iterative_fgsm
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.ensemble import Ensemble, Fusion, load_ensemble


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A submission with two surrogates whose labels begin at 1."""
    for number in (1, 2):
        torch.manual_seed(number)
        surrogate = Classifier("conv_net", 10, label_offset=1)
        surrogate.save(tmp_path / f"surrogate_{number}.safetensors")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "attack.toml").write_text(text)
    return folder


def problems(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidConfig) as caught:
        load_attack(write(folder, text))
    return caught.value.problems


def members(folder: Path) -> list[Classifier]:
    return [load_classifier(folder / f"surrogate_{number}.safetensors") for number in (1, 2)]


def test_an_attack_runs_with_its_parameters_on_all_surrogates(folder: Path) -> None:
    loaded = load_attack(
        write(
            folder,
            'attack = "vmi_fgsm"\nfusion = "losses"\n[parameters]\nsamples = 2\nsteps = 3\n'
            "[weights]\nsurrogate_2 = 4.0\n",
        )
    )
    clean = images(2, 32)
    ensemble = Ensemble(members(folder), weights=[1, 4], fusion=Fusion.LOSSES)
    seen = ensemble(clean).argmax(1)
    expected = vmi_fgsm(ensemble, clean, seen, eps=EPS, samples=2, steps=3)
    assert torch.equal(loaded.untargeted(clean, EPS), expected)


@pytest.fixture
def predictor(folder: Path) -> Classifier:
    """Another classifier beside the surrogates, whose answers differ from theirs."""
    torch.manual_seed(3)
    path = folder / "predictor.safetensors"
    Classifier("separable_net", 10, label_offset=1).save(path)
    return load_classifier(path)


def test_an_attack_leads_away_from_all_answers_in_proportion_where_labels_are_soft(
    folder: Path,
) -> None:
    loaded = load_attack(write(folder, 'attack = "da_fgsm"\nlabels = "soft"'))
    clean, ensemble = images(2, 32), Ensemble(members(folder))
    expected = da_fgsm(ensemble, clean, soft_labels(ensemble, clean), eps=EPS)
    assert torch.equal(loaded.untargeted(clean, EPS), expected)
    hard = da_fgsm(ensemble, clean, ensemble(clean).argmax(1), eps=EPS)
    assert not torch.equal(hard, expected)


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_labels_come_from_a_predictor_where_one_is_named(
    labels: str, folder: Path, predictor: Classifier
) -> None:
    text = f'attack = "fgsm"\nlabels = "{labels}"\nlabels_from = "predictor.safetensors"'
    loaded = load_attack(write(folder, text))
    clean, ensemble = images(8, 32), Ensemble(members(folder))
    answer = predictor(clean)
    told = answer.softmax(1) if labels == "soft" else answer.argmax(1)
    assert (answer.argmax(1) != ensemble(clean).argmax(1)).any()
    assert torch.equal(loaded.untargeted(clean, EPS), fgsm(ensemble, clean, told, eps=EPS))
    assert len(loaded.surrogates.members) == 2
    targets = torch.full((8,), 3)
    expected = fgsm(ensemble, clean, targets - 1, eps=EPS, targeted=True)
    assert torch.equal(loaded.targeted(clean, targets, EPS), expected)


def test_a_predictor_that_is_not_there_or_counts_otherwise_is_told(folder: Path) -> None:
    text = 'attack = "fgsm"\nlabels_from = "predictor.safetensors"'
    place = f"{folder / 'attack.toml'}:2: labels_from: expected"
    (problem,) = problems(folder, text)
    assert problem.startswith(f"{place} the path of a classifier's weights, seen from this file")
    assert 'files."predictor.safetensors" = "..."' in problem
    Classifier("conv_net", 10).save(folder / "predictor.safetensors")
    assert problems(folder, text) == (
        f"{place} a classifier of the surrogates' labels, 1 to 10; "
        "predictor.safetensors has 0 to 9",
    )


def test_target_labels_are_the_surrogates_not_the_classes(folder: Path) -> None:
    loaded = load_attack(write(folder, 'attack = "mi_fgsm"'))
    clean, targets = images(2, 32), torch.tensor([1, 10])
    expected = momentum_iterative_fgsm(
        Ensemble(members(folder)), clean, targets - 1, eps=EPS, targeted=True
    )
    assert torch.equal(loaded.targeted(clean, targets, EPS), expected)


def test_tensors_lie_in_a_file_beside_the_settings(folder: Path) -> None:
    levels = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(4)
    save_file({"pool": levels, "pool_labels": labels}, folder / "attack.safetensors")
    loaded = load_attack(write(folder, 'attack = "admix"\n[parameters]\nsteps = 2\n'))
    clean = images(2, 32)
    ensemble = Ensemble(members(folder))
    seen = ensemble(clean).argmax(1)
    expected = admix(
        ensemble, clean, seen, eps=EPS, steps=2, pool=levels / 255, pool_labels=labels
    )
    assert torch.equal(loaded.untargeted(clean, EPS), expected)


def test_an_unknown_attack_is_told_with_all_known_ones(folder: Path) -> None:
    (problem,) = problems(folder, 'attack = "vmi"')
    assert f"{folder / 'attack.toml'}:1: attack: expected one of {', '.join(ATTACKS)}" in problem
    assert problem.endswith('got "vmi"; the nearest is "vmi_fgsm"')


def test_all_that_is_wrong_is_told_at_once(folder: Path) -> None:
    found = problems(
        folder,
        'attack = "vmi_fgsm"\n[parameters]\nsample = 2\nsteps = "few"\ntransforms = 1\n'
        "[weights]\nsurrogate_3 = 1.0\n",
    )
    known = "samples, beta, seed, steps, step_size, accumulate, decay"
    path = folder / "attack.toml"
    assert found == (
        f'{path}:3: [parameters] sample: expected a parameter of "vmi_fgsm": {known}; '
        'the nearest is "samples"',
        f'{path}:4: [parameters] steps: expected int; got "few"',
        f'{path}:5: [parameters] transforms: expected a parameter of "vmi_fgsm": {known}; '
        'the nearest is "samples"',
        f"{path}:7: [weights] surrogate_3: expected a surrogate in the folder: "
        f"surrogate_1, surrogate_2",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('attack = "fgsm"\n[parameters]\nsteps = 3', 'parameter of "fgsm": it has none'),
        ('attack = "fgsm"\nfusions = "logits"', 'the nearest known one is "fusion"'),
        ('attack = "fgsm"\nfusion = "mean"', "logits, probabilities, losses, gradients"),
        ('attack = "fgsm"\nlabels = "true"', "labels: expected one of hard, soft"),
        ("fusion = 'logits'", "missing; expected one of fgsm"),
        ('attack = "universal"', 'universal": perturbations; got none'),
        ('attack = "admix"', 'admix": pool, pool_labels; got none'),
    ],
)
def test_a_file_is_refused_with_what_was_expected(text: str, told: str, folder: Path) -> None:
    (problem,) = problems(folder, text)
    assert told in problem


def test_tensors_that_no_parameter_takes_are_told(folder: Path) -> None:
    save_file({"pools": torch.zeros(1)}, folder / "attack.safetensors")
    (problem,) = problems(folder, 'attack = "fgsm"')
    assert 'tensors of "fgsm": none; got pools' in problem


def test_a_folder_without_surrogates_says_how_to_lay_one(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, 'attack = "fgsm"')
    assert 'files."surrogate*.safetensors"' in problem


def test_hooks_are_no_settings_and_the_loops_are() -> None:
    assert list(settings_of(ATTACKS["i_fgsm"])) == ["steps", "step_size", "accumulate"]
    assert {"decay", "steps", "step_size"} < settings_of(ATTACKS["bsr"]).keys()
    assert "loss" not in settings_of(ATTACKS["autopgd_dlr"])
    for attack in ATTACKS.values():
        assert not {"eps", "targeted", "generator", "transforms"} & settings_of(attack).keys()


def test_the_first_pattern_that_fits_a_name_gives_its_weight(folder: Path) -> None:
    ensemble = load_ensemble(folder, {"*_2": 3.0, "surrogate*": 1.0}, fusion=Fusion.LOSSES)
    torch.testing.assert_close(ensemble.weights, torch.tensor([0.25, 0.75]))
    assert ensemble.fusion is Fusion.LOSSES
    assert len(load_ensemble(folder, {"*_2": 3.0}).members) == 1
    with pytest.raises(InvalidConfig) as caught:
        load_ensemble(folder, {"other": 1.0, "surrogate*": 1.0, "third": 1.0})
    assert [p.split()[5] for p in caught.value.problems] == [
        "other.safetensors;",
        "third.safetensors;",
    ]


@pytest.mark.parametrize(
    ("classes", "offset", "settings", "told"),
    [
        (10, 1, "[weights]\nsurrogate_1 = -1.0", "one weight for each, not negative"),
        (10, 1, "[weights]\nsurrogate_1 = 0\nsurrogate_2 = 0\nsurrogate_3 = 0", "not all 0"),
        (10, 0, "", r"one label offset; got [1, 1, 0]"),
        (9, 1, "", r"one number of classes; got [10, 10, 9]"),
    ],
)
def test_surrogates_that_make_no_ensemble_are_told_with_their_folder(
    classes: int, offset: int, settings: str, told: str, folder: Path
) -> None:
    other = Classifier("conv_net", classes, label_offset=offset)
    other.save(folder / "surrogate_3.safetensors")
    (problem,) = problems(folder, f'attack = "fgsm"\n{settings}')
    assert problem.startswith(f"{folder}: surrogate_1.safetensors, surrogate_2")
    assert told in problem


def test_members_that_count_their_labels_differently_are_no_ensemble() -> None:
    other = Classifier("conv_net", 10, label_offset=1)
    with pytest.raises(ValueError, match=r"one label offset; got \[0, 1\]"):
        Ensemble([network(), other])
    assert Ensemble([other]).to_labels(torch.tensor([0, 9])).tolist() == [1, 10]
    assert Ensemble([other]).to_classes(torch.tensor([1, 10])).tolist() == [0, 9]


def test_every_attack_stands_in_the_table_of_what_it_follows() -> None:
    table = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text()
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall("`(.*?)`", " ".join(cells))) == sorted(ATTACKS)
