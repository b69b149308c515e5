"""What a node must have in common with the referee before it is given a job."""

import platform
from collections.abc import Iterable, Mapping

from advcomp import __version__
from advcomp.sandbox.base import Sandbox
from advcomp.tournament.machine import package_digest

Fingerprint = Mapping[str, str]
"""What it is -> which."""

ABSENT = "absent"


def fingerprint_of(sandbox: Sandbox, images: Iterable[str] = ()) -> dict[str, str]:
    """The fingerprint of this machine.

    Args:
        sandbox: Ready.
        images: IDs of the container images that boxes will be made of.
    """
    found = {
        "advcomp": __version__,
        "advcomp's files": package_digest(),
        "architecture": platform.machine(),
        "sandbox": sandbox.name,
        "limits": str(sandbox.limit_tier),
        **{f"version of {name}": version for name, version in sandbox.versions.items()},
    }
    supply = sandbox.images
    if supply is not None:
        found |= {f"image {id_}": id_ if supply.find(id_) else ABSENT for id_ in images}
    return found


def fingerprint_differences(expected: Fingerprint, got: Fingerprint) -> list[str]:
    """A line for each difference; empty where the two agree."""
    return [
        f"{name}: expected {expected.get(name, ABSENT)}, got {got.get(name, ABSENT)}"
        for name in dict.fromkeys([*expected, *got])
        if expected.get(name, ABSENT) != got.get(name, ABSENT)
    ]
