"""libseccomp's C functions, as far as a filter needs them: a call's number, rules, their program.

The library knows the numbers of calls by name on every architecture, and compiles conditions on
arguments of 64 bits into a program of 32-bit instructions (seccomp_init(3) and the pages beside
it).
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from functools import cache

from advcomp.errors import SandboxUnavailable

__all__ = ["ALLOW", "ArgumentComparison", "answer", "architecture", "number_of", "program"]

ALLOW = 0x7FFF_0000
UNKNOWN = -1
"""The number of a name that it has never heard of; a call of other architectures has another."""
OPERATORS = {"NE": 1, "GE": 5, "MASKED_EQ": 7}


class ArgumentComparison(ctypes.Structure):
    """struct scmp_arg_cmp: of which argument, how, with what."""

    _fields_ = (
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("value_two", ctypes.c_uint64),
    )


def answer(error: int) -> int:
    """The action that answers a call with an error number (seccomp(2), SECCOMP_RET_ERRNO)."""
    return 0x0005_0000 | error


def architecture() -> int:
    """This machine's, as a filter sees it (AUDIT_ARCH_*)."""
    return int(_library().seccomp_arch_native())


def number_of(name: str) -> int | None:
    """A call's number, negative where only other architectures have it; None: never heard of."""
    found = int(_library().seccomp_syscall_resolve_name(name.encode()))
    return None if found == UNKNOWN else found


def program(rules: Sequence[tuple[int, int, Sequence[ArgumentComparison]]]) -> bytes:
    """The program, an array of struct sock_filter, that allows all calls but those of rules.

    Args:
        rules: An action, the number of a call, and comparisons that must all hold.

    Raises:
        OSError: The library refuses a rule.
    """
    library = _library()
    with _filter() as made:
        for action, number, comparisons in rules:
            array = (ArgumentComparison * len(comparisons))(*comparisons)
            _check(library.seccomp_rule_add_array(made, action, number, len(array), array))
        with open(os.memfd_create(""), "w+b") as file:  # noqa: PTH123 - a descriptor, no path
            _check(library.seccomp_export_bpf(made, file.fileno()))
            file.seek(0)
            return file.read()


@contextlib.contextmanager
def _filter() -> Iterator[ctypes.c_void_p]:
    library = _library()
    made = ctypes.c_void_p(library.seccomp_init(ALLOW))
    try:
        yield made
    finally:
        library.seccomp_release(made)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, f"libseccomp: {os.strerror(-result)}")


@cache
def _library() -> ctypes.CDLL:
    """The library; loaded late, since most commands need no box.

    Raises:
        SandboxUnavailable: It is not installed.
    """
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise SandboxUnavailable(
            "libseccomp: not installed; boxes need it to refuse system calls",
            "remedy: `sudo apt-get install libseccomp2`",
        ) from error
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    library.seccomp_init.argtypes = (number,)
    library.seccomp_init.restype = pointer
    library.seccomp_release.argtypes = (pointer,)
    library.seccomp_release.restype = None
    library.seccomp_arch_native.restype = number
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (
        *(pointer, number, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(ArgumentComparison)),
    )
    library.seccomp_export_bpf.argtypes = (pointer, ctypes.c_int)
    return library
