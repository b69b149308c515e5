"""What `advcomp export` takes at 2017's size: 156 attacks, 107 defenses, 5,000 images, 4 budgets.

Writes a run folder of that size as `advcomp run` leaves it, but with random labels, digests in
place of images and no logs (some 3 GB), and exports it in a process of its own: its time, its
peak of memory and the size of the files. Type: python benchmarks/export.py [IMAGES] (5,000)
"""

import hashlib
import sys
import tempfile
import time
from pathlib import Path
from subprocess import run

import numpy as np

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.threat import Schedule
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import LimitTier
from advcomp.tournament.config import LimitsTable, LogsTable, ScoringTable
from advcomp.tournament.job.defense_views import DefenseView
from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.plan import attack_jobs, defense_jobs
from advcomp.tournament.job.waves import WaveImages, plan_waves, save_waves
from advcomp.tournament.outcome.collect import current_columns
from advcomp.tournament.store.job_results import LABELS, RESULT, Store, dump_labels
from advcomp.tournament.store.sealed import seal
from advcomp.tournament.store.state import (
    KEY_FILE,
    DatasetState,
    EntryState,
    RunState,
    SandboxState,
    save_state,
)

ATTACKS, DEFENSES, IMAGES, BUDGETS, CLASSES = 156, 107, 5000, (4, 8, 12, 16), 1000

PROGRAM = """
import resource, sys
from advcomp.cli import main
main(sys.argv[1:], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def state_of(images: int, key_digest: str) -> RunState:
    def entries(kind: SubmissionType, count: int) -> list[EntryState]:
        names = [f"{kind}-{number:03d}" for number in range(count)]
        return [EntryState(name=n, type=kind, source=n, digest=digest(n)) for n in names]

    return RunState(
        name="export",
        file="export.toml",
        identity={},
        dataset=DatasetState(
            images_dir="images",
            digest=digest("dataset"),
            height=299,
            width=299,
            image_ids=tuple(f"{digest(str(k))[:16]}" for k in range(images)),
            labels=tuple((np.arange(images) % CLASSES + 1).tolist()),
            target_classes=tuple(((np.arange(images) + 7) % CLASSES + 1).tolist()),
        ),
        max_epsilons=BUDGETS,
        schedule=Schedule.GRID,
        view=DefenseView.LATIN,
        entries=(
            *entries(SubmissionType.ATTACK, ATTACKS),
            *entries(SubmissionType.DEFENSE, DEFENSES),
        ),
        limits=LimitsTable(),
        sandbox=SandboxState(name="bubblewrap", limit_tier=LimitTier.CGROUP_V2, versions={}),
        scoring=ScoringTable(),
        logs=LogsTable(),
        seed=0,
        key_digest=key_digest,
        advcomp_version="0.1.0",
        machine={},
    )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write(folder: Path, result: dict[str, object], files: dict[str, bytes]) -> None:
    """A result as the store keeps it, without waiting for the disk."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    (folder / RESULT).write_bytes(seal({"result": result, "files": digests}))


def make_run(folder: Path, images: int) -> None:
    key = open_key(folder / KEY_FILE)
    state = state_of(images, key.digest)
    save_state(folder, state)
    draw = np.random.default_rng(0)
    common = {"verdict": Verdict.OK, "wall_seconds": 1.0, "exit_code": 0}
    for job in attack_jobs(state):
        about: dict[str, object] = {
            "job": job.name,
            "submission": job.entry.name,
            "stage": "attack",
        }
        about |= {"max_epsilon": job.max_epsilon, "shard": job.shard}
        count = len(job.images)
        digests = [f"{job.id}{k:032x}" for k in range(count)]
        about |= {"images": count, "valid": count, "png_digests": digests}
        write(folder / "jobs" / job.id, {**common, **about}, {})
    store = Store(folder)
    waves = plan_waves((), current_columns(state, store))
    save_waves(folder, waves)
    planned = [(wave, WaveImages(state, store, wave)) for wave in waves]
    for task in defense_jobs(state, key, planned):
        about = {"job": task.name, "submission": task.entry.name, "stage": "defense"}
        about |= {"max_epsilon": None, "shard": task.shard}
        count = len(task.items)
        labels = draw.integers(1, CLASSES + 1, count).astype(np.int16)
        about |= {"images": count, "valid": count}
        write(folder / "jobs" / task.id, {**common, **about}, {LABELS: dump_labels(labels)})


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        folder.mkdir()
        make_run(folder, images)
        began = time.perf_counter()
        words = [sys.executable, "-c", PROGRAM, "export", str(folder), f"{place}/tables"]
        done = run(words, capture_output=True, text=True, check=True)
        took = time.perf_counter() - began
        size = sum(path.stat().st_size for path in Path(place, "tables").iterdir())
        answers = DEFENSES * images * (ATTACKS * len(BUDGETS) + 1)
        print(
            f"{ATTACKS} attacks, {DEFENSES} defenses, {images:,} images, {len(BUDGETS)} budgets: "
            f"{answers:,} answers; {took:.0f} s, {float(done.stdout.split()[-1]):.2f} GiB at "
            f"most, {size / 2**20:.0f} MiB of Parquet"
        )


if __name__ == "__main__":
    main()
