"""A tournament that never was, with everything that a report must show."""

from dataclasses import replace

import numpy as np
import pytest

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.report.gallery import choose_samples
from advcomp.scoring.report.material import Facts, GalleryImage, Material
from advcomp.scoring.results import MISSING, Entry, JobRecord, Results
from advcomp.scoring.standings import ScoringOptions, Standings, judge

IMAGES, SIDE, CLASSES = 60, 32, 10
MAX_EPSILONS = (16, 32, 48)
HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)>\x1b[31mred\u202e"
ATTACKS = {  # strength, seconds per 100 images
    "attack_network": (0.92, 1.1),
    "fgsm": (0.55, 2.4),
    "iterative_fgsm": (0.74, 9.5),
    "momentum_ensemble": (0.97, 61.0),
    "noop": (0.0, 0.6),
    "random_noise": (0.08, 1.6),
    "slow_and_unfinished": (0.5, 480.0),
}
TARGETED = {"targeted_iterative": (0.6, 14.0), "targeted_single_step": (0.2, 2.0)}
DEFENSES = {  # weakness, seconds per 100 images
    "adversarially_trained": (0.3, 2.2),
    "ensemble_of_two": (0.7, 4.0),
    "forgetful": (0.6, 2.0),
    "jpeg": (0.8, 2.6),
    "plain": (1.0, 1.9),
    "random_resize_pad": (0.65, 3.1),
}


@pytest.fixture(scope="session")
def results() -> Results:
    """Nine attacks, one of them stopped early, and seven defenses, one rejected, one with gaps."""
    rng = np.random.default_rng(2017)
    attacks = _attacks()
    defenses = _defenses()
    pairs = IMAGES * len(MAX_EPSILONS)
    labels = rng.integers(0, CLASSES, IMAGES).astype(np.int16)
    targets = ((labels + rng.integers(1, CLASSES, IMAGES)) % CLASSES).astype(np.int16)
    image = np.tile(np.arange(IMAGES), len(MAX_EPSILONS))
    budget = np.repeat(np.array(MAX_EPSILONS), IMAGES)
    exists = np.ones((len(attacks), pairs), bool)
    exists[[a.name for a in attacks].index("slow_and_unfinished"), 2 * IMAGES + 11 :] = False
    predictions = np.full((len(defenses), len(attacks), pairs), MISSING, np.int16)
    clean = np.full((len(defenses), IMAGES), MISSING, np.int16)
    hardness = rng.uniform(0.5, 1.5, IMAGES)
    for d, defense in enumerate(defenses):
        if defense.verdict is Verdict.REJECTED:
            continue
        clean[d] = np.where(rng.random(IMAGES) < 0.02, (labels + 1) % CLASSES, labels)
        for a, attack in enumerate(attacks):
            strength = (ATTACKS | TARGETED)[attack.name][0] * DEFENSES[defense.name][0]
            won = rng.random(pairs) < strength * budget / 40 * hardness[image]
            aim = targets[image] if attack.name in TARGETED else (labels[image] + 3) % CLASSES
            answers = np.where(won, aim, clean[d][image])
            predictions[d, a] = np.where(exists[a], answers, MISSING)
    predictions[[d.name for d in defenses].index("forgetful"), :, 5] = MISSING
    return Results(
        image_ids=tuple(f"digits-{i:04d}" for i in range(IMAGES)),
        labels=labels,
        target_classes=targets,
        pair_image=image,
        pair_max_epsilon=budget,
        attacks=attacks,
        defenses=defenses,
        exists=exists,
        predictions=predictions,
        clean_predictions=clean,
        infra_pairs=np.zeros(pairs, bool),
        infra_images=np.zeros(IMAGES, bool),
    )


@pytest.fixture(scope="session")
def standings(results: Results) -> Standings:
    """The tournament judged."""
    return judge(results, ScoringOptions(bootstrap=200))


@pytest.fixture(scope="session")
def material(standings: Standings) -> Material:
    """Everything that the organiser's report shows."""
    return Material(
        facts=Facts(
            tournament="digits",
            view="latin",
            schedule="grid",
            sandbox="bubblewrap",
            limit_tier="cgroup-v1",
            weak_limits=False,
            official=True,
            cpus=1,
        ),
        standings=standings,
        jobs=_jobs(),
        logs={
            "slow_and_unfinished-eps48-0": b"step 1 of 500\n" * 40 + HOSTILE.encode() + b"\xff\n",
            "forgetful-wave1-0": b"",
        },
        manifest={
            "advcomp": "0.1.0",
            "tournament": "digits",
            "dataset": {"digest": "d1" * 32, "images": IMAGES, "height": SIDE, "width": SIDE},
            "threat": {"max_epsilons": list(MAX_EPSILONS), "schedule": "grid"},
            "defense": {"view": "latin", "official": True},
            "identity": {"dataset.images_dir": "../secret/place", "dataset.seed": 7},
            "limits": {"start_seconds": 60.0, "seconds_per_100_images": 500.0, "memory": 4 << 30},
            "scoring": {"absence": "paper", "bootstrap": 200},
            "logs": {"show": "smoke"},
            "seed": 77123,
            "sandbox": {
                "name": "bubblewrap",
                "limit_tier": "cgroup-v1",
                "versions": {"bubblewrap": "0.8.0", "torch": "2.15.0"},
            },
            "waves": [[{"attack": "fgsm", "max_epsilon": 16}]],
            "machine": {"cores": 2, "key_digest": "ab" * 32},
        },
        samples=_samples(standings),
    )


def _attacks() -> tuple[Entry, ...]:
    kinds = dict.fromkeys(ATTACKS, SubmissionType.ATTACK) | dict.fromkeys(
        TARGETED, SubmissionType.TARGETED_ATTACK
    )
    return tuple(
        Entry(
            name=name,
            type=kind,
            digest=f"{i:02x}" * 32,
            team="Red & <b>Blue</b>" if name == "momentum_ensemble" else None,
            baseline=name in ("noop", "random_noise", "fgsm"),
            verdict=Verdict.TIMED_OUT if name == "slow_and_unfinished" else Verdict.OK,
            wave=1,
            seconds_per_100_images=((ATTACKS | TARGETED)[name][1],),
            projected_images=12 if name == "random_noise" else 0,
            notes=(HOSTILE,) if name == "momentum_ensemble" else (),
        )
        for i, (name, kind) in enumerate(kinds.items(), start=160)
    )


def _defenses() -> tuple[Entry, ...]:
    playing = [
        Entry(
            name=name,
            type=SubmissionType.DEFENSE,
            digest=f"{i:02x}" * 32,
            baseline=name == "plain",
            verdict=Verdict.PARTIAL if name == "forgetful" else Verdict.OK,
            wave=1,
            seconds_per_100_images=(time, time * 1.1),
        )
        for i, (name, (_, time)) in enumerate(DEFENSES.items(), start=190)
    ]
    rejected = Entry(
        name="leaky",
        type=SubmissionType.DEFENSE,
        verdict=Verdict.REJECTED,
        notes=("/srv/organiser/entries/leaky.zip: a link leads out of the folder; take it out",),
    )
    return tuple(sorted([*playing, rejected], key=lambda entry: entry.name))


def _jobs() -> list[JobRecord]:
    timed_out = JobRecord(
        job="slow_and_unfinished-eps48-0",
        submission="slow_and_unfinished",
        stage="attack",
        epsilon=48,
        shard=0,
        images=IMAGES,
        valid=11,
        verdict=Verdict.TIMED_OUT,
        signal=9,
        wall_seconds=360.04,
        max_rss_bytes=412 << 20,
        note=f"missing 49 of 60: digits-0011, digits-0012, ...; {HOSTILE}",
    )
    partial = JobRecord(
        job="forgetful-wave1-0",
        submission="forgetful",
        stage="defense",
        shard=0,
        images=IMAGES,
        valid=IMAGES - 1,
        verdict=Verdict.PARTIAL,
        exit_code=0,
        wall_seconds=1.25,
        note="missing 1 of 60: digits-0005",
    )
    more = [replace(partial, job=f"forgetful-wave1-{i}", shard=i) for i in range(1, 9)]
    fine = replace(
        timed_out,
        job="fgsm-eps16-0",
        submission="fgsm",
        verdict=Verdict.OK,
        valid=IMAGES,
        signal=None,
        exit_code=0,
        note="",
    )
    return [fine, timed_out, partial, *more]


def _samples(standings: Standings) -> list[GalleryImage]:
    """Rings and bars for clean images, and noise of the budget on them."""
    results = standings.results
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    samples = []
    for attack, pair in choose_samples(results, standings.scores, SIDE, SIDE):
        image, budget = int(results.pair_image[pair]), int(results.pair_max_epsilon[pair])
        radius = np.hypot(x * (1 + image % 3 / 2), y) - 0.55
        stroke = 230 * np.exp(-((radius * 6) ** 2)) + 25 * (x > 0.4)
        clean = np.repeat(np.clip(stroke, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
        noise = np.random.default_rng(pair).choice([-budget, budget], clean.shape)
        adversarial = np.clip(clean.astype(int) + noise, 0, 255).astype(np.uint8)
        samples.append(
            GalleryImage(attack=attack, pair=pair, clean=clean, adversarial=adversarial)
        )
    return samples
