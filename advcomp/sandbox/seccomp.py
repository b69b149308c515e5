"""System calls that no program in a box may make, as a filter for the kernel.

Theory of operation. Namespaces take objects out of sight; this takes code of the kernel out of
reach: what makes namespaces and mounts, loads code into the kernel, looks into other processes,
keeps keys outside every namespace, or opens sockets that no network namespace holds (AF_VSOCK),
and what would put limits on the launcher.
All else is allowed: submissions are ordinary programs, and a list of all that those need would
break them on the next release of a library.

Calls of another architecture kill the program: their numbers mean other calls. `clone3` passes
its flags by pointer, which a filter cannot read, so it "does not exist" and C libraries fall back
to `clone`. The filter is classic BPF over `struct seccomp_data` (seccomp(2)): call number,
architecture, instruction pointer, six arguments of 64 bits, whose low halves are looked at.
"""

import errno
import platform
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from advcomp.errors import SandboxUnavailable

__all__ = ["filter_program"]

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24
KILL_PROCESS, REFUSE, ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
NO = REFUSE | errno.EPERM
X32_CALLS = 0x4000_0000
NEW_NAMESPACES = 0x7E02_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: typing into the terminal of the harness."""
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Numbers of one architecture: its AUDIT_ARCH, calls looked at closely, calls refused."""

    audit: int
    clone: int
    socket: int
    ioctl: int
    prlimit64: int
    refused: Mapping[str, int]


CLONE3 = 435
SINCE_5_1 = {  # numbered alike everywhere
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
ARCHITECTURES: Mapping[str, Architecture] = {
    "x86_64": Architecture(
        audit=0xC000_003E,
        clone=56,
        socket=41,
        ioctl=16,
        prlimit64=302,
        refused=SINCE_5_1
        | {
            "ptrace": 101,
            "syslog": 103,
            "personality": 135,
            "vhangup": 153,
            "modify_ldt": 154,
            "pivot_root": 155,
            "adjtimex": 159,
            "chroot": 161,
            "acct": 163,
            "settimeofday": 164,
            "mount": 165,
            "umount2": 166,
            "swapon": 167,
            "swapoff": 168,
            "reboot": 169,
            "iopl": 172,
            "ioperm": 173,
            "init_module": 175,
            "delete_module": 176,
            "quotactl": 179,
            "lookup_dcookie": 212,
            "clock_settime": 227,
            "kexec_load": 246,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "unshare": 272,
            "perf_event_open": 298,
            "fanotify_init": 300,
            "name_to_handle_at": 303,
            "open_by_handle_at": 304,
            "clock_adjtime": 305,
            "setns": 308,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "kcmp": 312,
            "finit_module": 313,
            "kexec_file_load": 320,
            "bpf": 321,
            "userfaultfd": 323,
        },
    ),
    "aarch64": Architecture(
        audit=0xC000_00B7,
        clone=220,
        socket=198,
        ioctl=29,
        prlimit64=261,
        refused=SINCE_5_1
        | {
            "lookup_dcookie": 18,
            "umount2": 39,
            "mount": 40,
            "pivot_root": 41,
            "chroot": 51,
            "vhangup": 58,
            "quotactl": 60,
            "acct": 89,
            "personality": 92,
            "unshare": 97,
            "kexec_load": 104,
            "init_module": 105,
            "delete_module": 106,
            "clock_settime": 112,
            "syslog": 116,
            "ptrace": 117,
            "reboot": 142,
            "settimeofday": 170,
            "adjtimex": 171,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "swapon": 224,
            "swapoff": 225,
            "perf_event_open": 241,
            "fanotify_init": 262,
            "name_to_handle_at": 264,
            "open_by_handle_at": 265,
            "clock_adjtime": 266,
            "setns": 268,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "kcmp": 272,
            "finit_module": 273,
            "bpf": 280,
            "userfaultfd": 282,
            "kexec_file_load": 294,
        },
    ),
}


def filter_program(machine: str = platform.machine()) -> bytes:
    """The filter, as an array of `struct sock_filter`.

    Raises:
        SandboxUnavailable: The numbers of this architecture are not known here.
    """
    if machine not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise SandboxUnavailable(f"boxes need an architecture of {known}; got {machine}")
    architecture = ARCHITECTURES[machine]
    program = [
        _op(LOAD, ARCHITECTURE),
        *_unless(JUMP_EQUAL, architecture.audit, KILL_PROCESS),
        _op(LOAD, NUMBER),
        *_if(JUMP_GREATER_EQUAL, X32_CALLS, KILL_PROCESS),
        *_if(JUMP_EQUAL, CLONE3, REFUSE | errno.ENOSYS),
    ]
    for number in sorted(architecture.refused.values()):
        program += _if(JUMP_EQUAL, number, NO)
    program += _call(architecture.clone, FIRST_ARGUMENT, _if(JUMP_ANY_BIT, NEW_NAMESPACES, NO))
    # The launcher is process 1; where it shares its uid with the program, these could kill it.
    program += _call(architecture.prlimit64, FIRST_ARGUMENT, _if(JUMP_EQUAL, 1, NO))
    typing = [op for request in TERMINAL_INPUT for op in _if(JUMP_EQUAL, request, NO)]
    program += _call(architecture.ioctl, SECOND_ARGUMENT, typing)
    families = [op for family in FAMILIES for op in _if(JUMP_EQUAL, family, ALLOW)]
    program += _call(
        architecture.socket,
        FIRST_ARGUMENT,
        [*families, _op(RETURN, REFUSE | errno.EAFNOSUPPORT)],
    )
    return b"".join([*program, _op(RETURN, ALLOW)])


def _op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _if(test: int, value: int, action: int) -> list[bytes]:
    """Return `action` if the test holds; else go on."""
    return [_op(test, value, 0, 1), _op(RETURN, action)]


def _unless(test: int, value: int, action: int) -> list[bytes]:
    """Return `action` if the test does not hold; else go on."""
    return [_op(test, value, 1, 0), _op(RETURN, action)]


def _call(number: int, argument: int, body: list[bytes]) -> list[bytes]:
    """For one call, look at one argument; what `body` does not decide is allowed."""
    block = [_op(LOAD, argument), *body, _op(RETURN, ALLOW)]
    return [_op(JUMP_EQUAL, number, 0, len(block)), *block]
