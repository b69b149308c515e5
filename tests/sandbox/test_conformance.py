"""What every sandbox backend must keep, whatever a submission tries; a new one is one more line.

The boxes are made by `driver.py`, in processes of their own: as the user who runs the tests, and,
where that is root, as an ordinary user too.
"""

import contextlib
import ctypes
import errno
import json
import os
import pickle
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from support.backends import BACKENDS, mark_of
from support.control_groups import control_groups
from support.engines import gvisors_of, kernels, with_engines
from support.processes import children, descendants, processes, text_of
from support.refused_calls import CALL_EVERYTHING, EVERY_CALL, REFUSED_ON_X86_64

import advcomp
from advcomp.sandbox.base import Limits, LimitTier, RunResult, RunSpec
from advcomp.sandbox.box.shown import environment
from advcomp.sandbox.limits.seccomp import NEWEST_CALL

pytestmark = pytest.mark.slow

MIB = 1 << 20
SLACK_S = 20
"""How late a box may end on a busy machine; programs that were not ended would take far longer."""
ORDINARY_UID = 1_800_000_001
DRIVER = Path(__file__).with_name("driver.py")
AS_USER = Path(__file__).with_name("as_user.sh")
PACKAGE = Path(advcomp.__file__).parent
NO_ENGINE = "without-engine"
DOCKER_SOCKET = Path("/var/run/docker.sock")
ORDINARY, MEMBER = "ordinary-user", "member-of-the-group-docker"
ROOTS = [("bubblewrap", ORDINARY), ("gvisor", NO_ENGINE)] if os.geteuid() == 0 else []
KINDS = [(name, "this-user") for name in BACKENDS] + ROOTS
NEEDED = ("bwrap", "mount", "runsc", "sh", "unshare")
"""What a machine without an engine has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is left when a box is gone."""

    result: RunResult
    files: dict[str, bytes | None]
    names: tuple[str, ...]
    stdout: bytes
    harness_peak_bytes: int
    descriptors: int

    @property
    def log(self) -> str:
        return self.result.log.decode()

    def json(self) -> Any:
        """What the program printed, where that is JSON."""
        return json.loads(self.result.log)


class Host:
    """A harness that runs boxes, in a process of its own."""

    def __init__(self, backend: str, user: str, hidden: Sequence[Path] = ()) -> None:
        command = [sys.executable, str(DRIVER), backend, *map(str, hidden)]
        if user in (ORDINARY, MEMBER):
            passable = map(str, (sys.prefix, sys.base_prefix, PACKAGE, DRIVER.parent))
            command = ["sh", str(AS_USER), str(ORDINARY_UID), *passable, "--", *command]
            command = ["unshare", "--mount", "--", *command]
        self.backend = backend
        self.has_images = has_images((backend, user))
        self.uid = ORDINARY_UID if user in (ORDINARY, MEMBER) else os.geteuid()
        self.temporary = Path(tempfile.mkdtemp())
        self.temporary.chmod(0o777)
        self.programs = Path(tempfile.mkdtemp())
        for name in NEEDED:
            (self.programs / name).symlink_to(shutil.which(name) or f"no-{name}")
        more = {"PATH": str(self.programs)} if user == NO_ENGINE else {}
        more |= {"GROUP": DOCKER_SOCKET.group()} if user == MEMBER else {}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(self.temporary), **more},
        )
        self.tier: LimitTier = self._receive()

    @property
    def is_seen(self) -> bool:
        """Whether this machine's kernel shows its processes; gVisor is a kernel of its own."""
        return self.backend != "gvisor"

    @property
    def kernel_limits(self) -> bool:
        return self.tier is not LimitTier.WEAK

    def run(
        self,
        *argv: str,
        read: Sequence[str] = (),
        whole_stdout: bool = False,
        code: Path | None = None,
        inputs: dict[str, Path] | None = None,
        **limits: Any,
    ) -> Outcome:
        """Run one program, with small limits but those given."""
        spec = RunSpec(
            argv=argv,
            limits=small(**limits),
            code=code,
            inputs=inputs or {},
            output="/output_images",
        )
        return self.run_all([(spec, tuple(read), whole_stdout)])[0]

    def python(self, program: str, **options: Any) -> Outcome:
        """Run a Python program."""
        return self.run("python", "-c", textwrap.dedent(program), **options)

    def sh(self, program: str, **options: Any) -> Outcome:
        """Run a shell program."""
        return self.run("sh", "-c", textwrap.dedent(program), **options)

    def run_all(self, jobs: Sequence[tuple[RunSpec, tuple[str, ...], bool]]) -> list[Outcome]:
        """Run several at once."""
        assert self.process.stdin is not None
        pickle.dump(list(jobs), self.process.stdin)
        self.process.stdin.flush()
        answer = self._receive()
        if isinstance(answer, Exception):
            raise answer
        names = Outcome.__dataclass_fields__
        return [Outcome(**dict(zip(names, fields, strict=True))) for fields in answer]

    def close(self) -> None:
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()
        assert self.process.returncode == 0
        self.temporary.rmdir()
        shutil.rmtree(self.programs)

    def _receive(self) -> Any:
        assert self.process.stdout is not None
        return pickle.load(self.process.stdout)


def has_images(kind: tuple[str, str]) -> bool:
    """Whether its boxes show an image instead of the host's programs."""
    backend, user = kind
    return backend != "bubblewrap" and user != NO_ENGINE


def small(**changes: Any) -> Limits:
    return Limits(
        **{
            "wall_s": 30,
            "memory_bytes": 512 * MIB,
            "pids": 64,
            "output_bytes": MIB,
            "log_bytes": 64 * 1024,
            **changes,
        }
    )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((backend, user), marks=mark_of(backend), id=f"{backend}-as-{user}")
        for backend, user in KINDS
    ],
)
def kind(request: pytest.FixtureRequest, require: Callable[[str], None]) -> tuple[str, str]:
    backend, user = request.param
    require(backend)
    return backend, user


@pytest.fixture(scope="module")
def host(kind: tuple[str, str]) -> Iterator[Host]:
    started = Host(*kind)
    yield started
    started.close()


