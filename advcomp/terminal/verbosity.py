"""`advcomp -v`: what is logged, on standard error."""

import logging
import sys

from advcomp.rules.printable import printable


class _StandardError(logging.Handler):
    """Writes to what standard error is at the moment: a progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        print(printable(self.format(record)), file=sys.stderr, flush=True)


def log_to_stderr(verbose: int) -> None:
    """Show what is logged: `-v` what is done, `-vv` everything."""
    level = logging.INFO if verbose == 1 else logging.DEBUG
    handler = _StandardError(level)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    package = logging.getLogger("advcomp")
    package.addHandler(handler)
    package.setLevel(level)
