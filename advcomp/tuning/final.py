"""The figure that counts: what came out of a study meets those held out, once.

As the file's settings are and as the best trials' are, on images that no trial has met, where
there are any. Who is met is written down before anybody is, so that a study cannot go on
afterwards.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import optuna
from pydantic import TypeAdapter

from advcomp.errors import InvalidConfig, RunConflict
from advcomp.rules.durable import write_durably
from advcomp.scoring.paired import paired_differences
from advcomp.scoring.standings import Standings, judge
from advcomp.tournament.job.executors import Stop
from advcomp.tuning.entry_subject import EntrySubject
from advcomp.tuning.match import Unwatched
from advcomp.tuning.objective import judged
from advcomp.tuning.studies import best_of
from advcomp.tuning.subject import TuneObserver
from advcomp.tuning.tune_file import TunedQuantity

FINAL = "final.json"
AS_IT_WAS = -1
"""In place of a trial's number: the settings as the file has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRow:
    """How some settings did against those held out.

    Args:
        trial: Whose settings; `AS_IT_WAS` for those of the file.
        score, low, high, worst_case: With the 95 % interval over images.
        gain: The score less that of the settings as they were, and its interval; None for these.
    """

    trial: int
    score: float
    low: float | None
    high: float | None
    worst_case: float
    gain: tuple[float, float | None, float | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalFigures:
    """What meeting those held out gave.

    Args:
        trials: Whose settings were chosen before anybody was met.
        images: How many they met on.
        unseen: Whether no trial has met these images.
        rows: Empty until all is played.
    """

    opponents: tuple[str, ...]
    trials: tuple[int, ...]
    images: int
    unseen: bool
    rows: tuple[FinalRow, ...] = ()


_FIGURES = TypeAdapter(FinalFigures)


def final_figures(folder: Path) -> FinalFigures | None:
    """What has been written down of a study; None where nobody held out was met."""
    file = folder / FINAL
    return _FIGURES.validate_json(file.read_bytes()) if file.exists() else None


def meet_held_out(
    subject: EntrySubject, study: optuna.Study, observer: TuneObserver, stop: Stop
) -> FinalFigures | None:
    """Let the best settings meet those held out, unless they have; None where it was stopped.

    Raises:
        InvalidConfig: Nobody is held out.
        RunConflict: No trial has met all images yet.
        AdvcompError: See `run_tournament`.
    """
    known = final_figures(subject.folder)
    if known is not None and known.rows:
        observer.note("those held out have been met before; these are the figures")
        return known
    figures = known or _chosen(subject, study)
    _save(subject.folder, figures)
    standings: dict[int, Standings] = {}
    by_number = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    for number in (AS_IT_WAS, *figures.trials):
        values = {} if number == AS_IT_WAS else by_number[number].params
        found = _played(subject, figures, subject.written(values), observer, stop)
        if found is None:
            return None
        standings[number] = found
        row = _row(subject, number, standings)
        worth = [row.score, row.worst_case]
        of = (TunedQuantity.SCORE, TunedQuantity.WORST_CASE)
        observer.reached(number, f"{figures.images} images, held out", of, worth)
    rows = tuple(_row(subject, number, standings) for number in standings)
    figures = replace(figures, rows=rows)
    _save(subject.folder, figures)
    return figures


def _chosen(subject: EntrySubject, study: optuna.Study) -> FinalFigures:
    if not subject.cast.final:
        raise InvalidConfig(
            f"{subject.tune.place('opponents')}: expected somebody held out: name them in "
            f"`final`, or mark entries with held_out = true in {subject.tournament.path}"
        )
    best = best_of(study)
    if not best:
        raise RunConflict(
            f"{subject.folder}: expected a trial that has met all images; there is none yet"
        )
    rest = len(subject.dataset) - subject.parts[-1]
    return FinalFigures(
        opponents=tuple(each.name for each in subject.cast.final),
        trials=tuple(trial.number for trial in best),
        images=rest or len(subject.dataset),
        unseen=rest > 0,
    )


def _save(folder: Path, figures: FinalFigures) -> None:
    write_durably(folder / FINAL, json.dumps(asdict(figures), indent=1).encode())


def _played(
    subject: EntrySubject,
    figures: FinalFigures,
    settings: Path,
    observer: TuneObserver,
    stop: Stop,
) -> Standings | None:
    by_name = {each.name: each for each in subject.cast.final}
    opponents = tuple(by_name[name] for name in figures.opponents if name in by_name)
    match = subject.match(subject.folder / "final" / settings.parent.name, opponents)
    images = subject.order[-figures.images :]
    part = match.play(settings, sorted(images), Unwatched(), stop)
    if part is None:
        return None
    subject.tell_failures(part, observer)
    judged([part], subject.cast.entry.name, subject.scoring)
    options = replace(subject.scoring, bootstrap=subject.tournament.scoring.bootstrap)
    return judge(part.results, options)


def _row(subject: EntrySubject, number: int, standings: dict[int, Standings]) -> FinalRow:
    name = subject.cast.entry.name
    found = standings[number]
    place = [score.entry.name for score in found.scores.entries].index(name)
    score, interval = found.scores.entries[place], found.intervals[place]
    return FinalRow(
        trial=number,
        score=float(found.options.absence.plain(score.score) or 0),
        low=interval.score_low,
        high=interval.score_high,
        worst_case=float(score.worst_case or 0),
        gain=None if number == AS_IT_WAS else _gain(standings[AS_IT_WAS], found, name),
    )


def _gain(
    before: Standings, after: Standings, name: str
) -> tuple[float, float | None, float | None] | None:
    for each in paired_differences(before, after):
        if each.submission == name:
            return each.difference, each.low, each.high
    return None


def final_lines(figures: FinalFigures, whose: Sequence[str] = ()) -> list[str]:
    """What meeting those held out gave, in words."""
    which = "that no trial has met" if figures.unseen else "that trials have met, too"
    lines = [
        f"held out: {', '.join(figures.opponents)}, on {figures.images} images {which}",
    ]
    for row in figures.rows:
        name = "as it was" if row.trial == AS_IT_WAS else f"trial {row.trial}"
        text = f"  {name}: score {row.score:.4g}"
        if row.low is not None and row.high is not None:
            text += f" ({row.low:.4g}-{row.high:.4g})"
        text += f", worst case {row.worst_case:.4g}"
        if row.gain is not None:
            gain, low, high = row.gain
            between = "" if low is None or high is None else f" [{low:+.4g}, {high:+.4g}]"
            text += f", gain {gain:+.4g}{between}"
        lines.append(text)
    return lines
