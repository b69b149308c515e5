"""Nodes that are ranks of MPI, through dask-mpi."""

import logging
import os
import sys
from contextlib import ExitStack

import dask.config
from distributed import Client
from distributed.security import Security

from advcomp.tournament.cluster.cluster_file import ClusterFile
from advcomp.tournament.cluster.dask_settings import HTTP, ORPHAN_S
from advcomp.tournament.machine import cores


def start_mpi(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    """Rank 0 becomes the scheduler, 1 goes on here, the others become workers and never return."""
    import dask_mpi

    ranks = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1"))
    world = int(os.environ.get("OMPI_COMM_WORLD_SIZE", str(ranks)))
    workers = max(1, ranks - 2 if ranks == world else ranks)
    cpus = file.node.cpus or max(1, cores() // workers)
    node = file.node.model_copy(update={"cpus": cpus})
    # The scheduler and the workers share our standard error: only what is amiss is said there.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    is_referee = dask_mpi.initialize(
        interface="lo" if ranks == world else node.interface,
        nthreads=cpus,
        local_directory=node.scratch,
        memory_limit=0,
        dashboard=False,
        dashboard_address=HTTP,
        worker_options={
            "resources": node.resources,
            "death_timeout": ORPHAN_S,
            "dashboard": False,
            "dashboard_address": HTTP,
        },
        exit=False,
    )
    if not is_referee:
        sys.exit()
    address: str = dask.config.get("scheduler-address")
    held.callback(_dismiss, address)
    return address, None


def _dismiss(address: str) -> None:
    """End the other ranks: the workers while they can still say so to the scheduler, then it."""
    with Client(address, set_as_default=False) as client:
        client.retire_workers()
        client.shutdown()
