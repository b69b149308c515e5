"""Trials of an entry: other settings of it, against its validation opponents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import optuna

from advcomp.errors import InvalidConfig
from advcomp.rules.dataset import Dataset
from advcomp.rules.toml_parameters import Value
from advcomp.scoring.standings import ScoringOptions
from advcomp.tournament.config import Tournament, load_tournament
from advcomp.tournament.entry.entries import EntrySource
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.outcome.collect import Collected
from advcomp.tournament.runner import RunOptions
from advcomp.tournament.source import open_dataset
from advcomp.tuning.cast import Cast, cast_of
from advcomp.tuning.entry_settings import Settings, refuse_misfit, settings_of
from advcomp.tuning.match import TrialMatch, Unwatched, failures_in, order_of, parts_of
from advcomp.tuning.objective import Judged, judged
from advcomp.tuning.studies import OVER
from advcomp.tuning.subject import (
    IMAGES,
    VERDICT,
    TuneObserver,
    folder_for,
    identity_of,
    settings_text,
    write_settings,
)
from advcomp.tuning.tune_file import PrunerName, TuneFile


@dataclass(frozen=True)
class EntrySubject:
    """An entry of a tournament.

    Args:
        folder: The study's.
        options: How its runs are made.
    """

    tune: TuneFile
    tournament: Tournament
    cast: Cast
    settings: Settings
    dataset: Dataset
    folder: Path
    options: RunOptions

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """What must be the same for a study to go on."""
        contest = self.tournament.identity("", self.dataset.digest)
        del contest["[sandbox] backend"]
        return {
            **contest,
            **identity_of(self.tune, self.settings),
            "entry": self.cast.entry.name,
            "[opponents] validation": [each.name for each in self.cast.validation],
        }

    @cached_property
    def _told(self) -> set[str]:
        """Of whom it has been told that runs of theirs failed."""
        return set()

    @cached_property
    def order(self) -> list[int]:
        """All images, in the order in which trials meet them."""
        return order_of(self.dataset, self.tune.trials.seed)

    @cached_property
    def parts(self) -> tuple[int, ...]:
        """After how many images trials are compared; the last of all that they meet."""
        wanted = self.tune.trials.images or len(self.dataset)
        return parts_of(wanted, self.tune.trials.first_images, self.tune.trials.growth)

    @property
    def first_step(self) -> int:
        """After how many images a trial is first compared."""
        return self.parts[0]

    @property
    def scoring(self) -> ScoringOptions:
        """As the tournament has it, without intervals."""
        table = self.tournament.scoring
        return ScoringOptions(absence=table.absence, opponents=table.opponents, bootstrap=0)

    def match(self, folder: Path, opponents: tuple[EntrySource, ...]) -> TrialMatch:
        """The entry against some opponents, kept in a folder."""
        assert self.tune.settings is not None
        return TrialMatch(
            tournament=self.tournament,
            dataset=self.dataset,
            entry=self.cast.entry,
            opponents=opponents,
            options=replace(self.options, out=folder),
            inside=self.tune.settings,
        )

    def run(
        self, trial: optuna.Trial, seat: Path, observer: TuneObserver, stop: Stop
    ) -> list[float] | None:
        """Meet the opponents on a growing part of the images; see `Subject.run`."""
        match = self.match(seat, self.cast.validation)
        settings = self.written(trial.params)
        met: list[Collected] = []
        begun = 0
        for count in self.parts:
            chosen = sorted(self.order[begun:count])
            part = match.play(settings, chosen, Unwatched(), stop)
            if part is None:
                return None
            met.append(part)
            self.tell_failures(part, observer)  # they may be why nothing can be judged
            found = judged(met, self.cast.entry.name, self.scoring)
            self._write_down(trial, count, found)
            worth = found.values(self.tune.objective.of)
            observer.reached(trial.number, f"{count} images", self.tune.objective.of, worth)
            if self._is_hopeless(trial, chosen, count, found, worth):
                raise optuna.TrialPruned
            begun = count
        return worth

    def tell_failures(self, part: Collected, observer: TuneObserver) -> None:
        """Tell whose runs failed; of each entry once, for most do so in every trial."""
        for name, how in failures_in(part).items():
            if name not in self._told:
                self._told.add(name)
                observer.note(
                    f"{name}: {how}; to see all it wrote: advcomp run {self.tournament.path}, "
                    "then advcomp logs"
                )

    def forget(self, trial: optuna.Trial, seat: Path) -> None:
        """Remove images and labels of the entry with these settings."""
        self.match(seat, self.cast.validation).forget()

    def text_of(self, values: Mapping[str, Value], folder: Path) -> str:
        """The settings with these values; they stand anywhere."""
        return settings_text(self.tune, self.settings, values)

    def written(self, values: Mapping[str, Value]) -> Path:
        """The settings with these values, as a file."""
        folder = folder_for(self.folder / "settings", values)
        return write_settings(folder / self.settings.path.name, self.text_of(values, folder))

    def _write_down(self, trial: optuna.Trial, count: int, found: Judged) -> None:
        trial.set_user_attr(IMAGES, count)
        trial.set_user_attr(VERDICT, str(found.verdict))
        most = self.tune.objective.seconds_per_100_images
        if most is not None:
            trial.set_constraint(OVER, found.seconds - most)

    def _is_hopeless(
        self,
        trial: optuna.Trial,
        chosen: Sequence[int],
        count: int,
        found: Judged,
        worth: Sequence[float],
    ) -> bool:
        """Tell what was reached, and ask whether to go on."""
        is_last = count == self.parts[-1]
        match self.tune.pruner:
            case PrunerName.NONE:
                return False
            case PrunerName.HALVING:
                trial.report(worth[0], step=count)
                return not is_last and trial.should_prune()
            case PrunerName.WILCOXON:
                return self._is_behind(trial, chosen, count, found) and not is_last

    def _is_behind(
        self, trial: optuna.Trial, chosen: Sequence[int], count: int, found: Judged
    ) -> bool:
        """Whether it loses against the best trial, image by image."""
        met = sorted(self.order[:count])  # `by_image` is by ImageId, as the dataset's order is
        worth = dict(zip(met, found.by_image.tolist(), strict=True))
        for image in chosen:
            trial.report(worth[image], step=image)
        behind = trial.should_prune()
        if behind and count < self.parts[-1]:
            # Samplers rank those that were pruned by the last step and what it was worth.
            trial.report(found.score, step=len(self.dataset) + count)
        return behind


def entry_subject(tune: TuneFile, folder: Path, options: RunOptions) -> EntrySubject:
    """What the file names, checked.

    Raises:
        AdvcompError: All that is wrong with the file, the tournament or the dataset.
    """
    assert tune.tournament is not None
    if not tune.tournament.is_file():
        raise InvalidConfig(f"{tune.place('tournament')}: there is no {tune.tournament}")
    tournament = load_tournament(tune.tournament)
    cast = cast_of(tune, tournament)
    settings = settings_of(tune, cast.entry)
    refuse_misfit(tune, settings, cast.entry)
    dataset = open_dataset(tournament)
    wanted = tune.trials.images or len(dataset)
    if wanted > len(dataset):
        raise InvalidConfig(
            f"{tune.place('trials', 'images')}: expected at most the {len(dataset)} images of "
            f"{tournament.path}; got {wanted}"
        )
    return EntrySubject(
        tune=tune,
        tournament=tournament,
        cast=cast,
        settings=settings,
        dataset=dataset,
        folder=folder,
        options=options,
    )
