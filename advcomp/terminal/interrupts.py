"""Ctrl-C: once to finish the jobs that run and stop, twice to leave at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from advcomp.errors import INTERRUPTED
from advcomp.tournament.job.executors import Stop

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping_on_signals(stop: Stop, resume: str) -> Iterator[None]:
    """Let SIGINT and SIGTERM set `stop`; the second of them ends this process.

    Boxes die with their parent, and the next start removes what was left half done.

    Args:
        stop: Set by the first signal.
        resume: The command that goes on with the run.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if stop:
            _say(f"left at once; to go on: {resume}")
            os._exit(INTERRUPTED)
        stop.set()
        _say("stopping: the jobs that run are being finished; once more to leave at once")

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    # Not through sys.stderr: the signal may have interrupted a write to it.
    os.write(2, os.fsencode(f"\nadvcomp: {text}\n"))
