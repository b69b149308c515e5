"""Tournaments that ran in a process of their own, and what they left."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.contest import Contest

from advcomp.scoring.results import Results
from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.waves import load_waves
from advcomp.tournament.outcome.collect import collect
from advcomp.tournament.store.job_results import LOG, Store
from advcomp.tournament.store.state import load_state

HARNESS = Path(__file__).with_name("harness.py")
SECRET = "canary-of-the-organiser"
"""Stands in the harness's environment; no box may show it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A tournament that has run."""

    folder: Path
    run: Path
    report: Mapping[str, Any]
    temporary: Path

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The one job of each entry, by the entry's name."""
        return {result["submission"]: result for result in self.report["results"]}

    def job(self, name: str) -> Path:
        """The stored folder of an entry's one job."""
        jobs = (self.run / "jobs").iterdir()
        label = self.results[name]["job"]
        found = [j for j in jobs if f'"job": "{label}"' in (j / "result.json").read_text()]
        assert len(found) == 1
        return found[0]

    def log(self, name: str) -> bytes:
        return (self.job(name) / LOG).read_bytes()

    def images(self, name: str) -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]]:
        """ImageId -> the adversarial image that is stored of an attack."""
        with zipfile.ZipFile(self.job(name) / "images.zip") as archive:
            return {
                Path(member).stem: np.array(Image.open(archive.open(member)))
                for member in archive.namelist()
            }

    def labels(self, name: str) -> np.ndarray[Any, np.dtype[np.int16]]:
        array: np.ndarray[Any, np.dtype[np.int16]] = np.load(self.job(name) / "labels.npy")
        return array

    def answers(self) -> Results:
        """All predictions as the scores see them."""
        state, store = load_state(self.run), Store(self.run)
        waves = load_waves(self.run)
        return collect(state, store, open_key(self.run / "key"), waves).results


def digest(tree: Path) -> str:
    """Of names, modes, times and contents of a whole tree."""
    parts = []
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        parts.append((str(path), status.st_mode, status.st_mtime_ns, content))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def conduct(
    contest: Contest, file: Path, backend: str, *, jobs: int = 2, key: Path | None = None
) -> Ran:
    """Run a tournament in a process of its own, with a temporary folder of its own."""
    temporary = contest.folder / f"tmp-{file.stem}"
    temporary.mkdir()
    out, report = contest.folder / "runs" / file.stem, contest.folder / f"{file.stem}.json"
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "ADVCOMP_SECRET": SECRET,
        "PYTHONPATH": str(HARNESS.parents[1]),
    }
    command = [sys.executable, str(HARNESS), str(file), str(out), backend, str(report), str(jobs)]
    command += [] if key is None else [str(key)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Ran(contest.folder, out, json.loads(report.read_text()), temporary)
