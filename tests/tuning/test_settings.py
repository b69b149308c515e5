"""Settings are changed in place; a space that they do not have is refused before anything runs."""

import re
import tomllib
from pathlib import Path

import pytest

from advcomp.errors import InvalidConfig
from advcomp.tournament.entry.entries import EntrySource, Role
from advcomp.tuning.edited import edited, value_at
from advcomp.tuning.entry_settings import refuse_misfit, settings_of
from advcomp.tuning.tune_file import TuneFile, load_tune_file

TEXT = """\
# Kept.
decay = 1.0     # kept, too

[parameters]
steps = 10

[[targets]]
weight = 1.0
"""


def test_only_the_values_change() -> None:
    values = {
        ("decay",): 0.5,
        ("parameters", "steps"): 3,
        ("targets", "0", "weight"): 2.5,
        ("weights", "surrogate_1"): 0.1,
    }
    text = edited(TEXT, values)
    assert text.startswith("# Kept.\ndecay = 0.5     # kept, too\n\n[parameters]\nsteps = 3\n")
    read = tomllib.loads(text)
    assert {key: value_at(read, key) for key in values} == values


@pytest.mark.parametrize("key", [("targets", "1", "weight"), ("decay", "x"), ("targets", "x")])
def test_a_place_that_is_not_there_is_an_error(key: tuple[str, ...]) -> None:
    with pytest.raises(KeyError):
        edited(TEXT, {key: 1})


def tuning(folder: Path, space: str, text: str, name: str) -> tuple[TuneFile, EntrySource]:
    entry = folder / "entry"
    entry.mkdir()
    (entry / name).write_text(text)
    (entry / "surrogate_1.safetensors").touch()
    path = folder / "tune.toml"
    path.write_text(
        f'name = "t"\ntournament = "t.toml"\nentry = "entry"\nsettings = "{name}"\n'
        f'[opponents]\nvalidation = ["a"]\n[space]\n{space}\n'
    )
    return load_tune_file(path), EntrySource(path=entry, name="entry", role=Role.ATTACK)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            "parameters.stepsize = { low = 0.1, high = 1.0 }",
            'expected a parameter of "mi_fgsm": .*; the nearest is "step_size"',
        ),
        ("parameters.steps = { low = 0.5, high = 2.5 }", "expected int; got 0.5"),
        ("weights.surrogate_2 = { low = 0.5, high = 2.5 }", "expected a surrogate .*surrogate_1"),
        ('fusion = { choices = ["logits", "loss"] }', '"loss" is refused'),
        ("fussion = { low = 0, high = 1 }", 'the nearest is "fusion"'),
        ('attack = { choices = ["fgsm", "pgd"] }', "tune one attack at a time"),
    ],
)
def test_what_the_librarys_attack_does_not_take_is_named(
    tmp_path: Path, space: str, said: str
) -> None:
    tune, entry = tuning(tmp_path, space, 'attack = "mi_fgsm"\n', "attack.toml")
    with pytest.raises(InvalidConfig) as refusal:
        refuse_misfit(tune, settings_of(tune, entry), entry)
    assert re.search(said, str(refusal.value))
    assert "tune.toml:8: [space]" in str(refusal.value)


def test_a_defense_is_checked_alike(tmp_path: Path) -> None:
    space = "parameters.size = { low = 2, high = 3 }\nparameters.sise = { low = 2, high = 3 }"
    tune, entry = tuning(tmp_path, space, 'defense = "median_filter"\n', "defense.toml")
    with pytest.raises(InvalidConfig) as refusal:
        refuse_misfit(tune, settings_of(tune, entry), entry)
    (problem,) = refusal.value.problems
    assert 'sise: expected a parameter of "median_filter": size; the nearest is "size"' in problem


def test_what_fits_is_taken(tmp_path: Path) -> None:
    space = (
        "parameters.decay = { low = 0.0, high = 2.0 }\nparameters.steps = { low = 1, high = 9 }\n"
        "weights.surrogate_1 = { low = 0.5, high = 2.0 }\nbatch_size = { low = 1, high = 8 }"
    )
    text = 'attack = "mi_fgsm"\nbatch_size = 4\n[weights]\nsurrogate_1 = 1.0\n'
    text += "[parameters]\ndecay = 1.0\nsteps = 5\n"
    tune, entry = tuning(tmp_path, space, text, "attack.toml")
    settings = settings_of(tune, entry)
    refuse_misfit(tune, settings, entry)
    assert settings.present(tune.dimensions) == {
        "parameters.decay": 1.0,
        "parameters.steps": 5,
        "weights.surrogate_1": 1.0,
        "batch_size": 4,
    }


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("shar = { low = 0.0, high = 1.0 }", 'the nearest is "share"'),
        ('share = { choices = ["a", "b"] }', 'expected values like the one in .*, 0.0; got "a"'),
    ],
)
def test_anothers_settings_say_what_can_be_tuned(tmp_path: Path, space: str, said: str) -> None:
    tune, entry = tuning(tmp_path, space, "share = 0.0\n", "darker.toml")
    with pytest.raises(InvalidConfig) as refusal:
        refuse_misfit(tune, settings_of(tune, entry), entry)
    assert re.search(said, str(refusal.value))


def test_an_entry_without_the_file_is_told_how_to_lay_one_over_it(tmp_path: Path) -> None:
    tune, entry = tuning(tmp_path, "a = { low = 0, high = 1 }", "a = 0\n", "a.toml")
    (entry.path / "a.toml").unlink()
    with pytest.raises(InvalidConfig, match=r'there is no .*a\.toml; .*files."a.toml" = '):
        settings_of(tune, entry)
