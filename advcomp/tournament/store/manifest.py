"""What made a run's results: the `manifest` of results.json."""

from collections.abc import Sequence

from advcomp.tournament.job.plan import attack_names
from advcomp.tournament.job.waves import Wave
from advcomp.tournament.store.state import RunState


def manifest_of(state: RunState, waves: Sequence[Wave]) -> dict[str, object]:
    """Every parameter, digest, seed, sandbox, limit tier and version; JSON's types only.

    Machine facts stand under the key `machine`: with the measured times they are all that differs
    between two runs of one tournament with deterministic entries.
    """
    names = attack_names(state)
    return {
        "tournament": state.name,
        "advcomp": state.advcomp_version,
        "identity": state.identity,
        "dataset": {
            "digest": state.dataset.digest,
            "images": len(state.dataset.image_ids),
            "height": state.dataset.height,
            "width": state.dataset.width,
        },
        "threat": {"max_epsilons": list(state.max_epsilons), "schedule": state.schedule},
        "defense": {"view": state.view, "official": state.official},
        "limits": state.limits.model_dump(mode="json"),
        "scoring": state.scoring.model_dump(mode="json"),
        "logs": state.logs.model_dump(mode="json"),
        "seed": state.seed,
        "sandbox": state.sandbox.model_dump(mode="json"),
        "images": {
            entry.name: {"container": entry.container, "image": entry.image}
            for entry in state.entries
            if entry.image is not None
        },
        "waves": [
            [
                {
                    "attack": names.get(column.sources[0].job, column.attack),
                    "max_epsilon": column.max_epsilon,
                }
                for column in wave.columns
            ]
            for wave in waves
        ],
        "machine": {
            **state.machine,
            "key_digest": state.key_digest,
            "page_cache": list(state.page_cache),
        },
    }
