"""Sends a message from one box to a later one through the kernel's caches, in its own process.

    page_cache_trial.py BACKEND WALL [killed]

One box reads some of the files of time zones, one bit a file. A later one tells, in three ways,
which of them are in memory: by page faults that waited for the disk, by reads that must not wait
(RWF_NOWAIT), and by the time that reads take. It also asks for names that do not exist, which the
kernel remembers, and a later one times the same. WALL is the wall's state: `open` (taken away:
nothing is kept), `pinned`, `held` (not locked) or `restored` (all is dropped between the boxes).
Before the first box all of these files are dropped, as on a machine that has just started. Prints
the state that was in force and, for each way, how many bits came through. With `killed`, the box
that writes asks for the names until it is killed at its time limit.
"""

import fcntl
import json
import os
import random
import secrets
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from advcomp.sandbox.base import Limits, RunSpec, Sandbox, SharedTree
from advcomp.sandbox.cache.steady import SteadyCache
from advcomp.sandbox.limits import cgroups
from advcomp.sandbox.probe import open_sandbox

IMAGE = "advcomp/referee"
WAYS = ("faults", "nowait", "time", "names")
BITS = 64
LIBRARY = "usr/share/zoneinfo"
"""Files that hosts and images have, and no program of the trial reads by itself."""
WORD = secrets.token_hex(4)
"""Begins the names that do not exist, of which one box asks for some."""
ROOM: dict[str, int | None] = {"open": None, "pinned": 1 << 30, "held": 1 << 30, "restored": 0}

SLOTS = """
import json, mmap, os, resource, sys, time
from pathlib import Path
message = json.loads(sys.argv[1])
seen, files = set(), []
for folder, folders, names in os.walk("/usr/share/zoneinfo"):
    folders.sort()
    for path in (Path(folder, name) for name in sorted(names)):
        status = path.lstat()
        wanted = sum(map(len, message.values()))
        is_new = path.is_file() and not path.is_symlink() and status.st_ino not in seen
        if is_new and len(files) < wanted:
            seen.add(status.st_ino)
            files.append(os.open(path, os.O_RDONLY))
            os.posix_fadvise(files[-1], 0, 0, os.POSIX_FADV_RANDOM)
slots = {}
word, names = sys.argv[2], message.pop("names", [])
def known(name):
    try:
        os.stat(f"/usr/share/zoneinfo/{word}-{name}")
    except FileNotFoundError:
        pass
for way, bits in message.items():
    slots[way], files = files[:len(bits)], files[len(bits):]
    assert len(slots[way]) == len(bits)
"""
WRITER = """
for way, bits in message.items():
    for file, bit in zip(slots[way], bits):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        if bit:
            os.pread(file, 1, 0)
for place, bit in enumerate(names):
    for copy in range(8 * bit):
        known(f"{place}-{copy}")
"""
UNTIL_KILLED = """
while True:
    for place, bit in enumerate(names):
        for copy in range(8 * bit):
            known(f"{place}-{copy}")
"""
READER = """
def waits():
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt
def by_faults(file):
    before = waits()
    with mmap.mmap(file, os.fstat(file).st_size, mmap.MAP_SHARED, mmap.PROT_READ) as mapping:
        mapping.madvise(mmap.MADV_RANDOM)
        mapping[0]
    return int(waits() == before)
def by_nowait(file):
    try:
        return int(os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT) == 1)
    except OSError:
        return 0
def seconds(file):
    start = time.perf_counter()
    os.pread(file, 1, 0)
    return time.perf_counter() - start
def by_time(files):
    for _ in range(100):
        seconds(files[0])
    first = [seconds(file) for file in files]
    again = sorted(seconds(file) for file in files)
    limit = 2.5 * again[len(again) // 4] + 8e-6
    return [int(taken < limit) for taken in first]
def look(name):
    start = time.perf_counter()
    known(name)
    return time.perf_counter() - start
def by_names():
    for _ in range(300):
        look("none")
    taken = [sorted(look(f"{place}-{copy}") for copy in range(8))[3] for place in range(64)]
    middle = sorted(taken)[32]
    return [int(each < middle) for each in taken]
print(json.dumps({
    "names": by_names(),
    "faults": [by_faults(file) for file in slots["faults"]],
    "nowait": [by_nowait(file) for file in slots["nowait"]],
    "time": by_time(slots["time"]),
}))
"""

Message = dict[str, list[int]]


def run(
    sandbox: Sandbox, image: str | None, program: str, message: Message, *, killed: bool = False
) -> str:
    wall_s = 3 if killed else 60
    spec = RunSpec(
        argv=("python3", "-c", SLOTS + program, json.dumps(message), WORD),
        limits=Limits(wall_s=wall_s, memory_bytes=256 << 20, output_bytes=1 << 20),
        image=image,
    )
    with sandbox.run(spec) as done:
        ended_well = done.result.timed_out if killed else done.result.exit_code == 0
        assert ended_well, done.result.log.decode(errors="replace")
        return done.result.log.decode()


def trees_of(shared: Sequence[SharedTree]) -> list[SharedTree]:
    """The part of what is shared that the message is written in; all would take long."""
    roots = [tree for tree in shared if (tree.path / LIBRARY).is_dir()]
    roots += [SharedTree(path=Path("/")) for tree in shared if tree.path == Path("/usr")]
    return [replace(root, path=root.path / LIBRARY) for root in roots]


def main(backend: str, wall: str, *how: str) -> None:
    killed = "killed" in how
    sandbox = open_sandbox(backend)
    image = None
    if sandbox.images is not None:
        found = sandbox.images.find(IMAGE)
        assert found is not None, f"{IMAGE} is not there: docker/build.sh referee"
        image = found.id
    draw = random.Random(0)
    if wall == "open":
        cgroups.forget = lambda folder: None
    message = {way: draw.sample([0, 1] * (BITS // 2), BITS) for way in WAYS}
    room = ROOM[wall]
    with sandbox.shared([image] if image else []) as shared, ExitStack() as held:
        # One trial at a time: another one's boxes would read the same files.
        turn = os.open(f"/{LIBRARY}", os.O_RDONLY)
        held.callback(os.close, turn)
        fcntl.flock(turn, fcntl.LOCK_EX)
        trees = trees_of(shared)
        assert len(trees) == (1 if image is None else 2), shared
        SteadyCache(trees, 0, 0).close()
        cache = None
        if room is not None:
            cache = held.enter_context(SteadyCache(trees, room, 0 if wall == "held" else room))
        writer = WRITER + UNTIL_KILLED if killed else WRITER
        run(sandbox, image, writer, message, killed=killed)
        if cache is not None:
            cache.restore()
        got: Message = json.loads(run(sandbox, image, READER, message))
    sandbox.close()
    right = {way: sum(a == b for a, b in zip(message[way], got[way], strict=True)) for way in WAYS}
    print(json.dumps({"state": cache and cache.state, "right": right}))


if __name__ == "__main__":
    main(*sys.argv[1:])
