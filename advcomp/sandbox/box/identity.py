"""A uid of its own for every box that root starts, so that no two boxes and nobody else share it.

Theory of operation. A uid is drawn at random from a range that no distribution assigns, and held
by binding an abstract unix socket that is named after it: the kernel lets one process bind a
name, across all harnesses of the machine, and frees it when that process dies, however it dies.
No file is left behind.
"""

import os
import random
import socket
from pathlib import Path

from advcomp.errors import SandboxError

__all__ = ["UidLease", "lease_uid", "own_uid"]

UNUSED_UIDS = range(1_900_000_000, 2_100_000_000)
"""Unassigned by systemd, Debian and Fedora (systemd.io/UIDS-GIDS)."""
UNUSED_UIDS_OF_A_CONTAINER = range(60_578, 61_184)
"""The same, where only 65,536 uids are mapped."""
TRIES = 100


class UidLease:
    """A uid with its group that a box has until `close`.

    Args:
        lock: Keeps it from all other boxes; None where others have it, too.
    """

    def __init__(self, uid: int, gid: int, lock: socket.socket | None) -> None:
        self.uid = uid
        self.gid = gid
        self.is_shared = lock is None
        self._lock = lock

    def close(self) -> None:
        """Give the uid back; no process may still run under it."""
        if self._lock is not None:
            self._lock.close()


def own_uid() -> UidLease:
    """This user's, for boxes into which nobody but this user and root could look otherwise."""
    return UidLease(os.geteuid(), os.getegid(), None)


def lease_uid(*, few: bool = False) -> UidLease:
    """Take a uid that nobody uses.

    Args:
        few: Whether it is for a user namespace in which 65,536 uids are mapped.

    Raises:
        SandboxError: None is to be had.
    """
    candidates = UNUSED_UIDS_OF_A_CONTAINER if few else _candidates()
    draw = random.SystemRandom()
    for _ in range(TRIES):
        uid = draw.choice(candidates)
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0advcomp-uid-{uid}")
        except OSError:
            lock.close()
            continue
        return UidLease(uid, uid, lock)
    raise SandboxError(f"no unused uid found in {candidates}: are that many boxes running?")


def _candidates() -> range:
    """The uids to draw from: those that are mapped, if this is a user namespace."""
    mapped = [
        range(int(first), int(first) + int(count))
        for first, _, count in map(str.split, Path("/proc/self/uid_map").read_text().splitlines())
    ]
    for candidates in (UNUSED_UIDS, UNUSED_UIDS_OF_A_CONTAINER):
        if any(candidates[0] in r and candidates[-1] in r for r in mapped):
            return candidates
    raise SandboxError(
        "this user namespace maps no uid that a box could use: run advcomp as an ordinary user, "
        f"or map {UNUSED_UIDS_OF_A_CONTAINER.start}..{UNUSED_UIDS_OF_A_CONTAINER.stop - 1}"
    )
