"""Clusters by their files: started where we start them, and a client connected.

A scheduler runs what its clients send, so an address that is not this machine's own is reached by
TLS, or the cluster file says `insecure = true`. Workers that we start never spill to disk.
"""

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, LocalCluster
from distributed.security import Security

from advcomp.errors import ClusterError, InvalidConfig
from advcomp.tournament.cluster.cluster_file import ClusterFile, ClusterKind
from advcomp.tournament.machine import cores

LARGE = "10 GiB"
CONFIG: dict[str, Any] = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.admin.large-graph-warning-threshold": LARGE,
    "distributed.comm.timeouts.connect": "10s",
    "distributed.worker.daemon": True,
}
"""Dask's settings for whatever we start."""

ORPHAN_S = "60"
"""After so long without its scheduler a worker ends."""


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


def _security_of(file: ClusterFile) -> Security | None:
    """The file's TLS; else what Dask's own configuration says."""
    if file.tls is None:
        configured = dask.config.get("distributed.comm.tls.ca-file", None)
        return Security() if configured else None
    ca, cert, key = file.tls.ca, file.tls.cert, file.tls.key
    return Security(
        require_encryption=True,
        tls_ca_file=ca,
        **{f"tls_{role}_cert": cert for role in ("client", "scheduler", "worker")},
        **{f"tls_{role}_key": key for role in ("client", "scheduler", "worker")},
    )


def _connect(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    assert file.address is not None
    return file.address, _security_of(file)


def _start_local(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    cpus = file.node.cpus or max(1, cores() // file.nodes.most)
    if cpus * file.nodes.most > cores():
        raise InvalidConfig(
            f'kind = "local": expected [nodes] most x [node] cpus of at most {cores()}, the '
            f"processors of this machine; got {file.nodes.most} x {cpus}"
        )
    node = file.node.model_copy(update={"cpus": cpus})
    cluster = LocalCluster(
        n_workers=file.nodes.most,
        threads_per_worker=cpus,
        memory_limit=0,
        host="127.0.0.1",
        dashboard_address=None,
        local_directory=file.node.scratch,
        resources=node.resources,
        death_timeout=ORPHAN_S,
    )
    held.enter_context(cluster)
    return cluster.scheduler_address, None


def _start_slurm(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    from dask_jobqueue.slurm import SLURMCluster

    node, slurm = file.node, file.slurm
    security = _security_of(file)
    if security is None and not file.insecure:
        security = Security.temporary()
        # The workers read it from there: the folder must be shared, and is the user's alone.
        shared = Path.home() / ".advcomp-cluster"
        shared.mkdir(mode=0o700, exist_ok=True)
        held.enter_context(dask.config.set({"jobqueue.slurm.shared-temp-directory": str(shared)}))
    resources = ",".join(f"{name}={amount:.0f}" for name, amount in node.resources.items())
    cluster = SLURMCluster(
        queue=slurm.queue,
        account=slurm.account,
        walltime=slurm.time,
        cores=node.cpus,
        memory=f"{node.memory}B",
        processes=1,
        interface=node.interface,
        local_directory=node.scratch,
        death_timeout=ORPHAN_S,
        python=slurm.python or sys.executable,
        job_script_prologue=[*slurm.before, *_exports()],
        job_extra_directives=list(slurm.options),
        worker_extra_args=["--resources", resources, "--memory-limit", "0"],
        scheduler_options={"dashboard_address": None},
        security=security,
    )
    held.enter_context(cluster)
    cluster.scale(jobs=file.nodes.most)
    return cluster.scheduler_address, security


def _start_ssh(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    from distributed import SSHCluster

    assert file.ssh is not None
    ssh, security = file.ssh, _security_of(file)
    if security is None and not file.insecure:
        raise InvalidConfig(
            'kind = "ssh": expected the table [tls] with files that are on every host, or '
            "insecure = true where the network is yours alone"
        )
    options: dict[str, Any] = {"port": ssh.port, "username": ssh.user, "known_hosts": ()}
    options["client_keys"] = None if ssh.key is None else [str(Path(ssh.key).expanduser())]
    options["known_hosts"] = ssh.known_hosts or ()
    protocol = "tcp://" if security is None else "tls://"
    if file.tls is not None:
        held.enter_context(dask.config.set(_tls_config(file)))
    cluster = SSHCluster(
        [ssh.hosts[0], *ssh.hosts],
        connect_options={name: value for name, value in options.items() if value},
        scheduler_options={
            "protocol": protocol,
            "port": 0,
            "dashboard_address": None,
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
        },
        remote_python=ssh.python or sys.executable,
        security=security,
    )
    held.enter_context(cluster)
    return cluster.scheduler_address, security


def _tls_config(file: ClusterFile) -> dict[str, str]:
    assert file.tls is not None
    roles = ("client", "scheduler", "worker")
    return {
        "distributed.comm.tls.ca-file": file.tls.ca,
        **{f"distributed.comm.tls.{role}.cert": file.tls.cert for role in roles},
        **{f"distributed.comm.tls.{role}.key": file.tls.key for role in roles},
    }


def _exports() -> list[str]:
    """Dask's settings, for a worker that is started by a batch script."""
    return [
        f"export DASK_{name.upper().replace('.', '__').replace('-', '_')}={value}"
        for name, value in CONFIG.items()
        if "memory" in name
    ]


def _start_mpi(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    """Rank 0 becomes the scheduler, 1 goes on here, the others become workers and never return."""
    import dask_mpi

    ranks = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1"))
    world = int(os.environ.get("OMPI_COMM_WORLD_SIZE", str(ranks)))
    workers = max(1, ranks - 2 if ranks == world else ranks)
    cpus = file.node.cpus or max(1, cores() // workers)
    node = file.node.model_copy(update={"cpus": cpus})
    dask_mpi.initialize(
        interface="lo" if ranks == world else node.interface,
        nthreads=cpus,
        local_directory=node.scratch,
        memory_limit=0,
        dashboard=False,
        worker_options={"resources": node.resources, "death_timeout": ORPHAN_S},
    )
    return dask.config.get("scheduler-address"), None


_OPENERS = {
    ClusterKind.SCHEDULER: _connect,
    ClusterKind.SLURM: _start_slurm,
    ClusterKind.SSH: _start_ssh,
    ClusterKind.LOCAL: _start_local,
    ClusterKind.MPI: _start_mpi,
}
