"""A small number of terminals for a box, out of those that the whole machine has.

Pseudoterminals come out of one table of the kernel (kernel.pty.max). A box has a devpts of its
own, but of no bounded size: neither bubblewrap nor engines can be told one. So it is mounted again
with a bound, before the program starts, from inside the box's mount namespace. Root enters that
with a thread, which ends there. An ordinary user must enter the user namespace that owns it first,
which a process with threads cannot; so this file is also a program that does:

    python -I -S terminals.py USER_NAMESPACE MOUNT_NAMESPACE       (two open descriptors)

Whoever may hold the box's folders (`held.py`) may do this, too.
"""

import ctypes
import fcntl
import os
import subprocess
import sys
import threading

MOST_TERMINALS = 32

NS_GET_USERNS = 0xB701
"""ioctl_ns(2): the user namespace that owns a namespace."""
CLONE_FS, CLONE_NEWNS, CLONE_NEWUSER = 0x200, 0x0002_0000, 0x1000_0000
MS_NOSUID, MS_NOEXEC, MS_REMOUNT = 0x2, 0x8, 0x20
TIMEOUT_S = 60.0


def bound_terminals(pid: int) -> str | None:
    """Bound the terminals of the box that `pid` is in; why that failed, or None."""
    try:
        mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return str(error)
    try:
        users = fcntl.ioctl(mounts, NS_GET_USERNS)
        try:
            return _by_thread(mounts) if is_ours(users) else _by_program(users, mounts)
        finally:
            os.close(users)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        os.close(mounts)


def _by_thread(mounts: int) -> str | None:
    failures: list[OSError] = []
    libc = ctypes.CDLL(None, use_errno=True)

    def enter() -> None:
        # From here on paths mean other files to this thread: nothing may be imported or opened.
        try:
            must(libc.unshare(CLONE_FS), "unshare")
            remount(libc, mounts)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return str(failures[0]) if failures else None


def _by_program(users: int, mounts: int) -> str | None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", __file__, str(users), str(mounts)],
        pass_fds=(users, mounts),
        env={},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return (done.stderr.strip() or str(done.returncode)) if done.returncode else None


def main(users: int, mounts: int) -> None:
    """Enter the namespaces and mount devpts again.

    Raises:
        OSError: The kernel refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    must(libc.setns(users, CLONE_NEWUSER), "setns")
    remount(libc, mounts)


def is_ours(users: int) -> bool:
    """Whether a descriptor is that of this process's user namespace."""
    return os.path.samestat(os.fstat(users), os.stat("/proc/self/ns/user"))  # noqa: PTH116


def remount(libc: ctypes.CDLL, mounts: int) -> None:
    """Enter a mount namespace and mount its devpts again, with a bound."""
    must(libc.setns(mounts, CLONE_NEWNS), "setns")
    flags = MS_REMOUNT | MS_NOSUID | MS_NOEXEC
    options = f"max={MOST_TERMINALS},ptmxmode=0666,mode=0620".encode()
    must(libc.mount(b"devpts", b"/dev/pts", b"devpts", flags, options), "mount")


def must(result: int, what: str) -> None:
    """Raise what a C function says."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
