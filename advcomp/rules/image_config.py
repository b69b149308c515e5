"""What a container image may ask for: what is not used of it, and what is REJECTED.

Of an image a run uses its files and its PATH. The referee sets all else itself, so what an image
says there is told to its author and has no effect; what no setting of ours could undo is refused.
"""

import platform
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from advcomp.rules.paths import shown
from advcomp.rules.sizes import MAX_UNPACKED_BYTES

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "AMD64": "amd64"}
"""What the machine calls itself -> what images call it."""

_KERNEL_TREES = ("/proc", "/sys", "/dev")
_CONTRACT_TREES = ("/input_images", "/output_images", "/output_data")
_PLAIN_PATH = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_ROOT = ("root", "0")
_LISTED = 10
_CHECKPOINT = "io.podman.annotations.checkpoint.runtime.name"
"""Podman before 6.1.3 starts an image with it as the image says, not as it is told."""


def _empty(value: object) -> object:
    """Engines write null, and leave out, what is empty."""
    return value if value is not None else ""


_Text = Annotated[str, BeforeValidator(_empty)]


class _Wishes(BaseModel):
    """The part of an image's configuration that is about how it wants to be run."""

    model_config = ConfigDict(frozen=True)

    user: _Text = Field(default="", alias="User")
    working_dir: _Text = Field(default="", alias="WorkingDir")
    variables: tuple[str, ...] | None = Field(default=None, alias="Env")
    entry_point: tuple[str, ...] | str | None = Field(default=None, alias="Entrypoint")
    volumes: dict[str, object] | None = Field(default=None, alias="Volumes")
    health_check: object = Field(default=None, alias="Healthcheck")
    on_build: tuple[str, ...] | None = Field(default=None, alias="OnBuild")


class RootFiles(BaseModel):
    """The digests of an image's layers, uncompressed, lowest first."""

    model_config = ConfigDict(frozen=True)

    type: str
    diff_ids: tuple[str, ...]


class ImageConfig(BaseModel):
    """An image's configuration, as it stands in its archive (OCI image-spec, config.md)."""

    model_config = ConfigDict(frozen=True)

    architecture: _Text = ""
    system: _Text = Field(default="", alias="os")
    wishes: _Wishes | None = Field(default=None, alias="config")
    root_files: RootFiles = Field(alias="rootfs")

    def problems(self) -> Iterator[str]:
        """Why the image cannot be used here."""
        return _problems(self.architecture, self.system, self.wishes)


class InspectedImage(BaseModel):
    """An image as an engine's `image inspect` describes it.

    Args:
        size_bytes: Of all its layers, unpacked.
    """

    model_config = ConfigDict(frozen=True)

    id: str = Field(alias="Id")
    architecture: _Text = Field(default="", alias="Architecture")
    system: _Text = Field(default="", alias="Os")
    size_bytes: int = Field(default=0, alias="Size")
    wishes: _Wishes | None = Field(default=None, alias="Config")
    health_check: object = Field(default=None, alias="Healthcheck")  # Podman's place for it
    annotations: dict[str, object] | None = Field(default=None, alias="Annotations")

    def problems(self) -> Iterator[str]:
        """Why the image cannot be used here."""
        yield from _problems(self.architecture, self.system, self.wishes)
        if self.size_bytes > MAX_UNPACKED_BYTES:
            limit = MAX_UNPACKED_BYTES >> 30
            yield f"expected at most {limit} GiB unpacked, got {self.size_bytes:,} bytes"
        if _CHECKPOINT in (self.annotations or ()):
            yield f"must not be a checkpoint of a container (annotation {_CHECKPOINT})"

    def ignored(self) -> tuple[str, ...]:
        """What it asks for and does not get."""
        wishes = self.wishes or _Wishes()
        asked = {
            "ENTRYPOINT": wishes.entry_point,
            "USER root": wishes.user.partition(":")[0] in _ROOT,
            "WORKDIR": wishes.working_dir not in ("", "/"),
            "VOLUME": wishes.volumes,
            "HEALTHCHECK": wishes.health_check or self.health_check,
            "ONBUILD": wishes.on_build,
        }
        names = [variable.partition("=")[0] for variable in wishes.variables or ()]
        others = [shown(name) for name in names if name != "PATH"]
        variables = [f"the variable {name}" for name in others[:_LISTED]]
        more = [f"{len(others) - _LISTED} variables more"] if len(others) > _LISTED else []
        return (*(wish for wish, is_asked in asked.items() if is_asked), *variables, *more)


def _problems(architecture: str, system: str, wishes: _Wishes | None) -> Iterator[str]:
    here = ARCHITECTURES.get(platform.machine(), platform.machine())
    if (system, architecture) != ("linux", here):
        yield f"must be for linux/{here}; got {shown(f'{system}/{architecture}')}"
    workdir = "" if wishes is None else wishes.working_dir
    # Two leading slashes mean one here; normpath would keep them.
    at = posixpath.normpath(f"/{workdir.lstrip('/')}")
    if _lies_in(at, _KERNEL_TREES):
        yield (
            f"WORKDIR must not lie in {', '.join(_KERNEL_TREES)}, where engines have been "
            f"led out of the container; got {shown(workdir)}"
        )
    for variable in () if wishes is None else wishes.variables or ():
        # Podman before 5.8.4 gives it the value that the variable has on the host; * means all.
        if "=" not in variable or variable.startswith(("=", "*")):
            yield f"ENV must be NAME=VALUE; got {shown(variable)}"
    for volume in () if wishes is None else wishes.volumes or ():
        # An engine is told to mount nothing useful there, which it must be able to do.
        taken = _lies_in(volume, (*_KERNEL_TREES, *_CONTRACT_TREES))
        if taken or not _PLAIN_PATH.fullmatch(volume):
            yield (
                "VOLUME must be a plain absolute path, not / and not in "
                f"{', '.join((*_KERNEL_TREES, *_CONTRACT_TREES))}; got {shown(volume)}"
            )


def _lies_in(path: str, trees: Sequence[str]) -> bool:
    return any(path == tree or path.startswith(f"{tree}/") for tree in trees)
