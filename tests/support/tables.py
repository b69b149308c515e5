"""The result files of a run, to be compared with another run's."""

import csv
import json
import re
from pathlib import Path

TIMES = re.compile(r"seconds|rss")
"""Columns and keys that hold measured times and sizes."""


def tables(results: Path) -> dict[str, object]:
    """Every result file without what is measured anew in each run."""
    content: dict[str, object] = {}
    for path in sorted(results.rglob("*.*")):
        name = str(path.relative_to(results))
        if path.suffix == ".csv":
            with path.open(newline="") as file:
                rows = list(csv.reader(file))
            kept = [i for i, cell in enumerate(rows[0]) if not TIMES.search(cell)]
            content[name] = [[row[i] for i in kept] for row in rows]
        elif path.suffix == ".json":
            content[name] = without_times(json.loads(path.read_text()))
    return content


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: without_times(item)
            for key, item in value.items()
            if key != "machine" and not TIMES.search(key)
        }
    return [without_times(item) for item in value] if isinstance(value, list) else value
