"""Who started this process, and which of how many ranks it is.

MPI starts the ranks, and so may torchrun or srun. Each tells its ranks in its own way:

| launcher | told by                            | where rank 0 listens               |
|----------|------------------------------------|------------------------------------|
| torchrun | RANK, WORLD_SIZE                   | MASTER_ADDR, MASTER_PORT           |
| mpiexec  | mpi4py                             | broadcast by mpi4py                |
| srun     | SLURM_PROCID, SLURM_STEP_NUM_TASKS | first of SLURM_STEP_NODELIST, a    |
|          |                                    | port of SLURM_JOB_ID, SLURM_STEP_ID|
"""

import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from advcomp.errors import AdvcompError, InvalidConfig, MissingExtra

_FIRST_PORT, _PORTS = 20_000, 20_000
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a launcher tells a rank.

    Args:
        rank, size: Which of how many.
        local_rank: Which on this machine; chooses the GPU.
        host, port: Where rank 0 listens; port 0 where it is to choose one and to tell by MPI.
        serves: Whether rank 0 opens the port, or the launcher has done so.
        mpi: mpi4py's communicator, where MPI started the ranks.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    serves: bool = True
    mpi: Any = None


def launched(environment: Mapping[str, str] = os.environ) -> Launch:
    """What the launcher says that started this process, if one did.

    Raises:
        AdvcompError: MPI did, and mpi4py is not installed or belongs to another MPI.
    """
    if "WORLD_SIZE" in environment and "RANK" in environment:
        return Launch(
            rank=int(environment["RANK"]),
            size=int(environment["WORLD_SIZE"]),
            local_rank=int(environment.get("LOCAL_RANK", "0")),
            host=environment.get("MASTER_ADDR", "127.0.0.1"),
            port=int(environment.get("MASTER_PORT", "29500")),
            serves=environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        )
    told = environment.get("OMPI_COMM_WORLD_SIZE", environment.get("PMI_SIZE"))
    slurm = environment.get("SLURM_STEP_NUM_TASKS")
    # srun --mpi=pmi2 sets PMI_SIZE, too; an mpiexec in a Slurm job sees its own daemons' step.
    if told is not None and ("OMPI_COMM_WORLD_SIZE" in environment or told != slurm):
        return _from_mpi(int(told))
    if slurm is not None and "SLURM_PROCID" in environment:
        return Launch(
            rank=int(environment["SLURM_PROCID"]),
            size=int(slurm),
            local_rank=int(environment.get("SLURM_LOCALID", "0")),
            host=first_host(environment["SLURM_STEP_NODELIST"]),
            port=_port(environment),
        )
    return Launch()


def rank_told(environment: Mapping[str, str] = os.environ) -> int:
    """Which rank this process is, by the launcher alone; 0 where none started it."""
    torchruns = ("RANK",) if "WORLD_SIZE" in environment else ()
    names = (*torchruns, "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
    told = next((environment[name] for name in names if name in environment), "")
    return int(told) if told.isdecimal() else 0


def let_others_speak() -> None:
    """Wait for who knows better what is wrong to say it, and for the launcher to end this rank."""
    time.sleep(_PATIENCE_S)


def let_the_first_speak(rank: int) -> None:
    """Wait, unless this is the first rank, for it to say what is wrong and so to end this one.

    What one rank finds wrong with a file all find, mostly, and one message is enough. Whoever
    comes back has a trouble of its own.
    """
    if rank:
        let_others_speak()


def first_host(nodes: str) -> str:
    """The first host of Slurm's list, such as `gpu[03-05,9],login` (gpu03)."""
    found = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,\[]*))?", nodes)
    if found is None:
        raise InvalidConfig(f'SLURM_STEP_NODELIST: expected names of hosts; got "{nodes}"')
    return "".join(filter(None, found.groups()))


def _port(environment: Mapping[str, str]) -> int:
    """One that steps of one job, and jobs in a row, do not share."""
    job, step = (int(environment.get(f"SLURM_{name}_ID", "0")) for name in ("JOB", "STEP"))
    return _FIRST_PORT + (job + 1009 * step) % _PORTS


def _from_mpi(size: int) -> Launch:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise MissingExtra(
            "mpi4py is not installed, and MPI started this rank; install it with: "
            "pip install 'advcomp[train]'"
        ) from error
    world = MPI.COMM_WORLD
    if world.size != size:
        raise AdvcompError(
            f"expected {size} ranks, as mpiexec says; mpi4py sees {world.size}: it belongs to "
            "another MPI; start the ranks with the mpiexec that came with it (pip install "
            "'advcomp[train]' brings one), or with torchrun"
        )
    hosts = world.allgather(socket.gethostname())
    return Launch(
        rank=world.rank,
        size=world.size,
        local_rank=hosts[: world.rank].count(hosts[world.rank]),
        host=hosts[0] if len(set(hosts)) > 1 else "127.0.0.1",
        mpi=world,
    )
