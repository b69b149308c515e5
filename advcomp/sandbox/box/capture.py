"""What a program prints, taken without ever holding more of it than its cap."""

import os
import select
import time
from collections.abc import Mapping
from typing import Protocol

__all__ = ["Log", "Messages", "Sink", "Sinks", "Stream"]

CHUNK_BYTES = 1 << 18


class Sink(Protocol):
    """Takes what is printed, chunk by chunk."""

    def feed(self, data: bytes) -> None: ...  # noqa: D102


class Log:
    """Keeps the first and the last half of `cap_bytes` of what is fed to it."""

    def __init__(self, cap_bytes: int) -> None:
        self._head_room = cap_bytes - cap_bytes // 2
        self._tail_room = cap_bytes // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take a chunk."""
        room = self._head_room - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        # Trimmed at twice the room, so that moving bytes costs a constant per byte fed.
        if len(self._tail) > 2 * self._tail_room:
            self._trim()

    def close(self) -> tuple[bytes, int]:
        """What is kept, and how many bytes between head and tail are not."""
        self._trim()
        return bytes(self._head + self._tail), self._dropped_bytes

    def _trim(self) -> None:
        excess = max(0, len(self._tail) - self._tail_room)
        del self._tail[:excess]
        self._dropped_bytes += excess


class Stream:
    """Hands what is fed to it to a descriptor, up to `cap_bytes`; drops the rest."""

    def __init__(self, fd: int, cap_bytes: int) -> None:
        self._fd = fd
        self._room = cap_bytes
        self.overflowed = False

    def feed(self, data: bytes) -> None:
        """Write a chunk, as far as there is room."""
        self.overflowed = self.overflowed or len(data) > self._room
        view = memoryview(data)[: self._room]
        self._room -= len(view)
        while view:
            view = view[os.write(self._fd, view) :]


class Messages:
    """Picks marked lines out of what is fed to it; the rest goes to the log.

    Args:
        mark: What every message begins with; it ends with its line.
        log: Takes the rest.
    """

    def __init__(self, mark: bytes, log: Log) -> None:
        self._mark = mark
        self._log = log
        self._rest = b""
        self._found: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Take a chunk; messages may be torn over several."""
        self._rest += data
        while True:
            before, mark, after = self._rest.partition(self._mark)
            message, end, rest = after.partition(b"\n")
            if not mark:
                # Its end may be the beginning of a mark.
                sure = max(0, len(before) - len(self._mark) + 1)
                self._log.feed(before[:sure])
                self._rest = before[sure:]
                return
            self._log.feed(before)
            self._rest = mark + after
            if not end:
                return
            self._found.append(message)
            self._rest = rest

    def take(self) -> bytes | None:
        """The oldest message that was not taken yet; None if there is none."""
        return self._found.pop(0) if self._found else None

    def close(self) -> None:
        """Nothing more comes: what is left is no message."""
        self._log.feed(self._rest)
        self._rest = b""


class Sinks:
    """Pipes of what is printed, by descriptor, and what takes it; they must not block."""

    def __init__(self, sinks: Mapping[int, Sink]) -> None:
        self._open = dict(sinks)

    def __bool__(self) -> bool:
        """Whether any pipe may still bring something."""
        return bool(self._open)

    def poll(self, until: float, *fds: int, writable: int = -1) -> set[int]:
        """Wait until a moment for any of some descriptors, taking meanwhile what is printed.

        Args:
            until: On the monotonic clock.
            fds: Descriptors that may be readable; negative ones are none.
            writable: A descriptor that may take data, or none.
        """
        poll = select.poll()
        for fd in (*fds, *self._open):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        if writable >= 0:
            poll.register(writable, select.POLLOUT)
        ready = {fd for fd, _ in poll.poll(max(0.0, until - time.monotonic()) * 1000)}
        for fd in ready & self._open.keys():
            if not _drain(fd, self._open[fd]):
                del self._open[fd]
        return ready

    def drain(self) -> None:
        """Take all that the pipes hold now."""
        for fd, sink in self._open.items():
            _drain(fd, sink, to_the_end=True)


def _drain(fd: int, sink: Sink, *, to_the_end: bool = False) -> bool:
    """Feed what a non-blocking pipe holds: one chunk, or all of it. Whether more may come."""
    while True:
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        sink.feed(data)
        if not to_the_end:
            return True
