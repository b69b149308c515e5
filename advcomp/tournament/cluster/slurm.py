"""Nodes that are batch jobs of Slurm, through dask-jobqueue."""

import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed.core import Status
from distributed.security import Security

from advcomp.errors import ClusterError
from advcomp.tournament.cluster.cluster_file import ClusterFile, TlsTable
from advcomp.tournament.cluster.dask_settings import (
    HTTP,
    ORPHAN_S,
    exports,
    security_by,
    security_of,
)

SUBMITS = "sbatch"


class _BatchJob(SLURMJob):
    """One that says what became of it: a cluster will not close otherwise."""

    async def start(self) -> None:
        try:
            await super().start()  # type: ignore[no-untyped-call]
        except BaseException:
            self.status = Status.failed
            raise

    async def close(self) -> None:
        await super().close()  # type: ignore[no-untyped-call]
        self.status = Status.closed


class _BatchJobs(SLURMCluster):
    job_cls = _BatchJob


def start_slurm(file: ClusterFile, held: ExitStack) -> tuple[str, Security | None]:
    """Start a scheduler here, and submit a batch job for each node.

    Returns:
        The scheduler's address, and what its clients need for TLS.

    Raises:
        ClusterError: Slurm refuses a job.
    """
    # Workers read certificates there and write their logs: it must be shared, the user's alone.
    shared = Path.home() / ".advcomp-cluster"
    shared.mkdir(mode=0o700, exist_ok=True)
    security = security_of(file)
    if security is None and not file.insecure:
        folder = held.enter_context(TemporaryDirectory(dir=shared))
        security = security_by(_new_certificate(Path(folder)))
    node, slurm = file.node, file.slurm
    resources = ",".join(f"{name}={amount:.0f}" for name, amount in node.resources.items())
    cluster = held.enter_context(
        _BatchJobs(
            name="slurm",
            queue=slurm.queue,
            account=slurm.account,
            walltime=slurm.time,
            cores=node.cpus,
            memory=f"{node.memory}B",
            processes=1,
            interface=node.interface,
            local_directory=node.scratch,
            log_directory=str(shared),
            death_timeout=ORPHAN_S,
            python=slurm.python or sys.executable,
            job_script_prologue=[*slurm.before, *exports()],
            job_extra_directives=list(slurm.options),
            worker_extra_args=[
                *("--resources", resources, "--memory-limit", "0"),
                *("--no-dashboard", "--dashboard-address", HTTP),
            ],
            scheduler_options={"dashboard": False, "dashboard_address": HTTP},
            security=security,
        )
    )
    _submit(cluster, file.nodes.most)
    return cluster.scheduler_address, security


def _new_certificate(folder: Path) -> TlsTable:
    """One of a run's own, as files that only the user can read."""
    made = Security.temporary()

    def kept(name: str, content: object) -> str:
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(str(content))
        return str(path)

    return TlsTable.model_construct(
        ca=kept("ca.pem", made.tls_ca_file),
        cert=kept("cert.pem", made.tls_worker_cert),
        key=kept("key.pem", made.tls_worker_key),
    )


def _submit(cluster: SLURMCluster, jobs: int) -> None:
    """Submit batch jobs, and wait until Slurm has taken them; `scale` would not say what it said.

    Raises:
        ClusterError: Slurm refuses one; in its own words.
    """
    for _ in range(jobs):
        cluster.worker_spec.update(cluster.new_worker_spec())
    try:
        cluster.sync(cluster._correct_state)  # what SpecCluster's documentation says to call
    except FileNotFoundError as error:
        raise ClusterError(
            f'kind = "slurm": expected the command {SUBMITS} here; it is not installed; run '
            "advcomp on a machine where batch jobs are submitted"
        ) from error
    except RuntimeError as error:
        said = str(error).rpartition("stderr:\n")[2].strip()
        raise ClusterError(
            f"Slurm: expected {SUBMITS} to take a job for each of {jobs} node(s); it said:",
            *(f"  {line}" for line in said.splitlines()),
            "change [node], [nodes] or [slurm] of the cluster file, and run the same command "
            "again: what was finished is kept; the job began with:",
            *(f"  {line}" for line in cluster.job_header.splitlines()),
        ) from error
