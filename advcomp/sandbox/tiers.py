"""Which tier of limits this machine allows, and why not a better one."""

import os
from pathlib import Path

from advcomp.sandbox.cgroups import CONTROLLERS, CgroupV1, Keeper, Weak

__all__ = ["best_keeper"]

MOUNT = Path("/sys/fs/cgroup")


def best_keeper() -> Keeper:
    """The best tier that works here."""
    own = _own_groups(Path("/proc/self/cgroup").read_text())
    if os.geteuid() == 0 and set(CONTROLLERS) <= set(own):
        return CgroupV1(**{c: MOUNT / c / own[c].lstrip("/") for c in CONTROLLERS})
    return Weak()


def _own_groups(text: str) -> dict[str, str]:
    """This process's group by controller ("" for cgroup v2), from /proc/self/cgroup."""
    lines = (line.split(":", 2) for line in text.splitlines())
    return {name: path for _, names, path in lines for name in names.split(",")}
