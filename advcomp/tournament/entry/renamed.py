"""Entries that were renamed: what an entry did under another name is still its own.

Results are kept under the name that an entry had when it first played. An entry is recognised by
its digest, so that a renamed one runs nothing again, nor one that was left out for a while and
came back under another name. Copies of one submission are told apart: each keeps the results that
it had, and a further copy plays anew.
"""

from collections.abc import Callable, Sequence
from itertools import chain, count

from advcomp.tournament.store.state import EntryState, RunState

__all__ = ["recognised"]

FirstNames = dict[str, tuple[str, ...]]
"""Digest -> the names that results of what it is of are kept under."""


def recognised(
    entries: Sequence[EntryState], before: RunState | None
) -> tuple[tuple[EntryState, ...], FirstNames]:
    """The entries of a run, each with the name that its results are kept under, and all of those.

    Args:
        entries: As they were read now.
        before: The run as it was; None where it begins.
    """
    known = {} if before is None else _known(before)
    had = {} if before is None else {_place(entry): entry.first_name for entry in before.entries}
    free = {digest: list(names) for digest, names in known.items()}
    chosen: dict[str, str] = {}
    # Who keeps a name comes before who finds one again, and that before who was renamed.
    wishes: tuple[Callable[[EntryState], str | None], ...] = (
        lambda entry: had.get(_place(entry)),
        lambda entry: entry.name,
        lambda entry: next(iter(free.get(entry.digest, ())), None),
    )
    for wish in wishes:
        for entry in entries:
            name = None if entry.rejected or entry.name in chosen else wish(entry)
            if name is not None and name in free.get(entry.digest, ()):
                free[entry.digest].remove(name)
                chosen[entry.name] = name
    for entry in entries:
        if not entry.rejected and entry.name not in chosen:
            chosen[entry.name] = name = _unused(entry.name, known.get(entry.digest, ()))
            known[entry.digest] = (*known.get(entry.digest, ()), name)
    return tuple(_called(entry, chosen.get(entry.name, entry.name)) for entry in entries), known


def _place(entry: EntryState) -> tuple[str, str]:
    return entry.digest, entry.name


def _known(before: RunState) -> FirstNames:
    """What a run remembers; one that was made before it did has its entries alone."""
    known = dict(before.first_names)
    for entry in before.entries:
        names = known.get(entry.digest, ())
        if not entry.rejected and entry.first_name not in names:
            known[entry.digest] = (*names, entry.first_name)
    return known


def _unused(name: str, taken: Sequence[str]) -> str:
    """`name`, or with a number behind a character that no name has, where another has it."""
    numbered = (f"{name}~{number}" for number in count(2))
    return next(new for new in chain((name,), numbered) if new not in taken)


def _called(entry: EntryState, first_name: str) -> EntryState:
    return entry.model_copy(update={"played_as": None if first_name == entry.name else first_name})
