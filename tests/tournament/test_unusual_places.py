"""What the command's surroundings do to it: a full output, no home, paths that are no UTF-8."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import advcomp
from support.contest import COPY, Contest

from advcomp.errors import AdvcompError
from advcomp.sandbox import trusted

CONSTANT = 'for f in "$1"/*.png; do echo "${f##*/},3"; done > "$2"'
DIGITS = """\
name = "small"
[dataset]
source = "digits"
images = 6
[threat]
max_epsilons = [16]
[entries]
attacks = ["attack"]
"""


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--packages"]])
def test_an_output_that_is_full_is_a_message(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "advcomp", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.returncode == 1
    (said,) = ran.stderr.splitlines()
    assert said.startswith("advcomp: cannot write: No space left on device; is standard output")


def test_a_cache_that_cannot_be_made_is_a_message_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "metadata.json").touch()
    (tmp_path / "file.toml").write_text(DIGITS)
    for home, cache in (("/proc/none", ""), (str(tmp_path), str(tmp_path / "file.toml"))):
        monkeypatch.setenv("HOME", home)
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        result = advcomp("plan", tmp_path / "file.toml")
        assert result.exit_code == 1
        for expected in ("expected a folder that can be written", "set XDG_CACHE_HOME",
                         "advcomp dataset digits DIR"):  # fmt: skip
            assert expected in result.output


def test_a_traceback_of_our_own_program_becomes_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise OSError('the disk is gone')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(AdvcompError) as caught:
        trusted.run_module("broken")
    assert caught.value.problems == ("python -m broken: OSError: the disk is gone",)


@pytest.mark.parametrize(
    ("name", "surroundings"),
    [
        (b"run\xff", {}),
        ("r\N{LATIN SMALL LETTER U WITH DIAERESIS}n".encode(),
         {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
    ids=["no UTF-8", "UTF-8 in the C locale"],
)  # fmt: skip
def test_a_run_may_have_any_path(
    name: bytes, surroundings: dict[str, str], contest: Contest, tmp_path: Path
) -> None:
    file = contest.file([contest.entry("copy", COPY)], [contest.entry("c", CONSTANT, "defense")])
    out = os.fsencode(tmp_path) + b"/" + name
    for arguments in (["run", file, "--out", out], ["status", out], ["leaderboard", out]):
        ran = subprocess.run(
            [sys.executable, "-m", "advcomp", *arguments],
            env=os.environ | surroundings,
            capture_output=True,
        )
        assert ran.returncode == 0, ran.stderr.decode(errors="replace")
    assert Path(os.fsdecode(out), "results/leaderboard.csv").is_file()
