"""When runs may begin, and when the page cache is restored for them."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.contest import CONSTANT, COPY, Contest, write_greys
from support.processes import children

from advcomp.errors import SandboxError
from advcomp.rules.submission_type import SubmissionType
from advcomp.sandbox.base import Sandbox, SharedTree
from advcomp.sandbox.box.shown import HostView
from advcomp.sandbox.cache import keeper
from advcomp.sandbox.cache.steady import CacheState, SteadyCache
from advcomp.tournament.job.steadiness import SWITCH, Gate
from advcomp.tournament.outcome.status import remarks
from advcomp.tournament.store.state import EntryState, load_state

RED, BLUE = (
    EntryState(name=team, type=SubmissionType.DEFENSE, source="", team=team)
    for team in ("red", "blue")
)
RED_TOO = RED.model_copy(update={"name": "another"})
ALONE = EntryState(name="red", type=SubmissionType.DEFENSE, source="")
WAIT_S = 30.0


class CountingCache(SteadyCache):
    """One that counts how often it was restored."""

    restored = 0

    def restore(self) -> None:
        self.restored += 1
        super().restore()


@pytest.fixture
def tree() -> Iterator[SharedTree]:
    """On a disk, where /tmp may be in memory alone."""
    with TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        (folder / "folder").mkdir()
        for name, size in (("small", 5000), ("folder/large", 1 << 20), ("empty", 0)):
            (folder / name).write_bytes(bytes(size))
        (folder / "link").symlink_to("/etc/passwd")
        (folder / "second-name").hardlink_to(folder / "small")
        yield SharedTree(path=folder)


@pytest.fixture
def dropping(tree: SharedTree) -> Iterator[CountingCache]:
    with CountingCache([tree], 1 << 16, 1 << 16) as cache:
        yield cache


def test_what_has_room_is_held_smallest_first_and_each_file_once(tree: SharedTree) -> None:
    with SteadyCache([tree], 1 << 16, 0) as cache:
        assert cache.kept == {"held": 5000, "files": 1, "locked": False, "left": 1 << 20}
        assert (cache.state, cache.needs_quiet) == (CacheState.RESTORED, True)
    with SteadyCache([tree], 1 << 30, 0) as cache:
        assert cache.kept == {"held": 5000 + (1 << 20), "files": 2, "locked": False, "left": 0}
        assert (cache.state, cache.needs_quiet) == (CacheState.HELD, False)
    covered = SharedTree(path=tree.path, without=frozenset([str(tree.path / "folder")]))
    with SteadyCache([covered], 1 << 30, 0) as cache:
        assert cache.kept["held"] == 5000


def test_large_files_come_in_the_order_of_the_trees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LARGE_BYTES", 10)
    for name, size in (("a/2", 2), ("a/30", 30), ("b/20", 20), ("b/1", 1), ("b/40", 40)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    trees = [keeper.Tree(path=str(tmp_path / name), without=[]) for name in "ab"]
    found = [size for _, size in keeper.shared_files(trees)]
    assert found == [1, 2, 30, 20, 40]


def test_nothing_of_the_keeper_is_left(tree: SharedTree) -> None:
    with SteadyCache([tree], 1 << 30, 0) as cache:
        pid = cache._process.pid
        held = children(pid)
        assert len(held) == 1
        assert "folder/large" in Path(f"/proc/{held[0]}/maps").read_text()
    assert not Path(f"/proc/{pid}").exists()
    # The holder sees the end of its pipe when the keeper is dead.
    for _ in range(100):
        if not Path(f"/proc/{held[0]}").exists():
            return
        threading.Event().wait(0.05)
    raise AssertionError("the process that held the files lives on")


def test_the_state_is_restored_for_a_stage_and_between_runs_of_a_team(
    dropping: CountingCache,
) -> None:
    gate = Gate(dropping)
    for entry, count in ((RED, 1), (BLUE, 1), (RED_TOO, 2), (ALONE, 2)):
        with gate.run_of(entry):
            assert dropping.restored == count
    gate.begin_stage()
    with gate.run_of(BLUE):
        assert dropping.restored == 3


def test_what_must_be_dropped_waits_until_no_run_is_under_way(
    tree: SharedTree, dropping: CountingCache
) -> None:
    gate, began = Gate(dropping), threading.Event()

    def second_run_of_red() -> None:
        with gate.run_of(RED_TOO):
            began.set()

    with gate.run_of(RED), gate.run_of(BLUE):
        (tree.path / "folder" / "large").read_bytes()
        assert dropping.is_changed
        thread = threading.Thread(target=second_run_of_red)
        thread.start()
        assert not began.wait(0.2)
        assert dropping.restored == 1
    assert began.wait(WAIT_S)
    thread.join()
    assert dropping.restored == 2
    assert not dropping.is_changed


def test_nobody_waits_where_nothing_was_read_of_what_is_dropped(
    tree: SharedTree, dropping: CountingCache
) -> None:
    gate = Gate(dropping)
    with gate.run_of(RED), gate.run_of(BLUE):
        (tree.path / "small").read_bytes()
        with gate.run_of(RED_TOO):
            assert dropping.restored == 1
    with gate.run_of(RED):
        assert dropping.restored == 2


def test_whether_others_files_were_read_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells nobody but who could write a file what of it is in memory."""
    own = tmp_path / "own"
    own.write_bytes(b"x")
    assert keeper.in_memory([(str(own), 1)]) == [b"\1"]
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert keeper.in_memory([("/etc/passwd", 1)]) == [None]


