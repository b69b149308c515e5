"""The parts of the suite: which tests share a worker, which come first, which are left out.

`make test` runs the parts `host`, `engines` and `alone`, one after the other on two workers;
`make test-all` runs `long`, too. Every test is of exactly one part. Tests of one group stay with
one worker, so that what a module or a backend needs is made once.
"""

import re
from dataclasses import dataclass

import pytest
from support.backends import BACKENDS

HOST, ENGINES, ALONE, LONG = "host", "engines", "alone", "long"
PARTS = (HOST, ENGINES, ALONE, LONG)

ENGINE_MARKERS = ("docker", "podman", "gvisor")

CLEAN_ENGINES = ("sandbox/test_engines.py", "sandbox/test_garbage.py")
"""Modules that look at, clean or restart all of an engine: nothing else may use it meanwhile."""

FIRST = {
    HOST: (
        "hostile/test_tournament.py",
        "tournament/test_digits.py",
        "attacknet/test_parallel.py",
        "hostile/test_side_channels.py",
        "attacknet/test_train.py",
        "hostile/test_chaos.py",
        "samples/test_samples.py",
        "players/test_attacks.py",
    ),
    ENGINES: (
        "hostile/test_tournament.py",
        "sandbox/test_conformance.py",
        "tournament/test_containers.py",
        "tournament/test_same_everywhere.py",
        "hostile/test_side_channels.py",
        "tournament/test_starter_image.py",
        "hostile/test_chaos.py",
    ),
}
"""Modules that take longest, in the order in which they begin: who begins late ends late."""

FURTHER = (
    # gVisor takes its images from Docker or Podman, with which all of this is tried.
    r"tournament/test_containers\.py::test_(?!an_entry_runs|an_image_that_prevents|a_volume)\w+\[gvisor",
    r"tournament/test_containers\.py::test_an_entry_runs\w+\[gvisor-oci_layout",
    # Both files of a network are written alike, whatever it is told.
    r"attacknet/test_export\.py::test_both_formats_give_the_same\w+\[recurrent hint",
    # Both starters have one Dockerfile.
    r"tournament/test_starter_image\.py::\w+\[defense",
    # gVisor's containers are Podman's, which clears them.
    r"hostile/test_chaos\.py::test_a_killed_harness_leaves_nothing\w+\[gvisor",
    # What the referee makes of a name or of an image that it looks into, before it asks an engine.
    r"tournament/test_containers\.py::test_(a_name_that_is_not_listed|one_uses_any)\w+\[podman",
    r"tournament/test_containers\.py::test_an_image_(with_a_fifo|that_its_engine_waits)\w+\[podman",
    r"tournament/test_containers\.py::test_the_image_for_gpus\w+\[podman",
    # Where an engine makes the box, what it has started by then is the engine's to clear.
    r"sandbox/test_conformance\.py::test_a_harness_killed_while\w+\[(docker|podman|gvisor)-as-this-user-2",
    # Orders and names are the referee's and the kernel's: the host's, in bubblewrap, and gVisor's.
    r"hostile/test_side_channels\.py::\w+\[(docker|podman)",
)
"""Products of cases that other tests prove, as `module::test[parameters`: of the long set."""


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Names of tests, with their parameters: what a session runs, and that with the rest."""

    short: list[str]
    whole: list[str]


COLLECTED = pytest.StashKey[Sets]()
"""Of a session's configuration: what it has collected."""

_FURTHER = re.compile("|".join(FURTHER))
_BACKEND = re.compile(rf"\[((?:{'|'.join(BACKENDS)})\b(?:-as-\w+-\w+)?)")
"""A backend as a parameter; `-as-this-user`, `-as-without-engine` are sandboxes of their own."""


def module_of(item: pytest.Item) -> str:
    """`sandbox/test_engines.py`, from any folder that pytest was started in."""
    return "/".join(item.path.parts[item.path.parts.index("tests") + 1 :])


def part_of(item: pytest.Item) -> str:
    """The one part that a test belongs to."""
    if item.get_closest_marker("long") or _FURTHER.match(f"{module_of(item)}::{item.name}"):
        return LONG
    if not needs_engines(item):
        return HOST
    return ALONE if cleans_engines(item) else ENGINES


def needs_engines(item: pytest.Item) -> bool:
    """Whether a test uses containers."""
    return any(item.get_closest_marker(name) for name in ENGINE_MARKERS)


def cleans_engines(item: pytest.Item) -> bool:
    """Whether nothing else may use an engine meanwhile."""
    return needs_engines(item) and module_of(item) in CLEAN_ENGINES


def group_of(name: str) -> str:
    """Of a test's name: its module and its backend, on which one worker makes both once."""
    module = name.partition("::")[0]
    if module.endswith(CLEAN_ENGINES):
        return ALONE
    backend = _BACKEND.search(name)
    return f"{module} {backend[1] if backend else ''}".strip()


def rank_of(item: pytest.Item) -> tuple[int, int]:
    """Place of a test's part, and in it of its module among those that begin first."""
    part, module = part_of(item), module_of(item)
    first = FIRST.get(part, ())
    return PARTS.index(part), first.index(module) if module in first else len(first)
