"""Nodes that are ranks of MPI, through dask-mpi."""

import os
from contextlib import ExitStack

import dask.config
from distributed.security import Security

from advcomp.tournament.cluster.cluster_file import ClusterFile
from advcomp.tournament.cluster.dask_settings import ORPHAN_S
from advcomp.tournament.machine import cores


def start_mpi(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
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
