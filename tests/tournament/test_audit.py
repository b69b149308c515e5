"""What an audit replays, what it writes down, and what an organiser may make of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from support.command import advcomp
from support.contest import BRIGHTNESS, COPY, IMAGES, SMALL, Contest

from advcomp.cli import REPLAYS
from advcomp.errors import InvalidConfig, RunConflict
from advcomp.rules.images import decode_png, encode_png
from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.audit.change import Change
from advcomp.scoring.audit.finding import Audit, AuditCheck, Audited, Finding, Measure
from advcomp.scoring.audit.screens import Likeness
from advcomp.scoring.results import MISSING
from advcomp.tournament.audit.attack_answers import Remade
from advcomp.tournament.audit.conduct import Replayed
from advcomp.tournament.audit.defense_answers import DefenseAnswers
from advcomp.tournament.audit.endings import Endings
from advcomp.tournament.audit.made import COMPARED, alike, likenesses
from advcomp.tournament.audit.record import (
    FILE_NAME,
    as_json,
    load_audit,
    save_audit,
    without_refused,
)
from advcomp.tournament.audit.replays import (
    ALONE,
    NUDGED_PIXELS,
    OF_ATTACKS,
    OF_DEFENSES,
    Nudged,
    Replay,
    chosen,
    of_attack,
    of_defense,
)
from advcomp.tournament.audit.stored import StoredLabels
from advcomp.tournament.config import AuditTable, load_tournament
from advcomp.tournament.entry.entries import load_entries
from advcomp.tournament.job.defense_views import CLEAN, Item, Shard
from advcomp.tournament.job.opaque import Key, open_key
from advcomp.tournament.job.orders import Orders
from advcomp.tournament.job.plan import AttackJob, DefenseJob, attack_jobs, defense_jobs
from advcomp.tournament.job.waves import Column, Wave, WaveImages, load_waves
from advcomp.tournament.outcome.collect import collect_finished
from advcomp.tournament.runner import rescore
from advcomp.tournament.source import open_dataset
from advcomp.tournament.store.job_results import LABELS, JobResult, Store, dump_labels
from advcomp.tournament.store.state import ENTRIES, EntryState, RunState, load_state, save_state


@pytest.fixture(scope="module")
def orders(played: tuple[Path, Path]) -> Orders:
    """Of a run of two attacks, of which every image has three versions in a wave."""
    file, run = played
    state, store = load_state(run), Store(run)
    return Orders(
        state=state,
        dataset=open_dataset(load_tournament(file)),
        store=store,
        key=open_key(run / "key"),
        entries=run / ENTRIES,
        waves=[WaveImages(state, store, wave) for wave in load_waves(run)],
    )


@pytest.fixture(scope="module")
def shard(orders: Orders, played: tuple[Path, Path]) -> DefenseJob:
    planned = list(zip(load_waves(played[1]), orders.waves, strict=True))
    return next(defense_jobs(orders.state, orders.key, planned))


def attack(images: int) -> AttackJob:
    entry = EntryState(name="a", type=SubmissionType.ATTACK, source="")
    return AttackJob(
        id="1d", name="a-eps8-0", entry=entry, max_epsilon=8, shard=0, images=tuple(range(images))
    )


@pytest.mark.slow
def test_every_condition_is_planned(orders: Orders, shard: DefenseJob) -> None:
    planned = {replay.check for replay in of_attack(attack(6))}
    assert planned == set(OF_ATTACKS)
    replays = list(of_defense(shard, orders.waves[0], orders.key, alone=True))
    assert {replay.check for replay in replays} == set(OF_DEFENSES)
    assert {*OF_ATTACKS, *OF_DEFENSES} == {AuditCheck(name) for name in REPLAYS}
    alone = [replay for replay in replays if replay.check is AuditCheck.ALONE]
    assert len(alone) == min(ALONE, len(shard.items))
    none = of_defense(shard, orders.waves[0], orders.key, alone=False)
    assert AuditCheck.ALONE not in {replay.check for replay in none}


@pytest.mark.slow
def test_names_and_orders_are_others_where_they_must_be(orders: Orders, shard: DefenseJob) -> None:
    was = orders.of(shard)
    shown = {
        replay.check: replay.order(orders)
        for replay in of_defense(shard, orders.waves[0], orders.key, alone=False)
    }
    for check in (AuditCheck.AGAIN, AuditCheck.UNTOUCHED):
        assert list(shown[check].images) == list(was.images)
    by_name, renamed = dict(was.images), dict(shown[AuditCheck.RENAMED].images)
    assert sorted(by_name.values()) == sorted(renamed.values())
    assert not by_name.keys() & renamed.keys()


@pytest.mark.slow
def test_a_mixed_shard_shows_every_image_once_and_other_columns(
    orders: Orders, shard: DefenseJob
) -> None:
    replays = list(of_defense(shard, orders.waves[0], orders.key, alone=True))
    items = {
        check: [r.job.items for r in replays if r.check is check and isinstance(r.job, DefenseJob)]
        for check in (AuditCheck.MIXED, AuditCheck.BATCHES, AuditCheck.ALONE)
    }
    (mixed,) = items[AuditCheck.MIXED]
    assert sorted(item.image for item in mixed) == sorted(item.image for item in shard.items)
    assert set(mixed) != set(shard.items)
    drawn = {
        item.column
        for number in range(8)
        for replay in of_defense(shard, orders.waves[0], Key(bytes([number] * 32)), alone=False)
        if replay.check is AuditCheck.MIXED and isinstance(replay.job, DefenseJob)
        for item in replay.job.items
    }
    assert drawn == {CLEAN, *range(len(orders.waves[0].exists))}
    first, second = items[AuditCheck.BATCHES]
    assert {*first, *second} == set(shard.items)
    assert 0 < len(first) < len(second) < len(shard.items)
    assert {item for (item,) in items[AuditCheck.ALONE]} <= set(shard.items)


@pytest.mark.slow
def test_clean_images_are_moved_by_one_level_in_a_few_pixels(
    orders: Orders, shard: DefenseJob
) -> None:
    replays = of_defense(shard, orders.waves[0], orders.key, alone=False)
    (nudged,) = (replay for replay in replays if replay.check is AuditCheck.NUDGED)
    order = nudged.order(orders)
    image_of = dict(zip(order.names, order.image_ids, strict=True))
    assert len(image_of) == IMAGES
    for name, png in order.images:
        index = orders.dataset.image_ids.index(image_of[name])
        clean = orders.dataset.image(index).astype(np.int16)
        moved = decode_png(png, order.height, order.width) - clean
        assert set(np.abs(moved).ravel().tolist()) == {0, 1}
        assert 1 <= np.abs(moved).any(axis=2).sum() <= 4
    assert list(order.images) == list(order.images)


@pytest.mark.parametrize(("level", "moved"), [(255, 254), (254, 255), (0, 1)])
def test_white_and_black_are_moved_by_one_level_too(level: int, moved: int) -> None:
    png = encode_png(np.full((9, 9, 3), level, np.uint8))
    ((name, shown),) = Nudged([("a", png)], 9, 9, seed=0)
    pixels = decode_png(shown, 9, 9)
    assert name == "a"
    assert set(pixels.ravel().tolist()) == {level, moved}
    assert (pixels == moved).all(axis=2).sum() == NUDGED_PIXELS


@pytest.mark.slow
def test_an_attack_gets_other_names_the_opposite_order_or_fewer_images(orders: Orders) -> None:
    job = next(attack_jobs(orders.state))
    was = orders.of(job)
    shown = {replay.check: replay.order(orders) for replay in of_attack(job)}
    assert list(shown[AuditCheck.REORDERED].images) == list(was.images)[::-1]
    assert not {*shown[AuditCheck.RENAMED].names} & {*was.names}
    assert sorted(png for _, png in shown[AuditCheck.RENAMED].images) == sorted(
        png for _, png in was.images
    )
    assert set(shown[AuditCheck.SUBSET].images) < set(was.images)


@pytest.mark.slow
def test_targets_are_turned_with_the_images(orders: Orders) -> None:
    job = next(attack_jobs(orders.state))
    targeted = job.entry.model_copy(update={"type": SubmissionType.TARGETED_ATTACK})
    told = replace(job, entry=targeted)
    (back,) = (replay for replay in of_attack(told) if replay.check is AuditCheck.REORDERED)
    was, shown = orders.of(told).target_classes, back.order(orders).target_classes
    assert was is not None
    assert shown is not None
    assert shown.splitlines() == was.splitlines()[::-1] != was.splitlines()


@pytest.mark.slow
def test_likeness_counts_the_values_that_two_attacks_moved(orders: Orders) -> None:
    """noop moves none, so what darker moves by more than a level is unlike."""
    store, moved = orders.store, 0
    for job in attack_jobs(orders.state):
        if job.entry.name == "darker":
            ids = [orders.dataset.image_ids[k] for k in job.images]
            pngs = store.read_images((job.id, image_id) for image_id in ids)
            for png, k in zip(pngs, job.images, strict=True):
                clean = orders.dataset.image(k).astype(np.int16)
                size = orders.dataset.height, orders.dataset.width
                moved += int((np.abs(decode_png(png, *size) - clean) > 1).sum())
    images = len(orders.state.pairs)
    assert images <= COMPARED
    assert likenesses(orders) == {
        ("darker", "noop"): Likeness(values=moved, equal=0, images=images)
    }


def test_values_that_lie_a_level_apart_are_alike_where_one_was_moved_farther() -> None:
    one, other = np.array([[0, 1, 2, 5, 5, -5, 9], [0, 0, 2, 6, 7, -4, 0]], np.int16)
    assert alike(one, other) == {"values": 5, "equal": 3, "images": 1}
    assert alike(one[:2], other[:2]) == {"values": 0, "equal": 0, "images": 0}


@pytest.mark.slow
def test_an_attack_is_shown_pixels_that_were_moved_under_the_same_names(orders: Orders) -> None:
    job = next(attack_jobs(orders.state))
    (nudged,) = (replay for replay in of_attack(job) if replay.check is AuditCheck.NUDGED)
    was, shown = dict(orders.of(job).images), dict(nudged.order(orders).images)
    assert was.keys() == shown.keys()
    assert not set(was.values()) & set(shown.values())


def test_labels_are_found_by_what_was_shown(tmp_path: Path) -> None:
    """Clean ones of the first wave in every later one; none of a run that failed for our fault."""
    entry = EntryState(name="d", type=SubmissionType.DEFENSE, source="")
    first, second = [Item(0, CLEAN), Item(1, 0), Item(1, CLEAN)], [Item(2, CLEAN), Item(2, 0)]
    jobs = [
        DefenseJob(id=f"{n}d", name="d", entry=entry, wave=0, shard=n, items=Shard.of(items))
        for n, items in enumerate((first, second))
    ]
    store = Store(tmp_path)
    for job, verdict, labels in zip(
        jobs, (Verdict.OK, Verdict.INFRA), ([5, 6, 7], [8, 9]), strict=True
    ):
        result = JobResult(
            job="d",
            submission="d",
            stage="defense",
            max_epsilon=None,
            shard=job.shard,
            images=len(labels),
            valid=len(labels),
            verdict=verdict,
        )
        store.save(job.id, result, {LABELS: dump_labels(np.array(labels, np.int16))})
    waves = [Wave(columns=(Column(attack="a", max_epsilon=8, sources=()),))] * 2
    stored = StoredLabels(store, jobs, waves, 3)
    for wave, items, told in (
        (0, [*first, *second], ([5, 6, 7], [True] * 3 + [False] * 2)),
        (1, [*first, *second], ([5, 7], [True, False, True, False, False])),
    ):
        found, known = stored.of(wave, items)
        assert (found[known].tolist(), known.tolist()) == told


@pytest.mark.slow
def test_images_that_came_out_as_they_were_or_not_at_all_are_not_shown(
    orders: Orders, played: tuple[Path, Path]
) -> None:
    """The run's labels are known of the first; of the second there is none."""
    state, collected = collect_finished(played[1], refuse=False)
    results, check = collected.results, AuditCheck.RENAMED
    answers = DefenseAnswers(state, results, load_waves(played[1]), {}, Endings())
    budget = state.pairs[0].max_epsilon
    made = [
        Remade(
            check=check,
            attack="darker",
            max_epsilon=budget,
            image=k,
            png=None,
            is_same=k == 0,
        )
        for k in (0, 1)
    ]
    answers.take_known("brightness", check, made)
    found = answers.judged(check, ())
    number = [attack.name for attack in results.attacks].index("darker")
    pairs = [state.pair_index[k, budget] for k in (0, 1)]
    labels = results.predictions[0, number, pairs].tolist()
    assert (found.image.tolist(), found.attack.tolist()) == ([0, 1], [number, number])
    assert MISSING not in labels
    assert (found.before.tolist(), found.after.tolist()) == (labels, [labels[0], MISSING])
    assert not len(answers.judged(check, ("brightness",)).image)


