"""What one run reads must not be seen by a later one: the page cache's one state, kept for all.

A run brings files that all boxes share into memory; how fast a later run reads them tells which.
So before a run begins, the cache is as it was before every other run (`sandbox/cache`). Where all
is pinned there is nothing to wait for. Where it must be restored, that is done when a stage
begins, and before an entry runs whose team has had a run since: attacks all end before the first
defense begins, and entries of different teams have nothing to tell each other. What a box maps is
not dropped from memory; so where something must be dropped, no run is under way meanwhile. Nothing
is done, and nobody waits, where no run has read any of what was dropped.

What keeps the cache may die, first of all where memory is short. No run begins without it: it is
begun again, where something must be dropped when no run is under way.
"""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from advcomp.sandbox.base import Sandbox, SharedTree
from advcomp.sandbox.cache.steady import CacheState, SteadyCache
from advcomp.sandbox.limits.free_memory import memory_beside
from advcomp.tournament.store.state import EntryState

__all__ = ["Gate", "emptied_gate", "opened_gate", "steady_cache"]

logger = logging.getLogger(__name__)


SWITCH = "ADVCOMP_PAGE_CACHE"
"""The tests' own variable: `open` leaves the cache alone, to save seconds; results say so."""

USED_BYTES = 1 << 30
"""What a box needs of its limit, mostly; where one takes more, what is not locked makes room."""


class Gate:
    """Lets runs begin when the page cache has its state; used by many threads.

    Args:
        cache: What keeps it; None where nothing does.
    """

    def __init__(self, cache: SteadyCache | None) -> None:
        self._cache = cache
        self._changed = threading.Condition()
        self._running = 0
        self._waiting = 0
        self._since: set[str] = set()
        self._is_new = True

    @property
    def state(self) -> CacheState:
        """How far the cache is kept."""
        return CacheState.OPEN if self._cache is None else self._cache.state

    def describe(self) -> str:
        """For the referee's log."""
        if self._cache is None:
            return self.state
        kept = self._cache.kept
        return f"{self.state}, {kept['held']} bytes held, {kept['left']} bytes left out"

    def begin_stage(self) -> None:
        """Have the state restored before the next run; none is under way."""
        self._is_new = True

    @contextmanager
    def run_of(self, entry: EntryState) -> Iterator[None]:
        """A run of an entry, from a state that does not depend on earlier ones.

        Raises:
            SandboxError: The state cannot be restored.
        """
        if self._cache is None:
            yield
            return
        if self._cache.state is CacheState.PINNED:
            with self._changed:
                self._revive_if_dead(self._cache)
            yield
            return
        team = team_of(entry)
        with self._changed:
            self._begin(team, self._cache)
            self._since.add(team)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _begin(self, team: str, cache: SteadyCache) -> None:
        """Wait until a run of a team may begin; restore the state where that is needed."""
        self._waiting += 1
        try:
            while self._must_wait(team, cache):
                self._changed.wait()
        finally:
            self._waiting -= 1
        if self._revive_if_dead(cache):
            self._since.clear()
            self._is_new = False
        # Beside other runs nothing that was dropped has been read, or nothing is ever dropped.
        if self._is_stale_for(team) and not (cache.needs_quiet and self._running):
            cache.restore()
            self._since.clear()
            self._is_new = False

    def _must_wait(self, team: str, cache: SteadyCache) -> bool:
        """For quiet; and who needs none does not overtake those who wait for it."""
        if not cache.needs_quiet or not self._running:
            return False
        if self._waiting > 1 or cache.is_dead:
            return True
        return self._is_stale_for(team) and cache.is_changed

    def _revive_if_dead(self, cache: SteadyCache) -> bool:
        """Whether that was needed."""
        if not cache.is_dead:
            return False
        cache.revive()
        logger.warning("page cache: what kept it had died; again %s", self.describe())
        return True

    def _is_stale_for(self, team: str) -> bool:
        return self._is_new or team in self._since


def team_of(entry: EntryState) -> str:
    """Whose an entry is: its team's, or of nobody else's."""
    return f"entry {entry.name}" if entry.team is None else f"team {entry.team}"


@contextmanager
def opened_gate(
    sandbox: Sandbox, entries: Sequence[EntryState], *, boxes: int, memory_bytes: int
) -> Iterator[Gate]:
    """The gate of a machine's runs; see `steady_cache`."""
    with steady_cache(sandbox, entries, boxes=boxes, memory_bytes=memory_bytes) as cache:
        gate = Gate(cache)
        logger.info("page cache: %s", gate.describe())
        yield gate


@contextmanager
def steady_cache(
    sandbox: Sandbox, entries: Sequence[EntryState], *, boxes: int, memory_bytes: int
) -> Iterator[SteadyCache | None]:
    """Keep what boxes share in one state of the page cache, within the memory that they leave.

    Args:
        sandbox: Where they run.
        entries: Who runs in them.
        boxes: How many run at once, at most.
        memory_bytes: What each of them may use.

    Raises:
        SandboxError: The cache's keeper does not run, or an image cannot be looked into.
    """
    if os.environ.get(SWITCH) == CacheState.OPEN:
        yield None
        return
    with ExitStack() as held:
        trees = held.enter_context(_shared(sandbox, entries))
        if not trees:
            yield None
            return
        room_to_lock = memory_beside(boxes, memory_bytes)
        room = max(room_to_lock, memory_beside(boxes, USED_BYTES))
        yield held.enter_context(SteadyCache(trees, room, room_to_lock))


@contextmanager
def emptied_gate(sandbox: Sandbox, entries: Sequence[EntryState]) -> Iterator[Gate | None]:
    """A gate behind which no run finds anything in memory that an earlier one read.

    All that boxes share is dropped, and again whenever a stage begins; the tests' own variable is
    not heeded. None where the sandbox does not say what it shares.

    Raises:
        SandboxError: See `steady_cache`.
    """
    with _shared(sandbox, entries) as trees:
        if not trees:
            yield None
            return
        with SteadyCache(trees, 0, 0) as cache:
            yield Gate(cache)


@contextmanager
def _shared(sandbox: Sandbox, entries: Sequence[EntryState]) -> Iterator[Sequence[SharedTree]]:
    """What the boxes of these entries share."""
    images = sorted({entry.image for entry in entries if entry.image is not None})
    with sandbox.shared(images) as trees:
        yield trees
