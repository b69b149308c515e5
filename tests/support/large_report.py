"""What a report is made from at any size, drawn at random: strength against weakness."""

import numpy as np

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.report.gallery import choose_samples
from advcomp.scoring.report.material import Facts, GalleryImage, Material
from advcomp.scoring.results import Entry, JobRecord, Results
from advcomp.scoring.standings import ScoringOptions, judge

BUDGETS = (4, 8, 12, 16)
CLASSES = 1000


def material_of(attacks: int, defenses: int, *, images: int = 12, side: int = 96) -> Material:
    """A tournament of so many entries: a third of the attacks targeted, some in teams."""
    rng = np.random.default_rng(attacks * 1000 + defenses)
    entries = [
        *_entries(SubmissionType.ATTACK, attacks - attacks // 3, rng),
        *_entries(SubmissionType.TARGETED_ATTACK, attacks // 3, rng),
    ]
    results = _results(
        tuple(entries), tuple(_entries(SubmissionType.DEFENSE, defenses, rng)), images, rng
    )
    standings = judge(results, ScoringOptions(bootstrap=20))
    samples = [
        GalleryImage(attack=a, pair=p, **_pictures(int(results.pair_max_epsilon[p]), side, rng))
        for a, p in choose_samples(results, standings.scores, side, side)
    ]
    return Material(
        facts=Facts(
            tournament=f"{attacks}-by-{defenses}",
            view="latin",
            schedule="grid",
            sandbox="bubblewrap",
            limit_tier="cgroup-v2",
            weak_limits=False,
            official=True,
            cpus=1,
            began="2026-01-31",
        ),
        standings=standings,
        jobs=[_job(entry, images) for entry in (*results.attacks, *results.defenses)],
        manifest={
            "limits": {"memory": 4 << 30},
            "waves": [
                [{"attack": a.name, "max_epsilon": b} for a in results.attacks for b in BUDGETS]
            ],
        },
        samples=samples,
        class_names={label: f"class number {label}" for label in range(CLASSES)},
    )


def _entries(kind: SubmissionType, count: int, rng: np.random.Generator) -> list[Entry]:
    words = ("gradient", "momentum", "ensemble", "jpeg", "random", "denoised", "smooth", "deep")
    return [
        Entry(
            name=f"{words[i % 8]}-{words[i // 8 % 8]}-{kind.value[0]}{i:03d}",
            type=kind,
            digest=f"{i:064x}",
            team=f"team {i % 40}" if i % 3 else None,
            wave=1,
            seconds_per_100_images=(float(np.exp(rng.normal(2, 1.2))),),
            verdict=Verdict.PARTIAL if i == 5 else Verdict.OK,
        )
        for i in range(count)
    ]


def _results(
    attacks: tuple[Entry, ...], defenses: tuple[Entry, ...], images: int, rng: np.random.Generator
) -> Results:
    pairs = images * len(BUDGETS)
    image, budget = np.tile(np.arange(images), len(BUDGETS)), np.repeat(BUDGETS, images)
    labels = rng.integers(1, CLASSES, images).astype(np.int16)
    targets = ((labels + 3) % CLASSES).astype(np.int16)
    strength = rng.beta(2, 2, len(attacks))[None, :, None]
    weakness = rng.beta(2, 2, len(defenses))[:, None, None]
    chance = np.minimum(1, 1.4 * strength * weakness * budget / 10)
    won = rng.random((len(defenses), len(attacks), pairs)) < chance
    answers = np.where(won, targets[image], labels[image]).astype(np.int16)
    return Results(
        image_ids=tuple(f"image-{k:05d}" for k in range(images)),
        labels=labels,
        target_classes=targets,
        pair_image=image,
        pair_max_epsilon=budget,
        attacks=attacks,
        defenses=defenses,
        exists=np.ones((len(attacks), pairs), bool),
        predictions=answers,
        clean_predictions=np.where(
            rng.random((len(defenses), images)) < 0.1, targets, labels
        ).astype(np.int16),
        infra_pairs=np.zeros(pairs, bool),
        infra_images=np.zeros(images, bool),
    )


def _pictures(budget: int, side: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    clean = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
    noise = rng.choice([-budget, budget], clean.shape)
    adversarial = np.clip(clean.astype(int) + noise, 0, 255).astype(np.uint8)
    return {"clean": clean, "adversarial": adversarial}


def _job(entry: Entry, images: int) -> JobRecord:
    return JobRecord(
        job=f"{entry.name}-0",
        submission=entry.name,
        stage="defense" if entry.type is SubmissionType.DEFENSE else "attack",
        shard=0,
        images=images,
        valid=images,
        verdict=entry.verdict,
        wall_seconds=1.0,
    )