@pytest.mark.parametrize("verdict", Verdict)
def test_replays_that_met_a_limit_are_told_and_not_compared(verdict: Verdict) -> None:
    job, endings = attack(2), Endings()
    result = JobResult(
        job=job.name,
        submission="a",
        stage="attack",
        max_epsilon=8,
        shard=0,
        images=2,
        valid=0,
        verdict=verdict,
    )
    replay = Replay(check=AuditCheck.AGAIN, of=job, job=job)
    compared = endings.compare(Replayed(replay=replay, result=result, files={}))
    answers = {Verdict.OK, Verdict.PARTIAL, Verdict.BAD_OUTPUT, Verdict.CRASHED, Verdict.REJECTED}
    assert compared == (verdict in answers)
    told = "" if compared else f"replays that are not compared: 1 {verdict}"
    assert endings.note("a", AuditCheck.AGAIN) == told
    assert list(endings.lines()) == ([] if compared else [f"a, again: {told}"])


def test_a_share_of_the_jobs_is_chosen_by_the_key() -> None:
    jobs = [replace(attack(1), id=str(number)) for number in range(100)]
    key, other = Key(b"1" * 32), Key(b"2" * 32)
    taken = chosen(jobs, 0.03, key)
    assert len(taken) == 3
    assert taken == chosen(jobs[::-1], 0.03, key) != chosen(jobs, 0.03, other)
    assert len(chosen(jobs[:5], 0.03, key)) == 1
    assert {job.id for job in chosen(jobs, 1.0, key)} == {job.id for job in jobs}


