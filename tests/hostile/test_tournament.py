"""Tournaments of hostile entries: each gets its verdict, and nobody else notices.

The cases of `attacks.py`, `defenses.py` and `submissions.py` play in three rounds, each beside a
few honest entries: what tries the box itself; what must run into its time limit, which is short
there; and what tries those who read entries, folders, images and labels. A fourth round holds the
honest entries alone. All run in processes of their own (`harness.py`).

Readers run in the default sandbox, whatever an entry ran in: with other sandboxes that round
proves nothing new, and belongs to the long set.
"""

import json
import platform
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile.attacks import ENDINGS, FILES, IMAGES, PNGS, SPIES, STARTS, TARGETED
from hostile.case import Case
from hostile.conducted import SECRET, Ran, conduct, digest
from hostile.defenses import DEFENSES, TAKEN_LABELS
from hostile.submissions import ARCHIVES, FOLDERS, Refused
from support.contest import Contest

from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.rules.verdict import Verdict

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, EPSILON = 16, 18, 8
LOG_BYTES = 64 << 10
LIMITS = f"""
[limits]
start_seconds = {{start_s}}
seconds_per_100_images = 1
memory = "256 MiB"
pids = 64
output = "8 MiB"
log = {LOG_BYTES}
"""
GROWTH_BYTES = 200 << 20
SLACK_S = 30

BUDGETS = {
    "over_by_one": "p + EPS + 1",
    "under_by_one": "p - EPS - 1",
    "exactly_above": "p + EPS",
    "exactly_below": "p - EPS",
    "black": "0",
    "white": "255",
    "inverted": "255 - p",
    "wrapped": "(p + 9) % 256",
}
"""Name -> what becomes of pixel level p, before it is cut to 0..255."""


def budget_case(name: str) -> Case:
    table = f"bytes(max(0, min(255, {BUDGETS[name]})) for p in range(256))"
    program = f"table = {table}\nfor n in NAMES: write(n, png(samples(n).translate(table)))"
    return Case(name=name, program=program, verdicts=(Verdict.OK,), valid=IMAGES)


HONEST = [
    Case(name="copies", program="copy(NAMES)", verdicts=(Verdict.OK,), valid=IMAGES),
    budget_case("exactly_below"),
    Case(
        name="fingerprint",
        program="for n in NAMES:\n"
        "    print(f'{n},{zlib.crc32(samples(n)) % 30000}', file=OUT.open('a'))",
        kind="defense",
        verdicts=(Verdict.OK,),
        missing=0,
    ),
]
"""Deterministic, each image judged by itself: a changed pixel changes the answer."""

LATE = {
    *("sleeps_for_ever", "ignores_every_signal", "stops_itself", "spins_in_48_threads"),
    *("fork_bomb", "a_million_files", "1_gb_of_zeros_on_stdout"),
}
"""What runs into its time limit, or may."""

FOUND = {
    *("one_of_four", "nothing", "extra_files", "wrong_names", "names_with_escapes", "folder"),
    *("link_to_passwd", "link_to_the_input", "link_to_another_output", "link_to_dev_zero"),
    *("link_to_itself", "link_to_nothing"),
}
"""What the referee finds in an output folder; of each sort one other plays in every box."""

TOLD = {"exit_137", "exit_255", "kills_itself", "dumps_core", "faults"}
"""Ends that every sandbox tells alike, as tests/sandbox tries in each."""

BOX_DEFENSES = {
    *("a_fifo", "a_folder", "a_link_to_its_labels", "a_sparse_file", "readable_by_nobody"),
    *("endless", "dies_after_half", "sees_what_it_can", "constant"),
}
"""Defenses that try the box, not the reader of their labels."""

