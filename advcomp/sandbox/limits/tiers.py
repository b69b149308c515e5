"""Which tier of limits this machine allows, and why not a better one.

Theory of operation. cgroup v2 lets a process divide its own group only if the group is its alone
("no internal processes") and is delegated to it. Where ours is neither, systemd is asked to move
this process into a scope of its own with delegation; the scope goes with the process. Then we
move on into a leaf of it and give the other leaves to the boxes. For v1 root needs nobody.

A tier is believed when a group was made and removed. Groups of dead harnesses are cleared away
before.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from advcomp.errors import SandboxError, SandboxUnavailable
from advcomp.sandbox.base import Limits, LimitTier
from advcomp.sandbox.limits.cgroups import (
    CONTROLLERS,
    CgroupV1,
    CgroupV2,
    Keeper,
    Meter,
    Weak,
    is_own,
    new_name,
    remove_stale_groups,
)
from advcomp.sandbox.limits.freezing import Freezer

__all__ = ["Choice", "choose", "divide", "freezer_of", "groups_by_hand", "meter_of"]

MOUNT = Path("/sys/fs/cgroup")
CPU_COUNTER = "cpuacct"
OWN_GROUPS = Path("/proc/self/cgroup")
SCOPE_S = 5.0
DELEGATION = (
    "`sudo mkdir -p /etc/systemd/system/user@.service.d && "
    r"printf '[Service]\nDelegate=cpu memory pids\n' | "
    "sudo tee /etc/systemd/system/user@.service.d/advcomp.conf && "
    "sudo systemctl daemon-reload`, then log in again"
)
TRIAL = Limits(wall_s=1, memory_bytes=64 << 20, cpus=1, pids=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The best tier that works here.

    Args:
        keeper: Makes its groups.
        why_not_better: Better tier -> why it does not work here, and the remedy.
    """

    keeper: Keeper
    why_not_better: Mapping[LimitTier, str]


def choose() -> Choice:
    """The best tier that works here; clears away what dead harnesses left of it."""
    openers: dict[LimitTier, Callable[[], Keeper]] = {
        LimitTier.CGROUP_V2: _open_v2,
        LimitTier.CGROUP_V1: _open_v1,
    }
    reasons: dict[LimitTier, str] = {}
    for tier, opener in openers.items():
        try:
            keeper = opener()
            remove_stale_groups(MOUNT)
            keeper.open(TRIAL).close()
        except SandboxError as error:
            reasons[tier] = str(error)
        else:
            return Choice(keeper=keeper, why_not_better=reasons)
    return Choice(keeper=Weak(), why_not_better=reasons)


def divide(own: Path) -> CgroupV2:
    """Boxes' groups beside a leaf for ourselves, below our own cgroup v2 folder.

    Args:
        own: This process's group, or the leaf that an earlier call put it into.

    Raises:
        SandboxUnavailable: It lacks a controller, or is not ours alone.
    """
    parent = own.parent if is_own(own.name) else own
    _require_controllers(parent)
    # The root of the hierarchy alone may have both processes and groups, and has no type.
    if parent == own and (own / "cgroup.type").exists():
        _move_into_leaf(own)
    _write(parent / "cgroup.subtree_control", " ".join(f"+{name}" for name in CONTROLLERS))
    return CgroupV2(parent)


def groups_by_hand(mount: Path, own_groups: Mapping[str, str]) -> CgroupV1:
    """Boxes' groups below our own in the hierarchies of cgroup v1.

    Args:
        mount: Folder of the hierarchies, one for each controller.
        own_groups: Our group in each, by controller.

    Raises:
        SandboxUnavailable: A controller is not there.
    """
    missing = [name for name in CONTROLLERS if name not in own_groups]
    if missing:
        raise SandboxUnavailable(f"cgroup v1 has no controller {', '.join(missing)} here")
    memory, pids, cpu = (_v1_folder(mount / name, own_groups[name]) for name in CONTROLLERS)
    counting = own_groups.get(CPU_COUNTER)
    return CgroupV1(
        memory=memory,
        pids=pids,
        cpu=cpu,
        cpuacct=None if counting is None else _v1_folder(mount / CPU_COUNTER, counting),
    )


def own_groups(text: str) -> dict[str, str]:
    """This process's group by controller ("" is cgroup v2), from the text of /proc/self/cgroup."""
    lines = (line.split(":", 2) for line in text.splitlines())
    return {name: path for _, names, path in lines for name in names.split(",")}


