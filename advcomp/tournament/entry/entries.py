"""Who takes part: the entries of the tournament file, and those that were submitted.

`submit` keeps submissions in the folder `entries` beside the tournament file, and writes each
down in `entries/entries.toml`, oldest first; the latest of a name counts:

    [[entry]]
    name = "alice"
    team = "red"                          # optional
    kind = "attack"                       # attack | targeted_attack | defense
    archive = "alice-0123456789ab.zip"    # a file in the same folder
    digest = "0123456789ab..."            # of the submission: 64 hexadecimal digits

Nothing here looks into an entry: whether it is a valid one is found out when it is taken in.
"""

import glob
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations, permutations
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from advcomp.errors import InvalidConfig
from advcomp.rules.submission import ARCHIVE_EXTENSIONS, NAME_PATTERN, NAME_RULE, default_name
from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.toml_fields import Name, one_of
from advcomp.rules.toml_file import Key, Table, read_toml, shown_value, where
from advcomp.tournament.config import (
    TEAM_RULE,
    EntryItem,
    TeamName,
    Tournament,
)

SUBMITTED = Path("entries", "entries.toml")
"""Where submissions are written down, as seen from the tournament file's folder."""

ENTRY_KINDS = f"a folder or an archive ({', '.join(ARCHIVE_EXTENSIONS)})"
GLOB_TAKES = f"folders with a metadata.json and archives ({', '.join(ARCHIVE_EXTENSIONS)})"
GLOB_CHARACTERS = frozenset("*?[")
_ARCHIVE_PATTERN = rf"[A-Za-z0-9][A-Za-z0-9._-]*({'|'.join(map(re.escape, ARCHIVE_EXTENSIONS))})"


class Role(StrEnum):
    """What an entry is there for, by the list it stands in."""

    ATTACK = "attack"
    DEFENSE = "defense"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySource:
    """Where one entry comes from.

    Args:
        path: Its folder or archive, absolute.
        role: What it is there for; None: whatever it says it is.
        files: Path inside the entry -> absolute path of the file that is laid over it.
        digest: What the submission's digest was when it was submitted, else None.
        kind: What it said it was when it was submitted, else None.
        randomised: Whether the organiser says that its answers are drawn at random.
        display: What the public is shown in place of its name.
        url: Where its paper or code is.
        held_out: Nothing is tuned on it; it tells how well that went.
    """

    path: Path
    name: str
    role: Role | None
    team: str | None = None
    baseline: bool = False
    randomised: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)
    digest: str | None = None
    kind: SubmissionType | None = None
    display: str | None = None
    url: str | None = None
    held_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryList:
    """Attacks, defenses, then submitted entries, in the order written; a glob's are sorted.

    Args:
        notes: What globs matched and left out, one sentence each.
    """

    sources: tuple[EntrySource, ...]
    notes: tuple[str, ...] = ()


class SubmittedEntry(Table):
    """One [[entry]] of entries.toml."""

    name: Name = Field(description=NAME_RULE)
    team: TeamName | None = Field(default=None, description=TEAM_RULE)
    kind: SubmissionType = Field(strict=False, description=one_of(SubmissionType))
    archive: Annotated[str, StringConstraints(pattern=f"^{_ARCHIVE_PATTERN}$")] = Field(
        description=f"the name of a file beside it ending in {', '.join(ARCHIVE_EXTENSIONS)}"
    )
    digest: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] = Field(
        description="64 hexadecimal digits"
    )


class SubmittedEntries(Table):
    """The file entries.toml."""

    entry: tuple[SubmittedEntry, ...] = Field(
        default=(), strict=False, description="tables [[entry]]"
    )


def load_entries(tournament: Tournament) -> EntryList:
    """Find every entry of a tournament.

    Raises:
        InvalidConfig: All that is missing, matches nothing, has no valid name, or one name twice.
    """
    search = _Search(tournament)
    sources = (*search.listed(), *search.submitted())
    if not sources and not search.problems:
        search.problems.append(
            f"{tournament.path}: expected at least one entry, in [entries] or submitted; got none"
        )
    return search.found(sources)


def listed_entries(tournament: Tournament) -> EntryList:
    """Find the entries of the tournament file itself, if there are any.

    Raises:
        InvalidConfig: See `load_entries`.
    """
    search = _Search(tournament)
    return search.found(tuple(search.listed()))


def read_submitted(file: Path) -> tuple[SubmittedEntry, ...]:
    """Every submission of an entries.toml, oldest first; none where there is no such file.

    Raises:
        InvalidConfig: All that is wrong with the file.
    """
    return read_toml(file, SubmittedEntries).entry if file.exists() else ()


