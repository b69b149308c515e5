"""Write the result files of a tournament; the one entry point from stored labels to tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from advcomp.rules.durable import naming
from advcomp.scoring.results import JobRecord, Results
from advcomp.scoring.standings import ScoringOptions, Standings, judge
from advcomp.scoring.tables import tables


def write_results(
    folder: Path,
    results: Results,
    jobs: Sequence[JobRecord],
    options: ScoringOptions,
    manifest: Mapping[str, object],
) -> Standings:
    """Judge a tournament and write every result file but the report.

    The files depend on the arguments alone, byte for byte. Each is replaced as a whole, so that a
    reader never sees half of one.

    Args:
        folder: The results folder; made where it is missing.
        jobs: Every run, in the order in which they are to be listed.
        manifest: See `tables.tables`.
    """
    standings = judge(results, options)
    for path, text in tables(standings, jobs, manifest).items():
        _write(folder / path, text)
    return standings


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with naming(path):
            unfinished.write_text(text, encoding="utf-8", newline="\n")
            unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
