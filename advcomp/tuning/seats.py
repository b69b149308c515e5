"""Who works on a study, and what becomes of the trials of those who died.

Every process takes a seat in the study's folder, which it holds by a lock as long as it lives, and
writes host and seat into its trial. A running trial whose seat on this machine is free has lost
its process: it is marked failed, and its values wait to be tried again. Of other machines
nothing can be told from here; who knows that one is gone says so.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from advcomp.errors import RunConflict
from advcomp.rules.lock import locked

HOST, SEAT, AGAIN = "host", "seat", "again"


@contextmanager
def seated(folder: Path) -> Iterator[Path]:
    """The first free seat of this machine, held while the process works."""
    for number in count():
        seat = folder / "seats" / f"{socket.gethostname()}-{number}"
        seat.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(locked(seat))
            except RunConflict:
                continue
            yield seat
            return


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Mark a trial failed, and let its values be tried again, before any others."""
    study.tell(trial.number, state=TrialState.FAIL)
    study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})


def take_up_lost(study: optuna.Study, own: Path, lost_host: str | None) -> list[int]:
    """Requeue the running trials whose processes are gone; their numbers.

    Args:
        own: The seat of this process.
        lost_host: A machine that is known to be gone.
    """
    lost = [
        trial
        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        if _is_lost(trial, own, lost_host)
    ]
    for trial in lost:
        requeue(study, trial)
    return [trial.number for trial in lost]


def elsewhere(study: optuna.Study) -> dict[str, int]:
    """How many trials run on other machines, by their names."""
    hosts = [
        str(trial.user_attrs[HOST])
        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        if HOST in trial.user_attrs
    ]
    here = socket.gethostname()
    return {host: hosts.count(host) for host in sorted(set(hosts)) if host != here}


def _is_lost(trial: FrozenTrial, own: Path, lost_host: str | None) -> bool:
    host, seat = trial.user_attrs.get(HOST), trial.user_attrs.get(SEAT)
    if host is None or host == lost_host:
        return True  # its process died before it could say who it is, or is known to be gone
    if host != socket.gethostname():
        return False
    return seat == own.name or _is_free(own.with_name(str(seat)))


def _is_free(seat: Path) -> bool:
    if not seat.is_dir():
        return True
    try:
        with locked(seat):
            return True
    except RunConflict:
        return False
