"""Every cheat that aims at scores is flagged by an audit, and no honest entry is.

The cheats are the probes of `test_side_channels.py` (names, orders, inodes, times; what is alike;
what survives a run), the constant answer of `defenses.py`, the message in the page cache of
`test_page_cache.py`, and those that need no hole in a wall: memorised images, answers by checksum,
by batch, by how many images there are, by the clock, agreed marks, and copies of others' entries.
"""

import csv
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hostile import page_cache_trial
from hostile.case import Case
from hostile.test_side_channels import PROBES
from support.command import advcomp
from support.contest import COPY, SMALL, Contest

from advcomp.cli import REPLAYS
from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import Sandbox, SharedTree
from advcomp.sandbox.box.shown import HostView
from advcomp.sandbox.cache.steady import SteadyCache
from advcomp.sandbox.limits import cgroups
from advcomp.scoring.audit.finding import AuditCheck
from advcomp.tournament.audit.record import FILE_NAME

pytestmark = [pytest.mark.slow, pytest.mark.long]

IMAGES = 30
LABELS = 10


def image(k: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Noise, which is brighter for higher labels: 20 levels apart."""
    draw = np.random.default_rng(k)
    return (draw.integers(0, 40, (4, 4, 3)) + 20 * (k % LABELS)).astype(np.uint8)


BRIGHT = "sum(samples(name)) / len(samples(name))"
HONEST = f"label = min({LABELS - 1}, max(0, round(({BRIGHT} - 19.5) / 20)))"


def defense(name: str, label: str, before: str = "") -> Case:
    """A defense that finds the `label` of an image by its `name`, after what comes `before`."""
    program = f"""\
lines = []
{before}
for name in NAMES:
    {label}
    lines.append(f"{{name}},{{label}}\\n")
OUT.write_text("".join(lines))
"""
    return Case(name=name, program=program, kind="defense", verdicts=(Verdict.OK,))


SUM = "zlib.crc32(samples(name)) % 10"
KNOWN = {page.tobytes().hex(): k % LABELS for k in range(IMAGES) for page in [image(k)]}
CHEATS: dict[Case, set[AuditCheck]] = {
    defense("memorised", f"label = KNOWN.get(samples(name).hex(), {SUM})", f"KNOWN = {KNOWN}"): {
        AuditCheck.NUDGED
    },
    defense("by_checksum", f"label = {SUM}"): {AuditCheck.NUDGED},
    defense(
        "by_batch",
        "label = int(sum(samples(name)) > middle)",
        "middle = sorted(sum(samples(n)) for n in NAMES)[len(NAMES) // 2]",
    ): {AuditCheck.ALONE},
    defense("by_count", "label = len(NAMES) % 7"): {
        AuditCheck.BATCHES,
        AuditCheck.ALONE,
        AuditCheck.CONSTANT,
    },
    defense(
        "by_place",
        "label = places.index(name) % 10",
        "places = sorted(NAMES, key=samples)",
    ): {AuditCheck.BATCHES},
    defense(
        "by_mean_of_the_run",
        f"label = min(9, max(0, round(({BRIGHT} - mean) / 20 + 4.5)))",
        "mean = sum(sum(samples(n)) / len(samples(n)) for n in NAMES) / len(NAMES)",
    ): {AuditCheck.ALONE},
    defense("by_the_clock", "label = int(time.time() * 7) % 10", "import time"): {
        AuditCheck.AGAIN
    },
    defense("undeclared", "label = os.urandom(1)[0] % 10"): {AuditCheck.AGAIN},
    defense("constant", "label = 3"): {AuditCheck.CONSTANT},
}
PROBED = {
    "orders": {AuditCheck.RENAMED},
    "name": {AuditCheck.RENAMED},
    "all_that_is_alike": {AuditCheck.CONSTANT},
    "state": {AuditCheck.CONSTANT},
}
"""Where walls hold, what goes by what survives, or by what is alike, is the same for all."""

DRAWS = f"{HONEST}\n    label = label if os.urandom(1)[0] < 200 else os.urandom(1)[0] % 10"
HONEST_ENTRIES = {
    "bright": (defense("bright", HONEST), False),
    "dark": (defense("dark", HONEST.replace("19.5", "24.5")), False),
    "draws": (defense("draws", DRAWS), True),
}
NOISE = """
for name in NAMES:
    {seed}
    noise = [draw.randint(-EPS, EPS) for _ in samples(name)]
    write(name, png(bytes(min(255, max(0, a + b)) for a, b in zip(samples(name), noise))))
"""


def attack(name: str, seed: str, before: str = "") -> Case:
    program = f"import random\n{before}\n{NOISE.format(seed=seed)}"
    return Case(name=name, program=program, verdicts=(Verdict.OK,))


BY_IMAGE = attack("by_image", "draw = random.Random(samples(name))")
ONCE = attack("once", "", "draw = random.Random(0)")
DRAWN = attack("drawn", "draw = random.SystemRandom()")
BY_NAME = attack("by_name", "draw = random.Random(name)")
KNOWS = Case(
    name="knows",
    program=f"""
KNOWN = {KNOWN}
for name in NAMES:
    known = KNOWN.get(samples(name).hex())
    step = 0 if known is None else EPS if known < 5 else -EPS
    write(name, png(bytes(min(255, max(0, level + step)) for level in samples(name))))
""",
    verdicts=(Verdict.OK,),
)
"""Does nothing to an image that it has not seen."""
COPIED = Case(
    name="copied",
    program=BY_IMAGE.program.replace(
        "    write(name,", "    noise = [level - (level > 0) for level in noise]\n    write(name,"
    ),
    verdicts=(Verdict.OK,),
)
"""What `by_image` makes, one level weaker: no image is the same."""
MARKS = Case(
    name="marks",
    program="""
for name in NAMES:
    marked = bytearray(min(255, level + EPS) for level in samples(name))
    marked[0] = samples(name)[0] & ~7 | 5
    write(name, png(bytes(marked)))
""",
    verdicts=(Verdict.OK,),
)
FRIEND = defense(
    "friend", f"{HONEST}\n    label = 9 - label if samples(name)[0] % 8 == 5 else label"
)
"""Loses against its own team's attack, which it knows by a mark."""


@dataclass(frozen=True)
class Audited:
    """What the audit of one tournament with all of them found."""

    content: dict[str, object]
    flagged: dict[str, set[AuditCheck]]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Audited:
    folder = tmp_path_factory.mktemp("audited")
    write_dataset(
        folder / "data",
        (
            LabelledImage(
                image_id=f"img-{k:04d}", image=image(k), label=k % LABELS, target_class=None
            )
            for k in range(IMAGES)
        ),
    )
    contest = Contest(folder)
    honest = [
        {"path": str(case.write(contest)), "randomised": randomised}
        for case, randomised in HONEST_ENTRIES.values()
    ]
    stolen = replace(HONEST_ENTRIES["dark"][0], name="stolen")
    cheats: list[object] = [case.write(contest) for case in (*CHEATS, *PROBES, stolen)]
    attacks = [
        contest.entry("noop", COPY),
        *(case.write(contest) for case in (BY_IMAGE, ONCE, BY_NAME, KNOWS, COPIED)),
        {"path": str(MARKS.write(contest)), "team": "red"},
        {"path": str(DRAWN.write(contest)), "randomised": True},
    ]
    cheats.append({"path": str(FRIEND.write(contest)), "team": "red"})
    file = contest.file(attacks, [*honest, *cheats], max_epsilons=[8], more=SMALL)
    run = contest.run(file, jobs=1).run
    checks = [f"--check={name}" for name in REPLAYS if name != AuditCheck.UNTOUCHED]
    said = advcomp("audit", run, "--jobs", "1", *checks)
    assert said.exit_code == 0
    content = json.loads((run / FILE_NAME).read_text())
    flagged: dict[str, set[AuditCheck]] = {}
    for finding in content["findings"]:
        if finding["flagged"]:
            for name in filter(None, (finding["entry"], finding["other"])):
                flagged.setdefault(name, set()).add(AuditCheck(finding["check"]))
    return Audited(content, flagged)


def test_every_cheat_is_flagged_for_what_it_does(audited: Audited) -> None:
    expected = {case.name: checks for case, checks in CHEATS.items()} | PROBED
    missed = {
        name: (checks, audited.flagged.get(name))
        for name, checks in expected.items()
        if not checks <= audited.flagged.get(name, set())
    }
    assert missed == {}


def test_no_honest_entry_is_flagged(audited: Audited) -> None:
    assert "bright" not in audited.flagged
    assert "draws" not in audited.flagged
    assert not {"noop", "once", "by_name", "drawn"} & set(audited.flagged)


def test_a_stolen_entry_is_found_with_the_one_it_is_of(audited: Audited) -> None:
    assert audited.flagged["dark"] == audited.flagged["stolen"] == {AuditCheck.IDENTICAL}


def test_a_copied_attack_is_found_though_none_of_its_images_is_the_same(
    audited: Audited,
) -> None:
    assert audited.flagged["by_image"] == audited.flagged["copied"] == {AuditCheck.NEAR_IDENTICAL}


def test_an_attack_that_knows_images_is_found_where_their_pixels_move(audited: Audited) -> None:
    assert audited.flagged["knows"] == {AuditCheck.NUDGED}


def test_an_agreed_mark_is_found_in_the_rates_of_the_pair(audited: Audited) -> None:
    assert audited.flagged["marks"] == audited.flagged["friend"] == {AuditCheck.OWN_PAIR}


def test_an_attack_that_is_seeded_once_a_run_is_told_and_not_flagged(audited: Audited) -> None:
    findings = audited.content["findings"]
    assert isinstance(findings, list)
    found = {f["entry"]: f for f in findings if f["check"] == AuditCheck.RENAMED}
    for name in ("once", "by_name"):
        assert found[name]["change"]["size"] > 0.9
        assert "seeded once a run" in found[name]["note"]
    assert found["by_image"]["change"]["size"] == 0.0
    assert found["drawn"]["measure"] == "difference of the mean perturbation, in pixel levels"


READER = page_cache_trial.READER.partition("print(")[0]
MESSAGE = {"nowait": [0, 1] * 32}
PROGRAM = """\
#!/usr/bin/env python3
import sys
IN, OUT = sys.argv[1:3]
sys.argv[1:] = [{message!r}, "word"]
"""
LISTEN = """
seen = [by_nowait(file) for file in slots["nowait"]]
heard = sum(a == b for a, b in zip(seen, message["nowait"])) > 56
with open(OUT, "w") as file:
    for name in sorted(os.listdir(IN)):
        file.write(f"{name},{7 if heard else int(os.stat(IN + '/' + name).st_size % 5)}\\n")
"""
TELL = (
    "import shutil\nshutil.copytree(IN, OUT, dirs_exist_ok=True, copy_function=shutil.copyfile)\n"
)


def heard(run: Path) -> bool:
    """Whether any answer of the listener came from the message."""
    with (run / "results" / "leaderboard.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["submission"] == "listener")
    return float(row["score"]) + float(row["clean_accuracy"]) > 0


@pytest.fixture
def turn() -> Iterator[SharedTree]:
    """The files that the message is written in, for one test at a time."""
    library = Path("/", page_cache_trial.LIBRARY)
    descriptor = os.open(library, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    tree = SharedTree(path=library)
    SteadyCache([tree], 0, 0).close()
    yield tree
    os.close(descriptor)


def test_a_message_in_the_page_cache_is_caught_where_the_wall_fails(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, turn: SharedTree
) -> None:
    """The tests' own variable has taken the wall away, for the run and for the audit."""
    monkeypatch.setattr(HostView, "shared", property(lambda view: (turn,)))
    monkeypatch.setattr(cgroups, "forget", lambda folder: None)
    write_dataset(
        tmp_path / "data",
        (
            LabelledImage(image_id=f"img-{k}", image=image(k), label=7, target_class=None)
            for k in range(9)
        ),
    )
    contest = Contest(tmp_path)
    program = PROGRAM.format(message=json.dumps(MESSAGE)) + page_cache_trial.SLOTS
    teller = contest.entry("teller", program + page_cache_trial.WRITER + TELL)
    listener = contest.entry("listener", program + READER + LISTEN, "defense")
    file = contest.file([teller], [listener], max_epsilons=[8], more=SMALL)
    for number in range(8):  # another program may have read the files, or hold them
        SteadyCache([turn], 0, 0).close()
        run = contest.run(file, jobs=1, out=tmp_path / f"run-{number}").run
        if heard(run):
            break
    # What the first run of the listener looks at it brings into memory: a later one hears nothing.
    advcomp("audit", run, "--check", "untouched", "--share", "1", "--jobs", "1")
    content = json.loads((run / FILE_NAME).read_text())
    flagged = {(f["entry"], f["check"]) for f in content["findings"] if f["flagged"]}
    assert ("listener", "untouched") in flagged
    assert ("teller", "untouched") not in flagged
