"""Trials of a training: other values in its recipe, judged by its validation classifiers."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import optuna

from advcomp.errors import AdvcompError, InvalidConfig, MissingExtra, RunConflict
from advcomp.rules.durable import write_durably
from advcomp.rules.toml_file import parse_toml
from advcomp.rules.toml_parameters import Value
from advcomp.tournament.config import load_tournament
from advcomp.tournament.job.executors import Stop
from advcomp.training.progress import EvaluationReport, SilentObserver
from advcomp.tuning.cast import refuse_held_out_files
from advcomp.tuning.edited import moved
from advcomp.tuning.entry_settings import Settings, recipe_of, refuse_misfit_of_recipe
from advcomp.tuning.subject import (
    STEPS,
    TuneObserver,
    Wrong,
    folder_for,
    identity_of,
    settings_text,
    write_settings,
)
from advcomp.tuning.tune_file import PrunerName, TunedQuantity, TuneFile

if TYPE_CHECKING:
    from advcomp.attacknet.recipe import AttackNetworkRecipe

EVALUATIONS = "evaluations.json"


@dataclass(frozen=True)
class TrainingSubject:
    """The training of an attack network.

    Args:
        folder: The study's.
        first_step: After how many steps it is first evaluated.
    """

    tune: TuneFile
    settings: Settings
    folder: Path
    first_step: int

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """What must be the same for a study to go on."""
        return identity_of(self.tune, self.settings)

    def run(
        self, trial: optuna.Trial, seat: Path, observer: TuneObserver, stop: Stop
    ) -> list[float] | None:
        """Train, or go on where a training with these values stopped; see `Subject.run`."""
        from advcomp.attacknet.train import train_attack_network
        from advcomp.training.launch import Launch

        folder = self._folder_of(trial)
        recipe = write_settings(
            folder / self.settings.path.name, self.text_of(trial.params, folder)
        )
        judge = _Judge(trial, self.tune, folder / EVALUATIONS, observer)
        judge.tell_what_is_known()
        try:
            alone = Launch()  # whatever started the processes of a study, each trains by itself
            trained = train_attack_network(recipe, judge, out=folder / "training", launch=alone)
        except (RunConflict, MissingExtra):
            raise
        except AdvcompError as error:
            raise Wrong(str(error)) from error
        if trained.interrupted:
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
        return moved(text, _read(text, self.settings.path), folder)

    def _folder_of(self, trial: optuna.Trial) -> Path:
        return folder_for(self.folder / "trainings", trial.params)


def training_subject(tune: TuneFile, folder: Path) -> TrainingSubject:
    """What the file names, checked.

    Raises:
        InvalidConfig: All that is wrong with the file or the recipe.
    """
    settings = recipe_of(tune)
    refuse_misfit_of_recipe(tune, settings)
    recipe = _read(settings.text, settings.path)
    if tune.tournament is not None:
        if not tune.tournament.is_file():
            raise InvalidConfig(f"{tune.place('tournament')}: there is no {tune.tournament}")
        weights = [
            *(("targets", item.weights) for item in recipe.targets),
            *(("validation", item.weights) for item in recipe.validation),
        ]
        refuse_held_out_files(tune, load_tournament(tune.tournament), weights)
    return TrainingSubject(
        tune=tune, settings=settings, folder=folder, first_step=recipe.output.evaluate_every
    )


def _read(text: str, path: Path) -> "AttackNetworkRecipe":
    from advcomp.attacknet.recipe import AttackNetworkRecipe

    return parse_toml(text, path, AttackNetworkRecipe)


class _Judge(SilentObserver):
    """Hears what a training's evaluations found, and ends it where it is not worth going on.

    What they found is kept beside the training: it may go on after its last evaluation, in
    another trial.
    """

    def __init__(
        self, trial: optuna.Trial, tune: TuneFile, kept: Path, observer: TuneObserver
    ) -> None:
        self._trial, self._tune, self._kept, self._observer = trial, tune, kept, observer
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
        for step, worth in self._worth.items():
            self._report(step, worth)

    def started(self, name: str, first_step: int, steps: int, images_a_step: int) -> None:
        """Hear how long the training is."""
        self._steps = steps

    def evaluated(self, report: EvaluationReport) -> None:
        """Compare the training with others.

        Raises:
            TrialPruned: It is behind.
        """
        worth = [_worth(report, quantity) for quantity in self._tune.objective.of]
        is_new = report.step not in self._worth
        self._worth[report.step] = worth
        write_durably(self._kept, json.dumps(self._worth).encode())
        so_far = f"{report.step} steps"
        self._observer.reached(self._trial.number, so_far, self._tune.objective.of, worth)
        if is_new:
            self._report(report.step, worth)
        halving, is_last = self._tune.pruner is PrunerName.HALVING, report.step >= self._steps
        if halving and not is_last and self._trial.should_prune():
            raise optuna.TrialPruned

    def _report(self, step: int, worth: Sequence[float]) -> None:
        self._trial.set_user_attr(STEPS, step)
        if len(worth) == 1:
            self._trial.report(worth[0], step=step)


def _worth(report: EvaluationReport, quantity: TunedQuantity) -> float:
    """The mean over classifiers and budgets, or the mean over budgets of the least classifier."""
    by_classifier: dict[str, list[float]] = {}
    for (name, _), rate in report.rates.items():
        by_classifier.setdefault(name, []).append(rate)
    means = [fmean(rates) for rates in by_classifier.values()]
    return min(means) if quantity is TunedQuantity.WORST_CASE else fmean(means)