def finding(
    check: AuditCheck, entry: str, *, other: str | None = None, flagged: bool = True
) -> Finding:
    change = Change(units=9, size=1.0, low=0.6, high=1.0, p=1e-9)
    return Finding(
        check=check,
        entry=entry,
        other=other,
        measure=Measure.LABELS_CHANGED,
        change=change,
        flagged=flagged,
    )


def audit_of(state: RunState, *findings: Finding) -> Audit:
    return Audit(
        advcomp="0",
        tournament=state.name,
        key_digest=state.key_digest,
        share=0.03,
        began="",
        audited="2026-01-31",
        entries=tuple(
            Audited(name=e.name, digest=e.digest, randomised=e.randomised) for e in state.entries
        ),
        replays=(),
        not_tried=(),
        findings=findings,
    )


@pytest.fixture
def run(played: tuple[Path, Path], tmp_path: Path) -> Path:
    """A finished run of the attacks noop and darker and the defense brightness."""
    return shutil.copytree(played[1], tmp_path / "run")


@pytest.mark.slow
def test_what_is_written_is_read_and_has_a_version(run: Path) -> None:
    state = load_state(run)
    audit = audit_of(state, finding(AuditCheck.RENAMED, "brightness"))
    assert load_audit(run, state) is None
    save_audit(run, audit)
    assert load_audit(run, state) == audit
    content = json.loads((run / FILE_NAME).read_text())
    assert content["format"] == 1
    assert content["findings"][0]["change"]["size"] == 1.0
    assert TypeAdapter(Audit).validate_json(as_json(audit)) == audit
    (run / FILE_NAME).write_text('{"format": 2}')
    with pytest.raises(RunConflict, match=r"audit\.json: expected an audit of this version"):
        load_audit(run, state)


