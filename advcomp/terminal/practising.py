"""`advcomp practice`: an entry's score at home, where it stands, and what is wrong with it."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from advcomp.errors import INTERRUPTED
from advcomp.rules.entry_point import first_program
from advcomp.rules.verdict import Verdict
from advcomp.scoring.leaderboard import LeaderboardRow, read_leaderboard, readable
from advcomp.terminal.console_tables import show, table_of
from advcomp.terminal.run_command import exit_code, near, play, print_places
from advcomp.terminal.text import count
from advcomp.terminal.validating import INVALID, failure_lines, print_rejected
from advcomp.tournament.competitor.practice import Practice, PracticeOptions, prepare
from advcomp.tournament.competitor.practice_file import write_tournament
from advcomp.tournament.competitor.validate import validator_of
from advcomp.tournament.outcome.status import EntryStatus, logs_of, remarks, status_of
from advcomp.tournament.runner import RunOptions
from advcomp.tournament.store.state import ENTRIES, EntryState

FILE_NAME = "practice.toml"
MAX_NAME = 64


def practise_in_terminal(options: PracticeOptions, command: str) -> int:
    """Play an entry against a few others, and say how it did; returns the exit code.

    Args:
        command: What goes on where it is interrupted.

    Raises:
        AdvcompError: As `prepare`, `validator_of` and `play`.
    """
    practice = prepare(options)
    with validator_of(practice.target, options.backend, trusting=options.trusting) as validator:
        entry = validator.take(practice.source)
    if entry.rejected:
        print_rejected(entry)
        return INVALID
    finished = play(_written(practice, entry, options), practice.run, command)
    if finished.results is None:
        return INTERRUPTED
    own = next(each for each in status_of(practice.run).entries if each.entry.name == entry.name)
    everybodys, said = read_leaderboard(finished.results)
    rows = [row for row in everybodys if row.track == own.entry.type]
    _show_rows(practice.run, rows, entry.name)
    for line in (*_problems(practice.run, own), *said):
        print(line)
    for line in remarks(practice.run):
        print(line)
    print_places(finished.results)
    return exit_code(finished, command) or (0 if own.verdict is Verdict.OK else INVALID)


def _written(practice: Practice, entry: EntryState, options: PracticeOptions) -> RunOptions:
    """Writes the tournament file, and says how it is run."""
    players = practice.players(entry)
    practice.run.mkdir(parents=True, exist_ok=True)
    file = practice.run / FILE_NAME
    write_tournament(file, f"practice-{entry.name}"[:MAX_NAME], practice.settings(entry), players)
    return RunOptions(
        file=file,
        out=practice.run,
        backend=options.backend,
        trusting=options.trusting,
        jobs=options.jobs,
    )


def _show_rows(run: Path, rows: Sequence[LeaderboardRow], name: str) -> None:
    """Show an entry among those of its track, and where it stands."""
    done = {status.entry.name: status for status in status_of(run).entries}
    headings = {"#": True, rows[0].track.replace("_", " "): False, "score": True, "95 %": True}
    headings |= {"valid": True, "s/image": True, "verdict": False}
    show(table_of(headings, (_cells(row, done[row.submission], name) for row in rows)))
    own = next(row for row in rows if row.submission == name)
    ranked = sum(row.rank is not None for row in rows)
    told = f"score {readable(own)['score'] or 'none'}, rank {own.rank or 'none'} of {ranked}"
    print(f"{name}: {told} in this table")


def _cells(row: LeaderboardRow, status: EntryStatus, name: str) -> list[str]:
    shown = readable(row)
    images = sum(result.images for result in status.results)
    valid = sum(result.valid for result in status.results)
    seconds = sum(result.wall_seconds for result in status.results)
    return [
        shown["rank"],
        shown["submission"] + (" <- yours" if row.submission == name else ""),
        shown["score"],
        shown["score_low"],
        f"{valid:,} of {images:,}",
        f"{seconds / images:.3f}" if images else "",
        row.verdict,
    ]


def _problems(run: Path, own: EntryStatus) -> Iterator[str]:
    """What went wrong with an entry's runs, the first of them in full."""
    over = sum(result.projected_images for result in own.results)
    if over:
        yield f"{count(over, 'image')} over the budget: the referee clips them to it"
    bad = [each for each in logs_of(run, own.entry.name) if each.result.verdict is not Verdict.OK]
    if not bad:
        yield "problems: none"
        return
    yield f"problems: {count(len(bad), 'run')} of {len(own.results)} not OK"
    first = bad[0]
    yield f"  {first.result.job}: {first.result.verdict}"
    interpreter = first_program(run / ENTRIES / own.entry.digest / own.entry.entry_point)
    yield from (f"  {line}" for line in failure_lines(first.result, first.log, interpreter))
    if len(bad) > 1:
        yield f"  to see the others: advcomp logs {shlex.quote(str(near(run)))} {own.entry.name}"
