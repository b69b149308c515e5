"""Labels that name whose a container, volume or image of an engine is.

Every object that an engine makes for us carries them, so that whoever starts later can tell what
a dead harness left behind from what a living one uses, and leave alone what is not ours. The
owner is written as control groups write it: pid namespace, pid and start time of the harness;
`cgroups.is_dead` reads it.
"""

from collections.abc import Mapping

from advcomp.sandbox.limits.cgroups import owner_tag

__all__ = ["IMAGE", "JOB", "OWNER", "RUN", "arguments", "labels"]

OWNER = "org.advcomp.owner"
"""Which harness made it; on containers and volumes."""
RUN = "org.advcomp.run"
"""Which sandbox of that harness: a random word for each `open_sandbox`."""
JOB = "org.advcomp.job"
"""Which box of that sandbox: a random word that says nothing of the submission."""
IMAGE = "org.advcomp.image"
"""On images that advcomp itself built or loaded: what for."""


def labels(run: str, job: str) -> dict[str, str]:
    """The labels of an object that this process has an engine make."""
    return {OWNER: owner_tag(), RUN: run, JOB: job}


def arguments(labels: Mapping[str, str]) -> list[str]:
    """The same as options of the clients of Docker and Podman."""
    return [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
