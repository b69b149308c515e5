"""What a run folder holds: how far the run is, and what its jobs printed."""

from pathlib import Path

from advcomp.errors import RunConflict
from advcomp.sandbox.base import LimitTier
from advcomp.tournament.runner import RESULTS
from advcomp.tournament.state import load_state
from advcomp.tournament.views import View


def results_of(run: Path) -> Path:
    """The folder of a run's results.

    Raises:
        RunConflict: The folder is no run, or has no results yet.
    """
    state = load_state(run)
    results = run / RESULTS
    if not (results / "results.json").is_file():
        raise RunConflict(
            f"{run}: expected a finished run; there are no results yet; "
            f"`advcomp run {state.file} --out {run}` goes on with it"
        )
    return results


def remarks(run: Path) -> list[str]:
    """What must be said wherever the results of a run are shown.

    Raises:
        RunConflict: The folder is no run.
    """
    state = load_state(run)
    lines = []
    if state.sandbox.limit_tier is LimitTier.WEAK:
        lines.append(
            "limits: weak (no control groups here: memory and processes are only watched)"
        )
    if state.view is View.POOLED:
        lines.append("unofficial (pooled view: a defense sees all versions of an image together)")
    return lines
