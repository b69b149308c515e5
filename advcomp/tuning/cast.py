"""Who takes part in a tuning: the entry, whom its trials meet, who is kept for the end."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path

from advcomp.errors import InvalidConfig
from advcomp.rules.toml_file import nearest
from advcomp.tournament.config import Tournament
from advcomp.tournament.entry.entries import EntrySource, load_entries
from advcomp.tuning.tune_file import TuneFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The entries of a tournament that a tuning is about.

    Args:
        validation: Whom trials meet.
        final: Who is met once by what came out; may be nobody.
    """

    entry: EntrySource
    validation: tuple[EntrySource, ...]
    final: tuple[EntrySource, ...]


def cast_of(tune: TuneFile, tournament: Tournament) -> Cast:
    """Find the entries that a file names.

    Raises:
        InvalidConfig: One is not there or cannot be met, or trials would meet one held out.
    """
    assert tune.entry is not None
    assert tune.opponents is not None
    sources = load_entries(tournament).sources
    by_name = {source.name: source for source in sources}
    entry = by_name.get(tune.entry)
    if entry is None:
        raise InvalidConfig(_unknown(tune.place("entry"), tune.entry, by_name, tournament))
    rivals = {source.name: source for source in sources if source.role != entry.role}
    named = {"validation": tune.opponents.validation, "final": tune.opponents.final or ()}
    problems = [
        problem
        for key, names in named.items()
        for name in names
        for problem in _problems(tune.place("opponents", key), name, entry, rivals, tournament)
    ]
    if entry.held_out:
        problems.append(
            f'{tune.place("entry")}: "{entry.name}" is marked held_out in {tournament.path}: what '
            "tells how well others were tuned is not tuned itself; take the mark out, or tune "
            "another"
        )
    problems += (
        f'{tune.place("opponents", "validation")}: "{name}" is marked held_out in '
        f"{tournament.path}: nothing is tuned on it; name others, or let it be met once, in final"
        for name in named["validation"]
        if name in rivals and rivals[name].held_out
    )
    if problems:
        raise InvalidConfig(*problems)
    final = tune.opponents.final
    held_out = [name for name, rival in rivals.items() if rival.held_out and _meet(entry, rival)]
    return Cast(
        entry=entry,
        validation=tuple(rivals[name] for name in named["validation"]),
        final=tuple(rivals[name] for name in (held_out if final is None else final)),
    )


def _problems(
    place: str,
    name: str,
    entry: EntrySource,
    rivals: dict[str, EntrySource],
    tournament: Tournament,
) -> Iterator[str]:
    if name not in rivals:
        yield _unknown(place, name, rivals, tournament, f" that {entry.name} meets")
    elif not _meet(entry, rivals[name]):
        yield (
            f'{place}: "{name}" is of the team of "{entry.name}", {entry.team}: a team\'s own '
            "pairs are not scored; name others"
        )


def _meet(entry: EntrySource, rival: EntrySource) -> bool:
    return entry.team is None or entry.team != rival.team


def _unknown(
    place: str, name: str, known: Iterable[str], tournament: Tournament, more: str = ""
) -> str:
    known = sorted(known)
    if not known:
        return f'{place}: {tournament.path} has no entry "{name}"{more}; it has none at all'
    return (
        f'{place}: expected an entry of {tournament.path}{more}; got "{name}"; the nearest is '
        f'"{nearest(name, known)}"'
    )


def refuse_held_out_files(
    tune: TuneFile, tournament: Tournament, weights: Sequence[tuple[str, Path]]
) -> None:
    """Refuse a training whose classifiers are files of entries that are held out.

    Args:
        weights: The place of the recipe that names a file, and the file.

    Raises:
        InvalidConfig: All of them.
    """
    kept = [
        (source.name, file)
        for source in load_entries(tournament).sources
        if source.held_out
        for file in source.files.values()
    ]
    problems = [
        f'{tune.recipe}: {table} {path}: is a file of "{name}", which is marked held_out in '
        f"{tournament.path}: nothing is tuned on it; take another classifier"
        for table, path in weights
        for name, file in kept
        if path.is_file() and cmp(path, file, shallow=False)
    ]
    if problems:
        raise InvalidConfig(*problems)