BOX, LATE_ROUND, CONTENTS = "box", "late", "contents"
OF_THE_BOX = [*FILES, *ENDINGS, *STARTS, *SPIES, *(d for d in DEFENSES if d.name in BOX_DEFENSES)]
ROUNDS: Mapping[str, list[Case]] = {
    BOX: [case for case in OF_THE_BOX if case.name not in LATE | FOUND | TOLD],
    LATE_ROUND: [case for case in OF_THE_BOX if case.name in LATE],
    CONTENTS: [
        *(case for case in OF_THE_BOX if case.name in FOUND | TOLD),
        *PNGS,
        *TARGETED,
        *(budget_case(name) for name in BUDGETS if name != "exactly_below"),
        *(case for case in DEFENSES if case.name not in BOX_DEFENSES or case.name == "constant"),
    ],
}
START_S = {BOX: 60, LATE_ROUND: 5, CONTENTS: 60}
"""Time limits; gVisor starts a program in twice the time."""

CASES = {case.name: case for case in (*HONEST, *(c for cases in ROUNDS.values() for c in cases))}
ROUND_OF = {case.name: BOX for case in HONEST} | {
    case.name: kind for kind, cases in ROUNDS.items() for case in cases
}
REFUSED = {re.sub(r"\W", "_", refused.name): refused for refused in (*ARCHIVES, *FOLDERS)}


