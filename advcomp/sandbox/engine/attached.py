"""One container from its start to the death of its last process, over the engine's own client.

The client is attached to the three standard streams of the container's first process (first.c has
the protocol) and ends when that process has ended. If the harness dies, the client's standard
input ends, so does the first process's, and the container with it. Everything here waits on
descriptors only.
"""

import contextlib
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from signal import SIGKILL

from advcomp.errors import SandboxError, SandboxTimeout
from advcomp.sandbox.box.capture import Log, Messages, Sink, Sinks, Stream
from advcomp.sandbox.box.entry_stream import number, text, texts
from advcomp.sandbox.box.process import DEATH_S, WATCH_S, Ending, pipe

__all__ = ["Attached", "Readiness", "Watch", "attach", "new_mark", "order"]

ENDING = re.compile(rb"(exit|signal|excess) (\d{1,9}) ([01])")


class Readiness(Enum):
    """What became of a container that was started."""

    READY = auto()
    BEYOND_MEMORY = auto()
    """The entry was not unpacked: who did that was killed."""
    DEAD = auto()
    """The first process is dead, or never was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What to do about a container while its program runs.

    Args:
        excess: Looked at often; why it must be killed now, or None. Itself None where nothing
            needs to be looked at.
        measure: Called while the container still exists: when the program is dead, or about to
            be killed.
        kill: Kills the container.
        first: A pidfd of the container's first process (of its kernel's, under gVisor): the death
            of that is known at once, an engine tells of it when it has cleared all away.
    """

    excess: Callable[[], str | None] | None
    measure: Callable[[], None]
    kill: Callable[[], None]
    first: int


def new_mark() -> str:
    """What messages of one container begin with; nobody can guess it."""
    return f"\x01{secrets.token_hex(16)} "


def order(
    argv: Sequence[str],
    *,
    mark: str,
    merged: bool,
    most_threads: int,
    cwd: str,
    env: Mapping[str, str],
    scratch: Sequence[str],
    seccomp: bytes,
) -> bytes:
    """What the first process is to do.

    Args:
        argv: The program's command.
        mark: See `new_mark`.
        merged: Whether standard error goes where standard output does.
        most_threads: Kill all where there are more, looking several times a second; 0: the
            kernel keeps that limit.
        cwd: The program's folder; the entry is unpacked there.
        env: Its whole environment.
        scratch: Folders to look at in the end, whether one has no room left.
        seccomp: A filter of system calls, as an array of struct sock_filter.
    """
    variables = [f"{key}={value}" for key, value in env.items()]
    return b"".join(
        (
            *(text(mark), number(merged), number(most_threads), text(cwd)),
            *(texts(argv), texts(variables), texts(scratch)),
            *(number(len(seccomp)), seccomp),
        )
    )


def attach(
    command: Sequence[str],
    *,
    mark: str,
    ready_s: float,
    log: Log,
    stdout: Stream | None,
    held: contextlib.ExitStack,
) -> "Attached":
    """Start a client that starts a container and stays attached to it.

    Args:
        command: The client's.
        mark: See `new_mark`.
        ready_s: See `process.setup_s`.
        log: Takes what is printed.
        stdout: Takes standard output, where that does not go to the log.
        held: Owns the client: closing it ends it.
    """
    with contextlib.ExitStack() as theirs:
        stdin_end, stdin = os.pipe()
        theirs.callback(os.close, stdin_end)
        os.set_blocking(stdin, False)
        stdout_fd, stdout_end = pipe(held, theirs)
        stderr_fd, stderr_end = pipe(held, theirs)
        process = subprocess.Popen(
            command,
            cwd="/",
            stdin=stdin_end,
            stdout=stdout_end,
            stderr=stderr_end,
            start_new_session=True,
        )
    messages = Messages(mark.encode(), log)
    sinks: dict[int, Sink] = {stdout_fd: log if stdout is None else stdout, stderr_fd: messages}
    attached = Attached(process, stdin, Sinks(sinks), messages, log, ready_s)
    held.callback(attached.close)
    return attached


