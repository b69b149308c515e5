"""A study of Optuna's: where it is kept, who proposes values, who ends trials early.

Many processes, on many machines, may work on one study: each asks for a trial in its turn, says
who it is, and tells what came out. A sampler is made anew for every trial, from the seed and the
number of trials so far, so that a study goes on as if it had never stopped, and no two processes
draw the same values.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from advcomp.errors import InvalidConfig, RunConflict
from advcomp.tournament.config import difference
from advcomp.tuning.space import Choices, Dimension
from advcomp.tuning.tune_file import PrunerName, SamplerName, TunedQuantity, TuneFile

JOURNAL = "journal.log"
IDENTITY = "identity"
OVER = "seconds_over"
"""The constraint: by how many seconds a trial is over the time that the objective allows."""
ENOUGH_FOR_WILCOXON = 8
"""Images on which two trials are compared at the soonest."""
P_WORSE = 0.1


def open_study(
    tune: TuneFile, folder: Path, identity: Mapping[str, object], first_step: int
) -> optuna.Study:
    """The study that a file describes, begun or gone on with.

    Args:
        identity: What must be the same for a study to go on; plain JSON data.
        first_step: After how many images, steps or epochs a trial is first compared.

    Raises:
        InvalidConfig: Its storage cannot be opened.
        RunConflict: It was begun with other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [
        StudyDirection.MAXIMIZE if quantity.is_maximised else StudyDirection.MINIMIZE
        for quantity in tune.objective.of
    ]
    study = optuna.create_study(
        storage=storage_of(tune, folder),
        study_name=tune.name,
        directions=directions,
        pruner=_pruner(tune, first_step),
        load_if_exists=True,
    )
    refuse_another(study, folder, identity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([str(quantity) for quantity in tune.objective.of])
    return study


def storage_of(tune: TuneFile, folder: Path) -> BaseStorage:
    """A journal beside the study's other files, or the database that the file names.

    Raises:
        InvalidConfig: The database cannot be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if tune.storage == "journal":
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return RDBStorage(tune.storage)
    except (SQLAlchemyError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise InvalidConfig(
            f'{tune.place("storage")}: expected "journal" or the URL of a database that can be '
            f"opened; got: {first}"
        ) from error


def refuse_another(study: optuna.Study, folder: Path, identity: Mapping[str, object]) -> None:
    """Refuse to go on with a study that was begun with other settings; a new one remembers them.

    Raises:
        RunConflict: All that differs.
    """
    begun = study.user_attrs.get(IDENTITY)
    if begun is None:
        study.set_user_attr(IDENTITY, dict(identity))
    elif changes := difference(begun, identity):
        raise RunConflict(
            f"{folder}: this study was begun with other settings; change them back, or give it "
            "another name",
            *(f"  {change}" for change in changes),
        )


def sampler_for(tune: TuneFile, trials: int) -> BaseSampler:
    """What proposes the values of the trial that comes after so many."""
    seed = (tune.trials.seed * 1_000_003 + trials) % 2**32
    if tune.trials.sampler is SamplerName.RANDOM:
        return RandomSampler(seed)
    return TPESampler(seed=seed)


def _pruner(tune: TuneFile, first_step: int) -> BasePruner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match tune.pruner:
            case PrunerName.HALVING:
                return SuccessiveHalvingPruner(
                    min_resource=first_step, reduction_factor=tune.trials.growth
                )
            case PrunerName.WILCOXON:
                return WilcoxonPruner(p_threshold=P_WORSE, n_startup_steps=ENOUGH_FOR_WILCOXON)
            case PrunerName.NONE:
                return NopPruner()


def distributions_of(space: Sequence[Dimension]) -> dict[str, BaseDistribution]:
    """A space in Optuna's words."""
    return {each.name: _distribution(each) for each in space}


def _distribution(each: Dimension) -> BaseDistribution:
    values = each.values
    if isinstance(values, Choices):
        return CategoricalDistribution(values.values)
    if values.is_integer:
        step = 1 if values.step is None else int(values.step)
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=step)
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def is_done(trial: FrozenTrial) -> bool:
    """Whether a trial has come to an end that counts: finished, pruned, or wrong by itself."""
    ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return ended or (trial.state is TrialState.FAIL and "wrong" in trial.user_attrs)


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial met all images in the time that the objective allows."""
    return trial.state is TrialState.COMPLETE and trial.constraints.get(OVER, 0.0) <= 0


def best_of(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or all of the Pareto front; the earlier of two that are equal."""
    feasible = [trial for trial in study.get_trials(deepcopy=False) if is_feasible(trial)]
    signs = [1 if each is StudyDirection.MAXIMIZE else -1 for each in study.directions]
    worth = {
        trial.number: [sign * value for sign, value in zip(signs, trial.values, strict=True)]
        for trial in feasible
    }
    return [
        trial
        for trial in feasible
        if not any(
            _beats(worth[other.number], worth[trial.number])
            or (worth[other.number] == worth[trial.number] and other.number < trial.number)
            for other in feasible
        )
    ]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def importances_of(study: optuna.Study, of: Sequence[TunedQuantity]) -> dict[str, float]:
    """How much of what makes trials good each value explains (PED-ANOVA); {} where few ended."""
    complete = [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
    if len(complete) < len(of) * 10 or len(of) > 1:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(study, evaluator=evaluator)
