"""`advcomp report`: write a report, and say where it is."""

from pathlib import Path

from advcomp.terminal.run_command import near
from advcomp.tournament.outcome.reports import write_competitor_report, write_report


def report_in_terminal(run: Path, name: str | None, out: Path | None) -> None:
    """Write the organiser's report of a run, or one competitor's.

    Raises:
        RunConflict: The folder is no run, is in use, or its run is not finished.
        InvalidConfig: It has no entry of this name.
    """
    path = write_report(run, out) if name is None else write_competitor_report(run, name, out)
    print(f"report: {near(path)}")
