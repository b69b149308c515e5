"""SIGINT and SIGTERM while training: what is done is kept at once, and the step is taken.

Whoever sent the signal may not wait for the end of a step: on Ctrl-C, Open MPI's mpiexec kills its
ranks a quarter of a second after it has told them. Python runs its handlers between two
instructions of the main thread, which may be a whole backward pass away. So a thread of its own
hears of the signal as it comes, and has what the last whole step left written down.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping(stop: threading.Event, keep: Callable[[], None]) -> Iterator[None]:
    """Within it, the first signal sets `stop`, and the second ends this process as it always does.

    Elsewhere than in the main thread, where Python hears no signals, nothing changes.

    Args:
        stop: Set in the main thread.
        keep: Called once, in another thread, as soon as the first signal comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        restore()

    with _heard_at_once(keep):
        for number in _SIGNALS:
            signal.signal(number, handle)
        try:
            yield
        finally:
            restore()


@contextmanager
def _heard_at_once(keep: Callable[[], None]) -> Iterator[None]:
    """Within it, the first signal is heard by a thread, by what C's handler writes into a pipe."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)

    def listen() -> None:
        while numbers := os.read(told, 1):
            if numbers[0] in _SIGNALS:
                keep()
                return

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(tell)
        listener.join()
        os.close(told)