def meter_of(pid: int) -> Meter | None:
    """Where the kernel counts the memory of a process's group; None if that is not seen here."""
    try:
        groups = own_groups(Path(f"/proc/{pid}/cgroup").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    if "memory" in groups:
        cpu = groups.get(CPU_COUNTER)
        meter = Meter.of_v1(
            MOUNT / "memory" / groups["memory"].lstrip("/"),
            None if cpu is None else MOUNT / CPU_COUNTER / cpu.lstrip("/"),
        )
    else:
        meter = Meter.of_v2(MOUNT / groups[""].lstrip("/"))
    return meter if meter.oom_counter.exists() else None


def freezer_of(pid: int) -> Freezer | None:
    """What freezes a process's group; None if that is not seen here."""
    try:
        groups = own_groups(Path(f"/proc/{pid}/cgroup").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    if "freezer" in groups:
        freezer = Freezer.of_v1(MOUNT / "freezer" / groups["freezer"].lstrip("/"))
    else:
        freezer = Freezer.of_v2(MOUNT / groups[""].lstrip("/"))
    return freezer if (freezer.folder / freezer.switch).exists() else None


def _open_v2() -> Keeper:
    try:
        return divide(_own_v2_group())
    except SandboxUnavailable as first:
        if not Path("/run/systemd/system").is_dir():
            raise SandboxUnavailable(
                f"{first}, and systemd, which could help, does not run"
            ) from first
        _enter_scope()
    try:
        return divide(_own_v2_group())
    except SandboxUnavailable as second:
        raise SandboxUnavailable(f"{second}; have systemd give them: {DELEGATION}") from second


def _open_v1() -> Keeper:
    if os.geteuid() != 0:
        raise SandboxUnavailable("only root can make groups of cgroup v1 by hand")
    return groups_by_hand(MOUNT, own_groups(OWN_GROUPS.read_text()))


def _own_v2_group() -> Path:
    path = own_groups(OWN_GROUPS.read_text()).get("")
    if path is None:
        raise SandboxUnavailable("this kernel has no cgroup v2")
    mount = MOUNT if (MOUNT / "cgroup.controllers").exists() else MOUNT / "unified"
    return mount / path.lstrip("/")


def _require_controllers(group: Path) -> None:
    file = group / "cgroup.controllers"
    there = file.read_text().split() if file.exists() else []
    missing = [name for name in CONTROLLERS if name not in there]
    if missing:
        raise SandboxUnavailable(
            f"{group}: cgroup v2 has no controllers {', '.join(missing)} for this group"
        )


def _move_into_leaf(group: Path) -> None:
    """Make room for groups beside us, in a group that is ours alone."""
    others = set((group / "cgroup.procs").read_text().split()) - {str(os.getpid())}
    if others:
        raise SandboxUnavailable(f"{group}: other processes are in this group too")
    leaf = group / new_name()
    try:
        leaf.mkdir()
    except OSError as error:
        raise SandboxUnavailable(f"{group}: not delegated to us ({error.strerror})") from error
    _write(leaf / "cgroup.procs", str(os.getpid()))


def _enter_scope() -> None:
    """Have systemd move this process into a scope of its own, with delegation.

    Raises:
        SandboxUnavailable: It does not.
    """
    busctl = shutil.which("busctl")
    if busctl is None:
        raise SandboxUnavailable("systemd runs, but its program `busctl` is not installed")
    before = OWN_GROUPS.read_text()
    said = subprocess.run(
        [busctl, "--system" if os.geteuid() == 0 else "--user", *_scope_request(os.getpid())],
        capture_output=True,
        text=True,
        check=False,
    )
    if said.returncode != 0:
        raise SandboxUnavailable(f"systemd gives us no scope: {said.stderr.strip()}")
    deadline = time.monotonic() + SCOPE_S
    while OWN_GROUPS.read_text() == before:
        if time.monotonic() > deadline:
            raise SandboxUnavailable("systemd promised a scope, but did not move us there")
        time.sleep(0.01)


def _scope_request(pid: int) -> list[str]:
    """Arguments of busctl that ask for a transient scope with this process in it."""
    return [
        *("call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
        *("org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))"),
        *(f"{new_name()}.scope", "fail", "2"),
        *("PIDs", "au", "1", str(pid)),
        *("Delegate", "b", "true"),
        "0",
    ]


def _v1_folder(hierarchy: Path, group: str) -> Path:
    """Our own group; the top, where a container's mount does not show it."""
    own = hierarchy / group.lstrip("/")
    return own if own.is_dir() else hierarchy


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise SandboxUnavailable(f"{file}: cannot write {text}: {error.strerror}") from error
