"""`none`: no sandbox. Submissions run as plain processes of this user, for one's own entries only.

Nothing is hidden and nothing is forbidden: a program reads labels and other entries if it looks,
and writes wherever this user may. What is kept is the contract, so that an entry can be tried
where no sandbox works (macOS, a container without rights): a fresh copy as working folder, the
contract's environment, and limits as well as a watchdog can keep them.

The contract's folders have other paths here: what a command's arguments say of /input_images and
the like is rewritten. An entry that has such a path in its code does not find it.

Only what POSIX has is used, but for counting memory and finding daemons, which need Linux's
/proc: elsewhere memory is not limited and a daemon may survive its run.
"""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path

from advcomp.errors import SandboxError
from advcomp.rules.printable import printable
from advcomp.sandbox.base import UNWALLED, LimitTier, RunResult, RunSpec, SharedTree
from advcomp.sandbox.box.capture import Log, Sink, Sinks, Stream
from advcomp.sandbox.box.finished import FinishedRun, stream_of
from advcomp.sandbox.box.shown import environment, interpreter_versions
from advcomp.sandbox.box.traces import mark
from advcomp.sandbox.limits.cgroups import Group, Weak

__all__ = ["Unwalled"]

CODE, SCRATCH = "code", "tmp"
WATCH_S = 0.05
"""How often limits are looked at."""
HUNTS = 20
"""How often daemons are looked for, which may be making more of their kind."""
BLOCK_BYTES = 512
"""The unit of `ulimit -f` (POSIX)."""
START = 'ulimit -c 0; ulimit -f "$1"; shift; exec "$@"'


class Unwalled:
    """The backend that is none; see `Sandbox`."""

    name = UNWALLED
    images = None
    limit_tier = LimitTier.WEAK
    shown: tuple[Path, ...] = ()
    """Everything is shown: there is no use in refusing single folders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._closed = False

    @property
    def versions(self) -> Mapping[str, str]:
        """The interpreter and its packages."""
        return interpreter_versions()

    def shared(self, images: Sequence[str]) -> AbstractContextManager[Sequence[SharedTree]]:
        """Nothing that it would help to look after: programs may write to each other's files."""
        return contextlib.nullcontext(())

    def run(self, spec: RunSpec) -> FinishedRun:
        """Run one program to its end; see `Sandbox.run`.

        Raises:
            SandboxError: It cannot be run, or `close` was called meanwhile.
        """
        try:
            with contextlib.ExitStack() as undo:
                root = Path(tempfile.mkdtemp()).resolve()
                mark(root)
                undo.callback(shutil.rmtree, root, ignore_errors=True)
                result = self._run(spec, root)
                undo.pop_all()
                return FinishedRun(result, PlainFolder(root, _output(root, spec)))
        except OSError as error:
            raise SandboxError(f"{UNWALLED}: {error}") from error

    def close(self) -> None:
        """Kill what is running; every `run` in progress raises SandboxError."""
        with self._lock:
            self._closed = True
            for leader in self._running:
                _kill_group(leader)

    def _run(self, spec: RunSpec, root: Path) -> RunResult:
        _prepare(spec, root)
        log = Log(spec.limits.log_bytes)
        stdout = stream_of(spec)
        start = time.monotonic()
        process = subprocess.Popen(
            _command(spec, root),
            env=_environment(spec, root),
            cwd=root / (SCRATCH if spec.code is None else CODE),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if stdout else subprocess.STDOUT,
            start_new_session=True,
        )
        group = Weak().open(spec.limits)
        group.add(process.pid)
        with process, self._registered(process.pid):
            sinks = _sinks(process, log, stdout)
            excess = _Excess(spec, root, group)
            reason = _watch(process, sinks, start + spec.limits.wall_s, excess)
            _kill_group(process.pid)
            _kill_daemons(root)
            code = process.wait()
            sinks.drain()
        if self._closed:
            raise SandboxError("the sandbox was closed during the run")
        kept, dropped = log.close()
        usage = group.usage()
        overflowed = stdout is not None and stdout.overflowed
        return RunResult(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            wall_s=time.monotonic() - start,
            max_rss_bytes=usage.peak_bytes,
            timed_out=reason == TIMED_OUT,
            oom_killed=usage.oom_kills > 0,
            disk_full=reason == DISK_FULL,
            output_full=overflowed or reason == OUTPUT_FULL,
            log=kept,
            log_dropped_bytes=dropped,
            notes=(*((reason,) if reason else ()), "ran without a sandbox"),
        )

    @contextlib.contextmanager
    def _registered(self, leader: int) -> Iterator[None]:
        """Let `close` kill this run as long as it goes on."""
        with self._lock:
            self._running.add(leader)
            if self._closed:
                _kill_group(leader)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(leader)


