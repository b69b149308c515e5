"""CLUSTER.toml: where a run is spread. The tournament file says nothing of it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    model_validator,
)

from advcomp.errors import InvalidConfig
from advcomp.rules.toml_fields import at_least, beside_the_file, one_of
from advcomp.rules.toml_file import Table, problem, read_toml
from advcomp.tournament.config import MEMORY_RULE, Memory

LOCAL, MPI = "local", "mpi"
"""What `--cluster` takes in place of a file."""


class ClusterKind(StrEnum):
    """Who starts the workers: somebody else, Slurm, we through ssh, we on this machine, or MPI."""

    SCHEDULER = "scheduler"
    SLURM = "slurm"
    SSH = "ssh"
    LOCAL = "local"
    MPI = "mpi"


class StoreKind(StrEnum):
    """How nodes get inputs and give results: the run's folder, which all share; or messages."""

    SHARED = "shared"
    WIRE = "wire"


Text = Annotated[str, StringConstraints(min_length=1)]
TextOfPath = Annotated[
    Text, AfterValidator(lambda path, info: str(beside_the_file(Path(path).expanduser(), info)))
]
"""Told from the cluster file, or from the user's home; as Dask and asyncssh take it."""
TEXTS = "a list of texts that are not empty"


class NodeTable(Table):
    """[node]: what one node has, and so how many boxes fit.

    Left out are what the node has (cpus) or need not be counted (memory).
    """

    cpus: int | None = Field(default=None, ge=1, description="an integer, at least 1")
    memory: Memory | None = Field(default=None, description=MEMORY_RULE)
    gpus: int = Field(default=0, ge=0, description="an integer, at least 0")
    scratch: Text | None = Field(
        default=None, description="the path of a folder on the node's own disk or in its memory"
    )
    interface: Text | None = Field(
        default=None, description='the name of a network interface such as "ib0"'
    )

    @property
    def resources(self) -> dict[str, float]:
        """In Dask's terms; `cpus` must be known."""
        assert self.cpus is not None
        memory = {} if self.memory is None else {"memory": float(self.memory)}
        return {"cpus": float(self.cpus), "gpus": float(self.gpus), **memory}


class NodesTable(Table):
    """[nodes]: how many, and how long to wait for them."""

    least: int = Field(default=1, ge=1, description="an integer, at least 1")
    most: int = Field(default=1, ge=1, description="an integer, at least 1")
    wait_minutes: float = Field(default=10.0, gt=0, description="minutes, more than 0")


class SlurmTable(Table):
    """[slurm]: what a batch job asks for."""

    queue: Text | None = Field(default=None, description="the name of a partition")
    account: Text | None = Field(default=None, description="the name of an account")
    time: Text = Field(default="01:00:00", description='a wall time such as "04:00:00"')
    before: tuple[Text, ...] = Field(
        default=(), strict=False, description=f"{TEXTS}: lines of shell before a worker starts"
    )
    options: tuple[Text, ...] = Field(
        default=(), strict=False, description=f'{TEXTS}, such as "--gres=gpu:1"'
    )
    python: Text | None = Field(default=None, description="the path of python3 on the nodes")


class SshTable(Table):
    """[ssh]: the machines; the scheduler runs on the first one, beside its worker."""

    hosts: Annotated[tuple[Text, ...], at_least(1)] = Field(
        strict=False, description="a list of host names, at least 1"
    )
    user: Text | None = Field(default=None, description="the name of a user")
    port: int = Field(default=22, ge=1, le=65535, description="a port, 1 to 65535")
    key: TextOfPath | None = Field(default=None, description="the path of a private key")
    known_hosts: TextOfPath | None = Field(
        default=None, description="the path of a file of known hosts"
    )
    python: Text | None = Field(default=None, description="the path of python3 on the hosts")


class TlsTable(Table):
    """[tls]: PEM files, at the same path on every node."""

    ca: TextOfPath = Field(description="the path of a file")
    cert: TextOfPath = Field(description="the path of a file")
    key: TextOfPath = Field(description="the path of a file")


class ClusterFile(Table):
    """A whole cluster file, checked."""

    kind: ClusterKind = Field(strict=False, description=one_of(ClusterKind))
    address: Text | None = Field(
        default=None, description='a scheduler\'s address such as "tls://10.0.0.1:8786"'
    )
    store: StoreKind = Field(default=StoreKind.SHARED, strict=False, description=one_of(StoreKind))
    insecure: bool = Field(default=False, description="true or false")
    allowed_failures: int = Field(default=3, ge=1, description="an integer, at least 1")
    node: NodeTable = Field(default=NodeTable(), description="a table")
    nodes: NodesTable = Field(default=NodesTable(), description="a table")
    slurm: SlurmTable = Field(default=SlurmTable(), description="a table")
    ssh: SshTable | None = Field(default=None, description="the table [ssh] with its hosts")
    tls: TlsTable | None = Field(
        default=None, description="a table with the paths ca, cert and key"
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.nodes.least > self.nodes.most and self.kind in (
            ClusterKind.SLURM,
            ClusterKind.LOCAL,
        ):
            raise problem(
                f"[nodes] least: expected at most [nodes] most ({self.nodes.most}); "
                f"got {self.nodes.least}"
            )
        needs = {ClusterKind.SCHEDULER: ("address", self.address), ClusterKind.SSH: ("[ssh]",)}
        match needs.get(self.kind):
            case ("address", None):
                raise problem('kind = "scheduler" needs the address of one')
            case ("[ssh]",) if self.ssh is None:
                raise problem('kind = "ssh" needs the table [ssh] with its hosts')
        if self.kind is ClusterKind.SLURM and (self.node.cpus is None or self.node.memory is None):
            raise problem('kind = "slurm" needs [node] cpus and memory: a job asks for them')
        if self.kind is ClusterKind.SSH and self.node.cpus is None:
            raise problem('kind = "ssh" needs [node] cpus: no more boxes are begun on a host')
        return self


def load_cluster_file(text: str) -> ClusterFile:
    """What `--cluster` says: `local`, `mpi`, or a file.

    Raises:
        InvalidConfig: All that is wrong with the file.
    """
    if text in (LOCAL, MPI):
        return ClusterFile(kind=ClusterKind(text))
    return read_toml(Path(text), ClusterFile)


def scheduler_at(address: str) -> ClusterFile:
    """What `--scheduler` says.

    Raises:
        InvalidConfig: Nothing.
    """
    if not address:
        raise InvalidConfig(
            '--scheduler: expected a scheduler\'s address such as "tls://10.0.0.1:8786"; got an '
            "empty text; is it a variable of the shell that is not set?"
        )
    return ClusterFile(kind=ClusterKind.SCHEDULER, address=address)
