"""A small tournament of real entries: programs of a few lines of shell or Python."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import numpy as np

from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.runner import Finished, RunOptions, run_tournament
from advcomp.tournament.store.job_results import JobResult

IMAGES, HEIGHT, WIDTH = 6, 5, 7

SMALL = '[limits]\nmemory = "512 MiB"\n'
"""Limits that let a box fit wherever one runs."""

COPY = 'cp "$1"/*.png "$2"'

DARKER = """\
#!/usr/bin/env python3
import sys
from pathlib import Path
import numpy as np
from PIL import Image
for path in Path(sys.argv[1]).glob("*.png"):
    image = np.array(Image.open(path)).astype(int) - int(sys.argv[3])
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(Path(sys.argv[2]) / path.name)
"""

BRIGHTNESS = """\
#!/usr/bin/env python3
import sys
from pathlib import Path
import numpy as np
from PIL import Image
with open(sys.argv[2], "w") as file:
    for path in Path(sys.argv[1]).glob("*.png"):
        print(f"{path.name},{np.array(Image.open(path)).mean() // 32:.0f}", file=file)
"""

CONSTANT = 'for f in "$1"/*.png; do echo "$(basename "$f"),3"; done > "$2"'


@dataclass
class Watcher:
    """What an observer was told."""

    notes: list[str] = field(default_factory=list)
    stages: list[tuple[str, int, int]] = field(default_factory=list)
    results: list[JobResult] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    costs: list[tuple[float, float]] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def reading(self, entries: int) -> None:
        self.entries = []

    def read(self, entry: str) -> None:
        self.entries.append(entry)

    def stage(self, title: str, jobs: int, stored: int, cost: float, later: float) -> None:
        self.stages.append((title, jobs, stored))
        self.costs.append((cost, later))

    def started(self, job: str) -> None:
        self.begun.append(job)

    def finished(self, result: JobResult, cost: float) -> None:
        self.results.append(result)


@dataclass
class Contest:
    """A folder with a dataset, entries and a tournament file."""

    folder: Path
    watcher: Watcher = field(default_factory=Watcher)

    def entry(self, name: str, program: str, kind: str = "attack", **metadata: object) -> Path:
        """Write an entry; a program without `#!` is shell."""
        path = self.folder / "entries_of_the_test" / name
        path.mkdir(parents=True)
        text = dedent(program)
        (path / "run.sh").write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        (path / "run.sh").chmod(0o755)
        content = {"type": kind, "container": "none", "entry_point": "run.sh", **metadata}
        (path / "metadata.json").write_text(json.dumps(content))
        return path

    def file(
        self,
        attacks: Sequence[object],
        defenses: Sequence[object],
        *,
        max_epsilons: Sequence[int] = (8, 32),
        schedule: str = "grid",
        view: str = "latin",
        more: str = "",
        name: str = "contest",
    ) -> Path:
        """Write the tournament file; entries are paths or inline tables."""
        path = self.folder / f"{name}.toml"
        path.write_text(
            dedent(f"""\
            name = "{name}"
            [dataset]
            source = "folder"
            images_dir = "data/images"
            csv = "data/images.csv"
            [threat]
            max_epsilons = {list(max_epsilons)}
            schedule = "{schedule}"
            [entries]
            attacks = [{", ".join(map(_item, attacks))}]
            defenses = [{", ".join(map(_item, defenses))}]
            [sandbox]
            backend = "bubblewrap"
            image_map = {{ none = "advcomp/referee" }}
            [defense]
            view = "{view}"
            """)
            + dedent(more)
        )
        return path

    def run(self, file: Path, **options: object) -> Finished:
        """Run it in `runs/<name of the file>` beside it, with a fresh watcher."""
        self.watcher = Watcher()
        chosen: dict[str, object] = {"out": self.folder / "runs" / file.stem, "jobs": 2}
        return run_tournament(
            RunOptions(file=file, **{**chosen, **options}),  # type: ignore[arg-type]
            self.watcher,
            Stop(),
        )


def _item(item: object) -> str:
    if not isinstance(item, dict):
        return json.dumps(str(item))
    pairs = (
        f"{key} = {_item(value) if isinstance(value, dict) else json.dumps(value)}"
        for key, value in item.items()
    )
    return "{ " + ", ".join(pairs) + " }"


def write_greys(folder: Path, images: int, *, targets: bool = True) -> None:
    """A dataset of flat grey images; image k has brightness 32 (k mod 7) + 20, label k mod 7."""
    write_dataset(
        folder,
        (
            LabelledImage(
                image_id=f"img-{k:04d}",
                image=np.full((HEIGHT, WIDTH, 3), 32 * (k % 7) + 20, np.uint8),
                label=k % 7,
                target_class=(k + 6) % 7 if targets else None,
            )
            for k in range(images)
        ),
    )
