"""What a sandbox runs at the moment, so that closing it can end all of that."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from advcomp.errors import SandboxError

__all__ = ["Running"]

Box = TypeVar("Box")


class Running(Generic[Box]):
    """The boxes that exist; used by many threads.

    Args:
        kill: Ends one of them at once.
    """

    def __init__(self, kill: Callable[[Box], None]) -> None:
        self._kill = kill
        self._lock = threading.Lock()
        self._boxes: set[Box] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._boxes)

    @contextlib.contextmanager
    def registered(self, box: Box) -> Iterator[None]:
        """Let `close` kill this box as long as it exists.

        Raises:
            SandboxError: `close` was called, before or meanwhile.
        """
        with self._lock:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            self._boxes.add(box)
        try:
            yield
        except (OSError, SandboxError) as error:
            if self._closed:
                raise SandboxError("the sandbox was closed during the run") from error
            raise
        finally:
            with self._lock:
                self._boxes.discard(box)

    def close(self) -> None:
        """Kill what is registered; nothing more is taken."""
        with self._lock:
            self._closed = True
            for box in self._boxes:
                self._kill(box)