TIMED_OUT = "killed at its time limit"
DISK_FULL = "killed by the watchdog: more in /code or /tmp than the limit"
OUTPUT_FULL = "killed by the watchdog: more output than the limit"


class PlainFolder:
    """What a program left in its output folder; closing it removes all folders of the run."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._folder = root, folder

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """The content of the regular file `name`, or None (see `OutputFolder.read`)."""
        if not name or "/" in name or "\0" in name or name in (".", ".."):
            return None
        try:
            fd = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        with contextlib.ExitStack() as held:
            held.callback(os.close, fd)
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size > max_bytes:
                return None
            with os.fdopen(os.dup(fd), "rb") as file:
                return file.read(max_bytes)

    def names(self, at_most: int) -> tuple[str, ...]:
        """Up to `at_most` names, sorted."""
        with os.scandir(self._folder) as entries:
            return tuple(sorted(printable(e.name) for e in islice(entries, at_most)))

    def close(self) -> None:
        """Remove what the run had."""
        shutil.rmtree(self._root, ignore_errors=True)


class _Excess:
    """Says why a run must be killed now."""

    def __init__(self, spec: RunSpec, root: Path, group: Group) -> None:
        self._spec, self._root, self._group = spec, root, group
        self._entry_bytes = _bytes_below(root / CODE)

    def __call__(self) -> str | None:
        cap = _cap(self._spec)
        if _bytes_below(_output(self._root, self._spec)) > cap:
            return OUTPUT_FULL
        code = _bytes_below(self._root / CODE) - self._entry_bytes
        if max(code, _bytes_below(self._root / SCRATCH)) > cap:
            return DISK_FULL
        return self._group.excess(0)


def _watch(
    process: "subprocess.Popen[bytes]", sinks: Sinks, deadline: float, excess: _Excess
) -> str | None:
    """Take what is printed until the program ends (None), or must be killed: why."""
    while process.poll() is None:
        if time.monotonic() >= deadline:
            return TIMED_OUT
        if reason := excess():
            return reason
        sinks.poll(min(deadline, time.monotonic() + WATCH_S))
    return None


def _prepare(spec: RunSpec, root: Path) -> None:
    """Make the folders of a run."""
    (root / SCRATCH).mkdir()
    _output(root, spec).mkdir()
    if spec.code is None:
        (root / CODE).mkdir()
    else:
        shutil.copytree(spec.code, root / CODE, symlinks=True)


def _output(root: Path, spec: RunSpec) -> Path:
    return root / (spec.output or "/output").strip("/").replace("/", "_")


def _command(spec: RunSpec, root: Path) -> Sequence[str]:
    """The command, with the paths that the contract's folders have here."""
    places = {inside: str(outside) for inside, outside in spec.inputs.items()}
    if spec.output is not None:
        places[spec.output] = str(_output(root, spec))
    largest = max(_cap(spec), spec.limits.memory_bytes) // BLOCK_BYTES
    words = [_placed(word, places) for word in spec.argv]
    return ["/bin/sh", "-c", START, "sh", str(largest), *words]


def _placed(word: str, places: Mapping[str, str]) -> str:
    for inside, outside in places.items():
        if word == inside or word.startswith(f"{inside}/"):
            return outside + word[len(inside) :]
    return word


def _environment(spec: RunSpec, root: Path) -> dict[str, str]:
    folders = (str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin")
    scratch = str(root / SCRATCH)
    own = environment(":".join(dict.fromkeys(folders)), spec.limits)
    return {**own, "HOME": scratch, "TMPDIR": scratch}


def _sinks(process: "subprocess.Popen[bytes]", log: Log, stdout: Stream | None) -> Sinks:
    taken: dict[int, Sink] = {}
    for pipe, sink in ((process.stdout, stdout or log), (process.stderr, log)):
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            taken[pipe.fileno()] = sink
    return Sinks(taken)


def _cap(spec: RunSpec) -> int:
    return spec.limits.output_bytes


def _bytes_below(folder: Path) -> int:
    """Size of all files below a folder, as far as they are there while we look."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_size
    return total


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _kill_daemons(root: Path) -> None:
    """Kill what left the group: it still has our TMPDIR in its environment."""
    mark = os.fsencode(f"TMPDIR={root}/")
    for _ in range(HUNTS):
        found = [pid for pid in _processes() if mark in _environ_of(pid)]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(WATCH_S)


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def _environ_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # dead, or another user's
        return b""
