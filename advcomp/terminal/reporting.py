"""`advcomp report`: write reports, and say where they are."""

from pathlib import Path

from advcomp.terminal.run_command import near
from advcomp.terminal.text import count
from advcomp.tournament.outcome.reports import (
    write_all_competitor_reports,
    write_competitor_report,
    write_public_report,
    write_report,
)


def report_in_terminal(run: Path, name: str | None, out: Path | None, *, public: bool) -> None:
    """Write the organiser's report of a run, one competitor's, or what may be published.

    Raises:
        RunConflict: The folder is no run, is in use, or its run is not finished.
        InvalidConfig: It has no entry of this name.
    """
    if public:
        path = write_public_report(run, out)
    else:
        path = write_report(run, out) if name is None else write_competitor_report(run, name, out)
    print(f"report: {near(path)}")


def reports_in_terminal(run: Path, folder: Path) -> None:
    """Write the report of every competitor of a run.

    Raises:
        RunConflict: The folder is no run, is in use, or its run is not finished.
    """
    paths = write_all_competitor_reports(run, folder)
    print(f"{count(len(paths), 'report')}: {near(folder)}")
