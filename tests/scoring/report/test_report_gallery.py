"""Which images the gallery shows, and what stands beside them."""

import base64
import io

import numpy as np
from PIL import Image

from advcomp.scoring.report.gallery import Outcome, choose_samples, figures
from advcomp.scoring.report.material import Material
from advcomp.scoring.report.pictures import data_uri, perturbation
from advcomp.scoring.results import MISSING
from advcomp.scoring.standings import Standings


def test_every_attack_is_shown_at_every_budget_on_existing_images(standings: Standings) -> None:
    results = standings.results
    chosen = list(choose_samples(results, standings.scores, 32, 32))
    assert all(results.exists[attack, pair] for attack, pair in chosen)
    for attack in range(len(results.attacks)):
        pairs = [pair for a, pair in chosen if a == attack]
        assert results.pair_max_epsilon[pairs].tolist() == [16, 32, 48]
        assert len(set(results.pair_image[pairs])) == 3


def test_complete_attacks_are_shown_on_the_same_images(standings: Standings) -> None:
    chosen = list(choose_samples(standings.results, standings.scores, 32, 32))
    complete = {
        tuple(pair for a, pair in chosen if a == attack)
        for attack, score in enumerate(standings.scores.attacks)
        if score.complete
    }
    assert len(complete) == 1


def test_large_images_leave_room_for_fewer(standings: Standings) -> None:
    small = list(choose_samples(standings.results, standings.scores, 32, 32))
    large = list(choose_samples(standings.results, standings.scores, 299, 299))
    assert len(small) == 27
    assert 9 <= len(large) <= 1_000_000 // (3 * 96 * 96)


def test_an_answer_is_right_wrong_a_hit_or_missing(material: Material) -> None:
    results = material.standings.results
    assert results.target_classes is not None
    seen = set()
    for sample in material.samples:
        figure = figures(material, sample, range(len(results.defenses)))
        image = results.pair_image[sample.pair]
        for d, answer in enumerate(figure.answers):
            given = results.predictions[d, sample.attack, sample.pair]
            seen.add(answer.outcome)
            match answer.outcome:
                case Outcome.RIGHT:
                    assert given == results.labels[image]
                case Outcome.HIT:
                    assert given == figure.target_class == results.target_classes[image]
                case Outcome.WRONG:
                    assert given not in (results.labels[image], figure.target_class, MISSING)
                case Outcome.MISSING:
                    assert given == MISSING
                    assert answer.label is None
    assert seen == set(Outcome)


def test_a_picture_is_a_small_png_of_the_same_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 24, 3), np.uint8)
    assert np.array_equal(decoded(data_uri(image)), image)
    assert decoded(data_uri(np.zeros((299, 150, 3), np.uint8))).shape == (96, 48, 3)


def test_the_budget_spans_black_to_white_around_grey() -> None:
    clean = np.full((1, 3, 3), 100, np.uint8)
    adversarial = clean + np.array([[[16], [0], [-16]]]).astype(np.uint8)
    assert perturbation(adversarial, clean, 16)[0, :, 0].tolist() == [255, 128, 0]


def test_a_perturbation_of_any_budget_keeps_its_sign() -> None:
    clean = np.full((1, 2, 3), 128, np.uint8)
    for max_epsilon in range(256):
        step = min(1, max_epsilon)
        adversarial = clean + np.array([[[step], [-step]]]).astype(np.uint8)
        up, down = perturbation(adversarial, clean, max_epsilon)[0, :, 0].tolist()
        assert (up > down) == bool(step)


def decoded(uri: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    header, _, content = uri.partition(",")
    assert header == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
