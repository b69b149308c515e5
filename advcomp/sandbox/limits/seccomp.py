"""System calls that no program in a box may make: one table, for every backend.

Theory of operation. Namespaces take objects out of sight; this takes code of the kernel out of
reach: what makes namespaces and mounts, loads code into the kernel, looks into other processes,
keeps keys outside every namespace, opens sockets that no network namespace holds (AF_VSOCK), lets
two boxes signal to each other through a file that both can read (locks, watches, dropping it
from memory), takes from tables of the whole machine or memory that no limit of a box counts
(asynchronous input and output, huge pages, filters for sockets and calls), and what would put
limits on the launcher. All else is allowed: submissions are ordinary programs, and a list of all
that those need would break them on the next release of a library.

What is newer than the table does not exist: a call with a number above the last one that was
looked at is answered with ENOSYS, as an older kernel would, and C libraries fall back to older
calls. So is every call of another architecture (32-bit x86, x32), whose numbers mean other calls.
`clone3` passes its flags by pointer, which a filter cannot read; it "does not exist" either.

libseccomp makes the kernel's filter of the table; a few instructions before it look at the
architecture and at the number.

A filter sees registers of 64 bits, of which the kernel reads the lower half where a parameter is
an `int`. So such a parameter is compared by its lower half only, wherever equality is what denies:
rubbish in the upper half would slip past the filter, and mean the same to the kernel.
"""

import errno
import platform
import struct
from dataclasses import dataclass
from functools import cache

from advcomp.errors import SandboxUnavailable
from advcomp.sandbox.limits.libseccomp import (
    OPERATORS,
    ArgumentComparison,
    answer,
    architecture,
    number_of,
    program,
)

__all__ = ["DENIALS", "NEWEST_CALL", "Condition", "Denial", "filter_program"]

