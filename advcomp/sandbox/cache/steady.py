"""One state of the page cache for all runs of a tournament: opened with it, restored in it.

The work is done by `keeper.py`, in a process without any part in the tournament. It ends when its
standard input does: nothing is left of it, however the harness ends.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Self

from advcomp.errors import SandboxError
from advcomp.sandbox.base import SharedTree
from advcomp.sandbox.cache import keeper

__all__ = ["CacheState", "SteadyCache"]


class CacheState(StrEnum):
    """How far the page cache is kept in one state; part of every result."""

    PINNED = "pinned"
    """All that boxes share is locked in memory."""
    HELD = "held"
    """It is mapped, but this user may not lock it, or boxes may need the memory: only a lack of
    memory could drop a part of it, which is read in again before the next run of entries of the
    same team."""
    RESTORED = "restored"
    """There is no room for some large files: where they were read they are dropped from memory
    between the stages and between runs of entries of one team. All others are pinned or held."""
    OPEN = "open"
    """Nothing is done: there are no walls, or the sandbox does not say what it shares."""


class SteadyCache:
    """What keeps trees in one state until it is closed.

    Args:
        trees: What boxes share; what they read most comes first.
        room_bytes: How much of it may be in memory as long as boxes leave as much.
        room_to_lock_bytes: How much of that may be locked, where this user may.

    Raises:
        SandboxError: The keeper does not run.
    """

    def __init__(
        self, trees: Sequence[SharedTree], room_bytes: int, room_to_lock_bytes: int
    ) -> None:
        self._order = keeper.CacheOrder(
            trees=[
                keeper.Tree(path=str(tree.path), without=sorted(tree.without)) for tree in trees
            ],
            room=room_bytes,
            room_to_lock=room_to_lock_bytes,
        )
        self._begin()

    def _begin(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", keeper.__file__],
            cwd="/",
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.kept: keeper.Kept = self._ask(json.dumps(self._order))

    @property
    def state(self) -> CacheState:
        """How far it is kept."""
        if self.kept["left"]:
            return CacheState.RESTORED
        return CacheState.PINNED if self.kept["locked"] else CacheState.HELD

    @property
    def needs_quiet(self) -> bool:
        """Whether `restore` needs that no box runs: what a box maps is not dropped."""
        return self.kept["left"] > 0

    @property
    def is_changed(self) -> bool:
        """Whether any of what was dropped has been read since, or that cannot be known.

        Raises:
            SandboxError: The keeper is dead.
        """
        answer: keeper.Looked = self._ask("look")
        return answer["changed"]

    @property
    def is_dead(self) -> bool:
        """Whether nothing is kept any more: where memory is short, the kernel ends it first."""
        return self._process.poll() is not None

    def revive(self) -> None:
        """Keep the same state again after a death; it is restored.

        Raises:
            SandboxError: It dies again, or can no longer be kept so.
        """
        before, kept = self.state, self.kept
        self.close()
        self._begin()
        if self.state is not before:
            found, self.kept = self.state, kept
            self.close()  # dead it stays: no later run may begin in another state than results say
            raise SandboxError(
                f"the page cache: expected it to be {before} again after what kept it had died; "
                f"it is {found}; begin the run again when there is more memory"
            )

    def restore(self) -> None:
        """Make the state again, whatever was read since.

        Raises:
            SandboxError: The keeper is dead.
        """
        if self.state is not CacheState.PINNED:
            self._ask("restore")

    def close(self) -> None:
        """Let go of everything."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SandboxError(
                "the page cache: what keeps it in one state is dead (out of memory, perhaps)"
            )
        return json.loads(answer)
