"""Packages that a job needs and that not everybody has."""

from collections.abc import Iterator
from contextlib import contextmanager

from advcomp.errors import MissingExtra


@contextmanager
def extra_at_hand(extra: str) -> Iterator[None]:
    """Let imports in this block name the extra that brings what is not installed.

    Raises:
        MissingExtra: A package is missing that is not advcomp's own.
    """
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "advcomp":
            raise
        raise MissingExtra(
            f"{error.name} is not installed; install it with: pip install 'advcomp[{extra}]'"
        ) from error