NEWEST_CALL = 466
"""removexattrat, of Linux 6.13: the last call that was looked at. Since number 424 every
architecture has the same numbers."""
INT = 0xFFFF_FFFF
"""The half of a register that an `int` is."""
CLONE_FLAGS = 1 if platform.machine().startswith("s390") else 0
"""Which argument of clone(2) has the flags."""
NEW_NAMESPACES = {
    "NEWNS": 0x0002_0000,
    "NEWCGROUP": 0x0200_0000,
    "NEWUTS": 0x0400_0000,
    "NEWIPC": 0x0800_0000,
    "NEWUSER": 0x1000_0000,
    "NEWPID": 0x2000_0000,
    "NEWNET": 0x4000_0000,
}
LAUNCHER = 1
"""Its pid inside; where it shares its uid with the program, that could put limits on it."""
TYPING = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C}
"""Requests that type into the terminal of the harness."""
F_SETSIG = 10
"""Any signal instead of SIGIO, to any process that owns a descriptor: the launcher, too."""
LOCKS_SEEN_BY_OTHERS = {
    "F_GETLK": 5,
    "F_OFD_GETLK": 36,
    "F_OFD_SETLK": 37,
    "F_OFD_SETLKW": 38,
    "F_SETLEASE": 1024,
    "F_NOTIFY": 1026,
}
"""Without these a lock can be taken but not seen from another box; databases need no more."""
SOL_SOCKET = 1
SOCKET_FILTERS = {
    "SO_ATTACH_FILTER": 26,
    "SO_ATTACH_BPF": 50,
    "SO_ATTACH_REUSEPORT_CBPF": 51,
    "SO_ATTACH_REUSEPORT_EBPF": 52,
}
"""Programs that the kernel keeps for a socket: memory that no limit of a box counts, and that of
compiled ones is short for the whole machine, our own filters included."""
PR_SET_SECCOMP = 22
SECCOMP_SET_MODE_FILTER = 1
MAP_HUGETLB, MFD_HUGETLB, SHM_HUGETLB = 0x0004_0000, 0x4, 0o4000
"""Pages of a reserve that all share, and that no limit of a box counts."""
ADVICE = 3
"""Which argument of fadvise64(2) says what is advised."""
FADV_DONTNEED = 6 if platform.machine().startswith("s390") else 4
"""Drops shared files from memory, for others to notice."""
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
"""Linux's numbers, whatever this system's are."""
IP_PROTOCOLS = (0, 6, 17)
"""The default, TCP and UDP. Others (ICMP, SCTP, DCCP, MPTCP) queue memory that nobody counts, or
are code of the kernel that asking for them loads."""
SOCKET_TYPE, SOCKET_TYPES = 0xF, (0, 1, 2)
"""The part of an argument that is the type; none, which the kernel refuses, streams, datagrams."""
NETLINK_ROUTE = 0
"""What lists network interfaces; the others' messages do not all keep to a namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What an argument must be for a call to be denied; as libseccomp writes it.

    Args:
        index: Of the argument.
        comparison: `NE`, `GE`: of the argument with `value`; `MASKED_EQ`: of its bits under the
            mask `value` with `value_two`.
    """

    index: int
    comparison: str
    value: int
    value_two: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Calls that fail with an error number, if all conditions hold; without any, always."""

    names: tuple[str, ...]
    error: int
    conditions: tuple[Condition, ...] = ()


def _is(index: int, value: int, *, mask: int = INT) -> Condition:
    return Condition(index=index, comparison="MASKED_EQ", value=mask, value_two=value)


def _is_not(index: int, value: int) -> Condition:
    return Condition(index=index, comparison="NE", value=value)


def _is_at_least(index: int, value: int) -> Condition:
    return Condition(index=index, comparison="GE", value=value)


def _all_but(index: int, allowed: tuple[int, ...], *, mask: int = INT) -> list[Condition]:
    """That an `int`, or its bits under a mask, is none of some; one of these must hold."""
    below = [_is(index, v, mask=mask) for v in range(max(allowed)) if v not in allowed]
    if mask == INT:
        return [*below, _is_at_least(index, max(allowed) + 1)]
    return below + [_is(index, v, mask=mask) for v in range(max(allowed) + 1, mask + 1)]


def _families_but(call: str, allowed: tuple[int, ...]) -> list[Denial]:
    """Deny all address families but some, those too that a later kernel will have."""
    return [
        Denial(names=(call,), error=errno.EAFNOSUPPORT, conditions=(condition,))
        for condition in _all_but(0, allowed)
    ]


def _ip_sockets_but_tcp_and_udp() -> list[Denial]:
    return [
        Denial(names=("socket",), error=error, conditions=(_is(0, family), condition))
        for family in (AF_INET, AF_INET6)
        for error, conditions in (
            (errno.EPROTONOSUPPORT, _all_but(2, IP_PROTOCOLS)),
            (errno.ESOCKTNOSUPPORT, _all_but(1, SOCKET_TYPES, mask=SOCKET_TYPE)),
        )
        for condition in conditions
    ]


DENIALS: tuple[Denial, ...] = (
    Denial(
        error=errno.EPERM,
        names=(
            # namespaces and mounts
            *("unshare", "setns", "mount", "umount", "umount2", "mount_setattr", "move_mount"),
            *("open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "pivot_root", "chroot"),
            # files without a path
            *("name_to_handle_at", "open_by_handle_at"),
            # other processes
            *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd"),
            *("perf_event_open", "lookup_dcookie"),
            # what no namespace holds
            *("add_key", "request_key", "keyctl"),
            *("clock_settime", "clock_adjtime", "settimeofday", "adjtimex", "stime"),
            # code for the kernel, and parts of it that have let many out
            *("bpf", "init_module", "finit_module", "delete_module", "create_module"),
            *("query_module", "get_kernel_syms", "kexec_load", "kexec_file_load"),
            *("io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd"),
            *("modify_ldt", "vm86", "vm86old", "personality", "uselib"),
            # the machine
            *("reboot", "swapon", "swapoff", "acct", "syslog", "quotactl", "quotactl_fd"),
            *("iopl", "ioperm", "vhangup", "nfsservctl", "sysfs", "ustat", "_sysctl"),
            # who reads which file
            "fanotify_init",
        ),
    ),
    Denial(
        error=errno.ENOSYS,
        # socketcall hides the family that `socket` shows; 64-bit programs do not use it.
        names=("clone3", "flock", "inotify_init", "inotify_init1", "socketcall"),
    ),
    # Contexts come out of one table of the machine (fs.aio-max-nr).
    Denial(error=errno.ENOSYS, names=("io_setup",)),
    *(
        Denial(
            names=("setsockopt",),
            error=errno.EPERM,
            conditions=(_is(1, SOL_SOCKET), _is(2, option)),
        )
        for option in SOCKET_FILTERS.values()
    ),
    # As on a kernel without filters for calls; programs that would protect themselves go on.
    Denial(names=("seccomp",), error=errno.EINVAL, conditions=(_is(0, SECCOMP_SET_MODE_FILTER),)),
    Denial(names=("prctl",), error=errno.EINVAL, conditions=(_is(0, PR_SET_SECCOMP),)),
    *(
        Denial(names=(name,), error=errno.ENOMEM, conditions=(_is(index, flag, mask=flag),))
        for name, index, flag in (
            ("mmap", 3, MAP_HUGETLB),
            ("memfd_create", 1, MFD_HUGETLB),
            ("shmget", 2, SHM_HUGETLB),
        )
    ),
    *(
        Denial(
            names=("clone",), error=errno.EPERM, conditions=(_is(CLONE_FLAGS, flag, mask=flag),)
        )
        for flag in NEW_NAMESPACES.values()
    ),
    Denial(
        # Linux protects the first process of a namespace from signals, gVisor does not.
        names=("prlimit64", "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"),
        error=errno.EPERM,
        conditions=(_is(0, LAUNCHER),),
    ),
    Denial(names=("pidfd_open",), error=errno.EPERM, conditions=(_is(0, LAUNCHER),)),
    Denial(names=("fcntl", "fcntl64"), error=errno.EINVAL, conditions=(_is(1, F_SETSIG),)),
    *(
        Denial(names=("ioctl",), error=errno.EPERM, conditions=(_is(1, request),))
        for request in TYPING.values()
    ),
    *(
        Denial(names=("fcntl", "fcntl64"), error=errno.EINVAL, conditions=(_is(1, command),))
        for command in LOCKS_SEEN_BY_OTHERS.values()
    ),
    # It is advice: a program that gives it does not look at the answer.
    Denial(names=("fadvise64",), error=0, conditions=(_is(ADVICE, FADV_DONTNEED),)),
    *_families_but("socket", (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)),
    *_families_but("socketpair", (AF_UNIX,)),
    *_ip_sockets_but_tcp_and_udp(),
    Denial(
        names=("socket",),
        error=errno.EPROTONOSUPPORT,
        conditions=(_is(0, AF_NETLINK), _is_not(2, NETLINK_ROUTE)),
    ),
)


@cache
def filter_program(denials: tuple[Denial, ...] = DENIALS) -> bytes:
    """The kernel's filter for this architecture, as an array of `struct sock_filter`.

    Args:
        denials: What it refuses.

    Raises:
        SandboxUnavailable: libseccomp is not installed, or too old for a call in the table.
    """
    numbers = _numbers(denials)
    rules = [
        (answer(denial.error), numbers[name], [_comparison(c) for c in denial.conditions])
        for denial in denials
        for name in denial.names
    ]
    return _unknown_to_the_table() + program(rules)


LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
"""Instructions of classic BPF (linux/bpf_common.h), as far as they are needed."""
NUMBER_AT, ARCHITECTURE_AT = 0, 4
"""Where struct seccomp_data has them."""


def _unknown_to_the_table() -> bytes:
    """What comes before the table: ENOSYS for calls that are newer, or of another architecture.

    x32 is the architecture of x86-64 with a bit set in the number, which so is above all others.
    """
    no_such_call = answer(errno.ENOSYS)
    instructions = (
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_IF_EQUAL, 1, 0, architecture()),
        (RETURN, 0, 0, no_such_call),
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_IF_AT_LEAST, 0, 1, NEWEST_CALL + 1),
        (RETURN, 0, 0, no_such_call),
    )
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


def _comparison(condition: Condition) -> ArgumentComparison:
    operator = OPERATORS[condition.comparison]
    return ArgumentComparison(condition.index, operator, condition.value, condition.value_two)


def _numbers(denials: tuple[Denial, ...]) -> dict[str, int]:
    """The number of every call; a library that does not know one is refused: it stayed allowed."""
    found = {name: number_of(name) for denial in denials for name in denial.names}
    unknown = [name for name, number in found.items() if number is None]
    if unknown:
        raise SandboxUnavailable(
            f"libseccomp: expected a version that knows {', '.join(unknown)}; got an older one",
            "remedy: upgrade libseccomp2 to 2.5.4 (Debian 12, Ubuntu 22.10) or newer",
        )
    return {name: number for name, number in found.items() if number is not None}
