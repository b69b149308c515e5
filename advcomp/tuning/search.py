"""The search itself: ask for values, try them, tell what they are worth; until it is enough."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from advcomp.errors import RunConflict
from advcomp.rules.lock import turn
from advcomp.tournament.job.executors import Stop
from advcomp.tuning.final import FINAL
from advcomp.tuning.seats import AGAIN, HOST, SEAT, elsewhere, requeue, seated, take_up_lost
from advcomp.tuning.studies import best_of, distributions_of, is_done, sampler_for
from advcomp.tuning.subject import WRONG, Subject, TuneObserver, Wrong
from advcomp.tuning.tune_file import TuneFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A study, and what it is about.

    Args:
        folder: Where it is kept.
        lost_host: A machine whose running trials are lost.
        keep: Writes down what has been found so far.
    """

    tune: TuneFile
    subject: Subject
    study: optuna.Study
    folder: Path
    observer: TuneObserver
    keep: Callable[[], None]
    lost_host: str | None = None

    def go_on(self, stop: Stop) -> None:
        """Carry out trials until the study has as many as its file asks for, or is stopped.

        Raises:
            AdvcompError: A trial could not be carried out; it is tried again the next time.
        """
        with seated(self.folder) as seat:
            self._begin(seat)
            while not stop and (trial := self._ask(seat)):
                self._carry_out(trial, seat, stop)
                with turn(self.folder):
                    self.keep()

    def _begin(self, seat: Path) -> None:
        with turn(self.folder):
            for number in take_up_lost(self.study, seat, self.lost_host):
                self.observer.note(f"trial {number} was cut off; its values are tried again")
            trials = self.study.get_trials(deepcopy=False)
            present = self.subject.settings.present(self.tune.dimensions)
            if not trials and present is not None:
                self.study.enqueue_trial(present)
        for host, running in elsewhere(self.study).items():
            self.observer.note(
                f"{running} of the trials run on {host}; if that machine is gone: --lost {host}"
            )

    def _ask(self, seat: Path) -> optuna.Trial | None:
        """The next trial; None where there are enough.

        Raises:
            RunConflict: The study has been judged by those held out.
        """
        with turn(self.folder):
            trials = self.study.get_trials(deepcopy=False)
            running = sum(trial.state is TrialState.RUNNING for trial in trials)
            if sum(map(is_done, trials)) + running >= self.tune.trials.count:
                return None
            if (self.folder / FINAL).exists():
                raise RunConflict(
                    f"{self.folder}: its best has met those held out; what is tuned after that is "
                    "tuned on them: begin another study, by another name and with others held out"
                )
            self.study.sampler = sampler_for(self.tune, len(trials))
            trial = self.study.ask(distributions_of(self.tune.dimensions))
            trial.set_user_attr(HOST, socket.gethostname())
            trial.set_user_attr(SEAT, seat.name)
            return trial

    def _carry_out(self, trial: optuna.Trial, seat: Path, stop: Stop) -> None:
        self.observer.began(trial.number, trial.params)
        if AGAIN in trial.user_attrs:
            self.observer.note(f"trial {trial.number} is trial {trial.user_attrs[AGAIN]} again")
        try:
            values = self.subject.run(trial, seat, self.observer, stop)
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED)
            how = "pruned"
        except Wrong as error:
            trial.set_user_attr(WRONG, str(error))
            self.study.tell(trial, state=TrialState.FAIL)
            how = f"failed: {error}"
        except BaseException:
            self._put_back(trial)
            raise
        else:
            if values is None:
                self._put_back(trial)
                self.observer.ended(trial.number, "stopped; its values wait")
                return
            self.study.tell(trial, values)
            best = [each.number for each in best_of(self.study)]
            how = "best so far" if trial.number in best else "done"
        self.subject.forget(trial, seat)
        self.observer.ended(trial.number, how)

    def _put_back(self, trial: optuna.Trial) -> None:
        with turn(self.folder):
            (frozen,) = (
                each
                for each in self.study.get_trials(deepcopy=False)
                if each.number == trial.number
            )
            if frozen.state is TrialState.RUNNING:
                requeue(self.study, frozen)


def named(values: Mapping[str, object]) -> str:
    """Values in words: `parameters.decay = 1.05, fusion = losses`."""
    return ", ".join(
        f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in values.items()
    )
