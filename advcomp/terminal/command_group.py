"""How the program behaves whatever is asked of it: its streams, its messages, its exit codes."""

import codecs
import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

import click

from advcomp.errors import INTERRUPTED, AdvcompError

_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EINVAL, errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBUSY, errno.ETXTBSY),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOTEMPTY),
}
"""What the file system may answer to a path that a user named; anything else is our bug."""
_REMEDIES = {
    errno.EEXIST: "take away what is there, or name another place",
    errno.EISDIR: "take away the folder that is there, or name another place",
    errno.ENOTDIR: "a part of this path is no folder: name another place",
    errno.ELOOP: "these links lead to each other: name what they should lead to",
    errno.EACCES: "have its owner allow it, or name another place",
}
"""What a user can do about it, where the answer alone does not say so."""
_LOOP = re.compile(r"Symlink loop from '(.*)'", re.DOTALL)
"""What pathlib's `resolve` makes of ELOOP, until Python 3.13."""
_ANY_TEXT = "advcomp"
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}
"""What a device may answer to what is written to it."""


class CommandGroup(click.Group):
    """A group that shows a user's mistakes as messages, never as a traceback."""

    def main(self, *args: Any, **more: Any) -> Any:
        """Run the command line; an output that cannot be written is a message, too."""
        _fill_standard_streams()
        _take_any_text()
        try:
            try:
                return super().main(*args, **more)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            sys.exit(1)
        except OSError as error:
            if error.errno not in _UNWRITABLE or error.filename is not None:
                raise
            _complain(
                f"cannot write: {error.strerror}; is standard output a full device, or the disk "
                "full?"
            )
            _discard_output()
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was named."""
        try:
            with _in_turn(), _own_rights():
                _require_working_folder()
                return super().invoke(ctx)
        except AdvcompError as error:
            _complain(*error.problems)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno not in _REFUSALS or error.filename is None:
                raise
            path = error.filename2 or error.filename
            remedy = _REMEDIES.get(error.errno)
            _complain(f"{path}: {error.strerror}" + (f"; {remedy}" if remedy else ""))
            ctx.exit(1)
        except RuntimeError as error:
            loop = _LOOP.fullmatch(str(error))
            if loop is None:
                raise
            _complain(f"{loop[1]}: {os.strerror(errno.ELOOP)}; {_REMEDIES[errno.ELOOP]}")
            ctx.exit(1)
        except KeyboardInterrupt:
            _complain("interrupted")
            ctx.exit(INTERRUPTED)


@contextmanager
def _in_turn() -> Iterator[None]:
    """Within it, the first of many ranks tells a mistake that all of them find."""
    try:
        yield
    except (AdvcompError, OSError, click.UsageError):
        from advcomp.training.launch import let_the_first_speak, rank_told

        let_the_first_speak(rank_told())
        raise


@contextmanager
def _own_rights() -> Iterator[None]:
    """Within it, who runs the command may read again what it writes, whatever the umask."""
    users = os.umask(0o077)
    os.umask(users & ~0o700)
    try:
        yield
    finally:
        os.umask(users)


def _discard_output() -> None:
    """Let what is left in the buffer of standard output go nowhere, silently."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _fill_standard_streams() -> None:
    """Open what whoever started us closed: else the next file that is opened is our output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - a descriptor
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - a descriptor


def _take_any_text() -> None:
    """Let names of every alphabet, and paths of any bytes, be written in whatever locale."""
    codecs.register_error(_ANY_TEXT, _written_anyway)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_ANY_TEXT)


def _written_anyway(error: UnicodeError) -> tuple[str | bytes, int]:
    """A path's own bytes as they are, and escapes for characters that the encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    error.end = error.start + 1  # one after the other: they may stand mixed
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def _require_working_folder() -> None:
    """Refuse to start in a folder that was removed: paths could not be told from there.

    Raises:
        AdvcompError: It is gone.
    """
    try:
        os.getcwd()  # noqa: PTH109 - it need not be a path
    except FileNotFoundError as error:
        raise AdvcompError(
            "the current folder was removed: change to one that exists (cd), then try again"
        ) from error


def _complain(*problems: str) -> None:
    for problem in problems:
        click.echo(f"advcomp: {problem}", err=True)
