"""What happens in a run, as lines of JSON on standard output; see docs/reference/events.md."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from advcomp.errors import RunConflict
from advcomp.live.events import events_between
from advcomp.live.following import RunWatch, looks
from advcomp.live.snapshot import RunSnapshot


def print_events(run: Path) -> None:
    """Print what happens in a run until it has finished.

    Raises:
        RunConflict: The folder is no run.
    """
    watch = RunWatch(run)
    lines = _Lines()
    for snapshot in looks(watch, watch.look()):
        lines.take(snapshot)


@contextmanager
def events_printed(run: Path) -> Iterator[None]:
    """Print what happens in a run that this process works on, as long as the block lasts."""
    watch, lines, over = RunWatch(run), _Lines(), Event()

    def look() -> None:
        with suppress(RunConflict):  # it is no run yet
            lines.take(watch.look())

    def follow() -> None:
        while not over.wait(watch.pause_s):
            look()

    thread = Thread(target=follow, name="events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


class _Lines:
    """Prints what each look at a run brings."""

    def __init__(self) -> None:
        self._before: RunSnapshot | None = None

    def take(self, snapshot: RunSnapshot) -> None:
        for event in events_between(self._before, snapshot):
            print(json.dumps(event), file=sys.stdout, flush=True)
        self._before = snapshot
