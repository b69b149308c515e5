"""Finished runs, judged, ready to be compared."""

from collections.abc import Sequence
from pathlib import Path

from advcomp.errors import InvalidConfig
from advcomp.scoring.comparison import ComparedRun, Comparison, compare
from advcomp.scoring.standings import judge
from advcomp.tournament.job.waves import load_waves
from advcomp.tournament.outcome.collect import collect_finished
from advcomp.tournament.store.manifest import manifest_of


def compare_runs(runs: Sequence[Path]) -> Comparison:
    """Compare finished runs with the first of them.

    Raises:
        InvalidConfig: There is only one.
        RunConflict: A folder is no run, or its run is not finished.
    """
    if len(runs) < 2:
        raise InvalidConfig(
            f"compare: expected the folders of two runs or more; got {', '.join(map(str, runs))}"
        )
    return compare([_compared(run) for run in runs])


def _compared(run: Path) -> ComparedRun:
    state, collected = collect_finished(run)
    return ComparedRun(
        name=str(run),
        standings=judge(collected.results, state.scoring_options),
        manifest=manifest_of(state, load_waves(run)),
    )
