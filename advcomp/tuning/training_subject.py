"""Trials of a training: other values in its recipe, judged by what validates it."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

import optuna

from advcomp.errors import AdvcompError, InvalidConfig, MissingExtra, RunConflict
from advcomp.rules.durable import write_durably
from advcomp.rules.toml_file import parse_toml
from advcomp.rules.toml_parameters import Value
from advcomp.tournament.config import load_tournament
from advcomp.tournament.job.executors import Stop
from advcomp.training.progress import EvaluationReport, RateOf, SilentObserver
from advcomp.tuning.cast import refuse_held_out_files
from advcomp.tuning.edited import moved
from advcomp.tuning.entry_settings import Settings, recipe_of
from advcomp.tuning.subject import (
    TuneObserver,
    Wrong,
    folder_for,
    identity_of,
    settings_text,
    write_settings,
)
from advcomp.tuning.trainings import Training, training_of
from advcomp.tuning.tune_file import PrunerName, TunedQuantity, TuneFile

EVALUATIONS = "evaluations.json"


@dataclass(frozen=True)
class TrainingSubject:
    """A training by a recipe.

    Args:
        folder: The study's.
    """

    tune: TuneFile
    settings: Settings
    folder: Path
    training: Training

    @property
    def first_step(self) -> int:
        """After how many steps or epochs it is first evaluated."""
        return self.training.first

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """What must be the same for a study to go on."""
        name = self.training.name
        return identity_of(self.tune, self.settings) | ({} if name is None else {"train": name})

    def run(
        self, trial: optuna.Trial, seat: Path, observer: TuneObserver, stop: Stop
    ) -> list[float] | None:
        """Train, or go on where a training with these values stopped; see `Subject.run`."""
        folder = self._folder_of(trial)
        recipe = write_settings(
            folder / self.settings.path.name, self.text_of(trial.params, folder)
        )
        kept = folder / EVALUATIONS
        judge = _Judge(trial, self.tune, self.training.unit, kept, observer)
        judge.tell_what_is_known()
        try:
            is_whole = self.training.carry_out(recipe, folder / "training", judge)
        except (RunConflict, MissingExtra):
            raise
        except AdvcompError as error:
            raise Wrong(str(error)) from error
        if not is_whole:
            stop.set()
            return None
        return judge.last

    def forget(self, trial: optuna.Trial, seat: Path) -> None:
        """Remove the checkpoints of a training that was not worth its end."""
        last = trial.storage.get_trial(trial._trial_id)
        if last.state is optuna.trial.TrialState.PRUNED:
            shutil.rmtree(self._folder_of(trial), ignore_errors=True)

    def text_of(self, values: Mapping[str, Value], folder: Path) -> str:
        """The recipe with these values, its paths seen from a folder."""
        text = settings_text(self.tune, self.settings, values)
        return moved(text, parse_toml(text, self.settings.path, self.training.model), folder)

    def _folder_of(self, trial: optuna.Trial) -> Path:
        return folder_for(self.folder / "trainings", trial.params)


def training_subject(tune: TuneFile, folder: Path) -> TrainingSubject:
    """What the file names, checked.

    Raises:
        InvalidConfig: All that is wrong with the file or the recipe.
    """
    settings = recipe_of(tune)
    training = training_of(tune, settings)
    if tune.tournament is not None:
        if not tune.tournament.is_file():
            raise InvalidConfig(f"{tune.place('tournament')}: there is no {tune.tournament}")
        refuse_held_out_files(tune, load_tournament(tune.tournament), training.weights)
    return TrainingSubject(tune=tune, settings=settings, folder=folder, training=training)


class _Judge(SilentObserver):
    """Hears what a training's evaluations found, and ends it where it is not worth going on.

    What they found is kept beside the training: it may go on after its last evaluation, in
    another trial.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        tune: TuneFile,
        unit: str,
        kept: Path,
        observer: TuneObserver,
    ) -> None:
        self._trial, self._tune, self._kept, self._observer = trial, tune, kept, observer
        self._unit = unit
        self._worth: dict[int, list[float]] = {}
        self._steps = 0
        if kept.exists():
            read = json.loads(kept.read_text(encoding="utf-8"))
            self._worth = {int(step): values for step, values in read.items()}

    @property
    def last(self) -> list[float]:
        """What the last evaluation found."""
        return self._worth[max(self._worth)]

    def tell_what_is_known(self) -> None:
        """Report what was found before this trial."""
        for at, worth in self._worth.items():
            self._report(at, worth)

    def started(self, name: str, first_step: int, steps: int, images_a_step: int) -> None:
        """Hear how long the training is."""
        self._steps = steps

    def evaluated(self, report: EvaluationReport) -> None:
        """Compare the training with others.

        Raises:
            TrialPruned: It is behind.
        """
        worth = [worth_of(report, quantity) for quantity in self._tune.objective.of]
        at = report.step if report.epoch is None else report.epoch
        is_new = at not in self._worth
        self._worth[at] = worth
        write_durably(self._kept, json.dumps(self._worth).encode())
        so_far = f"{at} {self._unit}"
        self._observer.reached(self._trial.number, so_far, self._tune.objective.of, worth)
        if is_new:
            self._report(at, worth)
        halving, is_last = self._tune.pruner is PrunerName.HALVING, report.step >= self._steps
        if halving and not is_last and self._trial.should_prune():
            raise optuna.TrialPruned

    def _report(self, at: int, worth: Sequence[float]) -> None:
        self._trial.set_user_attr(self._unit, at)
        if len(worth) == 1:
            self._trial.report(worth[0], step=at)


def worth_of(report: EvaluationReport, quantity: TunedQuantity) -> float:
    """The mean over classifiers and budgets, or the least classifier's mean over budgets.

    Of what is trained to classify, the least is over budgets.
    """
    if quantity is TunedQuantity.CLEAN_ACCURACY:
        return fmean(report.clean_rates.values())
    if report.of is RateOf.RIGHT and quantity is TunedQuantity.WORST_CASE:
        return min(report.rates.values())
    by_classifier: dict[str, list[float]] = {}
    for (name, _), rate in report.rates.items():
        by_classifier.setdefault(name, []).append(rate)
    means = [fmean(rates) for rates in by_classifier.values()]
    return min(means) if quantity is TunedQuantity.WORST_CASE else fmean(means)
