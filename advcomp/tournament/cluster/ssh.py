"""Nodes that are machines we reach by ssh, through Dask's own cluster of that kind."""

import sys
from contextlib import ExitStack
from typing import Any

import dask.config
from distributed import SSHCluster
from distributed.security import Security

from advcomp.errors import InvalidConfig
from advcomp.tournament.cluster.cluster_file import ClusterFile, SshTable
from advcomp.tournament.cluster.dask_settings import HTTP, ORPHAN_S, security_of, tls_config


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
    cluster = SSHCluster(
        [ssh.hosts[0], *ssh.hosts],
        connect_options=_login(ssh),
        scheduler_options={
            "protocol": protocol,
            "port": 0,
            "dashboard": False,
            "dashboard_address": HTTP,
            "host": ssh.hosts[0],
            "idle_timeout": "10 minutes",
        },
        worker_options={
            "nthreads": file.node.cpus,
            "memory_limit": 0,
            "resources": file.node.resources,
            "death_timeout": ORPHAN_S,
            "local_directory": file.node.scratch,
            "protocol": protocol,
            "dashboard": False,
            "dashboard_address": HTTP,
        },
        remote_python=ssh.python or sys.executable,
        security=security,
    )
    held.enter_context(cluster)
    return cluster.scheduler_address, security


def _login(ssh: SshTable) -> dict[str, Any]:
    """What asyncssh is told; what the file leaves out is as for the user's own ssh."""
    options = {
        "port": ssh.port,
        "username": ssh.user,
        "client_keys": None if ssh.key is None else [ssh.key],
        "known_hosts": ssh.known_hosts,
    }
    return {name: value for name, value in options.items() if value is not None}
