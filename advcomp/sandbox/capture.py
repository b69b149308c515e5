"""What a program prints, taken without ever holding more of it than its cap."""

import os

__all__ = ["Log", "Stream", "drain"]

CHUNK_BYTES = 1 << 18


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


def drain(fd: int, sink: Log | Stream, *, to_the_end: bool = False) -> bool:
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