@pytest.mark.slow
def test_an_audit_does_not_speak_of_an_entry_that_was_changed(run: Path) -> None:
    state = load_state(run)
    save_audit(run, audit_of(state, finding(AuditCheck.IDENTICAL, "noop", other="darker")))
    changed = tuple(
        entry.model_copy(update={"digest": "0" * 64}) if entry.name == "darker" else entry
        for entry in state.entries
    )
    audit = load_audit(run, state.model_copy(update={"entries": changed}))
    assert audit is not None
    assert not audit.findings
    assert load_audit(run, state.model_copy(update={"key_digest": "0"})) is None


def refusing(run: Path, *checks: AuditCheck) -> RunState:
    state = load_state(run).model_copy(update={"audit": AuditTable(refuse=checks)})
    save_state(run, state)
    return load_state(run)


@pytest.mark.slow
def test_the_organiser_may_have_flagged_entries_left_out_and_taken_in_again(run: Path) -> None:
    before = (run / "results" / "leaderboard.csv").read_bytes()
    save_audit(run, audit_of(load_state(run), finding(AuditCheck.RENAMED, "darker")))
    rescore(run)
    assert (run / "results" / "leaderboard.csv").read_bytes() == before
    refusing(run, AuditCheck.RENAMED)
    rescore(run)
    rows = {
        row.split(",")[2]: row.split(",")
        for row in (run / "results" / "leaderboard.csv").read_text().splitlines()
    }
    assert rows["darker"][-1] == "REJECTED"
    assert rows["darker"][1] == ""
    assert rows["noop"][1] == "1"
    said = advcomp("leaderboard", run).stdout
    assert "darker: left out by [audit] refuse: renamed" in said
    assert "leaves out what is flagged" in (run / "results" / "report.html").read_text()
    refusing(run)
    rescore(run)
    assert (run / "results" / "leaderboard.csv").read_bytes() == before


