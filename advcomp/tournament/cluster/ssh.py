"""Nodes that are machines we reach by ssh, through Dask's own cluster of that kind."""

import ipaddress
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask.config
from distributed import SpecCluster
from distributed.deploy.ssh import Scheduler, Worker
from distributed.security import Security

from advcomp.errors import ClusterError, InvalidConfig
from advcomp.rules.plain_file import require_plain_file
from advcomp.rules.printable import printable
from advcomp.tournament.cluster.cluster_file import ClusterFile, SshTable
from advcomp.tournament.cluster.dask_settings import HTTP, ORPHAN_S, security_of, tls_config

LINES = 10
"""Of what machines print, these are told of when Dask cannot be started."""


def start_ssh(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    """Start a scheduler on the first host, and a worker on each.

    Returns:
        The scheduler's address, and what its clients need for TLS.

    Raises:
        InvalidConfig: What is sent could be read on the way, and the file does not allow it.
    """
    assert file.ssh is not None
    ssh, security = file.ssh, security_of(file)
    if security is None and not file.insecure:
        raise InvalidConfig(
            'kind = "ssh": expected the table [tls] with files that are on every host, or '
            "insecure = true where the network is yours alone"
        )
    if file.tls is not None:
        held.enter_context(dask.config.set(tls_config(file.tls)))
    protocol = "tcp://" if security is None else "tls://"
    common = {"protocol": protocol, "dashboard": False, "dashboard_address": HTTP}
    worker = {
        "nthreads": file.node.cpus,
        "memory_limit": 0,
        "resources": file.node.resources,
        "death_timeout": ORPHAN_S,
        "local_directory": file.node.scratch,
    }
    start = {"connect_options": _login(ssh), "remote_python": ssh.python or sys.executable}
    places = [_place(host, file) for host in ssh.hosts]
    scheduler = {"port": 0, "idle_timeout": "10 minutes", **common, **places[0]}
    workers = {
        host: {
            "cls": Worker,
            "options": {
                "address": host,
                "kwargs": {**worker, **common, **place, "name": host},
                **start,
            },
        }
        for host, place in zip(ssh.hosts, places, strict=True)
    }
    first = {"address": ssh.hosts[0], "kwargs": scheduler, **start}
    with _told_by_hosts():
        # As Dask's SSHCluster, but for `places`: each machine listens where the others reach it.
        cluster = SpecCluster(
            workers,
            {"cls": Scheduler, "options": first},
            security=security,
            name="ssh",
            silence_logs=logging.WARNING,
        )
    held.enter_context(cluster)
    return cluster.scheduler_address, security


class _Lines(logging.Handler):
    """What machines print while Dask starts there."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


@contextmanager
def _told_by_hosts() -> Iterator[None]:
    """Make a user's error of what goes wrong while Dask is started.

    Raises:
        ClusterError: It is not started.
    """
    logger, heard = logging.getLogger("distributed.deploy.ssh"), _Lines()
    logger.addHandler(heard)
    try:
        yield
    except Exception as error:  # asyncssh's are many, and Dask's own is no more than that
        raise ClusterError(
            f'kind = "ssh": expected to start Dask on each of [ssh] hosts; got: {error}; look '
            "whether `ssh` gets there with this user, port, key and known_hosts, and whether "
            "[ssh] python has advcomp[cluster] there; the machines said:",
            *(f"  {printable(line)}" for line in heard.lines[-LINES:] or ["nothing"]),
        ) from error
    finally:
        logger.removeHandler(heard)


def _place(host: str, file: ClusterFile) -> dict[str, str]:
    """Where Dask listens on a host: on the interface of the file, else as it is reached from here.

    Raises:
        InvalidConfig: Other hosts could not reach it there.
    """
    if file.node.interface is not None:
        return {"interface": file.node.interface}
    assert file.ssh is not None
    try:
        address = str(socket.getaddrinfo(host, file.ssh.port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise InvalidConfig(
            f'[ssh] hosts: expected names or addresses of machines; got "{host}": {error.strerror}'
        ) from error
    if len(set(file.ssh.hosts)) > 1 and ipaddress.ip_address(address).is_loopback:
        raise InvalidConfig(
            f'[ssh] hosts: expected addresses that all hosts reach; "{host}" means {address} '
            "here; write its address in place of its name, or set [node] interface"
        )
    return {"host": address}


def _login(ssh: SshTable) -> dict[str, Any]:
    """What asyncssh is told; what the file leaves out is as for the user's own ssh.

    Raises:
        OSError: A file is missing, or is no file on a disk.
    """
    for path in filter(None, (ssh.key, ssh.known_hosts)):
        require_plain_file(Path(path))
    options = {
        "port": ssh.port,
        "username": ssh.user,
        "client_keys": None if ssh.key is None else [ssh.key],
        "known_hosts": ssh.known_hosts,
    }
    return {name: value for name, value in options.items() if value is not None}
