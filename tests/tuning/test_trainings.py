"""Any recipe of `advcomp train` can be tuned, and a space that is not of it is refused."""

import json
from pathlib import Path

import pytest
from support.command import advcomp

from advcomp.errors import InvalidConfig
from advcomp.training.progress import EvaluationReport, RateOf
from advcomp.tuning.training_subject import TrainingSubject, training_subject, worth_of
from advcomp.tuning.tune_file import TunedQuantity, load_tune_file

CLASSIFIERS = """\
dataset = "digits"
validation = { images = 100, max_epsilons = [0, 16], steps = 2, every_epochs = 2 }
evaluation = { max_epsilon = 32 }

[defaults]
epochs = 6
batch_size = 64

[classifier.small]     # Kept.
architecture = "conv_net"
batch_size = 32

[classifier.other]
architecture = "conv_net"
objective = { name = "ensemble", max_epsilon = 8, networks = ["small"] }
"""

DENOISERS = """\
dataset = "digits"
validation = { images = 100, max_epsilons = [16], steps = 2, networks = ["conv_net_b"] }
evaluation = { networks = ["conv_net_a"], max_epsilons = [16] }

[denoiser.only]
classifier = "residual_net_b"
networks = ["residual_net_b"]
max_epsilon = 16
epochs = 2
"""

RATE = "defaults.learning_rate = { low = 1e-4, high = 1e-2, log = true }"


def subject(
    folder: Path, recipe: str = CLASSIFIERS, space: str = RATE, more: str = 'train = "small"'
) -> TrainingSubject:
    (folder / "train.toml").write_text(recipe)
    file = folder / "tune.toml"
    file.write_text(f'name = "t"\nrecipe = "train.toml"\n{more}\n[space]\n{space}\n')
    return training_subject(load_tune_file(file), folder / "study")


def test_a_classifier_is_compared_after_as_many_epochs_as_it_is_judged(tmp_path: Path) -> None:
    found = subject(tmp_path)
    assert (found.first_step, found.training.name) == (2, "small")
    assert found.identity["train"] == "small"
    text = found.text_of({"defaults.learning_rate": 0.5}, tmp_path)
    assert text == CLASSIFIERS.replace(
        "batch_size = 64\n", "batch_size = 64\nlearning_rate = 0.5\n"
    )
    weights = subject(tmp_path, more='train = "other"').training.weights
    assert weights == [("[classifier.other]", tmp_path / "weights" / "small.safetensors")]


def test_a_denoiser_is_known_by_its_networks(tmp_path: Path) -> None:
    space = "denoiser.only.learning_rate = { low = 1e-4, high = 1e-2 }"
    weights = subject(tmp_path, DENOISERS, space, "").training.weights
    assert [(place, file.stem) for place, file in weights] == [
        ("[validation]", "conv_net_b"),
        ("[denoiser.only]", "residual_net_b"),
        ("[denoiser.only]", "residual_net_b"),
    ]


@pytest.mark.parametrize(
    ("space", "more", "said"),
    [
        (RATE, "", "expected `train`, which says whose training of .*: small, other"),
        (RATE, 'train = "smal"', 'got "smal"; the nearest is "small"'),
        (
            "defaults.batch_size = { low = 1, high = 9 }",
            'train = "small"',
            r"\[classifier.small\] itself says it: tune it there",
        ),
        (
            "classifier.other.seed = { low = 1, high = 9 }",
            'train = "small"',
            r"is not of the training of small: expected keys of \[classifier.small\] or \[",
        ),
        (
            "validation.steps = { low = 1, high = 9 }",
            'train = "small"',
            "judges trainings, and is not tuned",
        ),
        (
            "classifier.small.epohcs = { low = 1, high = 9 }",
            'train = "small"',
            'epohcs: unknown key; the nearest known one is "epochs"',
        ),
        (
            RATE.replace("1e-4", "0.0").replace(", log = true", ""),
            'train = "small"',
            "0.0 is refused",
        ),
    ],
)
def test_what_is_not_of_the_training_is_refused(
    tmp_path: Path, space: str, more: str, said: str
) -> None:
    with pytest.raises(InvalidConfig, match=said):
        subject(tmp_path, space=space, more=more)


def test_a_recipe_that_nobody_judges_is_told_what_it_lacks(tmp_path: Path) -> None:
    unjudged = "".join(line for line in CLASSIFIERS.splitlines(True) if "validation" not in line)
    with pytest.raises(InvalidConfig, match=r"expected a table \[validation\].*images = 200"):
        subject(tmp_path, unjudged)
    twice = DENOISERS.replace('["conv_net_b"]', '["conv_net_a"]')
    with pytest.raises(InvalidConfig, match=r"others than those of \[evaluation\].*conv_net_a"):
        subject(tmp_path, twice, more="")


def test_a_classifier_is_worth_what_it_answers_rightly() -> None:
    report = EvaluationReport(
        step=1,
        of=RateOf.RIGHT,
        rates={("it", 0): 0.9, ("it", 16): 0.5},
        clean_rates={"it": 0.8},
    )
    assert worth_of(report, TunedQuantity.SCORE) == pytest.approx(0.7)
    assert worth_of(report, TunedQuantity.WORST_CASE) == 0.5
    assert worth_of(report, TunedQuantity.CLEAN_ACCURACY) == 0.8


def test_an_attack_network_is_worth_its_least_classifiers_mean() -> None:
    rates = {("a", 8): 0.1, ("a", 16): 0.9, ("b", 8): 0.3, ("b", 16): 0.5}
    report = EvaluationReport(step=1, of=RateOf.MISCLASSIFIED, rates=rates, clean_rates={})
    assert worth_of(report, TunedQuantity.SCORE) == pytest.approx(0.45)
    assert worth_of(report, TunedQuantity.WORST_CASE) == pytest.approx(0.4)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["classifier", "denoiser"])
def test_classifiers_and_denoisers_are_tuned_and_pruned(tmp_path: Path, kind: str) -> None:
    weights = Path(__file__).resolve().parents[2] / "tournament" / "digits" / "weights"
    (tmp_path / "weights").symlink_to(weights)
    place = {"classifier": "classifier.small", "denoiser": "denoiser.only"}[kind]
    recipe = {"classifier": CLASSIFIERS, "denoiser": DENOISERS}[kind]
    recipe = recipe.replace("every_epochs = 2", "every_epochs = 1").replace(
        "epochs = 6", "epochs = 3"
    )
    (tmp_path / "train.toml").write_text(recipe)
    file = tmp_path / "tune.toml"
    file.write_text(
        f'name = "t"\nrecipe = "train.toml"\ntrain = "{place.split(".")[1]}"\n[space]\n'
        f"{place}.learning_rate = {{ low = 1e-7, high = 10.0, log = true }}\n"
        "[trials]\ncount = 5\ngrowth = 2\n"
    )
    study = tmp_path / "study"
    done = advcomp("tune", file, "--out", study)
    assert done.exit_code == 0, done.output
    assert ": pruned" in done.output
    assert "1 epochs: score" in done.output
    (best,) = (study / "best").iterdir()
    assert "learning_rate = " in best.read_text()
    kept = [json.loads(each.read_text()) for each in study.glob("trainings/*/evaluations.json")]
    assert {len(each) for each in kept} == {3 if kind == "classifier" else 2}, "none is pruned"
    assert (study / "report.html").read_text().count(">pruned<") == 5 - len(kept)
    before = (study / "journal.log").read_bytes()
    assert advcomp("tune", file, "--out", study).exit_code == 0
    assert len((study / "journal.log").read_bytes()) - len(before) < 500, "nothing is tried again"
