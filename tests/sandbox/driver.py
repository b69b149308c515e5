"""Runs boxes for the conformance suite, in a process of its own: any user, any backend.

    driver.py BACKEND [HIDDEN]

Writes the tier of its limits, then answers requests: each is a pickled list of jobs, which run at
once, one thread each; a job is (RunSpec, names of outputs to read, whether to take standard
output whole). An answer is the exception, or a list of (RunResult, outputs read, names of
outputs, standard output, peak memory of this process, its open descriptors).
"""

import contextlib
import pickle
import resource
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from advcomp.errors import AdvcompError
from advcomp.sandbox.base import RunResult, RunSpec, Sandbox
from advcomp.sandbox.probe import open_sandbox

IMAGE = "advcomp/referee"
READ_BYTES = 1 << 26
NAMES = 100

Job = tuple[RunSpec, tuple[str, ...], bool]
Answer = tuple[RunResult, dict[str, bytes | None], tuple[str, ...], bytes, int, int]


def carry_out(sandbox: Sandbox, job: Job) -> Answer:
    spec, wanted, whole_stdout = job
    if sandbox.images is not None:
        image = sandbox.images.find(IMAGE)
        assert image is not None, f"{IMAGE} is not there: docker/build.sh referee"
        spec = replace(spec, image=image.id)
    with tempfile.TemporaryFile() as stdout:
        if whole_stdout:
            spec = replace(spec, stdout_fd=stdout.fileno())
        with sandbox.run(spec) as run:
            files = {name: run.output.read(name, READ_BYTES) for name in wanted}
            names = run.output.names(NAMES)
        stdout.seek(0)
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        return run.result, files, names, stdout.read(), peak_bytes, descriptors


def answer(sandbox: Sandbox, jobs: list[Job]) -> list[Answer] | AdvcompError:
    try:
        with ThreadPoolExecutor(len(jobs)) as pool:
            return list(pool.map(lambda job: carry_out(sandbox, job), jobs))
    except AdvcompError as error:
        return error


def send(what: object, pipe: BinaryIO) -> None:
    pickle.dump(what, pipe)
    pipe.flush()


def requests(pipe: BinaryIO) -> Iterator[list[Job]]:
    with contextlib.suppress(EOFError):
        while True:
            yield pickle.load(pipe)


def main() -> None:
    backend, *hidden = sys.argv[1:]
    sandbox = open_sandbox(backend, hidden=[Path(folder) for folder in hidden])
    send(sandbox.limit_tier, sys.stdout.buffer)
    for jobs in requests(sys.stdin.buffer):
        send(answer(sandbox, jobs), sys.stdout.buffer)
    sandbox.close()


if __name__ == "__main__":
    main()
