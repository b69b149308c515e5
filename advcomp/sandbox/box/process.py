"""One box from its start to the death of its last process, whatever program made its walls.

The walls are made by a command that runs `launcher.py` as process 1 of a new pid namespace; which
pid that has on the host, the kernel says with the launcher's first message. Everything here waits
on descriptors only: a pidfd for the death of process 1 (the kernel reports it when every other
process of the namespace is dead), the launcher's channel, and the pipes of what is printed.
"""

import contextlib
import fcntl
import marshal
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advcomp.errors import SandboxError
from advcomp.sandbox.box.capture import Log, Sink, Sinks, Stream
from advcomp.sandbox.box.launcher import BoxOrder

__all__ = ["Box", "Ending", "memory_file", "start_box"]

SETUP_S = 120.0
"""How long a box with a small entry may take until its program can start."""
SETUP_BYTES_PER_S = 32 << 20
"""How much of an entry is copied in a second, at the very least, by a whole processor."""
WATCH_S = 0.05
"""How often limits that the kernel does not keep are looked at."""
DEATH_S = 30.0
"""How long the kernel may take to clear a killed box away."""
MESSAGE_BYTES = 4096
CREDENTIALS = struct.Struct("3i")
"""struct ucred (unix(7)): pid, uid, gid."""
PIPE_BYTES = 1 << 20
ENDING = re.compile(rb"(exit|signal) (\d{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a program ended, as seen from outside.

    `killed` says why the watchdog killed it, if it did. Not `explained`: somebody killed the
    whole box, and it was not us (the kernel, for memory, perhaps).
    """

    exit_code: int | None
    signal: int | None
    wall_s: float
    timed_out: bool = False
    killed: str | None = None
    explained: bool = True


def setup_s(code_bytes: int, cpus: float) -> float:
    """How long a box may take until its program can start; longer is our failure.

    Args:
        code_bytes: Size of the entry.
        cpus: What the box may use to copy it.
    """
    return SETUP_S + code_bytes / SETUP_BYTES_PER_S / min(1, cpus)


def memory_file(data: bytes, held: contextlib.ExitStack) -> int:
    """A descriptor from which a child can read `data`; closed with `held`."""
    fd = os.memfd_create("")
    held.callback(os.close, fd)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def start_box(
    command: Callable[[int], Sequence[str]],
    *,
    fds: Sequence[int],
    ready_s: float,
    log: Log,
    stdout: Stream | None,
    held: contextlib.ExitStack,
) -> "Box":
    """Start a command that makes the walls and runs the launcher in them.

    Args:
        command: Made from the number of the descriptor that is the launcher's end of the channel.
        fds: Further descriptors that the command needs, at the same numbers.
        ready_s: See `setup_s`.
        log: Takes what is printed.
        stdout: Takes standard output, where that does not go to the log.
        held: Owns the box: closing it kills what still runs and waits until it is gone.

    Raises:
        SandboxError: The command failed.
    """
    channel, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    held.enter_context(channel)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with contextlib.ExitStack() as theirs:
        theirs.enter_context(far_end)
        log_fd, log_end = pipe(held, theirs)
        stdout_fd, stdout_end = pipe(held, theirs) if stdout else (log_fd, log_end)
        process = subprocess.Popen(
            command(far_end.fileno()),
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=stdout_end,
            stderr=log_end,
            pass_fds=(*fds, far_end.fileno()),
            start_new_session=True,
        )
        held.callback(_end, process)
    sinks: dict[int, Sink] = {log_fd: log}
    if stdout is not None:
        sinks[stdout_fd] = stdout
    box = Box(process, channel, Sinks(sinks), log, ready_s)
    box.find_first_process(held)
    return box


class Box:
    """A started box; made by `start_box`, freed by what that was given."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        channel: socket.socket,
        sinks: Sinks,
        log: Log,
        ready_s: float,
    ) -> None:
        self._process = process
        self._channel = channel
        self._sinks = sinks
        self._log = log
        self._ready_s = ready_s
        self._ready_by = time.monotonic() + ready_s
        self._pidfd = -1
        self.pid = -1

    def find_first_process(self, held: contextlib.ExitStack) -> None:
        """Learn which process is the launcher, and hold it: its number may be used again."""
        message, self.pid = self._receive()
        if not message:
            raise self._failure("it could not be made")
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            raise self._failure("it ended at once") from None
        held.callback(os.close, self._pidfd)
        held.callback(self.kill)

    def prepare(self, order: BoxOrder) -> None:
        """Let the launcher do all that comes before the program starts.

        Raises:
            SandboxError: It failed.
        """
        # A dead launcher is found out by its answer, which is missing.
        with contextlib.suppress(BrokenPipeError):
            self._channel.send(marshal.dumps(order))  # type: ignore[arg-type] # a plain dict
        answer, _ = self._receive()
        if answer != b"ready":
            raise self._failure(answer.decode(errors="replace") or "its first process died")

    def run(self, wall_s: float, excess: Callable[[], str | None]) -> Ending:
        """Start the program and see it to its end.

        Args:
            wall_s: Seconds until it is killed.
            excess: Looked at often; why it must be killed now, or None.

        Raises:
            SandboxError: The box ended, and neither the program nor its limits were the reason.
        """
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            self._channel.send(b"go")
        timed_out, reason = self._watch(start + wall_s, excess)
        if timed_out or reason:
            self.kill()
            if not self._wait(time.monotonic() + DEATH_S):
                raise self._failure(f"it does not die within {DEATH_S:g} s of SIGKILL")
        wall = time.monotonic() - start
        self._sinks.drain()
        exit_code, number = self._program_ending()
        ended = exit_code is not None or number is not None
        return Ending(
            exit_code=exit_code,
            signal=number if ended else signal.SIGKILL.value,
            wall_s=wall,
            timed_out=timed_out and not ended,
            killed=reason,
            explained=ended or timed_out or reason is not None,
        )

    def kill(self) -> None:
        """Kill everything inside, at once."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _watch(self, deadline: float, excess: Callable[[], str | None]) -> tuple[bool, str | None]:
        """Wait for the end, the deadline or an excess; whether it timed out, and which excess."""
        while True:
            if self._wait(min(deadline, time.monotonic() + WATCH_S)):
                return False, None
            if time.monotonic() >= deadline:
                return True, None
            if reason := excess():
                return False, reason

    def _wait(self, until: float) -> bool:
        """Take what is printed until every process is dead (True) or until a moment (False)."""
        while time.monotonic() < until:
            if self._pidfd in self._sinks.poll(until, self._pidfd):
                return True
        return False

    def _receive(self) -> tuple[bytes, int]:
        """The launcher's next message, nothing if it is dead; and the pid that it has out here."""
        fd = self._channel.fileno()
        while time.monotonic() < self._ready_by:
            if fd not in self._sinks.poll(self._ready_by, fd):
                continue
            # It is reset where the other side died without reading what we sent.
            with contextlib.suppress(ConnectionResetError):
                message, attached, _, _ = self._channel.recvmsg(
                    MESSAGE_BYTES, socket.CMSG_SPACE(CREDENTIALS.size)
                )
                return message, CREDENTIALS.unpack(attached[0][2])[0] if attached else -1
            return b"", -1
        raise self._failure(f"it is not ready after {self._ready_s:g} s")

    def _program_ending(self) -> tuple[int | None, int | None]:
        """Exit code and signal as the launcher saw them; neither if it did not live to see."""
        try:
            message = self._channel.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionResetError):  # reset: it did not live to read "go"
            message = b""
        if message.startswith(b"failed"):
            raise self._failure(message.decode(errors="replace"))
        match = ENDING.fullmatch(message)
        if match is None:
            return None, None
        number = int(match[2])
        return (number, None) if match[1] == b"exit" else (None, number)

    def _failure(self, what: str) -> SandboxError:
        """What to raise; what the command said is the best explanation there is."""
        self._sinks.drain()
        said = self._log.close()[0].decode(errors="backslashreplace").strip()
        return SandboxError(f"the box failed: {what}" + (f" ({said})" if said else ""))


def pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe whose reading end is ours and does not block."""
    reading, writing = os.pipe()
    ours.callback(os.close, reading)
    theirs.callback(os.close, writing)
    os.set_blocking(reading, False)
    # Fewer, larger reads; refused to a user who has very many pipes, who does without.
    with contextlib.suppress(PermissionError):
        fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reading, writing


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the command, whose box is dead; it has nothing left to do."""
    try:
        process.wait(DEATH_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
