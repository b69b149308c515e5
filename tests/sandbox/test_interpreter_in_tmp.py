"""A checkout in /tmp has its interpreter there, where every box has a folder of its own."""

import site
import subprocess
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = """
from advcomp.sandbox.base import Limits, RunSpec
from advcomp.sandbox.probe import open_sandbox

order = "import sys, pathlib; print(sys.prefix); pathlib.Path('/tmp/mine').write_text('x')"
spec = RunSpec(argv=("python", "-c", order), limits=Limits(wall_s=30, memory_bytes=1 << 28))
with open_sandbox().run(spec) as run:
    print(run.result.exit_code, run.result.log.decode())
"""


@pytest.fixture
def environment() -> Iterator[Path]:
    """A virtual environment in /tmp that finds the packages of the one that runs the tests."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "checkout", ".venv")
        venv.create(path, symlinks=True)
        (found,) = path.glob("lib/python*/site-packages")
        roots = [*site.getsitepackages(), str(Path(__file__).resolve().parents[2])]
        (found / "packages.pth").write_text("\n".join(roots))
        yield path


def test_an_interpreter_in_the_hosts_tmp_runs_in_the_box(
    environment: Path, require: Callable[[str], None]
) -> None:
    require("bubblewrap")
    command = [str(environment / "bin" / "python"), "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == ["0", str(environment)]
