"""Our own programs that read a stranger's archive in a box and hand on what they find in it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from advcomp.rules.receive import receive
from advcomp.rules.sizes import MAX_UNPACKED_BYTES
from advcomp.sandbox.base import Limits, RunSpec, Sandbox

READ_LIMITS = Limits(
    wall_s=1800, memory_bytes=2 << 30, pids=16, output_bytes=MAX_UNPACKED_BYTES + (1 << 30)
)
SUBMISSION = "/submission"


def receive_from_box(
    module: str, archive: Path, folder: Path, *, name: str, sandbox: Sandbox, max_bytes: int
) -> None:
    """Make `folder` from the records that `python3 -m module` writes about an archive.

    Args:
        archive: What the program reads, in a box.
        folder: Must not exist; after an error it does not exist either.
        name: What messages call the submission.
        max_bytes: What the folder may hold.

    Raises:
        InvalidSubmission: The problems that the program found, or that its answer is not one.
        SandboxError: The box failed.
    """
    reading, writing = os.pipe()
    spec = RunSpec(
        argv=("python3", "-m", module, SUBMISSION),
        limits=READ_LIMITS,
        inputs={SUBMISSION: archive},
        stdout_fd=writing,
    )

    def run() -> None:
        with os.fdopen(writing, "wb"), sandbox.run(spec):
            pass

    with os.fdopen(reading, "rb") as stream, ThreadPoolExecutor(1) as pool:
        box = pool.submit(run)
        try:
            receive(stream, folder, name=name, max_bytes=max_bytes)
        finally:
            while stream.read(1 << 20):  # the box may go on, and must not be left waiting
                pass
            box.result()
