"""The first process inside a box: copies the entry, drops all rights, starts it and waits for it.

Theory of operation. This file runs as process 1 of the box, by path, on the interpreter that
advcomp itself runs on, with `-I -S`, before anything of a submission runs. It imports the
standard library only. It talks to the referee over one SOCK_SEQPACKET descriptor:

    launcher -> referee   b"here": the kernel attaches the sender's pid, as the referee sees it
    referee -> launcher   the order, marshalled (both ends are the same interpreter)
    launcher -> referee   b"ready", or b"failed <reason>"
    referee -> launcher   b"go"
    launcher -> referee   b"exit <code>" or b"signal <number>", exactly as the kernel told it, or
                          b"failed <reason>" if the program could not be deprived of its rights

At every moment the end of the channel means that the referee is dead: the launcher exits, and the
kernel kills everything else in the box.

Why the program is a child and not process 1 itself: the kernel does not deliver fatal signals
that process 1 sends to itself, and only a parent can tell exit code 137 from signal 9. Why the
launcher is process 1: a process inside cannot kill or stop it, and when it exits the kernel kills
everything else in the box. Where it shares its uid with the program (an ordinary user's box), it
is made undumpable, so that the program can neither trace it nor open what it holds. It handles no
signal: the kernel delivers none to process 1 that it does not handle, so none can disturb it.
"""

import ctypes
import marshal
import os
import resource
import select
import signal
import sys
from typing import NoReturn, TypedDict

PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
LINUX_CAPABILITY_VERSION_3 = 0x20080522


class BoxOrder(TypedDict):
    """What the referee asks for; `marshal` types only.

    `uid` is None where the box has one user only. `code_fd` is an open host folder, or None.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    code_fd: int | None
    owned: list[str]
    uid: int | None
    rlimits: list[tuple[int, int]]


def main(channel: int) -> NoReturn:
    """Carry out one order; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python handles it, by an exception
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, no death is told
    os.write(channel, b"here")
    order: BoxOrder = marshal.loads(os.read(channel, 1 << 20))  # noqa: S302 - from the referee
    try:
        prepare(order)
    except OSError as error:
        os.write(channel, f"failed {error}".encode())
        os._exit(1)
    os.write(channel, b"ready")
    if os.read(channel, 16) != b"go":
        os._exit(1)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    most_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    child = os.fork()
    if child == 0:
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        try:
            drop_rights(order, libc)
        except OSError as error:
            os.write(channel, f"failed {error}".encode())
            os._exit(1)
        become(order, most_descriptors)
    see_to_the_end(child, channel, libc)


def prepare(order: BoxOrder) -> None:
    """Fill /code and give the program the folders that are its own. Nothing hostile runs yet."""
    os.umask(0o022)
    if order["code_fd"] is not None:
        copy_code(order["code_fd"])
    for folder in order["owned"]:
        if order["uid"] is not None:
            run_tool("chown", "-R", "-h", f"{order['uid']}:{order['uid']}", folder)


def copy_code(source_fd: int) -> None:
    """Copy an open host folder to /code: links as links, modes kept, no owner, no second path."""
    os.set_inheritable(source_fd, True)
    source = f"/proc/self/fd/{source_fd}/."
    run_tool("cp", "-R", "-P", "--preserve=mode,links", "--", source, "/code/")
    run_tool("chmod", "-R", "u+rwX", "/code")
    os.close(source_fd)


def run_tool(name: str, *arguments: str) -> None:
    """Run a program of the base system; what it says goes to the log.

    Raises:
        OSError: It did not end with 0.
    """
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    child = os.posix_spawnp(name, (name, *arguments), env)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise OSError(f"{name} ended with status {os.waitstatus_to_exitcode(status)}")


def become(order: BoxOrder, most_descriptors: int) -> NoReturn:
    """Turn this process into the program, with its environment and no descriptor but 0, 1, 2.

    Args:
        most_descriptors: How many there could be, before they were limited.
    """
    try:
        os.chdir(order["cwd"])
        os.closerange(3, most_descriptors)
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - no shell wanted
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        os.write(2, f"cannot start {order['argv'][0]}: {error.strerror}\n".encode())
        os._exit(127 if missing else 126)


def drop_rights(order: BoxOrder, libc: ctypes.CDLL) -> None:
    """Give up everything, for good, that the program must not have."""
    # The kernel's victim of first choice is the program, never the launcher or the host.
    with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - pathlib is slow to import
        file.write("1000")
    for number, value in order["rlimits"]:
        _, hard = resource.getrlimit(number)
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (lowest, lowest))
    # What is ignored or blocked stays so across exec: by Python, or by whoever started us.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if order["uid"] is None:
        return
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(order["uid"], order["uid"], order["uid"])
    os.setresuid(order["uid"], order["uid"], order["uid"])
    # What a change of uid leaves: the inheritable set, harmless but untidy.
    libc.capset((ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())


def see_to_the_end(child: int, channel: int, libc: ctypes.CDLL) -> NoReturn:
    """Clear away the dead until `child` is among them or the referee is dead."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    mask = (ctypes.c_uint64 * 16)(1 << (signal.SIGCHLD - 1))
    deaths = libc.signalfd(-1, mask, 0)
    poll = select.poll()
    poll.register(deaths, select.POLLIN)
    poll.register(channel, select.POLLIN)
    while True:
        reap_dead(child, channel)
        ready = [fd for fd, _ in poll.poll()]
        if channel in ready:
            os._exit(1)
        os.read(deaths, 4096)


def reap_dead(child: int, channel: int) -> None:
    """Clear away all dead processes; once `child` is among them, tell how it ended, and end."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os.write(channel, b"exit %d" % code if code >= 0 else b"signal %d" % -code)
            os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
