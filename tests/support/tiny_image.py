"""A container image of a few megabytes, made of programs of this machine: no registry needed."""

import gzip
import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from advcomp.rules.image_config import ARCHITECTURES

PROGRAMS = ("sh", "cp", "cat", "basename", "env", "id")


@cache
def layer(word: str = "") -> bytes:
    """A layer with a shell; the same always, another one for another word."""
    files = {"etc/word": word.encode()}
    for name in PROGRAMS:
        program = shutil.which(name)
        assert program is not None
        files[f"bin/{name}"] = Path(program).read_bytes()
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
        for library in re.findall(r"(/\S+)", linked.stdout):
            files[library.lstrip("/")] = Path(library).read_bytes()
    return tar_of(files)


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of programs."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def config_of(layers: Sequence[bytes], **changes: object) -> dict[str, object]:
    """The configuration of an image for this machine; `changes` are what it asks for."""
    return {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], **changes},
        "rootfs": {"type": "layers", "diff_ids": [_digest(each) for each in layers]},
    }


def docker_archive(config: object, layers: Sequence[bytes], tag: str | None = None) -> bytes:
    """What `docker save` writes."""
    content = json.dumps(config).encode()
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [tag] if tag else None, "Layers": names}]
    return tar_of(
        {
            "config.json": content,
            "manifest.json": json.dumps(manifest).encode(),
            **dict(zip(names, layers, strict=True)),
        }
    )


def oci_layout(config: object, layers: Sequence[bytes]) -> bytes:
    """The layout of the OCI, with compressed layers."""
    blobs = [json.dumps(config).encode(), *(gzip.compress(each, mtime=0) for each in layers)]
    descriptors = [{"mediaType": "x", "size": len(b), "digest": _digest(b)} for b in blobs]
    manifest = json.dumps(
        {"schemaVersion": 2, "config": descriptors[0], "layers": descriptors[1:]}
    ).encode()
    index = {"manifests": [{"digest": _digest(manifest), "size": len(manifest)}]}
    return tar_of(
        {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps(index).encode(),
            **{f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (*blobs, manifest)},
        }
    )


def identity(config: object) -> str:
    """The ID of the image."""
    return _digest(json.dumps(config).encode())


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
