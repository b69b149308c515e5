"""Tiers of limits and control groups, on recorded folders; the real ones are tested in boxes.

Memory is bound to cgroup v1 on many machines, so what is written to cgroup v2 is checked against
a folder that looks like one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import children

from advcomp.errors import SandboxUnavailable
from advcomp.sandbox.base import Limits, LimitTier
from advcomp.sandbox.limits.cgroups import (
    CgroupV2,
    Usage,
    Weak,
    is_own,
    new_name,
    remove_stale_groups,
)
from advcomp.sandbox.limits.inherited import most_open_files
from advcomp.sandbox.limits.sockets import SocketQueues, cap_sockets, most_queued_bytes
from advcomp.sandbox.limits.tiers import choose, divide, groups_by_hand, own_groups

LIMITS = Limits(wall_s=1, memory_bytes=1 << 30, cpus=1.5, pids=100)
V2_FILES = {
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.peak": "4096000\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
    "pids.max": "max\n",
    "cpu.max": "max 100000\n",
    "cgroup.procs": "",
}


def recorded_v2(folder: Path, *, controllers: str = "cpuset cpu io memory pids") -> Path:
    """A delegated cgroup v2 folder with this process in it."""
    folder.mkdir()
    (folder / "cgroup.controllers").write_text(f"{controllers}\n")
    (folder / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (folder / "cgroup.subtree_control").write_text("")
    (folder / "cgroup.type").write_text("domain\n")
    return folder


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def test_v2_writes_every_limit_and_reads_what_was_used(tmp_path: Path) -> None:
    parent = recorded_v2(tmp_path / "own")

    class Recording(type(parent)):  # type: ignore[misc] # a folder that the kernel fills
        def mkdir(self, *arguments: object, **options: object) -> None:
            super().mkdir(*arguments, **options)
            fill(Path(self), V2_FILES)

    group = CgroupV2(Recording(parent)).open(LIMITS)
    group.add(1234)
    made = next(path for path in parent.iterdir() if path.is_dir())
    assert is_own(made.name)
    assert (made / "memory.max").read_text() == f"{1 << 30}\n"
    assert (made / "memory.swap.max").read_text() == "0\n"
    assert (made / "pids.max").read_text() == "101\n"  # the launcher is not the program's
    assert (made / "cpu.max").read_text() == "150000 100000\n"
    assert (made / "cgroup.procs").read_text() == "1234\n"
    assert group.usage() == Usage(peak_bytes=4_096_000, oom_kills=2)


def test_a_group_of_our_own_is_divided_with_us_in_a_leaf(tmp_path: Path) -> None:
    own = recorded_v2(tmp_path / "own")
    keeper = divide(own)
    leaf = next(path for path in own.iterdir() if path.is_dir())
    assert keeper.tier is LimitTier.CGROUP_V2
    assert (leaf / "cgroup.procs").read_text() == f"{os.getpid()}"
    assert (own / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_a_second_division_finds_the_leaf_of_the_first(tmp_path: Path) -> None:
    own = recorded_v2(tmp_path / "own")
    divide(own)
    leaf = next(path for path in own.iterdir() if path.is_dir())
    divide(leaf)
    assert [path for path in own.rglob("*") if path.is_dir()] == [leaf]


def test_a_group_that_others_live_in_is_left_alone(tmp_path: Path) -> None:
    own = recorded_v2(tmp_path / "own")
    (own / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    with pytest.raises(SandboxUnavailable, match="other processes"):
        divide(own)
    assert (own / "cgroup.subtree_control").read_text() == ""


def test_a_missing_controller_is_named(tmp_path: Path) -> None:
    own = recorded_v2(tmp_path / "own", controllers="memory pids")
    with pytest.raises(SandboxUnavailable, match="no controllers cpu for"):
        divide(own)


def test_own_groups_are_read_in_both_versions() -> None:
    text = "4:memory:/a\n3:cpu,cpuacct:/b:c\n1:name=systemd:/\n0::/user.slice/x.scope\n"
    assert own_groups(text) == {
        "memory": "/a",
        "cpu": "/b:c",
        "cpuacct": "/b:c",
        "name=systemd": "/",
        "": "/user.slice/x.scope",
    }


def test_v1_uses_the_top_where_a_container_does_not_see_its_own_group(tmp_path: Path) -> None:
    for name in ("memory", "pids", "cpu"):
        (tmp_path / name).mkdir()
    (tmp_path / "memory/seen").mkdir()
    keeper = groups_by_hand(tmp_path, {"memory": "/seen", "pids": "/unseen", "cpu": "/"})
    keeper.open(LIMITS).add(1234)
    (memory,) = (tmp_path / "memory/seen").glob("advcomp-*")
    (pids,) = (tmp_path / "pids").glob("advcomp-*")
    (cpu,) = (tmp_path / "cpu").glob("advcomp-*")
    assert (memory / "memory.limit_in_bytes").read_text() == f"{1 << 30}\n"
    assert (pids / "pids.max").read_text() == "101\n"
    assert (cpu / "cpu.cfs_period_us").read_text() == "100000\n"
    assert (cpu / "cpu.cfs_quota_us").read_text() == "150000\n"
    assert [(g / "cgroup.procs").read_text() for g in (memory, pids, cpu)] == ["1234\n"] * 3


def test_v1_names_the_controllers_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="pids, cpu"):
        groups_by_hand(tmp_path, {"memory": "/"})


def test_only_groups_of_dead_harnesses_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    mine = new_name()
    namespace = mine.split("-")[1]
    token = "0123456789abcdef"
    stale = f"advcomp-{namespace}-{dead.pid}-12345-{token}"
    recycled = f"advcomp-{namespace}-{os.getpid()}-1-{token}"
    elsewhere = f"advcomp-1-{dead.pid}-12345-{token}"
    for name in (mine, stale, recycled, elsewhere, "advcomp-theirs", "other"):
        (tmp_path / "deep" / name).mkdir(parents=True)
    removed = remove_stale_groups(tmp_path)
    assert sorted(path.name for path in removed) == sorted([stale, recycled])
    left = {path.name for path in (tmp_path / "deep").iterdir()}
    assert left == {mine, elsewhere, "advcomp-theirs", "other"}


def test_a_groups_name_does_not_tell_how_many_came_before() -> None:
    """A program reads the name in /proc/self/cgroup; the order of jobs is none of its business."""
    names = [new_name() for _ in range(100)]
    assert len(set(names)) == 100
    assert sorted(names) != names
    assert all(is_own(name) for name in names)


def test_the_watchdog_adds_up_memory_and_processes() -> None:
    group = Weak().open(Limits(wall_s=1, memory_bytes=64 << 20, pids=512))
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        group.add(sleeping.pid)
        assert group.excess(1 << 20) is None
        assert group.usage().oom_kills == 0
        over = group.excess(65 << 20)
        sleeping.kill()
    assert over is not None
    assert "memory" in over
    assert group.usage().oom_kills == 1
    assert (group.usage().peak_bytes or 0) > 65 << 20


def test_the_chosen_tier_tells_why_no_better_one_works() -> None:
    choice = choose()
    tiers = [LimitTier.CGROUP_V2, LimitTier.CGROUP_V1, LimitTier.WEAK]
    assert list(choice.why_not_better) == tiers[: tiers.index(choice.keeper.tier)]
    assert all(choice.why_not_better.values())


@pytest.mark.parametrize(
    ("processors", "pids", "cpus", "table", "expected"),
    [
        (2, 64, 1, 2_466_183, 1024),
        (2, 512, 1, 2_466_183, 802),
        (64, 512, 1, 26_000_000, 264),
        (1, 512, 4, 100_000, 65),
        (16, 512, 0.5, 1_000_000, 64),
        (64, 512, 1, 2**63 - 1, 1024),
    ],
)
def test_open_files_leave_most_of_the_machines_table(
    processors: int, pids: int, cpus: float, table: int, expected: int
) -> None:
    limits = Limits(wall_s=1, memory_bytes=1 << 30, cpus=cpus, pids=pids)
    assert most_open_files(limits, processors, table) == expected


def test_a_limit_is_never_above_what_this_process_can_give() -> None:
    told = subprocess.run(
        [
            *("sh", "-c", 'ulimit -n 128; exec "$@"', "sh", sys.executable, "-c"),
            "from advcomp.sandbox.base import Limits\n"
            "from advcomp.sandbox.limits.inherited import inherited_limits\n"
            "limits = Limits(wall_s=1, memory_bytes=1 << 30)\n"
            "print(inherited_limits(limits, 0, processors=1))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'nofile': 128," in told.stdout


def test_what_sockets_queue_is_capped_where_cgroup_v1_can(tmp_path: Path) -> None:
    assert not cap_sockets(tmp_path, 1 << 30)
    (tmp_path / "memory.kmem.tcp.limit_in_bytes").write_text("9223372036854771712\n")
    assert cap_sockets(tmp_path, 128 << 20)
    assert (tmp_path / "memory.kmem.tcp.limit_in_bytes").read_text() == f"{16 << 20}\n"
    assert most_queued_bytes(4 << 30) == 64 << 20


def test_what_is_queued_is_seen_in_another_network_and_never_in_ours() -> None:
    """Ours is the machine's, with everybody's sockets."""
    program = (
        "import socket, sys\n"
        "held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in '12']\n"
        "held[0].bind(('127.0.0.1', 0))\n"
        "for _ in range(3): held[1].sendto(bytes(30_000), held[0].getsockname())\n"
        "print(flush=True); sys.stdin.read()\n"
    )
    for walls in ([], ["bwrap", "--unshare-net", "--bind", "/", "/", "--proc", "/proc"]):
        with subprocess.Popen(
            [*walls, sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            pid = process.pid
            if walls:
                pid = next(iter(children(pid)), pid)
            queued = SocketQueues(pid, ip_is_counted=False).bytes()
            counted = SocketQueues(pid, ip_is_counted=True).bytes()
            process.communicate()
        assert (queued >= 90_000) == bool(walls)
        assert counted == 0
