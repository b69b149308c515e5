"""System calls that boxes refuse: the table, the filter made of it, and real boxes."""

import errno
import json
import platform
import signal
import socket
import struct
import subprocess
import sys
import textwrap

import pytest
from support.refused_calls import CALL_EVERYTHING, EVERY_CALL, REFUSED_ON_X86_64

from advcomp.errors import SandboxUnavailable
from advcomp.sandbox.base import Limits, RunResult, RunSpec, Sandbox
from advcomp.sandbox.limits.libseccomp import ALLOW, answer, architecture, number_of
from advcomp.sandbox.limits.seccomp import (
    DENIALS,
    INT,
    NEWEST_CALL,
    Condition,
    Denial,
    filter_program,
)

NO_SUCH_CALL = answer(errno.ENOSYS)
UPPER_HALF = 0x5EED << 32
FOREIGN = 0x4000_0003
"""AUDIT_ARCH_I386."""
CONDITIONAL = [denial for denial in DENIALS if denial.conditions]
x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="calls of x86")


def verdict(call: int, *arguments: int, foreign: int | None = None) -> int:
    """What the filter answers: an interpreter of the few instructions that it is made of."""
    seen = architecture() if foreign is None else foreign
    registers = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", call & INT, seen, 0, *(r % 2**64 for r in registers))
    program = list(struct.iter_unpack("=HBBI", filter_program()))
    accumulator = position = 0
    while True:
        code, then, otherwise, value = program[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x54:
                accumulator &= value
            case 0x05:
                position += value
            case 0x15:
                position += then if accumulator == value else otherwise
            case 0x25:
                position += then if accumulator > value else otherwise
            case 0x35:
                position += then if accumulator >= value else otherwise
            case 0x06:
                assert isinstance(value, int)
                return value
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


def number(name: str) -> int:
    found = number_of(name)
    assert found is not None
    return found


def numbers(denial: Denial) -> list[int]:
    """Of the calls that this architecture has."""
    return [call for call in map(number, denial.names) if call >= 0]


def meeting(condition: Condition) -> int:
    match condition.comparison:
        case "MASKED_EQ":
            return condition.value_two
        case "GE":
            return condition.value
        case _:
            return condition.value + 1


def arguments_of(denial: Denial) -> list[int]:
    """Arguments that meet all conditions."""
    arguments = [0] * 6
    for condition in denial.conditions:
        arguments[condition.index] = meeting(condition)
    return arguments


@pytest.mark.parametrize("denial", DENIALS, ids=lambda denial: denial.names[0])
def test_what_the_table_denies_the_filter_denies(denial: Denial) -> None:
    arguments = arguments_of(denial)
    with_rubbish = [value | UPPER_HALF for value in arguments]
    assert [verdict(call, *arguments) for call in numbers(denial)] == [
        answer(denial.error) for _ in numbers(denial)
    ]
    # The kernel reads the lower half of an int; nothing may slip past in the upper one.
    assert all(verdict(call, *with_rubbish) != ALLOW for call in numbers(denial))


@x86_64_only
def test_every_number_is_answered_as_it_is_written_here() -> None:
    told = {error: {n for n in EVERY_CALL if verdict(n) == answer(error)} for error in (1, 38)}
    assert told == REFUSED_ON_X86_64
    rest = {n for n in EVERY_CALL if verdict(n) not in map(answer, REFUSED_ON_X86_64)}
    assert {verdict(n) for n in rest} == {ALLOW, answer(errno.EAFNOSUPPORT)}


@x86_64_only
def test_a_box_answers_every_number_as_it_is_written_here(sandbox: Sandbox) -> None:
    result = run_python(sandbox, CALL_EVERYTHING, str(EVERY_CALL.stop), str(NEWEST_CALL))
    told = {int(n): error for n, error in json.loads(result.log).items()}
    for error, numbers in REFUSED_ON_X86_64.items():
        assert {n: told[n] for n in numbers} == dict.fromkeys(numbers, error)
    x32 = [error for n, error in told.items() if n > max(EVERY_CALL)]
    assert len(x32) > 500
    assert set(x32) == {errno.ENOSYS}


def test_what_is_newer_than_the_table_does_not_exist() -> None:
    assert NEWEST_CALL == 466
    newer = [NEWEST_CALL + 1, 500, 511, 512, 1023, 0x3FFF_FFFF, 0x7FFF_FFFF, 0xFFFF_FFFF]
    assert {verdict(n, *[1] * 6) for n in newer} == {NO_SUCH_CALL}
    assert verdict(number("removexattrat" if knows("removexattrat") else "getpid")) == ALLOW


def knows(name: str) -> bool:
    return number_of(name) is not None


REFUSED_ALWAYS = {
    "EPERM": """
        unshare setns mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig
        fsmount fspick pivot_root chroot name_to_handle_at open_by_handle_at ptrace
        process_vm_readv process_vm_writev kcmp pidfd_getfd perf_event_open lookup_dcookie add_key
        request_key keyctl clock_settime clock_adjtime settimeofday adjtimex stime bpf init_module
        finit_module delete_module create_module query_module get_kernel_syms kexec_load
        kexec_file_load io_uring_setup io_uring_enter io_uring_register userfaultfd modify_ldt vm86
        vm86old personality uselib reboot swapon swapoff acct syslog quotactl quotactl_fd iopl
        ioperm vhangup nfsservctl sysfs ustat _sysctl fanotify_init
    """,
    "ENOSYS": "clone3 flock inotify_init inotify_init1 socketcall io_setup",
}
"""What no argument makes good; who takes a call out of the table does it here, too."""


def test_what_is_always_refused_is_written_out() -> None:
    table = {
        (name, denial.error)
        for denial in DENIALS
        if not denial.conditions
        for name in denial.names
    }
    literal = {
        (name, getattr(errno, error))
        for error, names in REFUSED_ALWAYS.items()
        for name in names.split()
    }
    assert table == literal


@pytest.mark.parametrize("error", REFUSED_ALWAYS)
def test_the_filter_refuses_what_is_written_out(error: str) -> None:
    calls = [number(name) for name in REFUSED_ALWAYS[error].split()]
    answers = {verdict(call, *[1] * 6) for call in calls if call >= 0}
    assert answers == {answer(getattr(errno, error))}


REFUSED_WITH = [
    ("clone", 0, (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)),
    *(
        (n, 0, (1,))
        for n in ["prlimit64", "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"]
    ),
    ("pidfd_open", 0, (1,)),
    ("fcntl", 1, (5, 10, 36, 37, 38, 1024, 1026)),
    ("ioctl", 1, (0x5412, 0x541C)),
    ("socket", 0, (3, 4, 5, 9, 15, 17, 29, 31, 38, 40, 44)),
    ("socketpair", 0, (0, 2, 3, 10, 16, 17, 40)),
    ("seccomp", 0, (1,)),
    ("prctl", 0, (22,)),
    ("mmap", 3, (0x40000, 0x40022)),
    ("memfd_create", 1, (4, 5)),
    ("shmget", 2, (0o4000, 0o5600)),
    ("fadvise64", 3, (4,)),
]
"""Call, place of the argument, values of it that are refused; others are not."""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="other places")
@pytest.mark.parametrize(("name", "place", "values"), REFUSED_WITH, ids=lambda value: str(value))
def test_what_an_argument_decides_is_refused_by_its_value(
    name: str, place: int, values: tuple[int, ...]
) -> None:
    good = {"socket": 2, "socketpair": 1}.get(name, 1 << 20 if name == "kill" else 0)
    assert verdict(number(name), *[good if at == place else 0 for at in range(6)]) == ALLOW
    for value in values:
        arguments = [value if at == place else 0 for at in range(6)]
        assert verdict(number(name), *arguments) != ALLOW, value


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="other numbers")
def test_what_two_arguments_decide_is_refused_by_their_values() -> None:
    call = number("setsockopt")
    refused = {(1, 26), (1, 50), (1, 51), (1, 52)}
    pairs = {(level, option) for level in range(20) for option in range(100)}
    assert {pair for pair in pairs if verdict(call, 3, *pair) != ALLOW} == refused


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clone", [signal.SIGCHLD]),
        ("clone", [0x003D_0F00]),  # what a new thread is made with
        ("prlimit64", [0]),
        ("prlimit64", [2]),
        ("ioctl", [0, 0x5401]),  # TCGETS
        ("fcntl", [3, 6]),  # F_SETLK: what databases lock with
        ("socket", [socket.AF_UNIX, socket.SOCK_STREAM]),
        ("socket", [socket.AF_INET, socket.SOCK_DGRAM, 17]),
        ("socket", [socket.AF_INET6, socket.SOCK_STREAM]),
        ("socket", [socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 6]),
        ("socket", [socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 17]),
        ("socket", [socket.AF_NETLINK, socket.SOCK_RAW, 0]),
        ("socketpair", [socket.AF_UNIX, socket.SOCK_SEQPACKET]),
    ],
)
def test_what_ordinary_programs_ask_of_denied_calls_is_allowed(
    name: str, arguments: list[int]
) -> None:
    assert verdict(number(name), *arguments) == ALLOW


