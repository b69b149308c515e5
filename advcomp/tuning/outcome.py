"""What a study has found: the best settings as files, and a page."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from advcomp.rules.durable import write_durably
from advcomp.scoring.report.study import StudyMaterial, TrialRow, study_page
from advcomp.tuning.final import final_figures, final_lines
from advcomp.tuning.studies import best_of, importances_of, is_feasible
from advcomp.tuning.subject import EPOCHS, IMAGES, STEPS, VERDICT, WRONG, Subject
from advcomp.tuning.tune_file import TuneFile

BEST, PAGE = "best", "report.html"

_STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
    TrialState.FAIL: "failed",
}


def write_outcome(tune: TuneFile, subject: Subject, study: optuna.Study, folder: Path) -> None:
    """Write the best settings and the page of a study as it is now."""
    write_best(tune, subject, study, folder)
    material = StudyMaterial(
        name=tune.name,
        subject=tune.entry or _training(tune, subject),
        objectives=tuple(str(quantity) for quantity in tune.objective.of),
        maximised=tuple(quantity.is_maximised for quantity in tune.objective.of),
        opponents=() if tune.opponents is None else tune.opponents.validation,
        trials=tuple(_rows(study)),
        best=tuple(trial.number for trial in best_of(study)),
        importances=importances_of(study, tune.objective.of),
        final=tuple(_final(folder)),
    )
    write_durably(folder / PAGE, study_page(material).encode())


def write_best(
    tune: TuneFile, subject: Subject, study: optuna.Study, folder: Path
) -> list[tuple[FrozenTrial, Path]]:
    """The best trials, each with its settings as a file: in `best`, or `best/trial-N` of a front.

    The folder holds no other trial's.
    """
    found = []
    best = best_of(study)
    for trial in best:
        place = folder / BEST if len(tune.objective.of) == 1 else folder / BEST / _name(trial)
        file = place / subject.settings.path.name
        worth = ", ".join(
            f"{quantity} {value:.6g}"
            for quantity, value in zip(tune.objective.of, trial.values, strict=True)
        )
        head = f"# Trial {trial.number} of the study {tune.name}: {worth}.\n"
        place.mkdir(parents=True, exist_ok=True)
        write_durably(file, (head + subject.text_of(trial.params, place)).encode())
        found.append((trial, file))
    for old in (folder / BEST).glob("trial-*"):
        if old.name not in map(_name, best):
            shutil.rmtree(old)
    return found


def _training(tune: TuneFile, subject: Subject) -> str:
    of = "" if tune.train is None else f"{tune.train} of "
    return f"{of}the recipe {subject.settings.path.name}"


def _name(trial: FrozenTrial) -> str:
    return f"trial-{trial.number}"


def _rows(study: optuna.Study) -> Iterator[TrialRow]:
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.WAITING:
            continue
        yield TrialRow(
            number=trial.number,
            state=_state(trial),
            values=tuple(trial.values) if trial.state is TrialState.COMPLETE else (),
            so_far=_so_far(trial),
            settings=dict(trial.params),
            counts=is_feasible(trial),
        )


def _state(trial: FrozenTrial) -> str:
    if WRONG in trial.user_attrs:
        return f"failed: {trial.user_attrs[WRONG]}"
    if trial.state is TrialState.FAIL:
        return "cut off, tried again"
    if trial.state is TrialState.COMPLETE and not is_feasible(trial):
        return "too slow"
    return _STATES[trial.state]


def _so_far(trial: FrozenTrial) -> str:
    told: Mapping[str, object] = trial.user_attrs
    words = [f"{told[key]} {key}" for key in (IMAGES, STEPS, EPOCHS) if key in told]
    if told.get(VERDICT, "OK") != "OK":
        words.append(str(told[VERDICT]))
    return ", ".join(words)


def _final(folder: Path) -> Iterator[str]:
    figures = final_figures(folder)
    if figures is not None and figures.rows:
        yield from final_lines(figures)
