"""What one run reads, no later run can tell: the page cache of what boxes share has one state.

Every way to read the cache is shown first to carry a message with the wall taken away.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.backends import BACKENDS, CONTAINERS, mark_of

import advcomp
from advcomp.sandbox.cache.steady import CacheState

HERE = Path(__file__).parent
TRIAL = HERE / "page_cache_trial.py"
AS_USER = HERE.parent / "sandbox" / "as_user.sh"
ORDINARY_UID = 1_800_000_002
BITS = 64
CHANCE = BITS // 2
FAR_FROM_CHANCE = 4 * BITS**0.5 / 2
"""4 standard deviations of as many fair coins; a message has as many ones as zeros."""

WAYS = {
    "bubblewrap": {"faults", "nowait", "time"},
    "docker": {"faults", "time"},
    "podman": {"faults", "time"},
    "gvisor": {"time"},
}
"""What can be told without the wall: gVisor counts no faults, overlays know no RWF_NOWAIT."""
USERS = [(backend, "this-user") for backend in BACKENDS]
USERS += [("bubblewrap", "ordinary-user")] if os.geteuid() == 0 else []
WALLS = [CacheState.PINNED, CacheState.HELD, CacheState.RESTORED]


def trial(backend: str, user: str, wall: str) -> dict[str, Any]:
    command = [sys.executable, str(TRIAL), backend, wall]
    if user == "ordinary-user":
        package = Path(advcomp.__file__).parent
        passable = map(str, (sys.prefix, sys.base_prefix, package, HERE))
        command = ["sh", str(AS_USER), str(ORDINARY_UID), *passable, "--", *command]
        # Less than most systems let a user lock, and less than the trial's files have.
        command = ["prlimit", "--memlock=65536", "--", "unshare", "--mount", "--", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def kinds(*more: CacheState) -> list[object]:
    """Backends and users; with all of `more` what is a further product is of the long set."""
    found: list[object] = []
    for backend, user in USERS:
        for wall in more or (None,):
            marks = [*mark_of(backend), pytest.mark.slow]
            marks += (
                [pytest.mark.long] if wall is CacheState.HELD and backend in CONTAINERS else []
            )
            values = (backend, user) if wall is None else (backend, user, wall)
            found.append(pytest.param(*values, marks=marks))
    return found


@pytest.mark.parametrize(("backend", "user"), kinds())
def test_without_the_wall_every_way_carries_a_message(
    require: Callable[[str], None], backend: str, user: str
) -> None:
    require(backend)
    right = trial(backend, user, "open")["right"]
    carried = {way for way in right if right[way] - CHANCE > FAR_FROM_CHANCE}
    assert carried == WAYS[backend], right


@pytest.mark.parametrize(("backend", "user", "wall"), kinds(*WALLS))
def test_with_it_none_tells_more_than_chance(
    require: Callable[[str], None], backend: str, user: str, wall: CacheState
) -> None:
    require(backend)
    said = trial(backend, user, wall)
    can_lock = user == "this-user" and os.geteuid() == 0
    expected = CacheState.HELD if wall is CacheState.PINNED and not can_lock else wall
    assert said["state"] == expected
    assert all(abs(count - CHANCE) < FAR_FROM_CHANCE for count in said["right"].values()), said
