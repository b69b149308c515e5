"""What is wrong with a tuning file is said before anything runs, all of it, with what to do."""

import tomllib
from pathlib import Path

import pytest
from support.contest import Contest
from support.tunable import TUNE, tunable, tune_file

from advcomp.errors import InvalidConfig
from advcomp.tournament.config import load_tournament
from advcomp.tuning.cast import Cast, cast_of
from advcomp.tuning.space import Choices, Dimension, Range
from advcomp.tuning.tune_file import PrunerName, load_tune_file

ROOT = Path(__file__).resolve().parents[2]
SHARE = "share = { low = 0.0, high = 1.0 }"


def refused(contest: Contest, text: str) -> str:
    with pytest.raises(InvalidConfig) as refusal:
        load_tune_file(tune_file(contest, text))
    return str(refusal.value)


def test_a_space_is_laid_out_as_what_it_is_a_space_of(contest: Contest) -> None:
    more = """
    parameters.steps = { low = 2, high = 20, log = true }
    [space.weights]
    surrogate_1 = { low = 0.5, high = 2.0, step = 0.5 }
    [space.more]
    fusion = { choices = ["logits", "losses"] }
    """
    path = tune_file(contest, TUNE.replace(SHARE, SHARE + more).replace("    ", ""))
    assert load_tune_file(path).dimensions == (
        Dimension(key=("share",), values=Range(low=0.0, high=1.0)),
        Dimension(key=("parameters", "steps"), values=Range(low=2, high=20, log=True)),
        Dimension(key=("weights", "surrogate_1"), values=Range(low=0.5, high=2.0, step=0.5)),
        Dimension(key=("more", "fusion"), values=Choices(values=("logits", "losses"))),
    )


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("share = { low = 1.0, high = 0.0 }", "expected low below high; got low = 1.0, high = 0"),
        ("share = { low = 0, high = 9, log = true }", "log = true: expected low above 0; got 0"),
        ("share = { low = 0, hihg = 9 }", 'unknown key "hihg"; the nearest known one is "high"'),
        ("share = { low = 0 }", "expected numbers low and high; got low = 0, high = null"),
        ("share = { low = 0, high = 9, step = 4 }", "step: expected one that leads from 0 to 9"),
        ("share = { low = 0, high = 9, step = 0.5 }", "step: expected an integer above 0"),
        ("share = { low = 1, high = 9, log = true, step = 2 }", "step does not go with log"),
        ("share = { choices = [1] }", "expected choices of two or more"),
        ("share = { choices = [1, 1] }", "expected every choice once; got [1, 1]"),
        ("share = { choices = [1, 2], low = 1 }", "low does not go with choices"),
        ("share = 0.5", "expected { low = ..., high = ... }"),
        ("", "expected at least one value"),
    ],
)
def test_a_wrong_space_is_told_with_its_line(contest: Contest, space: str, said: str) -> None:
    text = refused(contest, TUNE.replace(SHARE, space))
    assert said in text
    assert "tune.toml:9: [space]" in text or (not space and "tune.toml:8: space" in text)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[objective]\nof = ["socre"]', "expected a list of one or two of score, worst_case"),
        ('[objective]\nof = ["score", "score"]', "expected a list of one or two of"),
        ("[trails]", 'unknown key; the nearest known one is "trials"'),
        (
            'pruner = "halving"\n[objective]\nof = ["score", "worst_case"]',
            "two objectives cannot be compared halfway: expected none; got halving",
        ),
        (
            'pruner = "wilcoxon"\n[objective]\nof = ["worst_case"]',
            'wilcoxon compares the score image by image, and goes only with of = ["score"]',
        ),
        ('pruner = "median"', "expected one of halving, wilcoxon, none"),
    ],
)
def test_a_wrong_objective_or_pruner_is_told(contest: Contest, more: str, said: str) -> None:
    assert said in refused(contest, TUNE + more)