def clean_image(k: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Every level from 0 to 255 in every channel; another image for another k."""
    levels = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    return np.stack([levels + 50 * k, 255 - levels, 7 * levels + k], 2).astype(np.uint8)


def shell_without_interpreter(contest: Contest) -> list[Path]:
    """Entry points that a shell would start, but the kernel does not."""
    scripts = {"no_shebang": b"cp $1/*.png $2\n", "empty_program": b"", "foreign_elf": foreign()}
    folders = []
    for name, content in scripts.items():
        folders.append(contest.entry(name, "#!/bin/sh"))
        (folders[-1] / "run.sh").write_bytes(content)
    return folders


def foreign() -> bytes:
    """The head of an ELF program for a processor that this is not."""
    machine = 0x15 if platform.machine() != "ppc64" else 0x02
    head = b"\x7fELF\2\1\1" + bytes(9)
    return head + b"\2\0" + machine.to_bytes(2, "little") + b"\1\0\0\0" + bytes(40)


def refused_entry(folder: Path, refused: Refused) -> dict[str, str]:
    path = folder / "refused" / refused.name
    path.parent.mkdir(exist_ok=True)
    refused.make(path)
    return {"path": str(path), "name": re.sub(r"\W", "_", refused.name)}


def large_entry(contest: Contest) -> Path:
    """An honest entry of 10,000 files with names in many scripts and no exec bit."""
    folder = contest.entry("ten_thousand_files", 'cp "$1"/*.png "$2"')
    (folder / "файлы 文件 🎈").mkdir()
    for i in range(10_000):
        (folder / "файлы 文件 🎈" / f"é{i}").touch()
    (folder / "run.sh").chmod(0o644)
    return folder


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Contest:
    folder = tmp_path_factory.mktemp("contest")
    images = (
        LabelledImage(image_id=f"img-{k:04d}", image=clean_image(k), label=k, target_class=k + 9)
        for k in range(IMAGES)
    )
    write_dataset(folder / "data", images)
    (folder / "canary" / "deep").mkdir(parents=True)
    (folder / "canary" / "deep" / SECRET).write_text(SECRET)
    return Contest(folder)


ALSO_RIGHT = {("gvisor", "fork_bomb"): (Verdict.CRASHED,)}
"""On one backend alone: gVisor's kernel is itself a process, which a fork bomb may starve."""

HARMLESS = {"gvisor": {"CHANGED niceness", "CHANGED: took terminals 400"}}
"""What may change: gVisor keeps the number for who asks, and does nothing with it; and its
terminals are its own kernel's, in the box's memory."""


@pytest.fixture(scope="module")
def limits(backend: str) -> Callable[[str], str]:
    """The table of limits of a round."""
    factor = 2 if backend == "gvisor" else 1
    return lambda kind: LIMITS.format(start_s=factor * START_S[kind])


@pytest.fixture(scope="module")
def honest(contest: Contest, backend: str, limits: Callable[[str], str]) -> Ran:
    """The honest entries alone."""
    folders = {case: case.write(contest) for case in HONEST}
    file = contest.file(
        [folder for case, folder in folders.items() if case.kind != "defense"],
        [folder for case, folder in folders.items() if case.kind == "defense"],
        max_epsilons=[EPSILON],
        view="pooled",
        more=limits(BOX),
        name="alone",
    )
    return conduct(contest, file, backend)


@pytest.fixture(scope="module")
def tree_before(contest: Contest, honest: Ran) -> str:
    return digest(contest.folder / "canary") + digest(contest.folder / "data") + digest(honest.run)


@pytest.fixture(scope="module")
def round_of(
    contest: Contest, honest: Ran, tree_before: str, backend: str, limits: Callable[[str], str]
) -> Callable[[str], Ran]:
    """The honest entries and all others of a round, which is played when it is first asked for."""
    entries = contest.folder / "entries_of_the_test"

    @cache
    def played(kind: str) -> Ran:
        attacks: list[object] = [entries / c.name for c in HONEST if c.kind != "defense"]
        defenses: list[object] = [entries / c.name for c in HONEST if c.kind == "defense"]
        for case in ROUNDS[kind]:
            written = entries / case.name
            folder = written if written.exists() else case.write(contest)
            (defenses if case.kind == "defense" else attacks).append(folder)
        if kind == BOX:
            attacks += [*shell_without_interpreter(contest), large_entry(contest)]
        if kind == CONTENTS:
            attacks += [refused_entry(contest.folder, refused) for refused in REFUSED.values()]
        file = contest.file(
            attacks,
            defenses,
            max_epsilons=[EPSILON],
            view="pooled",
            more=limits(kind),
            name=kind,
        )
        return conduct(contest, file, backend)

    return played


@pytest.fixture
def ran(round_of: Callable[[str], Ran], request: pytest.FixtureRequest) -> Ran:
    """The round of the test's case, or the one that its `kind` says."""
    parameters = request.node.callspec.params
    return round_of(parameters.get("kind") or ROUND_OF[parameters["name"]])


ONLY_BOX = pytest.mark.parametrize("kind", [BOX])
ONLY_CONTENTS = pytest.mark.parametrize("kind", [CONTENTS])
EVERY_ROUND = pytest.mark.parametrize("kind", ROUNDS)


@pytest.mark.parametrize("name", CASES)
def test_every_case_gets_its_verdict(ran: Ran, backend: str, name: str) -> None:
    case, result = CASES[name], ran.results[name]
    note = "; ".join(result["notes"])
    assert result["verdict"] in (*case.verdicts, *ALSO_RIGHT.get((backend, name), ())), (
        note,
        ran.log(name)[-2000:].decode(errors="replace"),
    )
    if case.valid is not None:
        assert result["valid"] == case.valid, note
    if case.missing is not None:
        assert result["images"] - result["valid"] == case.missing, note
    assert re.search(case.note, note)
    assert case.exit_code in (None, result["exit_code"])
    assert case.signal in (None, result["signal"])


@ONLY_BOX
@pytest.mark.parametrize("name", ["no_shebang", "empty_program", "foreign_elf"])
def test_what_the_kernel_does_not_start_has_crashed(ran: Ran, name: str, kind: str) -> None:
    assert ran.results[name]["verdict"] == Verdict.CRASHED
    assert ran.results[name]["exit_code"] == 126
    assert b"cannot start ./run.sh" in ran.log(name)


@ONLY_CONTENTS
@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_the_contract_is_rejected_with_all_problems(
    ran: Ran, name: str, kind: str
) -> None:
    entries = json.loads((ran.run / "results" / "results.json").read_text())["entries"]
    entry = next(entry for entry in entries if entry["name"] == name)
    told = "\n".join(entry["notes"])
    assert entry["verdict"] == Verdict.REJECTED
    for problem in REFUSED[name].problems:
        assert re.search(problem, told), told
    assert told.isascii()
    assert told.replace("\n", " ").isprintable()
    assert name not in ran.results


@ONLY_BOX
def test_ten_thousand_files_with_names_of_many_scripts_are_an_entry(ran: Ran, kind: str) -> None:
    assert ran.results["ten_thousand_files"]["verdict"] == Verdict.OK


@EVERY_ROUND
def test_there_is_one_verdict_for_every_job(ran: Ran, kind: str) -> None:
    jobs = [result["job"] for result in ran.report["results"]]
    others = 4 if kind == BOX else 0
    entries = {case.name for case in (*HONEST, *ROUNDS[kind])}
    assert len(jobs) == len(set(jobs)) == len(entries) + others
    assert not [r for r in ran.report["results"] if r["verdict"] == Verdict.INFRA]


@EVERY_ROUND
def test_the_honest_do_not_notice(honest: Ran, ran: Ran, kind: str) -> None:
    """Stored images byte for byte, and every label of honest pairs."""
    attacks = [case.name for case in HONEST if case.kind != "defense"]
    for name in attacks:
        images = [(r.job(name) / "images.zip").read_bytes() for r in (honest, ran)]
        assert images[0] == images[1]
    found = []
    for results in (honest.answers(), ran.answers()):
        columns = [[entry.name for entry in results.attacks].index(name) for name in attacks]
        row = [entry.name for entry in results.defenses].index("fingerprint")
        found.append((results.predictions[row, columns], results.clean_predictions[row]))
    assert (found[0][0] >= 0).all()
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


@EVERY_ROUND
def test_nothing_is_left_of_any_case(ran: Ran, kind: str) -> None:
    for key in ("children_left", "control_groups_left", "mounts_left"):
        assert ran.report[key] == [], key
    assert ran.report["descriptors_left"] <= 0
    assert list(ran.temporary.iterdir()) == []
    assert not (ran.run / "staging").exists()
    assert [path.name for path in (ran.run / "jobs").iterdir() if path.name.startswith(".")] == []


@EVERY_ROUND
def test_nothing_outside_the_run_changes(
    ran: Ran, honest: Ran, tree_before: str, kind: str
) -> None:
    after = digest(ran.folder / "canary") + digest(ran.folder / "data") + digest(honest.run)
    assert after == tree_before
    assert not Path("/tmp/climbed").exists()
    assert not (ran.folder / "climbed").exists()


@EVERY_ROUND
def test_no_case_takes_longer_than_its_limit(ran: Ran, kind: str) -> None:
    """Two run at a time, so that a job which hangs shows as a long wait for the next one."""
    longest = max(result["wall_seconds"] for result in ran.report["results"])
    images = max(result["images"] for result in ran.report["results"])
    limit = 2 * START_S[kind] + images / 100
    assert longest < limit + SLACK_S
    assert ran.report["longest_wait_s"] < limit + SLACK_S


@EVERY_ROUND
def test_the_harness_stays_small(ran: Ran, kind: str) -> None:
    assert ran.report["grown_bytes"] < GROWTH_BYTES


@EVERY_ROUND
def test_logs_stay_within_their_cap(ran: Ran, kind: str) -> None:
    sizes = {path.parent.name: path.stat().st_size for path in ran.run.glob("jobs/*/log")}
    assert max(sizes.values()) <= LOG_BYTES
    if kind == LATE_ROUND:
        assert len(ran.log("1_gb_of_zeros_on_stdout")) == LOG_BYTES


@EVERY_ROUND
def test_nothing_that_an_entry_sees_tells_of_the_host(ran: Ran, kind: str) -> None:
    """What the spies printed, and what the staged paths in it may say."""
    names = {case.name for case in (*HONEST, *ROUNDS[kind])}
    logs = {name: ran.log(name).decode(errors="replace") for name in names}
    if kind == BOX:
        assert "SEARCHED" in logs["searches_names"]
        assert "cmdline" in logs["reads_proc"]
        assert "/input_images" in logs["sees_what_it_can"]
    secrets = [SECRET, "ADVCOMP_SECRET", "img-0", "images.csv", "entries_of_the_test"]
    secrets += [str(ran.run), *(name for name in CASES if "_" in name)]
    for name, log in logs.items():
        told = [secret for secret in secrets if secret in log.replace(name, "")]
        assert not told, (name, told)


@EVERY_ROUND
def test_what_must_be_refused_was(ran: Ran, backend: str, kind: str) -> None:
    for name in {case.name for case in (*HONEST, *ROUNDS[kind])}:
        changed = set(re.findall(r"^CHANGED .*", ran.log(name).decode(errors="replace"), re.M))
        assert changed <= HARMLESS.get(backend, set()), name
        assert b"REPLACED" not in ran.log(name)


@EVERY_ROUND
def test_no_control_character_reaches_a_table(ran: Ran, kind: str) -> None:
    for path in (ran.run / "results").rglob("*.csv"):
        text = path.read_bytes().decode()
        assert all(c == "\n" or c.isprintable() for c in text), path
        assert not re.search(r"(^|,)\"?[=+@]", text, re.MULTILINE), path


@pytest.mark.parametrize("name", BUDGETS)
def test_pixels_are_cut_to_the_budget_at_all_levels(ran: Ran, name: str) -> None:
    """Against Python's integers, one level after the other."""
    changed = 0
    for image_id, image in ran.images(name).items():
        clean = clean_image(int(image_id[-4:])).ravel().tolist()
        written = [eval(BUDGETS[name], {"p": p, "EPS": EPSILON}) for p in clean]
        written = [max(0, min(255, level)) for level in written]
        legal = [
            max(p - EPSILON, 0, min(p + EPSILON, 255, level))
            for p, level in zip(clean, written, strict=True)
        ]
        assert image.ravel().tolist() == legal
        changed += legal != written
    assert ran.results[name]["projected_images"] == changed
    assert changed == (0 if name.startswith("exactly") else IMAGES)


@pytest.mark.parametrize(
    "name", ["all_that_may_stand_in_a_png", "bombs_in_text_and_profile", "nobody_may_read"]
)
def test_what_is_dropped_from_a_png_changes_no_pixel(ran: Ran, name: str) -> None:
    for image_id, image in ran.images(name).items():
        assert np.array_equal(image, clean_image(int(image_id[-4:])))
    assert ran.results[name]["projected_images"] == 0


@ONLY_CONTENTS
def test_a_targeted_attack_is_scored_by_our_targets(ran: Ran, kind: str) -> None:
    """It wished for class 3, which `constant` always answers; ours are 9 to 12."""
    results = ran.answers()
    attack = [entry.name for entry in results.attacks].index("rewrites_its_targets")
    constant = [entry.name for entry in results.defenses].index("constant")
    assert (results.predictions[constant, attack] == 3).all()
    hits = (ran.run / "results" / "hit_target_class_matrix.csv").read_text().splitlines()
    cells = {line.split(",")[0]: line.split(",")[1:] for line in hits}
    column = cells[""].index("rewrites_its_targets")
    assert cells["constant"][column] == "0"


@ONLY_CONTENTS
def test_labels_that_look_odd_are_stored_as_the_rule_says(ran: Ran, kind: str) -> None:
    labels = sorted(ran.labels("labels_that_look_odd").tolist())
    rest = [5] * (len(labels) - len(TAKEN_LABELS))
    assert labels == sorted([*TAKEN_LABELS.values(), *rest])


@ONLY_BOX
def test_names_that_an_entry_wrote_stand_in_its_log_and_in_no_table(ran: Ran, kind: str) -> None:
    """It could have written the opaque names, which results must not carry."""
    assert b"[ignored in the output folder: " in ran.log("names_that_say_much")
    name = re.search(rb"'([0-9a-f]{16})\.jpg'", ran.log("names_that_say_much"))
    assert name is not None
    tables = [path for path in (ran.run / "results").rglob("*.*") if path.is_file()]
    assert not [path for path in tables if name[1] in path.read_bytes()]


@ONLY_BOX
def test_a_constant_answer_is_scored(ran: Ran, kind: str) -> None:
    assert set(ran.labels("constant").tolist()) == {3}
