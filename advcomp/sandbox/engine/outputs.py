"""The output folder of a container: a tmpfs of exact size that outlives it.

* Where we may look into the container's mount namespace, it is a tmpfs of the container, held by a
  descriptor (`held.py`), as in bubblewrap. Root may; an ordinary user may into the containers of a
  rootless engine of its own, and into containers that run under its own uid.
* Under gVisor, whose mounts are its own kernel's, it is a tmpfs volume of the engine, which
  root opens where the engine has mounted it.
"""

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from advcomp.sandbox.box.held import HeldFolder
from advcomp.sandbox.box.identity import UidLease
from advcomp.sandbox.engine.client import Engine
from advcomp.sandbox.engine.ownership import arguments

__all__ = ["Mounted", "OutputMount", "Volume", "tmpfs", "volume"]


PAGE_BYTES = 4096
"""A block of tmpfs; Podman keeps the option `size` to itself."""


class OutputMount(Protocol):
    """An output folder that is to be."""

    @property
    def arguments(self) -> list[str]:
        """Options of the engine's `create`."""
        ...

    def hold(self, pid: int) -> HeldFolder:
        """Hold it; called when the container's first process runs, and nothing else yet."""
        ...


def tmpfs(
    engine: Engine, inside: str, size: int, owner: UidLease, *, mode: str = "0755"
) -> list[str]:
    """Options of `create` for a tmpfs of the container that belongs to `owner`."""
    ids = f"uid={owner.uid},gid={owner.gid}" if engine.is_docker else "notmpcopyup,U"
    return ["--tmpfs", f"{inside}:rw,exec,nosuid,nodev,size={size},mode={mode},{ids}"]


class Mounted:
    """A tmpfs of the container."""

    def __init__(self, engine: Engine, inside: str, size: int, owner: UidLease) -> None:
        self._inside = inside
        self.arguments = tmpfs(engine, inside, size, owner)

    def hold(self, pid: int) -> HeldFolder:
        """Hold it through the first process's root."""
        return HeldFolder.of_process(pid, self._inside)


class Volume:
    """A tmpfs volume of the engine; made by `volume`."""

    def __init__(self, engine: Engine, inside: str, name: str, place: Path) -> None:
        self._place = place
        # Docker is told not to copy what the image has there; Podman 4 passes the word on to
        # the runtime, which does not know it.
        options = "rw,nocopy" if engine.is_docker else "rw"
        self.arguments = ["--volume", f"{name}:{inside}:{options}"]

    def hold(self, pid: int) -> HeldFolder:
        """Hold it where the engine has mounted it."""
        return HeldFolder.of_path(self._place)


@contextlib.contextmanager
def volume(
    engine: Engine, inside: str, size: int, owner: UidLease, labels: Mapping[str, str]
) -> Iterator[Volume]:
    """Have the engine make a volume; removed when the container is.

    Raises:
        SandboxError: It does not.
    """
    name = f"advcomp-{secrets.token_hex(8)}"
    ids = f"uid={owner.uid},gid={owner.gid}"
    engine.call(
        *("volume", "create", *arguments(labels), "--driver", "local"),
        *("--opt", "type=tmpfs", "--opt", "device=tmpfs"),
        *("--opt", f"o=nr_blocks={-(-size // PAGE_BYTES)},{ids},mode=0755", name),
    )
    try:
        (said,) = engine.inspect("volume", name)
        yield Volume(engine, inside, name, Path(said["Mountpoint"]))
    finally:
        engine.call("volume", "rm", "--force", name)
