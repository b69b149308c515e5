"""Audit a run: replay a share of it under other conditions, and say where answers differ.

Three stages, as in the run attacks alone and then defenses alone, and a last one in which every
replay finds a page cache without what others read. Nothing is stored but `audit.json`; no score
changes by it, unless the tournament file asks for that (`[audit] refuse`).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from advcomp import __version__
from advcomp.errors import InvalidConfig, RunConflict
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import Sandbox
from advcomp.scoring.audit.finding import Audit, AuditCheck, Audited, ReplayRecord, judged
from advcomp.scoring.audit.replayed import gains_of_attacks
from advcomp.scoring.audit.screens import screened
from advcomp.scoring.results import Results
from advcomp.tournament.audit.attack_answers import AttackAnswers, Remade
from advcomp.tournament.audit.conduct import Conductor, Replayed
from advcomp.tournament.audit.defense_answers import DefenseAnswers
from advcomp.tournament.audit.endings import Endings
from advcomp.tournament.audit.made import clean_digests, likenesses, made_digests
from advcomp.tournament.audit.record import save_audit
from advcomp.tournament.audit.replays import (
    REMADE,
    SHARE,
    Replay,
    chosen,
    of_attack,
    of_defense,
    of_images,
)
from advcomp.tournament.audit.stored import StoredLabels
from advcomp.tournament.config import Tournament, check_machine, load_tournament
from advcomp.tournament.exposure import refuse_exposed
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.job.opaque import Key, open_key
from advcomp.tournament.job.orders import Orders
from advcomp.tournament.job.plan import AttackJob, DefenseJob, Job, attack_jobs, defense_jobs
from advcomp.tournament.job.staging import staging_for
from advcomp.tournament.job.waves import Wave, WaveImages, load_waves
from advcomp.tournament.job.work import Bench
from advcomp.tournament.machine import cores
from advcomp.tournament.opening import default_jobs, opened_sandbox
from advcomp.tournament.outcome.collect import collect_finished
from advcomp.tournament.runner import RunObserver
from advcomp.tournament.source import open_dataset
from advcomp.tournament.store.began import today
from advcomp.tournament.store.job_results import Store, locked
from advcomp.tournament.store.run_log import referee_log
from advcomp.tournament.store.state import (
    ENTRIES,
    KEY_FILE,
    EntryState,
    RunState,
    SandboxState,
    load_state,
)
from advcomp.tournament.surroundings import settled

logger = logging.getLogger(__name__)

MADE_ANEW = {
    AuditCheck.RENAMED: "where it made its images under other file names",
    AuditCheck.NUDGED: "where pixels of the clean images were moved by one level before",
}
SHOWN_ANEW = "once its images are renamed before the defenses"

ANOTHER_DATE = (
    "another date: a box has the machine's own wall clock, of which Linux keeps one for all, and "
    "what would hide it can be seen by a program; this audit is of {audited}, the run of {began}: "
    "what goes by the date is found as `again` when an audit is made on another day"
)
"""What is said in every audit of the condition that no sandbox can make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """What the command line of `audit` says.

    Args:
        share: Of each defense's shards and each attack's jobs, above 0, at most 1.
        checks: Conditions to replay under; all where there are none.
        submissions: Whose replays; everybody's where there are none.
        jobs: Sandboxes at once.
        trusting: The submissions are one's own: the sandbox may be `none`.
    """

    run: Path
    share: float = SHARE
    checks: tuple[AuditCheck, ...] = ()
    submissions: tuple[str, ...] = ()
    jobs: int | None = None
    trusting: bool = False


def audit_run(options: AuditOptions, observer: RunObserver, stop: Stop) -> Audit | None:
    """Audit a finished run, and write `audit.json`; None where it was stopped before.

    Raises:
        AdvcompError: The run is not finished or in use; its dataset or sandbox is not what it was;
            it has no entry of a name that was asked for.
    """
    run = options.run
    tournament = load_tournament(Path(load_state(run).file))
    check_machine(tournament, cores())
    workers = options.jobs or default_jobs(tournament)
    with (
        settled(tournament, workers),
        locked(run),
        referee_log(run),
        ExitStack() as held,
    ):
        state, collected = collect_finished(run, refuse=False)
        _refuse_unknown(state, options.submissions)
        sandbox = held.enter_context(
            opened_sandbox(tournament, state.sandbox.name, trusting=options.trusting)
        )
        _refuse_another_sandbox(run, state, sandbox)
        orders = _orders(run, tournament, state)
        refuse_exposed(
            {"the run's folder": run, "the dataset": orders.dataset.folder}, sandbox.shown
        )
        bench = Bench(sandbox=sandbox, staging=held.enter_context(staging_for(run)))
        conductor = Conductor(
            orders=orders, bench=bench, workers=workers, observer=observer, stop=stop
        )
        auditor = _Auditor(options, conductor, collected.results, load_waves(run))
        logger.info("audit: %g of every entry's jobs", options.share)
        audit = auditor.audit()
        if audit is not None:
            save_audit(run, audit)
            logger.info("audit written, %d flagged", len(audit.flagged))
        return audit


