"""Clusters by their files: started where we start them, and a client connected.

A scheduler runs what its clients send, so an address that is not this machine's own is reached by
TLS, or the cluster file says `insecure = true`. Workers that we start never spill to disk.
"""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import dask.config
from distributed import Client, LocalCluster
from distributed.security import Security

from advcomp.errors import ClusterError, InvalidConfig
from advcomp.tournament.cluster.cluster_file import ClusterFile, ClusterKind, NodeTable
from advcomp.tournament.cluster.dask_settings import CONFIG, HTTP, ORPHAN_S, security_of
from advcomp.tournament.machine import cores


@contextmanager
def opened_client(file: ClusterFile) -> Iterator[Client]:
    """Start the cluster, if it is ours to start, and connect to its scheduler.

    Raises:
        InvalidConfig: Its address is plain TCP to another machine.
        ClusterError: It cannot be started or reached.
    """
    with ExitStack() as held:
        held.enter_context(dask.config.set(CONFIG))
        try:
            address, security = _OPENERS[file.kind](file, held)
            _require_safe(address, file)
            client = held.enter_context(
                Client(address, security=security, set_as_default=False, timeout="20s")
            )
        except (OSError, RuntimeError, ValueError, TimeoutError) as error:
            raise ClusterError(
                f"{file.address or file.kind}: expected a cluster; got: {error}; look whether "
                "its scheduler runs, and whether its TLS files are those of the cluster file"
            ) from error
        yield client


def is_insecure(file: ClusterFile) -> bool:
    """Whether anybody on the way could read and change what is sent."""
    return file.insecure and file.tls is None


def _require_safe(address: str, file: ClusterFile) -> None:
    """Refuse plain TCP to another machine.

    Raises:
        InvalidConfig: It is that, and the file does not say `insecure = true`.
    """
    if address.startswith("tls://") or file.insecure or is_loopback(address):
        return
    raise InvalidConfig(
        f"{address}: expected tls:// for an address that is not this machine's own; whoever "
        "reaches a scheduler can run programs on its nodes; start it with TLS and give the "
        "files as [tls], or set insecure = true where the network is yours alone"
    )


def is_loopback(address: str) -> bool:
    """Whether an address such as `tcp://127.0.0.1:8786` never leaves this machine."""
    host = address.rpartition("://")[2].rpartition(":")[0].strip("[]")
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(one).is_loopback for one in found)


def _connect(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    assert file.address is not None
    return file.address, security_of(file)


def node_of_this_machine(file: ClusterFile) -> NodeTable:
    """What each of the workers that are processes of this machine has.

    Raises:
        InvalidConfig: All together they would have more than there is.
    """
    cpus = file.node.cpus or max(1, cores() // file.nodes.most)
    if cpus * file.nodes.most > cores():
        raise InvalidConfig(
            f'kind = "local": expected [nodes] most x [node] cpus of at most {cores()}, the '
            f"processors of this machine; got {file.nodes.most} x {cpus}"
        )
    return file.node.model_copy(update={"cpus": cpus})


def _start_local(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    node = node_of_this_machine(file)
    cluster = LocalCluster(
        n_workers=file.nodes.most,
        threads_per_worker=node.cpus,
        memory_limit=0,
        host="127.0.0.1",
        dashboard_address=HTTP,
        worker_dashboard_address=HTTP,
        local_directory=file.node.scratch,
        resources=node.resources,
        death_timeout=ORPHAN_S,
    )
    held.enter_context(cluster)
    return cluster.scheduler_address, None


# What a kind needs is imported when it is asked for.


def _on_slurm(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    from advcomp.tournament.cluster.slurm import start_slurm

    return start_slurm(file, held)


def _on_ssh(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    from advcomp.tournament.cluster.ssh import start_ssh

    return start_ssh(file, held)


def _on_mpi(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    from advcomp.tournament.cluster.mpi import start_mpi

    return start_mpi(file, held)


_OPENERS = {
    ClusterKind.SCHEDULER: _connect,
    ClusterKind.SLURM: _on_slurm,
    ClusterKind.SSH: _on_ssh,
    ClusterKind.LOCAL: _start_local,
    ClusterKind.MPI: _on_mpi,
}
