"""System calls that no program in a box may make: one table, for every backend.

Theory of operation. Namespaces take objects out of sight; this takes code of the kernel out of
reach: what makes namespaces and mounts, loads code into the kernel, looks into other processes,
keeps keys outside every namespace, opens sockets that no network namespace holds (AF_VSOCK), lets
two boxes signal to each other through a file that both can read (locks, watches, dropping it from
memory), and what would put limits on the launcher. All else is allowed: submissions are ordinary
programs, and a list of all that those need would break them on the next release of a library.

libseccomp makes the kernel's filter of the table. Calls of another architecture kill the program:
their numbers mean other calls. `clone3` passes its flags by pointer, which a filter cannot read,
so it "does not exist" and C libraries fall back to `clone`.

A filter sees registers of 64 bits, of which the kernel reads the lower half where a parameter is
an `int`. So such a parameter is compared by its lower half only, wherever equality is what denies:
rubbish in the upper half would slip past the filter, and mean the same to the kernel.
"""

import errno
import os
import platform
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from advcomp.errors import SandboxUnavailable

__all__ = ["DENIALS", "Condition", "Denial", "filter_program"]

UNKNOWN = -1
"""libseccomp's number for a name that it has never heard of; it has others for a call that only
other architectures have."""
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
ADVICE = 3
"""Which argument of fadvise64(2) says what is advised."""
FADV_DONTNEED = 6 if platform.machine().startswith("s390") else 4
"""Drops shared files from memory, for others to notice."""
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
"""Linux's numbers, whatever this system's are."""
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


def _families_but(call: str, allowed: tuple[int, ...]) -> list[Denial]:
    """Deny all address families but some, those too that a later kernel will have."""
    below = [_is(0, family) for family in range(max(allowed)) if family not in allowed]
    return [
        Denial(names=(call,), error=errno.EAFNOSUPPORT, conditions=(condition,))
        for condition in [*below, _is_at_least(0, max(allowed) + 1)]
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
    seccomp = _libseccomp()
    _require_names(seccomp, denials)
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    for denial in denials:
        conditions = [
            seccomp.Arg(c.index, getattr(seccomp, c.comparison), c.value, c.value_two)
            for c in denial.conditions
        ]
        for name in denial.names:
            rules.add_rule(seccomp.ERRNO(denial.error), name, *conditions)
    with open(os.memfd_create(""), "w+b") as file:  # noqa: PTH123 - a descriptor, no path
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def _libseccomp() -> ModuleType:
    """The binding; loaded late, since most commands need no box.

    Raises:
        SandboxUnavailable: It finds no libseccomp.
    """
    try:
        import pyseccomp
    except RuntimeError as error:
        raise SandboxUnavailable(
            "libseccomp: not installed; boxes need it to refuse system calls",
            "remedy: sudo apt-get install libseccomp2",
        ) from error
    return pyseccomp  # type: ignore[no-any-return] # it has no types


def _require_names(seccomp: ModuleType, denials: tuple[Denial, ...]) -> None:
    """Refuse a libseccomp that does not know all calls: what it does not know stays allowed."""
    names = [name for denial in denials for name in denial.names]
    unknown = [n for n in names if seccomp.resolve_syscall(seccomp.Arch.NATIVE, n) == UNKNOWN]
    if unknown:
        raise SandboxUnavailable(
            f"libseccomp: expected a version that knows {', '.join(unknown)}; got an older one",
            "remedy: upgrade libseccomp2 to 2.5.4 (Debian 12, Ubuntu 22.10) or newer",
        )