def test_what_a_study_is_of_must_be_said_and_be_one_thing(contest: Contest) -> None:
    without = TUNE.replace('entry = "copier"\n', "")
    assert "entry: missing; to tune an entry it takes the name" in refused(contest, without)
    nothing = "name = 'x'\n[space]\na = { low = 0, high = 1 }"
    assert "expected `tournament`, `entry`, `settings` and [opponents]" in refused(
        contest, nothing
    )
    both = 'recipe = "train.toml"\n' + TUNE + '[objective]\nof = ["seconds_per_100_images"]'
    said = refused(contest, both)
    assert "entry: goes only with an entry; this file tunes a training" in said
    assert "a training is judged by what its recipe validates it with, and not timed" in said
    said = refused(contest, 'train = "small"\n' + TUNE)
    assert "train: goes only with a training (`recipe`); this file tunes an entry" in said


def test_two_objectives_are_not_pruned(contest: Contest) -> None:
    two = TUNE + '[objective]\nof = ["score", "seconds_per_100_images"]'
    assert load_tune_file(tune_file(contest, two)).pruner is PrunerName.NONE
    assert load_tune_file(tune_file(contest, TUNE)).pruner is PrunerName.HALVING


def cast(path: Path) -> Cast:
    tune = load_tune_file(path)
    assert tune.tournament is not None
    return cast_of(tune, load_tournament(tune.tournament))


def test_those_held_out_are_kept_for_the_end(contest: Contest) -> None:
    found = cast(tunable(contest))
    assert [each.name for each in found.validation] == ["three"]
    assert [each.name for each in found.final] == ["nine"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"three"', '"three", "nine"', '"nine" is marked held_out in'),
        ('"three"', '"thre"', 'got "thre"; the nearest is "three"'),
        ('"three"', '"copier"', "expected an entry of"),
        ('entry = "copier"', 'entry = "coper"', 'got "coper"; the nearest is "copier"'),
        (
            'validation = ["three"]',
            'validation = ["three"]\nfinal = ["nobody"]',
            "[opponents] final: expected an entry of",
        ),
        ('entry = "copier"', 'entry = "nine"', '"nine" is marked held_out'),
    ],
)
def test_whom_nobody_may_or_can_meet_is_named(
    contest: Contest, old: str, new: str, said: str
) -> None:
    with pytest.raises(InvalidConfig) as refusal:
        cast(tunable(contest, tune=TUNE.replace(old, new)))
    assert said in str(refusal.value)


def test_validation_and_final_share_nobody(contest: Contest) -> None:
    both = TUNE.replace("[space]", 'final = ["three"]\n[space]')
    assert "three would judge what was tuned on them" in refused(contest, both)


def test_a_team_is_not_tuned_on_itself(contest: Contest) -> None:
    path = tunable(contest)
    file = contest.folder / "contest.toml"
    text = file.read_text()
    for name in ("copier", "three"):
        place = f'"{contest.folder}/entries_of_the_test/{name}"'
        text = text.replace(place, f'{{ path = {place}, team = "red" }}')
    file.write_text(text)
    with pytest.raises(InvalidConfig, match=r'"three" is of the team of "copier", red'):
        cast(path)


@pytest.mark.parametrize("place", ["cifar10", "digits"])
def test_the_examples_keep_everybody_whom_they_do_not_tune_on(place: str) -> None:
    """Their weights need not be there."""
    tune = load_tune_file(ROOT / "tournament" / place / "tuning" / "tune.toml")
    assert tune.opponents is not None
    assert tune.tournament is not None
    entries = load_tournament(tune.tournament).entries
    defenses = {(item.name or Path(item.path).name): item.held_out for item in entries.defenses}
    assert {name for name, kept in defenses.items() if not kept} == {*tune.opponents.validation}
    (attack,) = entries.attacks
    settings = (tune.tournament.parent / attack.files[tune.settings or ""]).read_text()
    begun = read_values(settings)
    for dimension in tune.dimensions:
        assert dimension.key in begun, dimension.key


def read_values(text: str) -> set[tuple[str, ...]]:
    """The keys that a settings file gives a value."""
    table = tomllib.loads(text)
    inner = {(name, key) for name, keys in table.items() if isinstance(keys, dict) for key in keys}
    return inner | {(name,) for name in table}
