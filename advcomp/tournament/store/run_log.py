"""`referee.log`: what the referee did and met, for whoever asks afterwards why.

It stands in the run's folder, for the organiser alone (mode 600), and is rotated: four files of
1 MiB at most. Nothing secret is logged anywhere in advcomp: no key, no opaque name, no label, no
pixel; and what a submission printed goes to its own log.
"""

import io
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from advcomp.rules.plain_file import read_plain_file, write_plain_file
from advcomp.rules.printable import printable

FILE_NAME = "referee.log"
FILE_BYTES = 1 << 20
OLD_FILES = 3

PACKAGE = logging.getLogger("advcomp")


class _PrivateFile(RotatingFileHandler):
    """Makes every file for its owner alone."""

    def _open(self) -> io.TextIOWrapper:
        descriptor = write_plain_file(Path(self.baseFilename), os.O_APPEND, 0o600)
        file = os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)
        assert isinstance(file, io.TextIOWrapper)
        return file


class _OneLine(logging.Formatter):
    """UTC times, and messages in which nothing can look like another record."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)s %(threadName)s %(name)s: %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The first line of a record."""
        record.message = printable(record.message).replace("\n", "\\n")
        return super().formatMessage(record)


@contextmanager
def referee_log(run: Path) -> Iterator[None]:
    """Write what is logged while the `with` block lasts to the run's `referee.log`."""
    handler = _PrivateFile(
        run / FILE_NAME,
        maxBytes=FILE_BYTES,
        backupCount=OLD_FILES,
        encoding="utf-8",
        errors="backslashreplace",
    )
    handler.setFormatter(_OneLine())
    handler.setLevel(logging.INFO)
    before = PACKAGE.level
    PACKAGE.setLevel(min(before or logging.INFO, logging.INFO))
    PACKAGE.addHandler(handler)
    try:
        yield
    finally:
        PACKAGE.removeHandler(handler)
        PACKAGE.setLevel(before)
        handler.close()


def logged(run: Path, name: str) -> Iterator[tuple[float, str]]:
    """When (seconds since 1970) and what a logger told in the log that is written now, if any."""
    try:
        text = read_plain_file(run / FILE_NAME).decode(errors="replace")
    except OSError:
        return
    line = re.compile(rf"^(\S+Z) INFO \S+ {re.escape(name)}: (.*)$", re.MULTILINE)
    for told, message in line.findall(text):
        yield datetime.fromisoformat(told).timestamp(), message
