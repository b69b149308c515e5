"""A stranger's image.tar, read inside a sandbox: `python -m advcomp.rules.image_archive ARCHIVE`.

Two layouts are understood: what `docker save` and `podman save` write (manifest.json), and that of
the OCI (index.json). All that an engine needs is written to standard output as the records that
`advcomp.rules.receive` describes: `config.json` as it stands, whose SHA-256 is the image's ID, and
`0000.tar`, `0001.tar`...: its layers, uncompressed, lowest first. Nothing else of the archive
reaches an engine. Refused are

* an archive that is no image or several, or one for another machine (`image_config`);
* an outer archive that no submission may be (`unpack`), links that lead out of it among it;
* blobs that are not what their digests say;
* layers with unsafe paths or links, and more than 16 GiB or 100 times what was packed (`layer`);
* a FIFO, a device or a folder where an engine opens a file (`opened_files`).
"""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from advcomp.errors import InvalidSubmission
from advcomp.rules.image_config import ImageConfig
from advcomp.rules.inventory import Listing, Member, settle
from advcomp.rules.layer import ImageChecks, read_layer
from advcomp.rules.paths import shown
from advcomp.rules.receive import MAX_RECORD_BYTES
from advcomp.rules.sizes import unpacked_limit
from advcomp.rules.unpack import TarArchive, told, write_record

IMAGE_TAR = "image.tar"
"""Where an entry delivers its image, at its root."""
CONFIG = "config.json"
MAX_LAYERS = 127
"""Docker's own limit."""

_MAX_JSON_BYTES = 4 << 20
_INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ATTESTATION = "vnd.docker.reference.type"

AnyModel = TypeVar("AnyModel", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Saved(_Strict):
    """One image in the manifest.json of `docker save`."""

    config: str = Field(alias="Config")
    layers: tuple[str, ...] = Field(alias="Layers")


class _SavedImages(_Strict):
    images: tuple[_Saved, ...]


class _Blob(_Strict):
    """A descriptor of the OCI layout."""

    digest: str = Field(pattern="^sha256:[0-9a-f]{64}$")
    media_type: str = Field(default="", alias="mediaType")
    annotations: dict[str, str] | None = None

    @property
    def path(self) -> str:
        return f"blobs/sha256/{self.digest.removeprefix('sha256:')}"


class _Index(_Strict):
    manifests: tuple[_Blob, ...]


class _Manifest(_Strict):
    config: _Blob
    layers: tuple[_Blob, ...]


def check(archive: Path, out: BinaryIO) -> None:
    """Write an image archive as records: what an engine needs of it, or what is wrong with it."""
    with told(out), archive.open("rb") as file:
        limit = unpacked_limit(archive.stat().st_size)
        _Image(TarArchive(file, limit), limit).write(out)


class _Image:
    """The one image of an archive."""

    def __init__(self, archive: TarArchive, limit: int) -> None:
        self._archive = archive
        self._checks = ImageChecks(limit)
        listing = archive.listing()  # which has counted the bytes; links are no copies here
        members = [replace(member, size=0) for member in listing.members]
        settled = settle(Listing(members=members, problems=listing.problems), wrapped=False)
        self._files: Mapping[str, Member] = {
            **{member.path: member for member in settled.files},
            **dict(settled.copies),
        }

    def write(self, out: BinaryIO) -> None:
        """Write its configuration and its layers."""
        config_path, layers = self._parts()
        content = self._read(config_path)
        config = _parse(ImageConfig, content, config_path)
        if problems := tuple(config.problems()):
            raise InvalidSubmission(*problems)
        expected = config.root_files.diff_ids
        if config.root_files.type != "layers" or len(expected) != len(layers):
            raise InvalidSubmission(
                f"its configuration speaks of {len(expected)} layers, it has {len(layers)}"
            )
        write_record(out, b"F", CONFIG.encode())
        for start in range(0, len(content), MAX_RECORD_BYTES):
            write_record(out, b"B", content[start : start + MAX_RECORD_BYTES])
        for number, (path, digest) in enumerate(zip(layers, expected, strict=True)):
            write_record(out, b"F", f"{number:04}.tar".encode())
            with self._open(path) as layer:
                got = read_layer(layer, partial(write_record, out, b"B"), self._checks)
            if got != digest:
                raise InvalidSubmission(
                    f"{shown(path)}: expected a layer with the digest {shown(digest)}; got {got}"
                )
        if problems := tuple(self._checks.kinds.problems()):
            raise InvalidSubmission(*problems)

    def _parts(self) -> tuple[str, tuple[str, ...]]:
        """Where its configuration and its layers stand."""
        if "manifest.json" in self._files:
            path, layers = self._saved()
        elif "index.json" in self._files:
            path, layers = self._laid_out()
        else:
            raise InvalidSubmission(
                "expected a manifest.json (docker save) or an index.json (OCI layout); got neither"
            )
        if not 0 < len(layers) <= MAX_LAYERS:
            raise InvalidSubmission(f"expected 1 to {MAX_LAYERS} layers; got {len(layers)}")
        return path, layers

    def _saved(self) -> tuple[str, tuple[str, ...]]:
        content = b'{"images": %s}' % self._read("manifest.json")
        images = _parse(_SavedImages, content, "manifest.json").images
        if len(images) != 1:
            raise InvalidSubmission(f"manifest.json: expected one image; got {len(images)}")
        return images[0].config, images[0].layers

    def _laid_out(self) -> tuple[str, tuple[str, ...]]:
        index = _parse(_Index, self._read("index.json"), "index.json")
        found = self._only(index)
        if found.media_type in _INDEX_TYPES:
            found = self._only(_parse(_Index, self._blob(found), found.path))
        manifest = _parse(_Manifest, self._blob(found), found.path)
        self._blob(manifest.config)
        return manifest.config.path, tuple(layer.path for layer in manifest.layers)

    @staticmethod
    def _only(index: _Index) -> _Blob:
        images = [blob for blob in index.manifests if _ATTESTATION not in (blob.annotations or {})]
        if len(images) != 1:
            raise InvalidSubmission(f"index.json: expected one image; got {len(images)}")
        return images[0]

    def _blob(self, blob: _Blob) -> bytes:
        content = self._read(blob.path)
        got = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if got != blob.digest:
            raise InvalidSubmission(f"{blob.path}: is not what its name says; its digest is {got}")
        return content

    def _read(self, path: str) -> bytes:
        with self._open(path) as file:
            content = file.read(_MAX_JSON_BYTES + 1)
        if len(content) > _MAX_JSON_BYTES:
            raise InvalidSubmission(f"{shown(path)}: expected at most {_MAX_JSON_BYTES:,} bytes")
        return content

    def _open(self, path: str) -> IO[bytes]:
        member = self._files.get(path)
        if member is None:
            raise InvalidSubmission(f"{shown(path)}: is not in the archive")
        return self._archive.open(member)


def _parse(model: type[AnyModel], content: bytes, path: str) -> AnyModel:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        at = ".".join(map(str, fault["loc"]))
        raise InvalidSubmission(f"{shown(path)}: {shown(at + ': ' + fault['msg'])}") from error


if __name__ == "__main__":
    check(Path(sys.argv[1]), sys.stdout.buffer)
