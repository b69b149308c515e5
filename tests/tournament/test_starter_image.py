"""A starter's Dockerfile, built for real on a base that needs no registry."""

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Require

from advcomp.cli import main

BASE, IMAGE = "advcomp/base", "advcomp/test-starter"
WHEELS = "ADVCOMP_WHEELS"
"""Names a folder with wheels of numpy and Pillow for the base's Python: a build has no network."""


def podman(*words: str) -> int:
    return subprocess.run(["podman", *words], capture_output=True, check=False).returncode


@pytest.mark.podman
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["attack", "defense"])
def test_a_starters_image_builds_and_its_entry_is_valid_in_it(
    kind: str, tmp_path: Path, require: Require
) -> None:
    require("podman")
    wheels = os.environ.get(WHEELS)
    if wheels is None or podman("image", "exists", BASE):
        pytest.skip(f"needs {BASE} (docker/build.sh base) and {WHEELS}, a folder of wheels")
    starter = tmp_path / kind
    assert CliRunner().invoke(main, ["init", kind, str(starter)]).exit_code == 0
    (tmp_path / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    build = subprocess.run(
        [
            # Of all isolations this one needs no OCI runtime; pip is told to reach no network.
            *("podman", "build", "--isolation", "chroot", "--pull=never"),
            *("--volume", f"{Path(wheels).resolve()}:/wheels:ro"),
            *("--volume", f"{tmp_path / 'pip.conf'}:/etc/pip.conf:ro"),
            *("--build-arg", f"BASE={BASE}", "--tag", IMAGE, str(starter)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    metadata = starter / "metadata.json"
    metadata.write_text(metadata.read_text().replace("advcomp/runtime", IMAGE))
    try:
        result = CliRunner().invoke(main, ["validate", "--sandbox", "podman", str(starter)])
    finally:
        podman("image", "rm", "--force", IMAGE)
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"{kind}: valid\n")