def test_every_family_and_flag_is_judged_right() -> None:
    allowed = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    passed = {f for f in range(300) if verdict(number("socket"), f) == ALLOW}
    assert passed == allowed
    assert {f for f in range(300) if verdict(number("socketpair"), f) == ALLOW} == {1}
    for family in (socket.AF_INET, socket.AF_INET6):
        protocols = {p for p in range(300) if verdict(number("socket"), family, 1, p) == ALLOW}
        assert protocols == {0, 6, 17}
        types = {t for t in range(16) if verdict(number("socket"), family, t | 0x8_0800) == ALLOW}
        assert types == {0, 1, 2}
    assert verdict(number("socket"), socket.AF_UNIX, socket.SOCK_SEQPACKET) == ALLOW
    namespaces = 0x7E02_0000
    for bit in range(32):
        denied = verdict(number("clone"), 1 << bit) != ALLOW
        assert denied == bool(1 << bit & namespaces), bit


@x86_64_only
def test_calls_of_other_architectures_do_not_exist() -> None:
    """Not one number of the other is let through, whatever it would mean here."""
    assert {verdict(call, foreign=FOREIGN) for call in EVERY_CALL} == {NO_SUCH_CALL}
    x32 = 0x4000_0000
    assert {verdict(x32 | call) for call in EVERY_CALL} == {NO_SUCH_CALL}