class _Search:
    """Looks for entries, and gathers what is wrong so that it can be reported together."""

    def __init__(self, tournament: Tournament) -> None:
        self.file = tournament.path
        self.folder = tournament.path.parent
        self.lists = (
            (Role.ATTACK, tournament.entries.attacks),
            (Role.DEFENSE, tournament.entries.defenses),
        )
        self.problems: list[str] = []
        self.notes: list[str] = []

    def found(self, sources: tuple[EntrySource, ...]) -> EntryList:
        """The entries, where nothing is wrong with them."""
        self._refuse_repeated_names(sources)
        if self.problems:
            raise InvalidConfig(*self.problems)
        return EntryList(sources=sources, notes=tuple(self.notes))

    def listed(self) -> Iterator[EntrySource]:
        """The entries of the tournament file."""
        for role, items in self.lists:
            yield from self._of_list(role, items)

    def submitted(self) -> Iterator[EntrySource]:
        """The latest submission of every name."""
        file = self.folder / SUBMITTED
        entries = self._written_down(file)
        latest = {entry.name: index for index, entry in enumerate(entries)}
        for index in latest.values():
            entry = entries[index]
            path = file.parent / entry.archive
            if not path.is_file():
                place = where(file, ("entry", index, "archive"))
                self.problems.append(f"{place}: expected an archive; {_state(path)}")
            yield EntrySource(
                path=path,
                name=entry.name,
                role=Role.DEFENSE if entry.kind is SubmissionType.DEFENSE else Role.ATTACK,
                team=entry.team,
                digest=entry.digest,
                kind=entry.kind,
            )

    def _of_list(self, role: Role, items: Iterable[EntryItem]) -> Iterator[EntrySource]:
        for index, item in enumerate(items):
            key = ("entries", f"{role}s", index)
            files = self._files(item, key)
            for path in self._paths(item, key):
                yield EntrySource(
                    path=path,
                    name=self._name(item, path, key),
                    role=role,
                    team=item.team,
                    baseline=item.baseline,
                    randomised=item.randomised,
                    display=item.display,
                    url=item.url,
                    held_out=item.held_out,
                    files=files,
                )

    def _refuse_repeated_names(self, sources: Iterable[EntrySource]) -> None:
        """Two entries of one name are a problem, whatever they do."""
        self.problems.extend(
            f'{self.file}: expected every name once; got "{one.name}" for {one.path}'
            f" and for {other.path}; give one of them another name"
            for one, other in combinations(sources, 2)
            if one.name == other.name
        )
        self.problems.extend(
            f'{self.file}: expected the public to see every name once; got "{one.display}" for'
            f" {one.path} and for {other.path}; give one of them another `display`"
            for one, other in permutations(sources, 2)
            if one.display is not None
            and (
                one.display == other.name
                or (one.display == other.display and one.name < other.name)
            )
        )

    def _written_down(self, file: Path) -> tuple[SubmittedEntry, ...]:
        try:
            return read_submitted(file)
        except InvalidConfig as error:
            self.problems.extend(error.problems)
            return ()

    def _name(self, item: EntryItem, path: Path, key: Key) -> str:
        name = item.name or default_name(path)
        if not re.fullmatch(NAME_PATTERN, name):
            self.problems.append(
                f"{where(self.file, key)}: {path}: expected {NAME_RULE}; got {shown_value(name)};"
                ' write { path = "...", name = "..." }'
            )
        return name

    def _files(self, item: EntryItem, key: Key) -> dict[str, Path]:
        files = {inside: _plain(self.folder / path) for inside, path in item.files.items()}
        self.problems.extend(
            f"{where(self.file, (*key, 'files', inside))}: expected a file; {_state(path)}"
            for inside, path in files.items()
            if not path.is_file()
        )
        return files

    def _paths(self, item: EntryItem, key: Key) -> list[Path]:
        path = _plain(self.folder / item.path)
        if not path.exists() and GLOB_CHARACTERS & set(item.path):
            return self._matches(item, key)
        if not path.is_dir() and not _is_archive(path):
            place = where(self.file, key)
            self.problems.append(f"{place}: expected {ENTRY_KINDS}; {_state(path)}")
        return [path]

    def _matches(self, item: EntryItem, key: Key) -> list[Path]:
        place = f'{where(self.file, key)}: "{item.path}"'
        # Unlike Path.glob, it takes absolute patterns and leaves hidden files out.
        matches = glob.glob(item.path, root_dir=self.folder, recursive=True)  # noqa: PTH207
        found = sorted({_plain(self.folder / match) for match in matches})
        entries = [path for path in found if _is_archive(path) or _is_submission_folder(path)]
        rest = [path for path in found if path not in entries]
        if not entries:
            self.problems.append(
                f"{place}: expected to match {GLOB_TAKES};"
                f" matches {_names(rest) if rest else 'nothing'}"
            )
        elif rest:
            self.notes.append(f"{place} leaves out {_names(rest)}: it takes {GLOB_TAKES}")
        if item.name is not None and len(entries) > 1:
            self.problems.append(
                f"{place}: expected one match, since it gives a name; got {_names(entries)};"
                " leave the name out, or write an item for each"
            )
        return entries


def _plain(path: Path) -> Path:
    """Without links and `..` on the way; the last part stays, for the name is its."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def _is_archive(path: Path) -> bool:
    return path.name.endswith(ARCHIVE_EXTENSIONS) and path.is_file()


def _is_submission_folder(path: Path) -> bool:
    return (path / "metadata.json").is_file()


def _state(path: Path) -> str:
    """What stands at `path`, where something else was expected."""
    if path.is_dir():
        return f"{path} is a folder"
    return f"{path} is another kind of file" if path.exists() else f"there is no {path}"


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(path.name for path in paths)
