"""What identifies every image of a run, clean or made by an attack."""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from advcomp.tournament.job.orders import Orders
from advcomp.tournament.job.plan import attack_jobs
from advcomp.tournament.store.job_results import Store
from advcomp.tournament.store.state import RunState

_DIGEST = np.dtype("U64")


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
