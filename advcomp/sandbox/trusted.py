"""Our own programs that need what the referee must not load, run in processes of their own.

No box: nothing of a submission comes near them. What they say on standard error when they fail is
the message of the exception.
"""

import logging
import subprocess
import sys

from advcomp.errors import AdvcompError

__all__ = ["run_module"]

TRACEBACK = "Traceback (most recent call last):"

logger = logging.getLogger(__name__)


def run_module(module: str, *arguments: str) -> str:
    """Run `python -m module arguments...` on our interpreter; what it printed.

    Raises:
        AdvcompError: It did not exit with 0; carries what it said, line by line.
    """
    command = [sys.executable, "-m", module, *arguments]
    # Paths of any bytes come back as they were told.
    done = subprocess.run(
        command, capture_output=True, check=False, encoding="utf-8", errors="surrogateescape"
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        if TRACEBACK in said:
            logger.error("python -m %s failed: %s", module, done.stderr)
            said = [f"python -m {module}: {said[-1]}"]
        raise AdvcompError(*(said or [f"python -m {module}: ended with {done.returncode}"]))
    return done.stdout
