"""Keep a submission beside the tournament file, where `run` finds it.

The folder `entries` gets `NAME-DIGEST12.zip`, the copy that was validated, and `entries.toml` a
table at its end, in the form that `entries.py` reads. The archive has the same bytes whenever and
wherever it is packed, and is on disk before the table is. Whoever writes holds the lock
`entries/.lock`, so that submissions made at once all stay; what stands in `entries.toml` is kept
as it is, and a crash leaves the old file or the new one.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from advcomp.errors import InvalidConfig, InvalidSubmission
from advcomp.rules.durable import write_durably
from advcomp.rules.folders import pack_folder
from advcomp.rules.image_archive import IMAGE_TAR
from advcomp.rules.sizes import MAX_PACKED_BYTES
from advcomp.rules.submission import NAME_PATTERN, NAME_RULE, default_name
from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.toml_file import shown_value
from advcomp.tournament.competitor.validate import Target
from advcomp.tournament.config import (
    TEAM_RULE,
    Tournament,
    load_tournament,
)
from advcomp.tournament.entry.entries import (
    SUBMITTED,
    EntrySource,
    SubmittedEntry,
    listed_entries,
    read_submitted,
)
from advcomp.tournament.entry.intake import image_beside
from advcomp.tournament.source import open_dataset
from advcomp.tournament.store.state import EntryState

LOCK = ".lock"
DIGITS_IN_NAME = 12
MAX_TEAM_CHARACTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What somebody wants to submit to a tournament.

    Args:
        target: How it is validated: with the tournament's limits, budgets and size of images.
        targets: Whether the tournament's dataset has target classes.
    """

    source: EntrySource
    target: Target
    targets: bool

    @property
    def tournament(self) -> Tournament:
        """What it is submitted to."""
        return self.target.tournament


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEntry:
    """A submission that is kept; `again`: it was the latest of its name already."""

    archive: Path
    digest: str
    again: bool


def make_offer(path: Path, file: Path, *, name: str | None, team: str | None) -> Offer:
    """Get ready to submit the folder or archive at `path` to the tournament `file`.

    Args:
        name: What it will be called; by default the base name of `path` without an archive's
            suffix.

    Raises:
        InvalidConfig: The tournament file is wrong, or the name or the team cannot be used: all
            problems at once.
        InvalidDataset: The tournament's dataset is wrong.
    """
    absolute = path.resolve()
    source = EntrySource(
        path=absolute, name=default_name(absolute) if name is None else name, role=None, team=team
    )
    tournament = load_tournament(file)
    problems = [*wrong_words(source), *_taken(tournament, source)]
    if problems:
        raise InvalidConfig(*problems)
    dataset = open_dataset(tournament)
    return Offer(
        source=source,
        target=Target(
            tournament=tournament, sources=(source,), height=dataset.height, width=dataset.width
        ),
        targets=dataset.target_classes is not None,
    )


def refuse_unplayable(offer: Offer, entry: EntryState) -> None:
    """Refuse an entry that this tournament has nothing to do for.

    Raises:
        InvalidSubmission: It is a targeted attack, and the dataset has no target classes.
    """
    if entry.type is SubmissionType.TARGETED_ATTACK and not offer.targets:
        raise InvalidSubmission(
            f"{entry.name}: is a targeted attack, but the dataset of {offer.tournament.path} has "
            "no column TargetClass; submit it to another tournament"
        )


def keep(offer: Offer, entry: EntryState, copy: Path) -> KeptEntry:
    """Pack a validated entry and write it down.

    Args:
        copy: The referee's copy of it (`Validator.copy_of`).

    Raises:
        InvalidConfig: entries.toml is wrong, or the name was given away meanwhile.
        InvalidSubmission: Its archive is larger than a tournament takes.
    """
    folder = offer.tournament.path.parent / SUBMITTED.parent
    folder.mkdir(exist_ok=True)
    table = SubmittedEntry(
        name=entry.name,
        team=entry.team,
        kind=entry.type,
        archive=f"{entry.name}-{entry.digest[:DIGITS_IN_NAME]}.zip",
        digest=entry.digest,
    )
    archive = folder / table.archive
    with _alone_in(folder):
        if problems := list(_taken(offer.tournament, offer.source)):
            raise InvalidConfig(*problems)
        _pack(copy, archive)
        again = _latest(offer.tournament, entry.name) == table
        if not again:
            _write_down(folder / SUBMITTED.name, table)
    return KeptEntry(archive=archive, digest=entry.digest, again=again)


def wrong_words(source: EntrySource) -> Iterator[str]:
    """What is wrong with a name and a team as such."""
    if not re.fullmatch(NAME_PATTERN, source.name):
        got = shown_value(source.name)
        yield f"{source.path}: expected {NAME_RULE}; got {got}; give one with --name"
    team = source.team
    if team is not None and not (team.isprintable() and 0 < len(team) <= MAX_TEAM_CHARACTERS):
        yield f"--team: expected {TEAM_RULE} that can be printed; got {shown_value(team)}"


def _taken(tournament: Tournament, source: EntrySource) -> Iterator[str]:
    """Why a name belongs to somebody else."""
    for listed in listed_entries(tournament).sources:
        if listed.name == source.name:
            yield (
                f'{tournament.path}: "{source.name}" is the name of the entry {listed.path}; '
                "give another one with --name"
            )
    latest = _latest(tournament, source.name)
    if latest is not None and latest.team != source.team:
        yield (
            f'{tournament.path.parent / SUBMITTED}: "{source.name}" was submitted by '
            f"{_team(latest.team)}, not by {_team(source.team)}; give the same --team, or another "
            "name with --name"
        )


def _team(team: str | None) -> str:
    return "somebody without a team" if team is None else f"the team {shown_value(team)}"


def _latest(tournament: Tournament, name: str) -> SubmittedEntry | None:
    submitted = read_submitted(tournament.path.parent / SUBMITTED)
    return next((entry for entry in reversed(submitted) if entry.name == name), None)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until nobody else writes there, then hold it."""
    with (folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _pack(copy: Path, archive: Path) -> None:
    delivered = image_beside(copy)
    pack_folder(copy, archive, {} if delivered is None else {IMAGE_TAR: delivered})
    with archive.open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    if size > MAX_PACKED_BYTES:
        archive.unlink()
        raise InvalidSubmission(
            f"{archive.name}: expected at most {MAX_PACKED_BYTES >> 30} GiB; got {size:,} bytes "
            "(it is packed without compression); leave out what is not needed"
        )


def _write_down(file: Path, table: SubmittedEntry) -> None:
    """Add a table at the end of entries.toml."""
    text = file.read_bytes() if file.exists() else b""
    gap = b"" if not text else b"\n" if text.endswith(b"\n") else b"\n\n"
    # JSON's strings of printable characters are TOML's.
    lines = (
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in table.model_dump(mode="json", exclude_none=True).items()
    )
    write_durably(file, text + gap + "".join(["[[entry]]\n", *lines]).encode())
