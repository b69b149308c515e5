"""`advcomp tune` in a terminal: what is tried, what it is worth, and what to do next."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from advcomp.errors import INTERRUPTED, InvalidConfig
from advcomp.rules.lock import turn
from advcomp.terminal.extras import extra_at_hand
from advcomp.terminal.interrupts import stopping_on_signals
from advcomp.terminal.run_command import near
from advcomp.terminal.text import one_line
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.runner import RunOptions

if TYPE_CHECKING:
    import optuna

    from advcomp.tuning.subject import Subject
    from advcomp.tuning.tune_file import TuneFile


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """What `advcomp tune` was given; None and False where nothing."""

    out: Path | None = None
    sandbox: str | None = None
    trusting: bool = False
    jobs: int | None = None
    final: bool = False
    lost: str | None = None


def tune_in_terminal(file: Path, options: TuneOptions) -> int:
    """Go on with a study, show how it goes and what came out; returns the exit code.

    Raises:
        MissingExtra: Optuna is not installed, or what a training or the library needs.
        AdvcompError: Something is wrong with the file or what it names, or a trial failed.
    """
    with extra_at_hand("tune"):
        from advcomp.tuning.tune_file import load_tune_file

        tune = load_tune_file(file)
        import optuna  # noqa: F401 - whoever lacks it is told before anything is read
        import tomlkit  # noqa: F401
    folder = (options.out or Path("studies") / tune.name).resolve()
    with extra_at_hand("players" if tune.recipe is None else "train"):
        subject = _subject(tune, folder, options)
    from advcomp.tuning.studies import open_study

    folder.mkdir(parents=True, exist_ok=True)
    with turn(folder):
        study = open_study(tune, folder, subject.identity, subject.first_step)
    stop = Stop()
    with stopping_on_signals(stop, _again(file, options)):
        work = _meet_held_out if options.final else _search
        work(tune, subject, study, folder, options, stop)
    if stop:
        print(f"stopped; to go on: {_again(file, options)}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _subject(tune: "TuneFile", folder: Path, options: TuneOptions) -> "Subject":
    from advcomp.tuning.entry_subject import entry_subject
    from advcomp.tuning.training_subject import training_subject

    if tune.recipe is None:
        assert tune.tournament is not None
        runs = RunOptions(
            file=tune.tournament,
            backend=options.sandbox,
            trusting=options.trusting,
            jobs=options.jobs,
        )
        return entry_subject(tune, folder, runs)
    given = {"--sandbox": options.sandbox, "--jobs": options.jobs, "--final": options.final}
    if useless := [name for name, value in given.items() if value]:
        raise InvalidConfig(
            f"{tune.path}: tuning a training takes no {', '.join(useless)}; export its best "
            "checkpoint, and let it play"
        )
    return training_subject(tune, folder)


def _search(
    tune: "TuneFile",
    subject: "Subject",
    study: "optuna.Study",
    folder: Path,
    options: TuneOptions,
    stop: Stop,
) -> None:
    from advcomp.tuning.outcome import PAGE, write_best, write_outcome
    from advcomp.tuning.search import Search, named

    search = Search(
        tune=tune,
        subject=subject,
        study=study,
        folder=folder,
        observer=_Lines(),
        keep=partial(write_outcome, tune, subject, study, folder),
        lost_host=options.lost,
    )
    search.go_on(stop)
    with turn(folder):
        write_outcome(tune, subject, study, folder)
        best = write_best(tune, subject, study, folder)
    for trial, file in best:
        worth = ", ".join(
            f"{quantity} {value:.4g}"
            for quantity, value in zip(tune.objective.of, trial.values, strict=True)
        )
        print(f"best: trial {trial.number}: {worth}; {named(trial.params)}")
        print(f"  settings: {near(file)}")
    if not best:
        print("no trial has come to its end, or all are slower than the objective allows")
    print(f"page: {near(folder / PAGE)}")


def _meet_held_out(
    tune: "TuneFile",
    subject: "Subject",
    study: "optuna.Study",
    folder: Path,
    options: TuneOptions,
    stop: Stop,
) -> None:
    from advcomp.tuning.entry_subject import EntrySubject
    from advcomp.tuning.final import FINAL, final_lines, meet_held_out
    from advcomp.tuning.outcome import write_outcome
    from advcomp.tuning.seats import seated

    assert isinstance(subject, EntrySubject)
    with seated(folder), turn(folder):
        figures = meet_held_out(subject, study, _Lines(), stop)
        if figures is None:
            return
        write_outcome(tune, subject, study, folder)
    for line in final_lines(figures):
        print(line)
    print(f"written down in {near(folder / FINAL)}")


def _again(file: Path, options: TuneOptions) -> str:
    """The command that goes on with a study."""
    words: list[str | Path] = ["advcomp", "tune", near(file)]
    if options.out is not None:
        words += ["--out", near(options.out)]
    if options.sandbox is not None:
        words += ["--sandbox", options.sandbox]
    if options.trusting:
        words.append("--i-trust-these-submissions")
    if options.jobs is not None:
        words += ["--jobs", str(options.jobs)]
    if options.final:
        words.append("--final")
    return shlex.join(map(str, words))


class _Lines:
    """A line for everything that happens to a trial."""

    def note(self, text: str) -> None:
        """Show a note."""
        self._say(text)

    def began(self, number: int, values: Mapping[str, object]) -> None:
        """Show what is tried."""
        from advcomp.tuning.search import named

        self._say(f"trial {number}: {named(values)}")

    def reached(self, number: int, so_far: str, of: Sequence[str], worth: Sequence[float]) -> None:
        """Show what it is worth so far."""
        told = ", ".join(f"{name} {value:.4g}" for name, value in zip(of, worth, strict=True))
        whose = "as it was" if number < 0 else f"trial {number}"
        self._say(f"{whose}: {so_far}: {told}")

    def ended(self, number: int, how: str) -> None:
        """Show how it ended."""
        self._say(f"trial {number}: {how}")

    def _say(self, text: str) -> None:
        print(one_line(text), file=sys.stderr, flush=True)
