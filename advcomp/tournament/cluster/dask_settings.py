"""Dask's settings for whatever we start: nothing is spilled to disk, and TLS by a cluster file."""

from pathlib import Path
from typing import Any

import dask.config
from distributed.security import Security

from advcomp.rules.plain_file import require_plain_file
from advcomp.tournament.cluster.cluster_file import ClusterFile, TlsTable

ROLES = "client", "scheduler", "worker"
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
"""Of the referee's process, and of workers that we start."""

HTTP = "127.0.0.1:0"
"""Where Dask serves its pages: it always does, so only to the machine itself."""

ORPHAN_S = "60"
"""After so long without its scheduler a worker ends."""


def security_of(file: ClusterFile) -> Security | None:
    """The file's TLS; else what Dask's own configuration says."""
    if file.tls is None:
        configured = dask.config.get("distributed.comm.tls.ca-file", None)
        return Security() if configured else None
    return security_by(file.tls)


def security_by(tls: TlsTable) -> Security:
    """TLS by these files.

    Raises:
        OSError: One of them is missing, or is no file on a disk.
    """
    for path in (tls.ca, tls.cert, tls.key):
        require_plain_file(Path(path))
    return Security(
        require_encryption=True,
        tls_ca_file=tls.ca,
        **{f"tls_{role}_cert": tls.cert for role in ROLES},
        **{f"tls_{role}_key": tls.key for role in ROLES},
    )


def tls_config(tls: TlsTable) -> dict[str, str]:
    """TLS by these files as settings of Dask, for what is started on another machine."""
    return {
        "distributed.comm.tls.ca-file": tls.ca,
        **{f"distributed.comm.tls.{role}.cert": tls.cert for role in ROLES},
        **{f"distributed.comm.tls.{role}.key": tls.key for role in ROLES},
    }


def exports() -> list[str]:
    """Dask's settings, for a worker that is started by a batch script."""
    return [
        f"export DASK_{name.upper().replace('.', '__').replace('-', '_')}={value}"
        for name, value in CONFIG.items()
        if "memory" in name
    ]