@pytest.mark.slow
def test_nobody_is_left_out_for_what_is_not_refused_or_not_flagged(run: Path) -> None:
    state = refusing(run, AuditCheck.RENAMED, AuditCheck.IDENTICAL)
    assert "nothing is left out yet" in advcomp("leaderboard", run).stdout
    baseline = tuple(
        entry.model_copy(update={"baseline": entry.name == "noop"}) for entry in state.entries
    )
    state = state.model_copy(update={"entries": baseline})
    save_audit(
        run,
        audit_of(
            state,
            finding(AuditCheck.RENAMED, "brightness", flagged=False),
            finding(AuditCheck.CONSTANT, "brightness"),
            finding(AuditCheck.IDENTICAL, "noop", other="darker"),
        ),
    )
    refused = {entry.name for entry in without_refused(state, run).entries if entry.refused}
    assert refused == {"darker"}


@pytest.mark.slow
def test_the_organisers_report_has_the_audit_and_no_other_has(run: Path) -> None:
    save_audit(run, audit_of(load_state(run), finding(AuditCheck.RENAMED, "brightness")))
    advcomp("report", run)
    page = (run / "results" / "report.html").read_text()
    assert '<section id="audit"' in page
    assert "<b>1.000 [0.600, 1.000]</b>" in page
    advcomp("report", run, "--public")
    advcomp("report", run, "--for", "brightness")
    for other in ("results/public.html", "reports/brightness.html"):
        assert '<section id="audit"' not in (run / other).read_text()


def test_only_the_organisers_file_says_who_is_randomised(contest: Contest) -> None:
    """An entry cannot declare itself: an unknown key of metadata.json says nothing."""
    own = contest.entry("own", BRIGHTNESS, "defense", randomised=True)
    told = {"path": str(contest.entry("told", BRIGHTNESS, "defense")), "randomised": True}
    file = contest.file([], [own, told], more='[audit]\nrefuse = ["renamed", "constant"]\n')
    tournament = load_tournament(file)
    assert tournament.audit.refuse == (AuditCheck.RENAMED, AuditCheck.CONSTANT)
    sources = load_entries(tournament).sources
    assert {source.name: source.randomised for source in sources} == {"own": False, "told": True}


def test_a_check_that_there_is_not_is_an_error(contest: Contest) -> None:
    file = contest.file([contest.entry("noop", COPY)], [], more='[audit]\nrefuse = ["lucky"]\n')
    with pytest.raises(InvalidConfig, match="own-pair"):
        load_tournament(file)


NAME = """\
#!/usr/bin/env python3
import os, sys
with open(sys.argv[2], "w") as file:
    for name in os.listdir(sys.argv[1]):
        print(f"{name},{int(name[:4], 16) % 3000}", file=file)
"""


def test_a_defense_that_goes_by_names_is_found_by_a_real_audit(contest: Contest) -> None:
    honest = contest.entry(
        "three", 'for f in "$1"/*.png; do echo "${f##*/},3"; done > "$2"', "defense"
    )
    file = contest.file(
        [contest.entry("noop", COPY)],
        [contest.entry("name", NAME, "defense"), honest],
        max_epsilons=[8],
        more=SMALL,
    )
    run = contest.run(file).run
    before = {path: path.read_bytes() for path in (run / "results").glob("*.csv")}
    jobs = {path.name for path in (run / "jobs").iterdir()}
    said = advcomp("audit", run, "--check", "renamed", "--jobs", "1")
    assert said.exit_code == 0
    assert "no score has changed" in said.stdout
    content = json.loads((run / FILE_NAME).read_text())
    flagged = {(f["entry"], f["check"]) for f in content["findings"] if f["flagged"]}
    assert flagged == {("name", "renamed"), ("three", "constant")}
    (found,) = (f for f in content["findings"] if (f["entry"], f["check"]) == ("name", "renamed"))
    assert found["change"]["size"] > 0.9
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in (run / "jobs").iterdir()} == jobs
    assert not (run / "staging").exists()
