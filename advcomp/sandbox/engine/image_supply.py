"""The images of a container engine: found, fetched before a run, or loaded from an entry.

A name can mean another image tomorrow, so it is looked up once and containers are started by ID:
the SHA-256 of the image's configuration, which holds the digests of its layers.

What an entry delivers was checked in a box (`advcomp.rules.image_archive`) and arrives here as its
parts. The engine's loader gets them in an archive that is written here, so that no path, link or
manifest of a stranger's reaches it; the layers' digests it checks again itself.
"""

import errno
import hashlib
import io
import json
import os
import platform
import tarfile
import tempfile
from pathlib import Path

from pydantic import ValidationError

from advcomp.errors import InvalidSubmission, SandboxError, SandboxTimeout
from advcomp.rules.image_archive import CONFIG
from advcomp.rules.image_config import ARCHITECTURES, InspectedImage
from advcomp.sandbox.engine.client import Engine

__all__ = ["DELIVERED", "EngineImages"]

DELIVERED = "advcomp/entry"
"""What images from entries are called; the tag is the beginning of their ID."""
LOAD_S = 1800.0
PULL_S = 3600.0

_DIGITS_IN_TAG = 12
_NO_SPACE = os.strerror(errno.ENOSPC).lower()
"""Engines pass on what the kernel says."""
_PREFIX = "sha256:"


class EngineImages:
    """The images that one engine holds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def engine(self) -> str:
        """The engine's name, as its client is called."""
        return self._engine.name

    def find(self, name: str) -> InspectedImage | None:
        """The image that a name or an ID means here and now; None where there is none.

        Raises:
            SandboxError: The engine does not answer, or its answer is not understood.
        """
        try:
            return self._inspected(name)
        except SandboxError:
            self._engine.call("version")  # an engine that answers has no such image
            return None

    def pull(self, name: str) -> InspectedImage:
        """Fetch an image from its registry.

        Raises:
            SandboxError: It cannot be fetched.
        """
        self._engine.call("pull", "--quiet", name, timeout_s=PULL_S)
        return self._inspected(name)

    def load(self, parts: Path) -> InspectedImage:
        """Give the engine an image that it may not have yet; afterwards `parts` is empty.

        Args:
            parts: `config.json` and the layers, as the check in the box left them.

        Raises:
            InvalidSubmission: The engine refuses it, or cannot cope with it though it can with
                others.
            SandboxError: The engine does not answer.
            OSError: Its disk is full.
        """
        config = (parts / CONFIG).read_bytes()
        identity = hashlib.sha256(config).hexdigest()
        if (known := self.find(f"{_PREFIX}{identity}")) is not None:
            return known
        archive = parts / "image.tar"
        _write_archive(parts, config, identity, archive)
        try:
            self._engine.call("load", "--quiet", "--input", str(archive), timeout_s=LOAD_S)
        except SandboxError as error:
            if _NO_SPACE in str(error).lower():
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({error})") from error
            self._engine.call("version")  # an engine that answers has refused the image
            late = f" within {LOAD_S:g} s" if isinstance(error, SandboxTimeout) else ""
            raise InvalidSubmission(
                f"{self.engine} does not load it{late}; to see why: "
                f"{self.engine} load -i image.tar"
            ) from error
        archive.unlink()
        loaded = self.find(f"{_PREFIX}{identity}")
        if loaded is None:
            raise SandboxError(f"{self.engine} load: took the image {identity}, but has it not")
        return loaded

    def empty(self) -> InspectedImage:
        """An image without any file, which is given to the engine where it is not there.

        Raises:
            AdvcompError: The engine does not answer, or refuses it.
        """
        layer = bytes(2 * tarfile.BLOCKSIZE)  # how a tar ends
        digest = f"{_PREFIX}{hashlib.sha256(layer).hexdigest()}"
        config = {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / CONFIG).write_text(json.dumps(config))
            (Path(folder) / "0000.tar").write_bytes(layer)
            return self.load(Path(folder))

    def _inspected(self, name: str) -> InspectedImage:
        (said,) = self._engine.inspect("image", name)
        try:
            image = InspectedImage.model_validate(said)
        except ValidationError as error:
            raise SandboxError(f"{self.engine} image inspect {name}: {error}") from error
        # Podman leaves the prefix out.
        return image.model_copy(update={"id": f"{_PREFIX}{image.id.removeprefix(_PREFIX)}"})


def _write_archive(parts: Path, config: bytes, identity: str, archive: Path) -> None:
    """Write what `load` reads; every part is removed as soon as it is written."""
    layers = sorted(path.name for path in parts.iterdir() if path.name != CONFIG)
    manifest = {
        "Config": f"{identity}.json",
        "RepoTags": [f"{DELIVERED}:{identity[:_DIGITS_IN_TAG]}"],
        "Layers": layers,
    }
    with tarfile.open(archive, "w") as tar:
        _add(tar, f"{identity}.json", config)
        for layer in layers:
            tar.add(parts / layer, layer, filter=_without_owner)
            (parts / layer).unlink()
        _add(tar, "manifest.json", json.dumps([manifest]).encode())
    (parts / CONFIG).unlink()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _without_owner(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info
