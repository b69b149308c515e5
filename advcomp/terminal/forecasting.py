"""`advcomp plan`: what a run will take, as a table and a few sentences."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from advcomp.terminal.console_tables import show, table_of
from advcomp.terminal.text import count, duration, one_line, size
from advcomp.tournament.outcome.forecast import Disk, Forecast, Row, forecast

HEADINGS = {
    "entry": False,
    "stage": False,
    "jobs": True,
    "stored": True,
    "starts": True,
    "images": True,
    "at most": True,
    "expected": True,
}


def print_forecast(
    file: Path, out: Path | None, workers: int | None, cluster: str | None = None
) -> None:
    """Print what a run of a tournament file would take, on the nodes of a cluster if one is named.

    Raises:
        AdvcompError: See `forecast`.
    """
    outlook = forecast(file, out, workers, cluster)
    for note in outlook.notes:
        print(f"note: {one_line(note)}")
    for name in outlook.rejected:
        print(f"{name}: was REJECTED when it was taken last; nothing is planned for it")
    jobs = sum(row.jobs for row in outlook.rows)
    if outlook.known and jobs == sum(row.stored for row in outlook.rows):
        print(
            f"run folder: {outlook.run}\n"
            f"nothing is left to run: all {count(jobs, 'job')} are stored. A run reads the "
            "entries again, runs what has changed, and writes the results."
        )
    else:
        show(table_of(HEADINGS, (*map(_cells, outlook.rows), _sums(outlook.rows))))
        for line in (*_times(outlook), *_disk(outlook.disk)):
            print(line)
    if outlook.scarce is not None:
        print(f"processors: scarce ({outlook.scarce})")
    print(
        "It is assumed that every entry is valid and every attack writes all its images"
        + (", and that entries are as they were taken last." if outlook.known else ".")
    )


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (row.jobs, row.stored, row.starts, row.images)
    times = duration(row.limit_s), _expected(row.expected_s)
    return (row.entry, row.stage, *(f"{number:,}" for number in numbers), *times)


def _sums(rows: Sequence[Row]) -> tuple[str, ...]:
    numbers = (
        sum(row.jobs for row in rows),
        sum(row.stored for row in rows),
        sum(row.starts for row in rows),
        sum(row.images for row in rows),
    )
    expected = [row.expected_s for row in rows if row.expected_s is not None]
    times = (
        duration(sum(row.limit_s for row in rows)),
        _expected(sum(expected) if len(expected) == len(rows) else None),
    )
    return ("in all", "", *(f"{number:,}" for number in numbers), *times)


def _expected(seconds: float | None) -> str:
    return "unknown" if seconds is None else duration(seconds)


def _times(outlook: Forecast) -> Iterator[str]:
    where = "is there already" if outlook.known else "will be made"
    yield f"run folder: {outlook.run} ({where})"
    intake = count(outlook.intake, "sandbox", "sandboxes")
    yield f"starts: as above, and {intake} to read the entries"
    at_once = count(outlook.workers, "sandbox", "sandboxes")
    if outlook.expected_s is None:
        yield (
            f"time, with {at_once} at once: unknown until every entry has been measured; "
            f"at most {duration(outlook.at_most_s)}"
        )
    elif outlook.around_s is None:
        yield (
            f"time, with {at_once} at once: about {duration(outlook.expected_s)}, by the medians "
            "of what is stored, and what comes before, between and after jobs; at most "
            f"{duration(outlook.at_most_s)}"
        )
    else:
        yield (
            f"time, with {at_once} at once: about "
            f"{duration(outlook.expected_s + outlook.around_s)}: jobs "
            f"{duration(outlook.expected_s)}, by the medians of what is stored, and "
            f"{duration(outlook.around_s)} before, between and after them, as in the last whole "
            f"run; at most {duration(outlook.at_most_s)} for the jobs"
        )


def _disk(disk: Disk) -> Iterator[str]:
    needed = disk.images + disk.logs + disk.entries
    yield (
        f"disk: at most {size(needed)} (images and labels {size(disk.images)}, logs "
        f"{size(disk.logs)}, entries {size(disk.entries)}), and {size(disk.temporary)} of "
        f"temporary files; {size(disk.free)} are free"
    )
    if needed > disk.free:
        yield "warning: there may be too little room; a run that stops for it goes on later"
