"""What one run looks at, no later run can tell: the kernel's caches have one state for all.

Every way to read the cache is shown first to carry a message with the wall taken away.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import page_cache_trial
from support.backends import BACKENDS, CONTAINERS, mark_of
from support.contest import Contest, write_greys

import advcomp
from advcomp.sandbox.base import Sandbox, SharedTree
from advcomp.sandbox.box.shown import HostView
from advcomp.sandbox.cache.steady import CacheState, SteadyCache
from advcomp.sandbox.limits import cgroups
from advcomp.tournament.job import steadiness
from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.steadiness import SWITCH
from advcomp.tournament.job.waves import load_waves
from advcomp.tournament.outcome.collect import collect
from advcomp.tournament.store.job_results import Store
from advcomp.tournament.store.state import load_state

HERE = Path(__file__).parent
TRIAL = HERE / "page_cache_trial.py"
AS_USER = HERE.parent / "sandbox" / "as_user.sh"
ORDINARY_UID = 1_800_000_002
BITS = 64
CHANCE = BITS // 2
FAR_FROM_CHANCE = 4 * BITS**0.5 / 2
"""4 standard deviations of as many fair coins; a message has as many ones as zeros."""

WAYS = {
    "bubblewrap": {"faults", "nowait", "time", "names"},
    "docker": {"faults", "time", "names"},
    "podman": {"faults", "time", "names"},
    "gvisor": {"time"},
}
"""What can be told without the wall: gVisor counts no faults, overlays know no RWF_NOWAIT."""
TRIES = 8
"""Without the wall a busy machine may drop what was written, or be slow to tell the time."""
USERS = [(backend, "this-user") for backend in BACKENDS]
USERS += [("bubblewrap", "ordinary-user")] if os.geteuid() == 0 else []
WALLS = [CacheState.PINNED, CacheState.HELD, CacheState.RESTORED]


def trial(backend: str, user: str, wall: str, *how: str) -> dict[str, Any]:
    command = [sys.executable, str(TRIAL), backend, wall, *how]
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
            # gVisor's way is time alone, which a busy machine tells badly.
            by_time = wall is None and backend == "gvisor"
            further = wall is CacheState.HELD and backend in CONTAINERS
            marks += [pytest.mark.long] if by_time or further else []
            values = (backend, user) if wall is None else (backend, user, wall)
            found.append(pytest.param(*values, marks=marks))
    return found


@pytest.mark.parametrize(("backend", "user"), kinds())
def test_without_the_wall_every_way_carries_a_message(
    require: Callable[[str], None], backend: str, user: str
) -> None:
    require(backend)
    carried: set[str] = set()
    for _ in range(TRIES):
        right = trial(backend, user, "open")["right"]
        carried |= {way for way in right if right[way] - CHANCE > FAR_FROM_CHANCE}
        if carried >= WAYS[backend]:
            break
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
    told = {way for way, count in said["right"].items() if abs(count - CHANCE) >= FAR_FROM_CHANCE}
    # Names that do not exist go with a run's control group, which an ordinary user may lack.
    assert told <= (set() if can_lock else {"names"}), said


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("docker", marks=mark_of("docker")),
        pytest.param("podman", marks=[*mark_of("podman"), pytest.mark.long]),
        pytest.param("bubblewrap", marks=[*mark_of("bubblewrap"), pytest.mark.long]),
    ],
)
def test_nor_do_names_that_a_run_asked_for_until_it_was_killed(
    require: Callable[[str], None], backend: str
) -> None:
    require(backend)
    right = trial(backend, "this-user", CacheState.PINNED, "killed")["right"]
    # An ordinary user cannot freeze the group of an engine's container.
    assert os.geteuid() != 0 or abs(right["names"] - CHANCE) < FAR_FROM_CHANCE, right


PROGRAM = """\
#!/usr/bin/env python3
import sys
IN, OUT = sys.argv[1:3]
sys.argv[1:] = [{message!r}, "word"]
"""
TELLER = (
    "import shutil\nshutil.copytree(IN, OUT, dirs_exist_ok=True, copy_function=shutil.copyfile)\n"
)
ANSWER = """
seen = [by_nowait(file) for file in slots["nowait"]]
right = sum(a == b for a, b in zip(seen, message["nowait"]))
with open(OUT, "w") as file:
    for name in os.listdir(IN):
        file.write(f"{name},{100 * sum(seen) + right}\\n")
"""


def labels_of(contest: Contest, file: Path, out: str) -> set[int]:
    """What a defense answered in a tournament: hundreds of pages seen in memory, bits right."""
    library = Path("/", page_cache_trial.LIBRARY)
    turn = os.open(library, os.O_RDONLY)
    fcntl.flock(turn, fcntl.LOCK_EX)
    SteadyCache([SharedTree(path=library)], 0, 0).close()
    contest.run(file, out=contest.folder / out, jobs=1)
    os.close(turn)
    state, store = load_state(contest.folder / out), Store(contest.folder / out)
    waves = load_waves(contest.folder / out)
    key = open_key(contest.folder / out / "key")
    results = collect(state, store, key, waves).results
    return {*results.predictions.ravel().tolist(), *results.clean_predictions.ravel().tolist()}


def found_in_a_try(
    contest: Contest, file: Path, out: str, expected: Callable[[set[int]], bool]
) -> bool:
    """Whether labels are as expected; other programs of this machine may read the files, too."""
    return any(expected(labels_of(contest, file, f"{out}-{i}")) for i in range(3))


@pytest.mark.slow
def test_an_attack_tells_a_later_defense_nothing_nor_does_a_run_the_next(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole tournament, in which an attack and a defense of whatever teams try to."""
    library = Path("/", page_cache_trial.LIBRARY)
    monkeypatch.setattr(HostView, "shared", property(lambda view: (SharedTree(path=library),)))
    write_greys(tmp_path / "data", 4)
    contest = Contest(tmp_path)
    program = PROGRAM.format(message=json.dumps({"nowait": [0, 1] * CHANCE}))
    program += page_cache_trial.SLOTS
    teller = contest.entry("teller", program + page_cache_trial.WRITER + TELLER)
    reader = page_cache_trial.READER.partition("print(")[0] + ANSWER
    listener = contest.entry("listener", program + reader, "defense")
    file = contest.file([teller], [listener], max_epsilons=[8], view="per-attack")
    # The first run of the defense reads the attack's message, and leaves all in memory.
    with pytest.MonkeyPatch.context() as without:
        without.setattr(cgroups, "forget", lambda folder: None)
        assert found_in_a_try(contest, file, "open", lambda found: 100 * CHANCE + BITS in found)
    monkeypatch.delenv(SWITCH)
    monkeypatch.setattr(steadiness, "memory_beside", lambda boxes, memory_bytes: 0)
    assert found_in_a_try(contest, file, "restored", lambda found: found == {CHANCE})
    monkeypatch.setattr(steadiness, "memory_beside", lambda boxes, memory_bytes: 1 << 30)
    assert found_in_a_try(contest, file, "pinned", lambda found: found == {100 * BITS + CHANCE})
