"""What a failed trial run probably lacked, guessed from what it printed.

A program can print anything, so a hint is shown to its own author only, and decides nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from advcomp.rules.printable import printable

__all__ = ["hints"]

_LOOKED_AT_BYTES = 1 << 16
_SHOWN = 80
_PACKAGES = (
    "`advcomp doctor --packages` lists what boxes without containers have; put it into the "
    "submission, or choose a container image that has it (docs/containers.md)"
)


@dataclass(frozen=True, slots=True)
class _Saying:
    """What programs print when something is missing, and what it means; `{0}` is what is named."""

    pattern: str
    meaning: str


_SAYINGS = (
    _Saying(
        r"(?:ModuleNotFoundError|ImportError): No module named '?([\w.]+)",
        f'the box has no Python module "{{0}}"; {_PACKAGES}',
    ),
    _Saying(
        r"Name or service not known|name resolution|Network is unreachable|[Cc]ould not resolve"
        r"|URLError|Max retries exceeded|gaierror|unable to resolve host|couldn't connect to",
        "there is no network in a box: put weights and all that it would download into the "
        "submission",
    ),
    _Saying(
        r"(?:\$'\\r'|\r'?|\\r'): (?:command not found|No such file)|bad interpreter: .*\^M",
        "a script has CR LF line ends, as on Windows; save it with LF (dos2unix)",
    ),
    _Saying(
        r"Exec format error",
        "the entry point is no program for this machine and has no first line that names one, "
        "such as #!/usr/bin/env python3",
    ),
    _Saying(
        r"(?:env|sh|bash|line \d+): \W?([\w./+-]+)\W?: (?:command not found|No such file)",
        'the box has no program or file "{0}"; put it into the submission, or choose a container '
        "image that has it",
    ),
    _Saying(
        r"error while loading shared libraries: ([\w.+-]+)",
        'the box has no shared library "{0}"; put it into the submission, or choose a container '
        "image that has it",
    ),
    _Saying(
        r"Read-only file system",
        "only /code, /tmp and the output folder can be written",
    ),
    _Saying(
        r"No CUDA GPUs are available|not compiled with CUDA|Found no NVIDIA driver"
        r"|torch\.cuda\.is_available\(\) is False",
        "this run had no usable GPU ([limits] gpus in the tournament file lends them); load "
        'weights with map_location="cpu" where there is none',
    ),
)


def hints(log: bytes, interpreter: str | None) -> Iterator[str]:
    """Guesses at what was missing, from the log of a run that failed; each is printable.

    Args:
        interpreter: The program that the entry point's first line names, if it names one.
    """
    text = printable(log[-_LOOKED_AT_BYTES:])
    for saying in _SAYINGS:
        if found := re.search(saying.pattern, text):
            yield saying.meaning.format(*(group[:_SHOWN] for group in found.groups()))
    if interpreter is not None and re.search(r"cannot start \S+: No such file", text):
        yield (
            f'the entry point\'s first line names "{printable(interpreter)[:_SHOWN]}", which the '
            "box may not have; `advcomp doctor --packages` says what runs as python3"
        )
