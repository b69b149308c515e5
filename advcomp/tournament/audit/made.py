"""What identifies every image of a run, clean or made by an attack, and how alike some are."""

from collections import Counter, defaultdict
from hashlib import sha256
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.images import Pixels, decode_png
from advcomp.rules.threat import Pair
from advcomp.scoring.audit.screens import Likeness
from advcomp.tournament.job.orders import Orders
from advcomp.tournament.job.plan import attack_jobs
from advcomp.tournament.store.job_results import Store
from advcomp.tournament.store.state import RunState

_DIGEST = np.dtype("U64")
COMPARED = 32
"""Images of two attacks that are compared value by value."""
CLOSE = 1
"""Levels that two values may be apart, and are as good as equal."""


def made_digests(state: RunState, store: Store) -> dict[str, NDArray[np.str_]]:
    """Attack -> (P,), the SHA-256 of its canonical PNG for every pair, "" where there is none."""
    digests = {
        entry.name: np.zeros(len(state.pairs), _DIGEST)
        for entry in state.attacks
        if not entry.rejected
    }
    for job in attack_jobs(state):
        result = store.load(job.id)
        if result is not None and result.png_digests:
            pairs = [state.pair_index[image, job.max_epsilon] for image in job.images]
            digests[job.entry.name][pairs] = result.png_digests
    return digests


def clean_digests(orders: Orders) -> NDArray[np.str_]:
    """The same of the clean image of every pair, (P,)."""
    dataset = orders.dataset
    digests = [sha256(dataset.png(image)).hexdigest() for image in range(len(dataset))]
    return np.array([digests[pair.image] for pair in orders.state.pairs], _DIGEST)


def likenesses(orders: Orders) -> dict[tuple[str, str], Likeness]:
    """How alike the images of every two attacks are, for some pairs that the key chooses."""
    pairs = sorted(
        orders.state.pairs, key=lambda pair: orders.key.name("alike", pair.image, pair.max_epsilon)
    )
    folders = _folders(orders)
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for pair in pairs[:COMPARED]:
        clean = orders.dataset.image(pair.image).astype(np.int16)
        moved = {
            name: pixels - clean for name, pixels in _made_of(orders, pair, folders[pair]).items()
        }
        for one, other in combinations(sorted(moved), 2):
            found[one, other].update(alike(moved[one], moved[other]))
    return {both: Likeness(**counts) for both, counts in found.items()}


def alike(one: NDArray[np.int16], other: NDArray[np.int16]) -> dict[str, int]:
    """The counts of a `Likeness` for one image, by what two attacks added to its values."""
    far = np.maximum(np.abs(one), np.abs(other)) > CLOSE
    near = np.abs(one - other) <= CLOSE
    return {"values": int(far.sum()), "equal": int((far & near).sum()), "images": int(far.any())}


def _folders(orders: Orders) -> dict[Pair, list[tuple[str, str]]]:
    """Pair -> (attack, folder of its job) where there is an image, in the order of the attacks."""
    folders: dict[Pair, list[tuple[str, str]]] = defaultdict(list)
    for job in attack_jobs(orders.state):
        result = orders.store.load(job.id)
        if result is not None:
            for image, digest in zip(job.images, result.png_digests, strict=False):
                if digest:
                    folders[Pair(image=image, max_epsilon=job.max_epsilon)].append(
                        (job.entry.name, job.id)
                    )
    return folders


def _made_of(orders: Orders, pair: Pair, folders: list[tuple[str, str]]) -> dict[str, Pixels]:
    """What every attack made of a pair, uint8 (H, W, 3)."""
    dataset, image_id = orders.dataset, orders.dataset.image_ids[pair.image]
    pngs = orders.store.read_images((folder, image_id) for _, folder in folders)
    return {
        name: decode_png(png, dataset.height, dataset.width)
        for (name, _), png in zip(folders, pngs, strict=True)
    }
