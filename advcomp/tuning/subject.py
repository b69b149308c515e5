"""What a study does not know of what is tuned."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import optuna

from advcomp.rules.durable import write_durably
from advcomp.rules.toml_parameters import Value
from advcomp.tournament.job.executors import Stop
from advcomp.tuning.edited import edited
from advcomp.tuning.entry_settings import Settings
from advcomp.tuning.space import Dimension
from advcomp.tuning.tune_file import TunedQuantity, TuneFile

IMAGES, VERDICT, STEPS, EPOCHS, WRONG = "images", "verdict", "steps", "epochs", "wrong"
"""What is written down of a trial besides its values."""


class TuneObserver(Protocol):
    """Whoever watches a study: the terminal."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def began(self, number: int, values: Mapping[str, object]) -> None:
        """A trial begins, with these values of the space."""

    def reached(
        self, number: int, so_far: str, of: Sequence[TunedQuantity], worth: Sequence[float]
    ) -> None:
        """A trial has got so far, and is worth this there."""

    def ended(self, number: int, how: str) -> None:
        """A trial has ended."""


class Wrong(Exception):
    """Values with which a trial cannot come to an end; they are to blame, nothing else."""


class Subject(Protocol):
    """An entry or a training."""

    @property
    def settings(self) -> Settings:
        """What is tuned."""

    @property
    def identity(self) -> Mapping[str, object]:
        """What must be the same for a study to go on; plain JSON data."""

    @property
    def first_step(self) -> int:
        """After how many images, steps or epochs a trial is first compared."""

    def run(
        self, trial: optuna.Trial, seat: Path, observer: TuneObserver, stop: Stop
    ) -> list[float] | None:
        """Carry a trial out, and say what it is worth; None where it was stopped.

        Raises:
            TrialPruned: It is not worth going on.
            Wrong: Its values do not work.
            AdvcompError: Something else does not.
        """

    def forget(self, trial: optuna.Trial, seat: Path) -> None:
        """Remove what nobody needs after a trial."""

    def text_of(self, values: Mapping[str, Value], folder: Path) -> str:
        """The settings with these values of the space, to stand in a folder."""


def values_by_key(
    space: Sequence[Dimension], values: Mapping[str, Value]
) -> dict[tuple[str, ...], Value]:
    """Values by the way to them, from values by name."""
    return {each.key: values[each.name] for each in space if each.name in values}


def settings_text(tune: TuneFile, settings: Settings, values: Mapping[str, Value]) -> str:
    """What is tuned, with these values."""
    return edited(settings.text, values_by_key(tune.dimensions, values))


def folder_for(parent: Path, values: Mapping[str, object]) -> Path:
    """A folder of these values alone: whoever tries them again finds what was done."""
    text = json.dumps(values, sort_keys=True)
    return parent / hashlib.sha256(text.encode()).hexdigest()[:12]


def write_settings(path: Path, text: str) -> Path:
    """Write settings, unless they stand there already."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, text.encode())
    return path


def identity_of(tune: TuneFile, settings: Settings) -> dict[str, object]:
    """What a study is about, whatever is tuned, by dotted key."""
    trials = tune.trials
    return {
        "space": json.dumps(tune.space, sort_keys=True),
        "[objective] of": [str(quantity) for quantity in tune.objective.of],
        "[objective] seconds_per_100_images": tune.objective.seconds_per_100_images,
        "[trials] first_images": trials.first_images,
        "[trials] growth": trials.growth,
        "[trials] images": trials.images,
        "[trials] seed": trials.seed,
        settings.path.name: hashlib.sha256(settings.text.encode()).hexdigest()[:12],
    }
