"""PyTorch's threads sleep while they wait, unless the user has chosen; as OpenMP itself tells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINERS = (
    ("advcomp", "train", "tournament/digits/train.toml", "nobody"),
    ("advcomp", "train", "tournament/digits/denoiser.toml", "nobody"),
    ("advcomp", "train", "absent.toml"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "chosen", "spins"),
    [(TRAINERS[0], {}, 0),
     pytest.param(TRAINERS[1], {}, 0, marks=pytest.mark.long),
     (TRAINERS[2], {}, 0),
     (TRAINERS[0], {"OMP_WAIT_POLICY": "active"}, 30_000_000_000)],
)  # fmt: skip
def test_threads_wait_asleep_unless_the_user_says_otherwise(
    words: tuple[str, ...], chosen: dict[str, str], spins: int
) -> None:
    variables = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | chosen
    done = subprocess.run(
        [sys.executable, "-m", *words],
        env=variables | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
    # The policy is shown as passive where none is set, too; there the count is 300,000.
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
