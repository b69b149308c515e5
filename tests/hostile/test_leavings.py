"""What a run leaves in the kernel beside its caches, and a later run can tell: see the rulebook.

One box looks, another leaves as much as it can, a third looks again.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from support.backends import BACKENDS, mark_of

from advcomp.sandbox.base import Limits, RunSpec, Sandbox
from advcomp.sandbox.probe import open_sandbox

IMAGE = "advcomp/referee"
TRIES = 3
AMOUNT = 500
"""Of each kind; what the machine's other programs do meanwhile is far less."""

LOOK = """
import ctypes, json, os, pty, re, socket, tempfile
libc = ctypes.CDLL(None)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # some are counted for each processor
def text(path):
    with open(path) as file:
        return file.read()
def child():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
def cookie():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        return int.from_bytes(end.getsockopt(socket.SOL_SOCKET, 57, 8), "little")
def number(fd):
    found = os.fstat(fd).st_ino
    os.close(fd)
    return found
def own_file(folder):
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_ino
def called(function, *arguments):
    try:
        return function(*arguments)
    except OSError as error:
        return error.errno
"""
FIRST_LOOK = """
print(json.dumps({
    "same": {
        "pids": [child() - os.getpid(), child() - os.getpid()],  # runc's threads take some before
        "last pid": int(text("/proc/loadavg").split()[-1]) - os.getpid(),
        "groups": text("/proc/self/cgroup"),
        "time of last access": os.stat("/usr/bin/env").st_atime_ns,
        "inodes": [own_file(place) for place in ("/tmp", "/dev/shm", "/output_images")],
        "terminal": os.ttyname(pty.openpty()[1]),
        "shared memory": libc.shmget(0x5EED, 4096, 0o1666),
        "semaphores": libc.semget(0x5EED, 1, 0o1666),
        "ports": text("/proc/sys/net/ipv4/ip_local_port_range"),
    },
    "counters": {
        "forks": int(re.search(r"^processes ([0-9]+)", text("/proc/stat"), re.M)[1]),
        "pipes": number(os.pipe()[0]),
        "memory files": number(os.memfd_create("x")),
        "sockets": called(cookie),
    },
}))
"""
LEAVE = f"""
for count in range({AMOUNT}):
    child()
    for place in ("/tmp", "/dev/shm", "/output_images"):
        own_file(place)
    for fd in (*os.pipe(), os.memfd_create("x")):
        os.close(fd)
    called(cookie)
for count in range(20):
    pty.openpty()
    libc.shmget(count + 1, 4096, 0o1666)
    libc.semget(count + 1, 1, 0o1666)
open("/usr/bin/env", "rb").read()
"""
SEEN = {
    "bubblewrap": {"forks", "pipes", "memory files", "sockets"},
    "docker": {"forks", "pipes", "memory files", "sockets"},
    "podman": {"forks", "pipes", "memory files", "sockets"},
    "gvisor": set[str](),
}
"""Counters of the whole machine that a later run can read."""


def printed(sandbox: Sandbox, image: str | None, program: str) -> str:
    spec = RunSpec(
        argv=("python3", "-c", LOOK + program),
        limits=Limits(wall_s=120, memory_bytes=256 << 20, output_bytes=1 << 20),
        image=image,
        output="/output_images",
    )
    with sandbox.run(spec) as done:
        assert done.result.exit_code == 0, done.result.log.decode(errors="replace")
        return done.result.log.decode()


@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=[*mark_of(name), pytest.mark.slow]) for name in BACKENDS]
)
def test_a_later_run_sees_counters_of_the_whole_machine_and_nothing_else(
    require: Callable[[str], None], backend: str
) -> None:
    require(backend)
    sandbox = open_sandbox(backend)
    found = sandbox.images.find(IMAGE) if sandbox.images else None
    image = found.id if found else None
    try:
        # What other programs do meanwhile grows the machine's counters, too.
        for _ in range(TRIES):
            before, after, grown = looked(sandbox, image)
            if before["same"] == after["same"] and grown == SEEN[backend]:
                break
    finally:
        sandbox.close()
    assert before["same"] == after["same"]
    assert grown == SEEN[backend]


def looked(sandbox: Sandbox, image: str | None) -> tuple[dict[str, Any], dict[str, Any], set[str]]:
    """What a run sees before another one has left what it can, and after; what has grown."""
    before: dict[str, Any] = json.loads(printed(sandbox, image, FIRST_LOOK))
    printed(sandbox, image, LEAVE)
    after: dict[str, Any] = json.loads(printed(sandbox, image, FIRST_LOOK))
    for seen in (before, after):  # a group's name is drawn at random
        seen["same"]["groups"] = re.sub("[0-9a-f]{16,}", "", seen["same"]["groups"])
    grown = {
        name
        for name, count in before["counters"].items()
        if after["counters"][name] - count >= AMOUNT
    }
    return before, after, grown
