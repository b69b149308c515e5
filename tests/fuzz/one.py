"""Fuzz one reader: `python -P -m fuzz.one READER STATISTICS [options of libFuzzer] [CORPUS ...]`.

Is told by coverage, of our readers and of the standard library's that they stand on, which mutants
are worth mutating again. STATISTICS is written all the while: inputs, the slowest in seconds of
processor time and its length, and the processor time of all.
"""

import json
import random
import re
import shlex
import sys
from pathlib import Path

import atheris

OURS = ["advcomp.rules", "advcomp.tournament.config", "advcomp.training.file_kind"]
LIBRARY = ["tarfile", "zipfile", "gzip", "csv", "json", "tomllib", "pickletools"]

with atheris.instrument_imports(include=[*OURS, *LIBRARY], enable_loader_override=False):
    from fuzz.readers import READERS

EVERY = 1000


class Statistics:
    """Counts inputs, and keeps the slowest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.inputs, self.spent_s, self.slowest_s, self.slowest_bytes = 0, 0.0, 0.0, 0

    def add(self, spent_s: float, size: int) -> None:
        self.inputs += 1
        self.spent_s += spent_s
        if spent_s > self.slowest_s:
            self.slowest_s, self.slowest_bytes = spent_s, size
        if self.inputs % EVERY == 0:
            self.write()

    def write(self) -> None:
        state = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        state["memory_mb"] = _most_memory_mb()
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(state))
        draft.replace(self._path)


def _most_memory_mb() -> int:
    """Of this program alone: what getrusage says begins with that of who started it."""
    (line,) = re.findall(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(line) >> 10


def _again(name: str, path: Path) -> Path:
    """A program that starts this one again, as libFuzzer does where it merges."""
    program = path.with_suffix(".sh")
    command = shlex.join([sys.executable, "-P", "-m", "fuzz.one", name, str(path)])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return program


def main() -> None:
    name, path, *options = sys.argv[1:]
    reader, statistics = READERS[name], Statistics(Path(path))

    def one(data: bytes) -> None:
        statistics.add(reader.once(data), len(data))

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        mutant: bytes = atheris.Mutate(data, max_size)
        # One in four keeps its wrong checksums: they are read, too.
        return reader.mend(mutant)[:max_size] if random.Random(seed).random() < 0.75 else mutant

    atheris.Setup([str(_again(name, Path(path))), *options], one, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