def test_what_is_held_is_read_in_again_beside_other_runs(tree: SharedTree) -> None:
    with CountingCache([tree], 1 << 30, 0) as cache:
        gate = Gate(cache)
        with gate.run_of(RED), gate.run_of(BLUE), gate.run_of(RED_TOO):
            assert cache.restored == 2


def test_files_are_dropped_for_a_harness_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy disk this takes minutes."""
    (tmp_path / "shared").touch()
    keeper.drop([(str(tmp_path / "shared"), 0)])
    monkeypatch.setattr(keeper, "HARNESS", os.getpid())  # who is nobody's parent here
    with pytest.raises(SystemExit):
        keeper.drop([(str(tmp_path / "shared"), 0)])


def kill(cache: SteadyCache, process: int) -> None:
    """Kill a process of its keeper, and wait until that is seen."""
    os.kill(process, signal.SIGKILL)
    until = time.monotonic() + WAIT_S
    while not cache.is_dead:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("who", ["keeper", "holder"])
@pytest.mark.parametrize("room_to_lock", [0, 1 << 30])
def test_what_keeps_the_cache_is_begun_again_before_the_next_run(
    tree: SharedTree, who: str, room_to_lock: int
) -> None:
    """Also of what is pinned, where nobody asks it anything."""
    with CountingCache([tree], 1 << 30, room_to_lock) as cache:
        gate, state = Gate(cache), cache.state
        with gate.run_of(RED):
            keeper_before = cache._process.pid
        kill(cache, keeper_before if who == "keeper" else children(keeper_before)[0])
        with gate.run_of(BLUE):
            assert not cache.is_dead
            assert cache._process.pid != keeper_before
            (holder,) = children(cache._process.pid)
            assert "folder/large" in Path(f"/proc/{holder}/maps").read_text()
            assert cache.state is state


def test_what_must_be_dropped_is_begun_again_when_no_run_is_under_way(
    dropping: CountingCache,
) -> None:
    gate, began = Gate(dropping), threading.Event()

    def run_of_blue() -> None:
        with gate.run_of(BLUE):
            began.set()

    with gate.run_of(RED):
        kill(dropping, dropping._process.pid)
        thread = threading.Thread(target=run_of_blue)
        thread.start()
        assert not began.wait(0.2)
        assert dropping.is_dead
    assert began.wait(WAIT_S)
    thread.join()
    assert not dropping.is_dead


def test_what_cannot_be_kept_again_is_the_sandboxs_failure(dropping: CountingCache) -> None:
    dropping._order["room"] = 1 << 30  # all of it: no longer what results would say
    kill(dropping, dropping._process.pid)
    gate = Gate(dropping)
    for entry in (RED, BLUE):  # and no later run begins in the other state
        with ExitStack() as held, pytest.raises(SandboxError, match="expected it to be restored"):
            held.enter_context(gate.run_of(entry))
    assert dropping.state is CacheState.RESTORED


def test_a_run_says_how_far_the_cache_was_kept(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a part of what boxes share, to be quick; each state that jobs ran in is named."""
    trees = [SharedTree(path=Path("/etc/alternatives").resolve()), SharedTree(path=tmp_path)]
    monkeypatch.setattr(HostView, "shared", property(lambda view: trees))
    write_greys(tmp_path / "data", 3)
    contest = Contest(tmp_path)
    attacks, defenses = [contest.entry("copy", COPY)], [contest.entry("c", CONSTANT, "defense")]
    contest.run(contest.file(attacks, []), out=tmp_path / "run")
    assert load_state(tmp_path / "run").page_cache == (CacheState.OPEN,)
    monkeypatch.delenv(SWITCH)
    finished = contest.run(contest.file(attacks, defenses), out=tmp_path / "run")
    assert finished.results is not None
    states = load_state(tmp_path / "run").page_cache
    assert set(states) - {CacheState.PINNED, CacheState.HELD} == {CacheState.OPEN}
    manifest = json.loads((finished.results / "results.json").read_text())["manifest"]
    assert manifest["machine"]["page_cache"] == list(states)
    assert any(line.startswith("page cache: open") for line in remarks(tmp_path / "run"))