def run_python(sandbox: Sandbox, program: str, *arguments: str) -> RunResult:
    spec = RunSpec(
        argv=("python", "-c", textwrap.dedent(program), *arguments),
        limits=Limits(wall_s=30, memory_bytes=512 << 20, output_bytes=1 << 20),
    )
    with sandbox.run(spec) as run:
        return run.result


def test_a_real_box_refuses_all_that_the_table_denies(sandbox: Sandbox) -> None:
    calls = [
        (call, arguments_of(denial), denial.error)
        for denial in DENIALS
        for call in numbers(denial)
    ]
    result = run_python(
        sandbox,
        """
        import ctypes, json, sys
        libc = ctypes.CDLL(None, use_errno=True)
        def answer(call, arguments):
            done = libc.syscall(ctypes.c_long(call), *map(ctypes.c_ulong, arguments))
            return done == -1 and ctypes.get_errno()
        print(json.dumps([answer(*call) for call in json.loads(sys.argv[1])]))
        """,
        json.dumps([(call, arguments) for call, arguments, _ in calls]),
    )
    assert json.loads(result.log) == [error for *_, error in calls]


def test_ordinary_programs_still_work(sandbox: Sandbox) -> None:
    result = run_python(
        sandbox,
        """
        import multiprocessing, socket, sqlite3, subprocess, threading
        with sqlite3.connect("/tmp/database") as database:
            database.execute("create table t (x)")
            database.execute("insert into t values (7)")
            print(database.execute("select x from t").fetchone()[0])
        with multiprocessing.Pool(2) as pool:
            print(sum(pool.map(abs, [-1, -2])))
        print(len(socket.getaddrinfo("localhost", 80)) > 0)
        """,
    )
    assert (result.log, result.exit_code) == (b"7\n3\nTrue\n", 0)


