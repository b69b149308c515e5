"""How much memory there is to use: of the machine, and of the control groups that we are in."""

import re
from collections.abc import Iterator
from pathlib import Path

from advcomp.sandbox.limits.tiers import MOUNT, OWN_GROUPS, own_groups

__all__ = ["memory_beside"]

RESERVE_BYTES = 512 << 20
"""For the harness, decoders, and what else runs on the machine."""


def memory_beside(boxes: int, memory_bytes: int) -> int:
    """Bytes of memory that are free beside so many boxes of so many bytes each; at least 0."""
    free = min([_available(), *_rooms_of_groups()])
    return max(0, free - boxes * memory_bytes - RESERVE_BYTES)


def _available() -> int:
    """What the kernel says can be had without swapping."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def _rooms_of_groups() -> Iterator[int]:
    """What is left below the limit of each control group that we are in; page cache is free."""
    groups = own_groups(OWN_GROUPS.read_text())
    v1 = MOUNT / "memory" / groups.get("memory", "").lstrip("/")
    v2 = MOUNT / groups.get("", "").lstrip("/")
    for folder in _up_to_the_mount(v1):
        yield from _room(folder, "memory.limit_in_bytes", "total_rss")
    for folder in _up_to_the_mount(v2):
        yield from _room(folder, "memory.max", "anon")


def _up_to_the_mount(folder: Path) -> Iterator[Path]:
    yield from (f for f in (folder, *folder.parents) if f != MOUNT and f.is_relative_to(MOUNT))


def _room(folder: Path, limit_file: str, counter: str) -> Iterator[int]:
    limit, counts = folder / limit_file, folder / "memory.stat"
    if not (limit.exists() and counts.exists()) or limit.read_text().strip() == "max":
        return
    found = re.search(rf"^{counter} (\d+)$", counts.read_text(), re.M)
    if found:
        yield int(limit.read_text()) - int(found[1])
