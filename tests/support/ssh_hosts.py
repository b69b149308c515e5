"""Machines that are reached by ssh: Debian's sshd in network namespaces, keys of their own."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
from support.dask_cluster import wait_until
from support.namespaces import Network

PORT = 2222
ENVIRONMENT = "OMP_NUM_THREADS=1 ADVCOMP_PAGE_CACHE=open"
"""What this process was started with, too."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a user gets in; files in `folder` are `key` and `known_hosts`."""

    hosts: Sequence[str]
    folder: Path

    @property
    def table(self) -> str:
        """As a cluster file says it, from `folder`."""
        return (
            f'[ssh]\nhosts = {list(self.hosts)}\nuser = "root"\nport = {PORT}\nkey = "key"\n'
            'known_hosts = "known_hosts"\n'
        )


@contextmanager
def ssh_hosts(network: Network, folder: Path) -> Iterator[Access]:
    """An sshd on every machine of a network, until the end."""
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("key", "host_key"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(folder / name)
        (folder / name).chmod(0o600)
        key.write_public_key(folder / f"{name}.pub")
    public = (folder / "host_key.pub").read_text()
    addresses = list(network.address.values())
    known = "".join(f"[{address}]:{PORT} {public}" for address in addresses)
    (folder / "known_hosts").write_text(known)
    started = [_sshd(network, name, folder) for name in network.address]
    try:
        logs = [folder / f"{name}.sshd.log" for name in network.address]
        wait_until(lambda: all(b"Server listening" in log.read_bytes() for log in logs), "sshd")
        yield Access(hosts=addresses, folder=folder)
    finally:
        for process in started:
            process.kill()
            process.wait(timeout=60)


def _sshd(network: Network, name: str, folder: Path) -> "subprocess.Popen[bytes]":
    config = folder / f"{name}.sshd.conf"
    config.write_text(
        f"Port {PORT}\nListenAddress {network.address[name]}\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/key.pub\nStrictModes no\nUsePAM no\nPidFile none\n"
        f"PermitRootLogin prohibit-password\nPasswordAuthentication no\nSetEnv {ENVIRONMENT}\n"
    )
    with (folder / f"{name}.sshd.log").open("wb") as log:
        return subprocess.Popen(
            [*network.enter(name), "/usr/sbin/sshd", "-D", "-e", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