@x86_64_only
def test_a_call_of_another_architecture_does_not_exist_in_a_box(sandbox: Sandbox) -> None:
    program = """
        import ctypes, mmap
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
        at = ctypes.addressof(ctypes.c_char.from_buffer(page))
        print(ctypes.CFUNCTYPE(ctypes.c_int)(at)())
    """
    outside = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False
    )
    if not outside.stdout.strip().isdigit():
        pytest.skip("this kernel has no calls of 32-bit x86")
    assert run_python(sandbox, program).log == b"%d\n" % -errno.ENOSYS


def test_filters_for_sockets_and_calls_are_refused(sandbox: Sandbox) -> None:
    """Memory of the kernel that no limit counts, and a limit of the whole machine."""
    result = run_python(
        sandbox,
        """
        import ctypes, errno, json, socket, struct
        libc = ctypes.CDLL(None, use_errno=True)
        def answer(call, *arguments):
            return errno.errorcode[ctypes.get_errno()] if call(*arguments) == -1 else "done"
        code = (ctypes.c_char * 8).from_buffer_copy(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
        program = (ctypes.c_ulong * 2)(1, ctypes.addressof(code))
        told = []
        for family in (socket.AF_INET, socket.AF_UNIX, socket.AF_NETLINK):
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                told += [answer(libc.setsockopt, s.fileno(), 1, option, program, 16)
                         for option in (26, 50, 51, 52)]
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        told.append(answer(libc.prctl, 22, 2, program, 0, 0))
        told.append(answer(libc.syscall, 317 if ctypes.sizeof(ctypes.c_long) == 8 else 0,
                           1, 0, program))
        print(json.dumps(told))
        """,
    )
    assert json.loads(result.log) == ["EPERM"] * 12 + ["EINVAL"] * 2


def test_huge_pages_are_refused_and_other_memory_is_not(sandbox: Sandbox) -> None:
    """They come out of one reserve, whatever a box's limit is."""
    result = run_python(
        sandbox,
        """
        import ctypes, errno, json, mmap, os
        libc = ctypes.CDLL(None, use_errno=True)
        huge = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000
        told = []
        for attempt in (
            lambda: mmap.mmap(-1, 2 << 20, flags=huge),
            lambda: os.memfd_create("", os.MFD_HUGETLB),
            lambda: os.close(os.memfd_create("", os.MFD_CLOEXEC)),
            lambda: mmap.mmap(-1, 2 << 20),
        ):
            try:
                attempt()
                told.append("done")
            except OSError as error:
                told.append(errno.errorcode[error.errno])
        for flags in (0o4600, 0o600):
            made = libc.shmget(0, 4096, 0o1000 | flags)
            told.append(errno.errorcode[ctypes.get_errno()] if made == -1 else "done")
        print(json.dumps(told))
        """,
    )
    assert json.loads(result.log) == ["ENOMEM", "ENOMEM", "done", "done", "ENOMEM", "done"]


def test_without_libseccomp_the_command_to_install_it_is_told() -> None:
    """In a process of its own: here the library is loaded already."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_LIBSECCOMP)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "libseccomp: not installed; boxes need it to refuse system calls",
        "remedy: `sudo apt-get install libseccomp2`",
        "4",
    ]


WITHOUT_LIBSECCOMP = """
    import ctypes
    class Without(ctypes.CDLL):
        def __init__(self, name, *more, **options):
            super().__init__("libnone.so" if "seccomp" in str(name) else name, *more, **options)
    ctypes.CDLL = Without
    from advcomp.errors import SandboxUnavailable
    from advcomp.sandbox.limits.seccomp import filter_program
    try:
        filter_program()
    except SandboxUnavailable as error:
        print(*error.problems, error.exit_code, sep="\\n")
"""


def test_a_libseccomp_that_lacks_a_call_is_refused() -> None:
    unheard = Denial(names=("mount", "call_of_the_future"), error=1)
    with pytest.raises(SandboxUnavailable, match="knows call_of_the_future") as caught:
        filter_program((unheard,))
    assert "upgrade libseccomp2" in caught.value.problems[1]
