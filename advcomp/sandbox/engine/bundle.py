"""OCI bundles: a box as a folder that a runtime reads (runtime-spec, bundle.md and config.md).

What it says is what an engine is told (`hardening.py`), and what it shows is what bubblewrap
shows (`shown.py`): the host's programs, read-only, each at its own path.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from advcomp.sandbox.base import RunSpec
from advcomp.sandbox.box.entry_stream import bytes_in_tmpfs
from advcomp.sandbox.box.shown import ETC_FILES, HostView
from advcomp.sandbox.box.traces import abandoned, mark
from advcomp.sandbox.engine.hardening import (
    CODE,
    FIRST,
    GVISOR_PIDS,
    OVERHEAD_PIDS,
    PAGE_BYTES,
    SCRATCH,
    first_process,
)
from advcomp.sandbox.limits.inherited import inherited_limits

__all__ = ["OUTPUT", "STATE", "bundle", "clear_abandoned"]

PREFIX = "advcomp-bundle-"
ROOT, ETC, OUTPUT, STATE = "root", "etc", "output", "state"
NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
Mount = dict[str, str | list[str]]


@contextlib.contextmanager
def bundle(view: HostView, spec: RunSpec, uid: int) -> Iterator[Path]:
    """A bundle's folder, removed at the end.

    Its `output` is where the output's tmpfs is to be mounted, `state` the runtime's own.

    Args:
        view: What its box shows of the host.
        spec: What runs in it.
        uid: Who runs in it.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    try:
        mark(folder)
        for name in (ROOT, ETC, OUTPUT, STATE):
            (folder / name).mkdir()
        for inside, target in view.links.items():
            link = folder / ROOT / inside.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        for inside, text in ETC_FILES.items():
            (folder / ETC / Path(inside).name).write_text(text.format(uid=uid))
        config = _config(view, spec, uid, folder)
        (folder / "config.json").write_text(json.dumps(config))
        yield folder
    finally:
        shutil.rmtree(folder)


def clear_abandoned() -> None:
    """Remove the bundles of dead harnesses; what another process removes meanwhile is gone."""
    for folder in abandoned():
        if folder.name.startswith(PREFIX):
            shutil.rmtree(folder, ignore_errors=True)


def _config(view: HostView, spec: RunSpec, uid: int, folder: Path) -> dict[str, object]:
    code_bytes = bytes_in_tmpfs(spec.code)
    pids = spec.limits.pids + OVERHEAD_PIDS + GVISOR_PIDS
    limits = {
        **inherited_limits(spec.limits, code_bytes, processors=os.cpu_count() or 1),
        "nproc": pids,
    }
    return {
        "ociVersion": "1.0.0",
        "hostname": "box",
        "root": {"path": ROOT, "readonly": True},
        "process": {
            "args": [FIRST],
            "cwd": "/",
            "user": {"uid": uid, "gid": uid},
            "capabilities": {},
            "noNewPrivileges": True,
            "rlimits": [
                {"type": f"RLIMIT_{name.upper()}", "soft": value, "hard": value}
                for name, value in limits.items()
            ],
        },
        "mounts": _mounts(view, spec, uid, code_bytes, folder),
        "linux": {"namespaces": [{"type": name} for name in NAMESPACES]},
    }


def _mounts(view: HostView, spec: RunSpec, uid: int, code_bytes: int, folder: Path) -> list[Mount]:
    size = spec.limits.output_bytes
    etc = {inside: folder / ETC / Path(inside).name for inside in ETC_FILES}
    shown = {**view.trees, **spec.inputs, **etc, FIRST: first_process()}
    # Scratch comes before what is shown: an interpreter in the host's /tmp is mounted into it.
    mounts: list[Mount] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
    ]
    mounts += [_tmpfs(path, size, uid, "1777") for path in SCRATCH]
    if spec.code is not None:
        mounts.append(_tmpfs(CODE, size + code_bytes, uid, "0755"))
    mounts += [_bind(inside, outside, "ro") for inside, outside in shown.items()]
    mounts += [_tmpfs(path, PAGE_BYTES, 0, "0555", "ro") for path in view.covered]
    if spec.output is not None:
        mounts.append(_bind(spec.output, folder / OUTPUT, "rw"))
    return mounts


def _tmpfs(inside: str, size: int, uid: int, mode: str, access: str = "rw") -> Mount:
    owner = [f"uid={uid}", f"gid={uid}"]
    options = [access, "nosuid", "nodev", f"size={size}", f"mode={mode}", *owner]
    return {"destination": inside, "type": "tmpfs", "source": "tmpfs", "options": options}


def _bind(inside: str, outside: Path, access: str) -> Mount:
    options = ["rbind", access, "nosuid", "nodev"]
    return {
        "destination": inside,
        "type": "bind",
        "source": str(outside),
        "options": options,
    }