@pytest.fixture
def stage() -> Iterator[Path]:
    """A folder that every user can read, at a path that says nothing."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


LOOKS: list[tuple[str, ...]] = []
"""Programs that look around in one box, one after the other: a box takes a second of an engine."""


def look(*argv: str) -> int:
    """Add a program; its place in `seen`. HOST_PORT and HOST_SOCKET in it are the host's."""
    LOOKS.append((*argv[:-1], textwrap.dedent(argv[-1])))
    return len(LOOKS) - 1


LOOK_AROUND = """
    import json, subprocess, sys
    told = []
    for argv in json.loads(sys.argv[1]):
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        told.append(done.stdout.decode())
    print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def seen(host: Host) -> Sequence[str]:
    """What each of LOOKS prints, beside a host that has something to be found."""
    libc = ctypes.CDLL(None, use_errno=True)
    segment = libc.shmget(0, 4096, 0o1666)  # IPC_PRIVATE, IPC_CREAT, everybody's
    assert segment >= 0
    name = f"\0canary-{os.getpid()}"
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
    ):
        Path(folder).chmod(0o755)
        (Path(folder) / "canary-of-the-host").touch()
        (Path(folder) / "entry").mkdir()
        local.bind(name)
        local.listen()
        known = {"HOST_PORT": str(server.getsockname()[1]), "HOST_SOCKET": repr(name)}
        programs = json.dumps(LOOKS)
        for word, value in known.items():
            programs = programs.replace(word, json.dumps(value)[1:-1])
        try:
            assert len(Path("/proc/sysvipc/shm").read_text().splitlines()) > 1
            outcome = host.run(
                *("python", "-c", textwrap.dedent(LOOK_AROUND), programs),
                code=Path(folder) / "entry",
            )
        finally:
            libc.shmctl(segment, 0, None)
    told: list[str] = outcome.json()
    return told


def until(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


# What it sees.


def test_the_environment_is_exactly_the_contracts(host: Host) -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = host.run("python", "-c", program, cpus=2).json()
    path = seen.pop("PATH").split(":")
    assert seen == {
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "PYTHONUNBUFFERED": "1",
        "ADVCOMP_MEMORY_BYTES": str(512 * MIB),
    }
    folders = (str(Path(sys.executable).parent), "/run/python")
    assert path[0] in (("/opt/advcomp/bin",) if host.has_images else folders)


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, "1"), (1.9, "1"), (2, "2"), (2.5, "2")])
def test_a_program_is_told_of_whole_processors(cpus: float, threads: str) -> None:
    told = environment("/bin", small(cpus=cpus))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    assert [told[name] for name in names] == [threads] * 3


INTERPRETER = look(
    *("python", "-c"),
    "import sys, json, advcomp.rules.threat; print(json.dumps([sys.prefix, sys.version]))",
)


def test_python_is_the_interpreter_of_advcomp_and_finds_it(
    host: Host, seen: Sequence[str]
) -> None:
    prefix, version = json.loads(seen[INTERPRETER])
    assert prefix == ("/opt/advcomp" if host.has_images else sys.prefix)
    assert host.has_images or version == sys.version


PREFIX = "import sys; print(sys.prefix, sys.version_info[:3])"
PYTHON, PYTHON3 = (look(name, "-c", PREFIX) for name in ("python", "python3"))


def test_python3_is_the_same_interpreter(seen: Sequence[str]) -> None:
    assert seen[PYTHON3] == seen[PYTHON] != ""


FOLDERS = look(
    *("python", "-c"),
    f"""
    import json, os
    folders = ("/", "/etc", {str(PACKAGE.parent)!r})
    places = {[sys.prefix, str(PACKAGE), str(DRIVER), str(Path.home())]!r}
    print(json.dumps([
        [os.listdir(d) if os.path.exists(d) else None for d in folders],
        [p for p in places if os.path.exists(p) and p != "/root"],
    ]))
    """,
)


def test_nothing_of_the_host_is_seen_but_programs_and_the_interpreter(
    host: Host, seen: Sequence[str]
) -> None:
    (top, etc, beside_the_package), places = json.loads(seen[FOLDERS])
    if host.has_images:
        assert places == []
        return
    own = {Path(folder).parts[1] for folder in (sys.prefix, sys.base_prefix, PACKAGE)}
    system = {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc"}
    gvisors = {"sys", ".advcomp-first"} if host.backend == "gvisor" else set()
    contracts = {"proc", "dev", "tmp", "run", "code", "output_images"}
    assert set(top) <= own | system | contracts | gvisors
    assert set(etc) <= {
        *("alternatives", "ld.so.cache", "localtime"),
        *("passwd", "group", "hosts", "nsswitch.conf"),
    }
    prefixes = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    beside = {
        prefix.relative_to(PACKAGE.parent).parts[0]
        for prefix in prefixes
        if prefix.is_relative_to(PACKAGE.parent)
    }
    inside_a_prefix = any(PACKAGE.is_relative_to(prefix) for prefix in prefixes)
    assert inside_a_prefix or set(beside_the_package) == {"advcomp", *beside}


CANARY = look("sh", "-c", "find / -maxdepth 5 -name 'canary-of-*' 2>/dev/null; echo /us*")


def test_a_file_of_the_host_cannot_be_found(seen: Sequence[str]) -> None:
    assert seen[CANARY] == "/usr\n"


def test_hidden_folders_are_empty_at_every_path(kind: tuple[str, str], host: Host) -> None:
    if has_images(kind):
        pytest.skip("a container shows an image and nothing of the host that could be hidden")
    labels = Path(tempfile.mkdtemp(prefix="canary-", dir=sys.prefix))
    try:
        name = f"labels-of-{labels.name}.csv"  # other workers try the same
        labels.chmod(0o755)
        (labels / name).write_text("1,2,3\n")
        (labels / name).chmod(0o644)
        look = f"find {sys.prefix} -maxdepth 3 -name {name} 2>/dev/null; ls {labels}"
        assert name in host.sh(look).log  # so it is the cover that hides it
        hiding = Host(*kind, hidden=[labels])
        outcome = hiding.sh(f"{look}; touch {labels}/x && echo written")
        hiding.close()
    finally:
        shutil.rmtree(labels)
    assert name not in outcome.log
    assert "written" not in outcome.log


def test_the_digits_of_scikit_learn_can_be_hidden(kind: tuple[str, str]) -> None:
    if has_images(kind):
        pytest.skip("a container shows an image and nothing of the host that could be hidden")
    sklearn = find_spec("sklearn")
    assert sklearn is not None
    assert sklearn.origin is not None
    data = Path(sklearn.origin).parent / "datasets/data"
    assert (data / "digits.csv.gz").exists()
    hiding = Host(*kind, hidden=[data])
    outcome = hiding.sh(f"find {data} {data.parent}/_base.py")
    hiding.close()
    assert outcome.log == f"{data}\n{data.parent}/_base.py\n"


def test_processes_tell_nothing_of_the_harness(host: Host) -> None:
    outcome = host.python(
        """
        import glob, json
        def text(path):
            try:
                return open(path).read()
            except OSError:
                return ""
        print(json.dumps([
            [text(p) for p in glob.glob("/proc/[0-9]*/cmdline")],
            [text("/proc/1/environ")],
        ]))
        """
    )
    commands, environment = outcome.json()
    assert len(commands) <= 2
    harmless = {str(PACKAGE / "sandbox/box/launcher.py"), sys.executable, "/.advcomp-first"}
    paths = {word for line in commands for word in line.split("\0") if word.startswith("/")}
    assert paths <= harmless
    assert [text.strip("\0") for text in environment] == [""]


STANDARD = ["/0", "/1", "/2"]
"""Descriptors; a shell that looks at its own has a fourth, the folder that it looks at."""


def test_it_starts_with_three_descriptors_and_no_input(host: Host) -> None:
    spec = RunSpec(
        argv=("sh", "-c", "echo /proc/$$/fd/*; readlink /proc/self/fd/0; wc -c; sleep 0.2"),
        limits=small(),
    )
    # Side by side: none may inherit what belongs to another.
    for outcome in host.run_all([(spec, (), False)] * 4):
        descriptors, null, read = outcome.log.splitlines()
        assert [path[-2:] for path in descriptors.split()] in (STANDARD, [*STANDARD, "/3"])
        assert (null, read) == ("/dev/null", "0")


def test_inputs_are_read_only(host: Host, stage: Path) -> None:
    images = stage / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"pixels")
    outcome = host.sh(
        """
        cat /input_images/a.png
        echo x > /input_images/a.png
        echo x > /input_images/b.png
        rm -f /input_images/a.png; mv /input_images/a.png /tmp; chmod 777 /input_images/a.png
        echo /input_images/*
        """,
        inputs={"/input_images": images},
    )
    assert outcome.log.startswith("pixels")
    assert outcome.log.endswith("\n/input_images/a.png\n")
    assert [(p.name, p.read_bytes()) for p in images.iterdir()] == [("a.png", b"pixels")]


WRITABLE = look(
    *("python", "-c"),
    """
    import json, os
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
    def writable(folder):
        try:
            os.close(os.open(folder + "/probe", os.O_CREAT | os.O_WRONLY))
            os.unlink(folder + "/probe")
        except OSError:
            return False
        return True
    print(json.dumps([f for f in [*mounts, "/home", "/etc", "/run"] if writable(f)]))
    """,
)


def test_only_its_own_folders_can_be_written(seen: Sequence[str]) -> None:
    assert set(json.loads(seen[WRITABLE])) == {"/tmp", "/dev/shm", "/code", "/output_images"}


def test_the_entry_is_a_fresh_copy_with_its_modes_and_links(host: Host, stage: Path) -> None:
    entry = stage / "entry"
    (entry / "deep/er").mkdir(parents=True)
    (entry / "run").write_text(
        "#!/bin/sh\npwd; cat deep/er/data link; ls | wc -l; echo x > new; echo y >> link\n"
        "grep -c tmp/tmp /proc/self/mountinfo; find / -maxdepth 5 -name only-here 2>/dev/null\n"
    )
    (entry / "run").chmod(0o755)
    (entry / "deep/er/data").write_text("data\n")
    (entry / "deep/er/only-here").touch()
    (entry / "link").symlink_to("deep/er/data")
    for _ in range(2):
        outcome = host.run("./run", code=entry)
        assert outcome.log == "/code\ndata\ndata\n3\n0\n/code/deep/er/only-here\n"
    assert (entry / "deep/er/data").read_text() == "data\n"
    assert not (entry / "new").exists()


# What it reaches.


NETWORK = look(
    *("python", "-c"),
    """
    import json, socket
    def reached(family, kind, address):
        try:
            with socket.socket(family, kind) as s:
                s.settimeout(2)
                s.connect(address)
                s.send(b"hello")
        except OSError:
            return False
        return True
    print(json.dumps([
        reached(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", HOST_PORT)),
        reached(socket.AF_INET, socket.SOCK_STREAM, ("1.1.1.1", 443)),
        reached(socket.AF_INET, socket.SOCK_DGRAM, ("8.8.8.8", 53)),
        reached(socket.AF_INET6, socket.SOCK_DGRAM, ("2001:4860:4860::8888", 53)),
        reached(socket.AF_UNIX, socket.SOCK_STREAM, HOST_SOCKET),
        [name for _, name in socket.if_nameindex() if name != "lo"],
    ]))
    """,
)


def test_no_network(seen: Sequence[str]) -> None:
    assert json.loads(seen[NETWORK]) == [False, False, False, False, False, []]


# A heading, or an error where there is no such file.
SHARED_MEMORY = look("sh", "-c", "cat /proc/sysvipc/shm 2>&1 | wc -l; find /dev/shm -mindepth 1")


def test_no_shared_memory_of_the_host(seen: Sequence[str]) -> None:
    assert seen[SHARED_MEMORY] == "1\n"


LEAD_OUT = look(
    *("python", "-c"),
    """
    import ctypes, errno, json, os, platform, socket
    libc = ctypes.CDLL(None, use_errno=True)
    x86 = platform.machine() == "x86_64"
    numbers = {
        "keyctl": 250 if x86 else 219,
        "io_uring_setup": 425,
        "userfaultfd": 323 if x86 else 282,
        "bpf": 321 if x86 else 280,
        "perf_event_open": 298 if x86 else 241,
        "open_by_handle_at": 304 if x86 else 265,
    }
    def refused(call, *arguments):
        return call(*arguments) == -1 and errno.errorcode[ctypes.get_errno()]
    def family(number):
        try:
            socket.socket(number, socket.SOCK_STREAM).close()
        except OSError as error:
            return errno.errorcode[error.errno]
    print(json.dumps({
        **{name: refused(libc.syscall, n, 0, 0, 0, 0, 0) for name, n in numbers.items()},
        "mount": refused(libc.mount, b"none", b"/tmp", b"tmpfs", 0, None),
        "ptrace": refused(libc.ptrace, 16, 1, 0, 0),
        "unshare user": refused(libc.unshare, 0x10000000),
        "unshare mount": refused(libc.unshare, 0x20000),
        "setns": refused(libc.setns, os.open("/proc/self/ns/net", os.O_RDONLY), 0),
        "clone user": refused(libc.syscall, 56 if x86 else 220, 0x10000011, 0, 0, 0, 0),
        "clone3": refused(libc.syscall, 435, 0, 0),
        "AF_VSOCK": family(40),
        "AF_PACKET": family(17),
        "AF_ALG": family(38),
    }))
    """,
)


def test_system_calls_that_lead_out_are_refused(seen: Sequence[str]) -> None:
    answers = json.loads(seen[LEAD_OUT])
    assert answers.pop("clone3") == "ENOSYS"  # so that libraries fall back to clone
    families = {name for name in answers if name.startswith("AF_")}
    assert {name: answers[name] for name in families} == dict.fromkeys(families, "EAFNOSUPPORT")
    rest = answers.keys() - families
    assert {name: answers[name] for name in rest} == dict.fromkeys(rest, "EPERM")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
def test_every_call_is_answered_as_it_is_written_out(host: Host) -> None:
    words = (str(EVERY_CALL.stop), str(NEWEST_CALL))
    outcome = host.run("python", "-c", textwrap.dedent(CALL_EVERYTHING), *words, wall_s=150)
    told = {int(n): error for n, error in outcome.json().items()}
    for error, numbers in REFUSED_ON_X86_64.items():
        assert {n: told[n] for n in numbers} == dict.fromkeys(numbers, error)
    assert {told[n] for n in told if n > max(EVERY_CALL)} == {errno.ENOSYS}


ORDINARY_PROGRAMS = look(
    *("python", "-c"),
    """
    import concurrent.futures, pty, socket, subprocess, threading
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        print(sum(pool.map(abs, [-1, -2])))
    print(subprocess.run(["sh", "-c", "echo $((40 + 2))"], capture_output=True).stdout)
    thread = threading.Thread(target=print, args=("thread",))
    thread.start(); thread.join()
    for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
        socket.socket(family, socket.SOCK_DGRAM).close()
    print(len(pty.openpty()))
    """,
)


def test_ordinary_programs_meet_no_filter(seen: Sequence[str]) -> None:
    assert seen[ORDINARY_PROGRAMS] == "3\nb'42\\n'\nthread\n2\n"


def test_it_never_runs_as_root_of_the_host(host: Host) -> None:
    if not host.is_seen:
        _no_kernel_of_its_own_runs_as_root(host)
        return
    token = f"86400.{os.getpid()}"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.sh, f"sleep {token} & sleep {token}", wall_s=2)
        assert until(lambda: len(processes(f"sleep\0{token}")) == 2)
        seen = [text_of(pid, "status") for pid in processes(f"sleep\0{token}")]
        assert any(seen)
        for status in filter(None, seen):
            lines = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
            assert "0" not in lines["Uid"].split()
            assert "0" not in lines["Gid"].split()
            groups = lines["Groups"].split()
            assert "0" not in groups
            assert (int(lines["CapEff"], 16), int(lines["CapBnd"], 16)) == (0, 0)
            assert int(lines["CapPrm"], 16) | int(lines["CapInh"], 16) == 0
            assert lines["NoNewPrivs"] == "1"
        assert running.result().result.timed_out


def _no_kernel_of_its_own_runs_as_root(host: Host) -> None:
    """What runs a program under gVisor is gVisor."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.sh, "sleep 60", wall_s=3)
        seen: list[str] = []
        while not seen and not running.done():
            seen = statuses(host)
        assert seen
        for status in seen:
            assert re.search(r"^Uid:\t(?!0\t)(\d+)\t\1\t\1\t\1$", status, re.MULTILINE), status
        assert running.result().result.timed_out


def statuses(host: Host) -> list[str]:
    """What this machine says of each of them that still is."""
    return [found for pid in gvisors(host) if (found := text_of(pid, "status"))]


def gvisors(host: Host) -> list[int]:
    """The processes on this machine that are the kernels of a harness's boxes."""
    if host.has_images:
        return gvisors_of(host.process.pid)
    return kernels(
        [str(host.temporary)]
    )  # a box without an engine is named by its bundle's folder


def test_boxes_of_root_share_no_uid(host: Host) -> None:
    if host.uid != 0:
        pytest.skip("an ordinary user has one uid; its boxes are apart by namespace")
    jobs = [(RunSpec(argv=("id", "-u"), limits=small()), (), False)] * 4
    uids = {outcome.log for outcome in host.run_all(jobs)}
    assert len(uids) == 4
    taken = {line.split(":")[2] for line in Path("/etc/passwd").read_text().splitlines()}
    assert not {uid.strip() for uid in uids} & taken


SETUID = look(
    *("python", "-c"),
    """
    import os, re, shutil, subprocess, time
    program = shutil.which("su")
    print(bool(os.stat(program).st_mode & 0o4000))
    running = subprocess.Popen([program], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    status = open(f"/proc/{running.pid}/status").read()
    print(set(re.search(r"Uid:(.*)", status)[1].split()) == {str(os.getuid())})
    running.kill()
    """,
)


def test_setuid_programs_give_nothing(seen: Sequence[str]) -> None:
    assert seen[SETUID] == "True\nTrue\n"


def test_it_cannot_kill_limit_or_trace_the_first_process_of_its_box(host: Host) -> None:
    """Where it has the program's uid, nothing but the kernel's rules protects it."""
    outcome = host.python(
        """
        import os, resource, time
        for _ in range(1000):
            for number in range(1, 65):
                try:
                    os.kill(1, number)
                except OSError:
                    pass
        for limit in range(16):
            try:
                resource.prlimit(1, limit, (0, 0))
                print("CHANGED", limit)
            except OSError:
                pass
        for name in ("mem", "fd/0", "fd/1", "fd/2", "fd/3"):
            try:
                fd = os.open(f"/proc/1/{name}", os.O_RDWR | os.O_NONBLOCK)
                os.write(1, f"OPENED {name}\\n".encode())
                os.write(fd, b"exit 0 0\\n")
            except OSError:
                pass
        time.sleep(0.1)
        raise SystemExit(7)
        """
    )
    assert outcome.result.exit_code == 7
    if host.backend != "gvisor":
        assert outcome.log == ""
        return
    # There it may open the streams that it has itself, and one from which nothing more comes; what
    # is said on them without the box's mark is nobody's word.
    assert set(re.findall("OPENED (.*)", outcome.log)) <= {"fd/0", "fd/1", "fd/2"}
    assert "CHANGED" not in outcome.log


UDP_HOARD = """
    import socket
    receivers = []
    for _ in range(60):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        receiver.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(receiver.getsockname())
            for _ in range(150):
                sender.send(bytes(60000))
        receivers.append(receiver)
    with open("/proc/net/udp") as file:
        print(sum(int(line.split()[4][9:], 16) for line in file.readlines()[1:]))
"""
NETLINK_HOARD = """
    import socket, struct, time
    request = struct.pack("=IHHIIBBHiII", 32, 18, 1, 1, 0, 0, 0, 0, 1, 0, 0)  # RTM_GETLINK of lo
    hoard = []
    while True:
        hoard.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
        hoard[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        for _ in range(2500):
            hoard[-1].send(request)
"""


def test_what_is_queued_in_sockets_is_bounded_and_counts(host: Host) -> None:
    """It is memory of the kernel: 700 MiB fitted into a box of 128."""
    outcome = host.python(UDP_HOARD, memory_bytes=128 * MIB)
    if not host.is_seen:  # its kernel's memory is all its own
        assert outcome.result.oom_killed or outcome.result.exit_code == 0
        return
    assert outcome.result.oom_killed or int(outcome.log) < 20 * MIB
    hoarder = host.python(NETLINK_HOARD, memory_bytes=128 * MIB).result
    assert (hoarder.oom_killed, hoarder.signal) == (True, signal.SIGKILL)
    assert not hoarder.timed_out


TALKS = look(
    *("python", "-c"),
    """
    import socket, threading
    server = socket.create_server(("127.0.0.1", 0))
    def send():
        with server.accept()[0] as stream:
            for _ in range(100):
                stream.sendall(bytes(1 << 20))
    threading.Thread(target=send).start()
    received = 0
    with socket.create_connection(server.getsockname()) as stream:
        while chunk := stream.recv(1 << 16):
            received += len(chunk)
    print(received >> 20)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.sendto(b"hello", one.getsockname())
        print(one.recv(5))
    """,
)


def test_a_program_may_talk_to_itself_by_tcp_and_udp(seen: Sequence[str]) -> None:
    assert seen[TALKS] == "100\nb'hello'\n"


TABLES = """
    import ctypes, fcntl, json, os, pty, resource, signal, socket, struct
    libc = ctypes.CDLL(None, use_errno=True)
    def most(take, at_most):
        held = []
        try:
            while len(held) < at_most:
                held.append(take())
        except (OSError, ValueError):
            pass
        return len(held)
    def called(function, *arguments):
        if function(*arguments) == -1:
            raise OSError(ctypes.get_errno(), "")
    def timer():
        called(libc.timer_create, 1, None, ctypes.byref(ctypes.c_void_p()))
    def message_queue(names=iter(range(10_000))):
        form = (ctypes.c_long * 8)(0, 10, 8192, 0, 0, 0, 0, 0)
        called(libc.mq_open, b"/%d" % next(names), os.O_CREAT | os.O_RDWR, 0o600, form)
    def socket_filter():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))
        program = (ctypes.c_ulong * 2)(1, ctypes.addressof(code))
        called(libc.setsockopt, s.fileno(), 1, 26, program, 16)
        return s, code
    def files_of_a_child():
        reading, writing = os.pipe()
        if os.fork() == 0:
            count = most(lambda: os.open("/dev/null", os.O_RDONLY), 1 << 20)
            os.write(writing, b"%d" % count)
            os.close(writing)
            signal.pause()
        os.close(writing)
        return reading
    taken = {
        "terminals": most(pty.openpty, 4096),
        "timers": most(timer, 100_000),
        "message queues": most(message_queue, 10_000),
        "socket filters": most(socket_filter, 100),
        "watches": most(lambda: called(libc.inotify_init1, 0), 100),
        "user namespaces": most(lambda: called(libc.unshare, 0x10000000), 1),
        "network namespaces": most(lambda: called(libc.unshare, 0x40000000), 1),
        "mounts": most(lambda: called(libc.mount, b"x", b"/tmp", b"tmpfs", 0, None), 1),
        "keys": most(lambda: called(libc.syscall, KEYCTL, 0, -2, 1), 1),
        "contexts": most(lambda: called(libc.syscall, IO_SETUP, 1, (ctypes.c_ulong * 1)()), 1),
    }
    children = [files_of_a_child() for _ in range(30)]
    taken["open files"] = sum(int(os.read(child, 16)) for child in children)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    taken["more open files"] = most(
        lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1)), 1
    )
    limits = (resource.RLIMIT_NICE, resource.RLIMIT_RTPRIO)
    taken["priority"] = sum(resource.getrlimit(limit)[1] for limit in limits)
    print(json.dumps(taken))
"""


def test_what_the_whole_machine_shares_is_bounded(host: Host) -> None:
    """Whatever a box holds, the machine keeps most of it for others."""
    if not host.is_seen:
        pytest.skip("its kernel has tables of its own, in the box's memory")
    x86 = platform.machine() == "x86_64"
    program = TABLES.replace("KEYCTL", "250" if x86 else "219")
    outcome = host.python(program.replace("IO_SETUP", "206" if x86 else "0"))
    assert outcome.result.exit_code == 0, outcome.log
    taken = outcome.json()
    table = int(Path("/proc/sys/fs/file-max").read_text())
    bounds = {
        "terminals": (2, 32),
        "timers": (1, 4096),
        "message queues": (1, 12),
        "open files": (30 * 32, table // 3),
    }
    others = dict.fromkeys(taken.keys() - bounds.keys(), (0, 0))
    wrong = {
        name: (taken[name], least, most)
        for name, (least, most) in (bounds | others).items()
        if not least <= taken[name] <= most
    }
    assert wrong == {}


# How long, and how it ends.


def test_an_exit_code_is_reported_as_it_is(host: Host) -> None:
    codes = [0, 1, 126, 127, 137, 255]
    told = [(code, None, False) for code in codes]
    assert endings(host, [f"exit {code}" for code in codes]) == told


def test_a_signal_that_ends_it_is_reported_as_a_signal(host: Host) -> None:
    """But what a shell tells of a signal is an exit code."""
    numbers = [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE]
    told = [*((None, number, False) for number in numbers), (128 + 9, None, False)]
    programs = [*(f"kill -{number.value} $$" for number in numbers), "sh -c 'kill -9 $$'; exit $?"]
    assert endings(host, programs) == told


def endings(host: Host, programs: Sequence[str]) -> list[tuple[int | None, int | None, bool]]:
    """How programs of a shell end that run at once: exit code, signal, whether timed out."""
    specs = [RunSpec(argv=("sh", "-c", program), limits=small()) for program in programs]
    results = [outcome.result for outcome in host.run_all([(spec, (), False) for spec in specs])]
    return [(result.exit_code, result.signal, result.timed_out) for result in results]


def test_what_cannot_be_started_says_so(host: Host, stage: Path) -> None:
    (stage / "data").touch(mode=0o644)
    missing = host.run("./missing", code=stage)
    not_executable = host.run("./data", code=stage)
    assert (missing.result.exit_code, not_executable.result.exit_code) == (127, 126)
    assert "cannot start ./missing: No such file or directory" in missing.log


def test_the_deadline_kills_at_once_whatever_is_ignored_and_what_is_written_is_kept(
    host: Host,
) -> None:
    program = "echo a > /output_images/a; trap '' TERM INT HUP QUIT; while :; do sleep 1; done"
    outcome = host.sh(program, wall_s=0.5, read=["a"])
    result = outcome.result
    assert (result.timed_out, result.signal, result.exit_code) == (True, signal.SIGKILL, None)
    assert 0.5 <= result.wall_s < 0.5 + SLACK_S
    assert outcome.files == {"a": b"a\n"}


def test_a_deadline_before_the_program_has_begun_is_the_programs(host: Host) -> None:
    """Whether it lives to hear that it may start is a matter of microseconds."""
    for _ in range(4):
        result = host.sh("exec sleep 60", wall_s=0).result
        assert (result.timed_out, result.signal, result.exit_code) == (True, signal.SIGKILL, None)


def test_the_deadline_ends_what_prints_for_ever(host: Host) -> None:
    """An engine may not be waited for while it waits for us to take what is printed."""
    result = host.sh("exec cat /dev/zero", wall_s=2).result
    assert result.timed_out
    assert 2 <= result.wall_s < 30


def test_daemons_die_with_the_program(host: Host) -> None:
    token = f"86401.{os.getpid()}"
    outcome = host.sh(f"setsid sh -c 'sleep {token} & sleep {token} &' & exec sleep 0.1")
    assert outcome.result.exit_code == 0
    assert outcome.result.wall_s < SLACK_S
    assert processes(token) == []


def leads_its_session(host: Host, wall_s: float) -> bool | None:
    """Whether the harness's one child does, while a box runs; None where that was over before."""
    token = f"86403.{os.getpid()}"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.sh, f"sleep {token}", wall_s=wall_s)
        assert until(
            lambda: (processes(token) if host.is_seen else gvisors(host)) or running.done()
        )
        # Beside it may be, for a moment, a program that asks an engine how the box does.
        assert until(lambda: len(children(host.process.pid)) == 1 or running.done())
        leads = None
        with contextlib.suppress(ValueError, ProcessLookupError):
            (started,) = children(host.process.pid)
            leads = os.getsid(started) == started
        leads = None if running.done() else leads
        assert running.result().result.timed_out
    return leads


def test_ctrl_c_reaches_the_harness_and_not_its_boxes(host: Host) -> None:
    # On a busy machine a second is over before anybody looks.
    looks = (leads_its_session(host, wall_s) for wall_s in (1, 10, 40))
    assert next(leads for leads in looks if leads is not None)


# How much.


def test_memory_of_the_heap_is_limited(host: Host) -> None:
    result = host.python("x = b'x' * (256 << 20); print(len(x))", memory_bytes=64 * MIB).result
    assert (result.oom_killed, result.timed_out, result.exit_code) == (True, False, None)
    assert result.signal == signal.SIGKILL


def test_memory_of_files_is_limited(host: Host) -> None:
    """All three folders count: any two of them would fit."""
    result = host.python(
        """
        import time
        for folder in ("/tmp", "/dev/shm", "/output_images"):
            with open(f"{folder}/x", "wb") as file:
                for _ in range(70):
                    file.write(bytes(1 << 20))
        time.sleep(30)
        """,
        memory_bytes=200 * MIB,
        output_bytes=1024 * MIB,
    ).result
    assert (result.oom_killed, result.timed_out) == (True, False)


def test_an_entry_beyond_its_memory_is_its_own_fault(host: Host, stage: Path) -> None:
    if not host.kernel_limits:
        pytest.skip("the watchdog looks only while the program runs")
    (stage / "weights").write_bytes(b"w" * (128 * MIB))
    result = host.run("true", code=stage, memory_bytes=64 * MIB).result
    assert (result.oom_killed, result.exit_code, result.signal) == (True, None, signal.SIGKILL)


def test_a_childs_death_for_memory_is_told_and_spares_the_parent(host: Host) -> None:
    if not host.kernel_limits:
        pytest.skip("the watchdog kills the whole box")
    if host.backend == "gvisor":
        pytest.skip("the host's kernel sees one process only, gVisor, and kills that")
    outcome = host.python(
        """
        import subprocess, sys
        child = subprocess.run([sys.executable, "-c", "x = b'x' * (256 << 20)"])
        print(child.returncode)
        """,
        memory_bytes=64 * MIB,
    )
    assert (outcome.log, outcome.result.exit_code) == ("-9\n", 0)
    assert outcome.result.oom_killed
    assert any("killed for memory" in note for note in outcome.result.notes)


def test_peak_memory_is_measured(host: Host) -> None:
    result = host.python("import time; x = b'x' * (96 << 20); time.sleep(0.3)").result
    assert result.max_rss_bytes is not None
    assert 96 * MIB < result.max_rss_bytes < 192 * MIB


def test_processes_and_threads_are_limited(host: Host) -> None:
    outcome = host.python(
        """
        import os, time
        count = 1
        while count < 1000:
            try:
                if os.fork() == 0:
                    time.sleep(60)
            except OSError:
                break
            count += 1
            time.sleep(0.001)
        print(count)
        """,
        pids=20,
    )
    if host.backend == "gvisor":  # its kernel has no such limit: it is watched
        assert (outcome.result.signal, outcome.log) == (signal.SIGKILL, "")
        assert "killed by the watchdog" in outcome.result.notes[0]
    else:
        assert outcome.log == "20\n"


def test_a_fork_bomb_is_harmless(host: Host) -> None:
    outcome = host.python(
        """
        import os
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """,
        pids=40,
        wall_s=1,
    )
    # Where the kernel does not hold their number, the watchdog may see it before the time is up.
    counted = any("processes" in note for note in outcome.result.notes)
    assert outcome.result.timed_out or (counted and not (host.kernel_limits and host.is_seen))
    assert outcome.result.wall_s < SLACK_S


def test_processor_time_is_limited(host: Host) -> None:
    """Told by the kernel's count for its group, which other programs do not change."""
    if not host.kernel_limits:
        pytest.skip("without control groups nothing holds the share of the processors")
    program = """
        import os, time
        end = time.monotonic() + 3
        processes = [os.fork(), os.fork()]
        while time.monotonic() < end:
            sum(range(10_000))
        if all(processes):
            os.wait(), os.wait()
        """
    result = host.python(program, cpus=0.2).result
    assert result.cpu_s is not None
    # Four processes would use two processors; what is beyond 0.2 was used before the limit bit.
    assert 0 < result.cpu_s < 0.2 * result.wall_s + 0.4


def test_the_output_folder_holds_exactly_its_limit(host: Host) -> None:
    outcome = host.python(
        """
        import os
        written, fd = 0, os.open("/output_images/full", os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                written += os.write(fd, bytes(5000))
        except OSError as error:
            print(error.errno, written)
        """,
        read=["full"],
    )
    assert outcome.log == f"28 {MIB}\n"
    assert outcome.files == {"full": bytes(MIB)}
    assert (outcome.result.output_full, outcome.result.disk_full) == (True, False)


def test_full_scratch_folders_are_told(host: Host, stage: Path) -> None:
    (stage / "weights").write_bytes(bytes(MIB + 1))
    for folder in ("/tmp", "/code"):
        outcome = host.sh(f"cat /dev/zero > {folder}/x || wc -c < {folder}/x", code=stage)
        assert (outcome.result.disk_full, outcome.result.output_full) == (True, False)
        written = int(outcome.log.split()[-1])
        assert written == MIB if folder == "/code" else written > 0


@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.long)])
def test_many_files_cost_the_referee_nothing(host: Host, count: int) -> None:
    outcome = host.python(
        f"for i in range({count}): open(f'/output_images/{{i}}', 'w').close()",
        read=["7", str(count)],
    )
    assert len(outcome.names) == 100
    assert outcome.files == {"7": b"", str(count): None}


def test_the_log_keeps_head_and_tail_and_no_more(host: Host) -> None:
    before = host.sh("true").harness_peak_bytes
    outcome = host.python(
        """
        import os
        def write(fd, data):
            while data:  # gVisor may take a part
                data = data[os.write(fd, data) :]
        write(1, b"<" * 40_000)
        for _ in range(300):
            write(1, bytes(1 << 20))
        write(2, b">" * 40_000)
        """
    )
    size, half = 64 * 1024, 32 * 1024
    assert outcome.result.log == b"<" * half + b">" * half
    assert outcome.result.log_dropped_bytes == 300 * MIB + 80_000 - size
    assert outcome.harness_peak_bytes - before < 50 * MIB


def test_standard_output_is_taken_whole_and_apart_up_to_its_cap(host: Host) -> None:
    exact = host.sh(f"head -c {MIB} /dev/zero; echo told >&2", whole_stdout=True)
    assert (exact.stdout, exact.log, exact.result.output_full) == (bytes(MIB), "told\n", False)
    over = host.sh(f"head -c {MIB + 1} /dev/zero", whole_stdout=True)
    assert (len(over.stdout), over.result.output_full) == (MIB, True)


INHERITED = look("sh", "-c", "ulimit -c; nice; ulimit -H -c")


def test_limits_that_it_inherits(seen: Sequence[str]) -> None:
    core, niceness, hard_core = seen[INHERITED].split()
    assert (core, hard_core) == ("0", "0")
    # An engine's daemon has a niceness of its own.
    assert int(niceness) in (os.nice(0), 0)


# What it leaves.


def test_outputs_that_are_no_files_are_not_followed(host: Host) -> None:
    outcome = host.python(
        """
        import os, socket
        os.chdir("/output_images")
        os.mkfifo("fifo")
        os.mkdir("folder")
        os.symlink("/etc/shadow", "link")
        os.symlink("file", "inner")
        socket.socket(socket.AF_UNIX).bind("socket")
        open("file", "w").write("content")
        os.link("file", "hard")
        os.truncate(os.open("sparse", os.O_CREAT | os.O_WRONLY), 1 << 27)  # the reader takes less
        """,
        read=[
            *("fifo", "folder", "link", "inner", "socket", "file", "hard", "none", "sparse"),
            *("../etc/passwd", "folder/../file", ".", "", "x" * 5000),
        ],
    )
    found = {name: content for name, content in outcome.files.items() if content is not None}
    assert found == {"file": b"content", "hard": b"content"}


def test_names_and_modes_of_outputs_can_be_anything(host: Host) -> None:
    outcome = host.python(
        r"""
        import os
        os.chdir("/output_images")
        for name in (b"\xff\n", "\u202e\u00e9".encode(), b"-rf", b"n" * 255):
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0))
        open("secret", "w").write("content")
        os.chmod("secret", 0)
        os.chmod("/output_images", 0)
        """,
        read=["secret"],
    )
    assert outcome.files == {"secret": b"content"}
    assert set(outcome.names) == {r"\xff\n", "\\u202e\u00e9", "-rf", "n" * 255, "secret"}


def test_nothing_is_left_behind(host: Host) -> None:
    def traces() -> tuple[list[object], list[str], list[Path]]:
        pid = host.process.pid
        own = str(host.temporary), f"-{pid}-"  # others mount and unmount meanwhile
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        mounts = [line for line in lines if any(mark in line for mark in own)]
        return [*control_groups(pid), *with_engines(pid)], mounts, list(host.temporary.iterdir())

    first = host.sh("true")
    before = traces()
    last = host.python(
        """
        import os
        os.chdir("/output_images")
        for _ in range(500):
            os.mkdir("d", 0o300)
            os.chdir("d")
        """
    )
    assert last.result.exit_code == 0
    assert traces() == before
    assert (before[0], before[2]) == ([], [])
    assert last.descriptors == first.descriptors


def test_several_at_once_do_not_mix(host: Host) -> None:
    def job(number: int) -> tuple[RunSpec, tuple[str, ...], bool]:
        program = f"echo {number} > /output_images/x; echo {number} > /dev/shm/x; sleep 0.2; "
        program += f"echo log {number}; cat /dev/shm/x; exit {number}"
        spec = RunSpec(argv=("sh", "-c", program), limits=small(), output="/output_images")
        return spec, ("x",), False

    for number, outcome in enumerate(host.run_all([job(n) for n in range(4)])):
        assert outcome.result.exit_code == number
        assert outcome.files == {"x": f"{number}\n".encode()}
        assert outcome.log == f"log {number}\n{number}\n"


def test_a_killed_harness_leaves_no_process_and_the_next_clears_its_groups(
    kind: tuple[str, str],
) -> None:
    token = f"86402.{os.getpid()}"
    doomed = Host(*kind)
    with ThreadPoolExecutor(1) as pool, doomed.process:
        running = pool.submit(doomed.sh, f"setsid sleep {token} & sleep {token}")
        if doomed.is_seen:
            assert until(lambda: len(processes(f"sleep\0{token}")) == 2)
        else:
            assert until(lambda: gvisors(doomed))
        if doomed.has_images:
            assert with_engines(doomed.process.pid)
        else:
            assert bool(control_groups(doomed.process.pid)) == doomed.kernel_limits
        doomed.process.kill()
        with pytest.raises(EOFError):
            running.result()
    assert until(lambda: not processes(token))
    assert until(lambda: not gvisors(doomed))
    Host(*kind).close()
    assert [*control_groups(doomed.process.pid), *with_engines(doomed.process.pid)] == []


@pytest.mark.parametrize("started", [2, 3])  # the harness, bwrap, the launcher to be
def test_a_harness_killed_while_a_box_is_made_leaves_nothing(
    kind: tuple[str, str], started: int
) -> None:
    doomed = Host(*kind)
    with ThreadPoolExecutor(1) as pool, doomed.process:
        running = pool.submit(doomed.sh, "sleep 60")
        assert until(lambda: len(descendants(doomed.process.pid)) >= started)
        family = descendants(doomed.process.pid)
        doomed.process.kill()
        with pytest.raises(EOFError):
            running.result()
    assert until(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()])
    Host(*kind).close()
    assert with_engines(doomed.process.pid) == []


# Docker, commanded by an ordinary user: the same walls, held through that user's own uid.


@pytest.fixture(scope="module")
def member(require: Callable[[str], None]) -> Iterator[Host]:
    """A harness of an ordinary user in the group that Docker's socket belongs to."""
    require("docker")
    if os.geteuid() != 0:
        pytest.skip("only root can start it as another user")
    started = Host("docker", MEMBER)
    yield started
    started.close()


@pytest.mark.docker
def test_where_terminals_cannot_be_bounded_there_are_none(member: Host) -> None:
    """Nobody but root can look into a container of root's engine."""
    look = "import os; print(os.listdir('/dev/pts'), os.path.exists('/dev/ptmx'))"
    assert member.python(look).log == "[] False\n"


@pytest.mark.docker
@pytest.mark.parametrize(
    "promise",
    [
        test_it_never_runs_as_root_of_the_host,
        test_it_cannot_kill_limit_or_trace_the_first_process_of_its_box,
        test_the_entry_is_a_fresh_copy_with_its_modes_and_links,
        test_processes_and_threads_are_limited,
        test_peak_memory_is_measured,
        test_what_is_queued_in_sockets_is_bounded_and_counts,
        test_the_output_folder_holds_exactly_its_limit,
        test_outputs_that_are_no_files_are_not_followed,
        test_names_and_modes_of_outputs_can_be_anything,
        test_nothing_is_left_behind,
    ],
)
def test_a_member_of_the_group_docker_is_promised_what_its_uid_bears_on(
    promise: Callable[..., None], member: Host, stage: Path
) -> None:
    promise(member, stage) if "stage" in signature(promise).parameters else promise(member)