class Attached:
    """A container with a client attached; made by `attach`, freed by what that was given."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        stdin: int,
        sinks: Sinks,
        messages: Messages,
        log: Log,
        ready_s: float,
    ) -> None:
        self._process = process
        self._stdin = stdin
        self._sinks = sinks
        self._messages = messages
        self._log = log
        self._ready_s = ready_s
        self._ready_by = time.monotonic() + ready_s

    @property
    def client(self) -> int:
        """The client's pid."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the client, at once."""
        self._process.kill()

    def prepare(self, order: bytes, entry: Iterable[bytes]) -> Readiness:
        """Hand over the order and the entry, and hear whether all is ready.

        Raises:
            SandboxError: It says that it failed, or nothing at all.
        """
        with contextlib.suppress(BrokenPipeError):
            self._send(order)
            for chunk in entry:
                self._send(chunk)
        message, _ = self._watch(self._ready_by)
        if message is None and self._sinks:
            raise self._late()
        if message is None:
            return Readiness.DEAD
        if message.startswith(b"killed"):
            return Readiness.BEYOND_MEMORY
        if not message.startswith(b"ready"):
            raise self.failure(message.decode(errors="replace"))
        return Readiness.READY

    def run(self, wall_s: float, watch: Watch) -> tuple[Ending, bool]:
        """Start the program and see it and its container to their end.

        Args:
            wall_s: Seconds until it is killed.
            watch: What to do meanwhile.

        Returns:
            How it ended, and whether a scratch folder had no room left then.

        Raises:
            SandboxError: It failed, or does not die.
        """
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            os.write(self._stdin, b"\0")
        message, reason = self._watch(start + wall_s, watch.excess, watch.first)
        watch.measure()
        dead = message is None and reason is None and self._is_dead(watch.first)
        timed_out = message is None and reason is None and not dead
        if timed_out or reason is not None:
            self._call_meanwhile(watch.kill)
        wall = time.monotonic() - start
        self._see_it_go()
        return self._ending(message, reason, wall, timed_out=timed_out)

    def failure(self, what: str, kind: type[SandboxError] = SandboxError) -> SandboxError:
        """What to raise; what the client said is the best explanation there is."""
        self._sinks.drain()
        self._messages.close()
        said = self._log.close()[0].decode(errors="backslashreplace").strip()
        return kind(f"the container failed: {what}" + (f" ({said})" if said else ""))

    def close(self) -> None:
        """End the client, whose container is dead or dies by this."""
        self._end_input()
        try:
            self._process.wait(DEATH_S if not self._sinks else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, data: bytes) -> None:
        """Write to the first process, taking meanwhile what is printed."""
        rest = memoryview(data)
        while rest:
            if time.monotonic() >= self._ready_by:
                raise self._late()
            if self._stdin in self._sinks.poll(self._ready_by, writable=self._stdin):
                rest = rest[os.write(self._stdin, rest) :]

    def _watch(
        self, deadline: float, excess: Callable[[], str | None] | None = None, first: int = -1
    ) -> tuple[bytes | None, str | None]:
        """Wait for a message, the first process's or the client's end, a moment or an excess."""
        while (message := self._messages.take()) is None and self._sinks:
            if (now := time.monotonic()) >= deadline:
                return None, None
            if first in self._sinks.poll(
                min(deadline, now + WATCH_S) if excess else deadline, first
            ):
                self._sinks.drain()
                return self._messages.take(), None
            if excess and (reason := excess()):
                return None, reason
        return message, None

    def _call_meanwhile(self, call: Callable[[], None]) -> None:
        """Call what asks the engine, and take meanwhile what is printed.

        Docker answers nothing about a container while its client does not take what that prints.
        """
        with ThreadPoolExecutor(1) as one:
            called = one.submit(call)
            while not called.done():
                self._sinks.poll(time.monotonic() + WATCH_S)
        called.result()

    def _see_it_go(self) -> None:
        """Let the first process exit, and take the rest of what is printed."""
        self._end_input()
        deadline = time.monotonic() + DEATH_S
        while self._sinks:
            if time.monotonic() >= deadline:
                raise self.failure(f"it does not end within {DEATH_S:g} s", SandboxTimeout)
            self._sinks.poll(deadline)
        self._messages.close()

    def _is_dead(self, first: int) -> bool:
        """Whether the container is dead already."""
        return not self._sinks or first in self._sinks.poll(time.monotonic(), first)

    def _ending(
        self, message: bytes | None, reason: str | None, wall_s: float, *, timed_out: bool
    ) -> tuple[Ending, bool]:
        """What the first process's last message says, and what we know without one."""
        match = None if message is None else ENDING.fullmatch(message)
        if message is not None and match is None:
            raise self.failure(message.decode(errors="replace"))
        how, value = (match[1], int(match[2])) if match else (b"", 0)
        if how == b"excess":
            reason = f"killed by the watchdog: {value} processes and threads"
        ending = Ending(
            exit_code=value if how == b"exit" else None,
            signal=None if how == b"exit" else value if how == b"signal" else SIGKILL.value,
            wall_s=wall_s,
            timed_out=timed_out,
            killed=reason,
            explained=match is not None or timed_out or reason is not None,
        )
        return ending, match is not None and match[3] == b"1"

    def _late(self) -> SandboxError:
        return self.failure(f"it is not ready after {self._ready_s:g} s", SandboxTimeout)

    def _end_input(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