def _orders(run: Path, tournament: Tournament, state: RunState) -> Orders:
    """What makes the run's orders; its dataset must be what it was."""
    dataset = open_dataset(tournament)
    if dataset.digest != state.dataset.digest:
        raise RunConflict(
            f"{run}: expected the dataset that the run was played on; {dataset.folder} has "
            "changed since; restore it, or play a new run"
        )
    store = Store(run)
    return Orders(
        state=state,
        dataset=dataset,
        store=store,
        key=open_key(run / KEY_FILE, digest=state.key_digest),
        entries=run / ENTRIES,
        waves=tuple(WaveImages(state, store, wave) for wave in load_waves(run)),
    )


def _refuse_unknown(state: RunState, names: Sequence[str]) -> None:
    known = {entry.name for entry in state.entries}
    problems = [
        f'{state.name}: there is no entry "{name}"; there are {", ".join(sorted(known))}'
        for name in names
        if name not in known
    ]
    if problems:
        raise InvalidConfig(*problems)


def _refuse_another_sandbox(run: Path, state: RunState, sandbox: Sandbox) -> None:
    """Refuse to compare answers that came about in different surroundings."""
    now = SandboxState.of(sandbox)
    if now != state.sandbox:
        raise RunConflict(
            f"{run}: expected the sandbox that the run was played in, "
            f"{state.sandbox.model_dump(mode='json')}; got {now.model_dump(mode='json')}; "
            f"`advcomp run {state.file} --out {run}` plays it again in this one"
        )


class _Auditor:
    """One audit while it goes on."""

    def __init__(
        self,
        options: AuditOptions,
        conductor: Conductor,
        results: Results,
        waves: Sequence[Wave],
    ) -> None:
        self.options, self.conductor = options, conductor
        self.results, self.waves = results, waves
        self.orders, self.state = conductor.orders, conductor.orders.state
        self.endings = Endings()
        self.records: list[ReplayRecord] = []
        self.not_tried: list[str] = []
        planned = list(zip(waves, self.orders.waves, strict=True))
        defense = list(defense_jobs(self.state, self._key, planned))
        self.jobs: list[Job] = [*self._done(attack_jobs(self.state)), *self._done(defense)]
        self.attacks = AttackAnswers(self.orders, self.endings)
        self.defenses = DefenseAnswers(
            self.state, results, waves, self._stored(defense), self.endings
        )

    @property
    def _key(self) -> Key:
        return self.orders.key

    def audit(self) -> Audit | None:
        """Do it; None where it was stopped."""
        attacks, defenses = self._attack_replays(), self._defense_replays()
        for done in self._do("attacks again", attacks):
            self.attacks.take(done)
        for done in self._do("defenses again", defenses):
            self.defenses.take(done)
        for check in REMADE:
            self._judge_remade(check)
        self._untouched(attacks, defenses)
        if self.conductor.stop:
            return None
        return self._result()

    def _done(self, jobs: Iterator[Job] | Sequence[Job]) -> Iterator[Job]:
        """Jobs that have a result."""
        return (job for job in jobs if self.orders.store.is_done(job.id))

    def _stored(self, jobs: Sequence[DefenseJob]) -> dict[str, StoredLabels]:
        images = len(self.state.dataset.image_ids)
        return {
            entry.name: StoredLabels(
                self.orders.store,
                [job for job in jobs if job.entry == entry],
                self.waves,
                images,
            )
            for entry in self.state.defenses
        }

    def _audited(self, entries: Sequence[EntryState]) -> Iterator[tuple[EntryState, list[Job]]]:
        wanted = self.options.submissions
        for entry in entries:
            own = [job for job in self.jobs if job.entry == entry]
            if own and (not wanted or entry.name in wanted):
                yield entry, chosen(own, self.options.share, self._key)

    def _wanted(self, replays: Iterator[Replay]) -> Iterator[Replay]:
        checks = self.options.checks
        return (replay for replay in replays if not checks or replay.check in checks)

    def _attack_replays(self) -> list[Replay]:
        return [
            replay
            for _, jobs in self._audited(self.state.attacks)
            for job in jobs
            if isinstance(job, AttackJob)
            for replay in self._wanted(of_attack(job))
        ]

    def _defense_replays(self) -> list[Replay]:
        return [
            replay
            for _, jobs in self._audited(self.state.defenses)
            for number, job in enumerate(jobs)
            if isinstance(job, DefenseJob)
            for replay in self._wanted(
                of_defense(job, self.orders.waves[job.wave], self._key, alone=number == 0)
            )
        ]

    def _do(self, title: str, replays: Sequence[Replay]) -> Iterator[Replayed]:
        touched = [replay for replay in replays if replay.check is not AuditCheck.UNTOUCHED]
        for done in self.conductor.do(title, touched):
            self._record(done)
            yield done

    def _untouched(self, attacks: Sequence[Replay], defenses: Sequence[Replay]) -> None:
        """The condition that needs the machine for itself."""
        stages = [
            [replay for replay in stage if replay.check is AuditCheck.UNTOUCHED]
            for stage in (attacks, defenses)
        ]
        tried = 0
        for done in self.conductor.do_untouched("on an untouched page cache", stages):
            self._record(done)
            is_attack = done.replay.job.entry.is_attack
            self.attacks.take(done) if is_attack else self.defenses.take(done)
            tried += 1
        if any(stages) and not tried and not self.conductor.stop:
            self.not_tried.append(
                "untouched: this sandbox does not say what its boxes share in memory"
            )

    def _judge_remade(self, check: AuditCheck) -> None:
        """Show images that attacks made under a condition to every defense, each image once."""
        remade = [each for each in self.attacks.remade if each.check is check]
        if not remade:
            return
        new = [each for each in remade if each.png is not None]
        known = [each for each in remade if each.png is None]
        by_image: dict[int, list[Remade]] = {}
        for each in new:
            by_image.setdefault(each.image, []).append(each)
        shown = [
            some[self._key.offset(len(some), "remade", check, image)]
            for image, some in sorted(by_image.items())
        ]
        pngs = [(each.image, each.png) for each in shown if each.png is not None]
        first = {job.entry.name: job for job in self.jobs if isinstance(job, DefenseJob)}
        for name in first:
            self.defenses.take_known(name, check, known)
        if pngs:
            replays = [of_images(job, check, pngs) for job in first.values()]
            for done in self._do(f"images made again: {check}", replays):
                self.defenses.take_judged(done, check, shown)

    def _record(self, done: Replayed) -> None:
        replay = done.replay
        self.records.append(
            ReplayRecord(
                entry=replay.job.entry.name,
                stage=done.result.stage,
                check=replay.check,
                job=replay.of.name,
                images=done.result.images,
                verdict=Verdict(done.result.verdict),
            )
        )

    def _result(self) -> Audit:
        state, seed = self.state, self.state.seed
        places = {
            entry.name: place for place, entry in enumerate((*state.attacks, *state.defenses))
        }
        order = list(AuditCheck)
        of_defenses = list(self.defenses.findings())
        # A defense that answers by what it should not is no measure of attacks.
        partial = {finding.entry for finding in judged(of_defenses) if finding.flagged}
        findings = [
            *self.attacks.findings(),
            *of_defenses,
            *gains_of_attacks(self.results, self.defenses.renamed(partial), seed, SHOWN_ANEW),
            *(
                finding
                for check, note in MADE_ANEW.items()
                for finding in gains_of_attacks(
                    self.results, self.defenses.judged(check, partial), seed, note
                )
            ),
            *screened(
                self.results,
                made_digests(state, self.orders.store),
                clean_digests(self.orders),
                likenesses(self.orders),
            ),
        ]
        days = {"began": state.began or "a day that is not known", "audited": today()}
        return Audit(
            advcomp=__version__,
            tournament=state.name,
            key_digest=state.key_digest,
            share=self.options.share,
            began=state.began,
            audited=days["audited"],
            entries=tuple(
                Audited(name=entry.name, digest=entry.digest, randomised=entry.randomised)
                for entry in (*state.attacks, *state.defenses)
                if not entry.rejected
            ),
            replays=tuple(sorted(self.records, key=lambda r: (r.stage, r.entry, r.check, r.job))),
            not_tried=(
                *self.not_tried,
                *self.endings.lines(),
                ANOTHER_DATE.format(**days),
            ),
            findings=judged(
                sorted(findings, key=lambda f: (places[f.entry], order.index(f.check)))
            ),
        )
