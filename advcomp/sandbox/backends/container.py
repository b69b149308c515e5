"""Boxes made by Docker, Podman or gVisor: an image, an engine's client, and nothing kept after.

Theory of operation
-------------------
1. `create` makes a container of a pinned image with everything taken away that an engine can take
   (`container_walls`): no network, no capabilities, no new privileges, a uid that nobody uses
   (that of an ordinary user who commands root's engine, who could not hold the output otherwise),
   read-only but for size-capped tmpfs, limits of memory without swap, CPUs, processes, file sizes.
   Its entry point is our own first process (first/first.c), bound read-only; nothing of the
   image's configuration is used but its PATH.
2. `start --attach` starts it. Over the attached streams the first process gets the order and the
   entry, which it unpacks to /code; it says "ready" (attached.py).
3. The output folder is held by a descriptor, before the program starts, so that it outlives the
   container (`outputs.py`). Then "go".
4. The first process filters system calls as every backend does (seccomp.py), on top of the
   engine's own filter, and starts the program with exactly the environment of the contract. When
   that has ended it kills all others and says how it ended; what the kernel counted is read while
   the control group still exists. At the deadline the engine kills the container.
5. The container is removed; the output is read by descriptor.

If the harness dies, the attached streams end, the first process exits and the container with it.
What is left then (a container that was made and not started, or one that has ended) is found by
its labels at the next start, and removed.

Our own programs (images decoded, archives unpacked) have no image: they run in bubblewrap on the
host where that works, else in a container of an image with advcomp in it.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from advcomp.errors import SandboxError
from advcomp.sandbox.base import BoxRun, LimitTier, RunSpec, Sandbox, SharedTree
from advcomp.sandbox.box.capture import Log
from advcomp.sandbox.box.entry_stream import bytes_in_tmpfs, entry_stream
from advcomp.sandbox.box.finished import (
    FinishedRun,
    finished,
    input_problems,
    no_room_for_the_entry,
    stream_of,
)
from advcomp.sandbox.box.held import EmptyFolder, HeldFolder
from advcomp.sandbox.box.identity import UidLease, lease_uid, own_uid
from advcomp.sandbox.box.process import Ending, setup_s
from advcomp.sandbox.box.running import Running
from advcomp.sandbox.box.terminals import bound_terminals
from advcomp.sandbox.engine.attached import Attached, Readiness, Watch, attach, new_mark
from advcomp.sandbox.engine.client import CALL_S, Engine, Image
from advcomp.sandbox.engine.hardening import container_walls, order_for
from advcomp.sandbox.engine.image_supply import EngineImages
from advcomp.sandbox.engine.metering import KernelsCount, Watchdog
from advcomp.sandbox.engine.orphans import remove_orphans
from advcomp.sandbox.engine.outputs import Mounted, OutputMount, volume
from advcomp.sandbox.engine.ownership import labels
from advcomp.sandbox.engine.stills import still
from advcomp.sandbox.limits.cgroups import Usage
from advcomp.sandbox.limits.gpus import Gpu, Gpus

__all__ = ["OWN_IMAGES", "Containers"]

OWN_IMAGES = ("advcomp/referee", "advcomp/runtime")
"""Images with advcomp in them, the smaller one first."""
LAST_TRY_S = 5.0
"""How long a container that could not be removed before may take at the end."""


class Containers:
    """The backends that use images; see `Sandbox`.

    Args:
        name: `docker`, `podman` or `gvisor`.
        engine: Who makes the containers.
        own: Where our own programs run, which have no image: a sandbox that shows the host's
            Python, or the name of an image with advcomp in it.

    Raises:
        SandboxError: The engine fails, or has no such image.
    """

    def __init__(self, name: str, engine: Engine, *, own: Sandbox | str) -> None:
        self.name = name
        self._engine = engine
        self._own = engine.image(own).id if isinstance(own, str) else own
        self._run_word = secrets.token_hex(8)
        self._running = Running(self._remove)
        self._left: set[str] = set()
        remove_orphans(engine)

    @property
    def limit_tier(self) -> LimitTier:
        """The engine's; weak where it cannot keep limits (rootless, without delegation)."""
        return LimitTier.ENGINE if self._engine.keeps_limits else LimitTier.WEAK

    @property
    def versions(self) -> Mapping[str, str]:
        """The engine and its runtime; images are part of every job instead."""
        return {self.name: self._engine.versions[self._engine.name], **self._engine.versions}

    @property
    def shown(self) -> tuple[Path, ...]:
        """What our own programs are shown of the host; submissions are shown nothing."""
        return () if isinstance(self._own, str) else self._own.shown

    @property
    def images(self) -> EngineImages:
        """The engine's."""
        return EngineImages(self._engine)

    @contextlib.contextmanager
    def shared(self, images: Sequence[str]) -> Iterator[Sequence[SharedTree]]:
        """The layers of the images, and what our own programs see of the host.

        Raises:
            SandboxError: An image cannot be looked into.
        """
        own = [self._own] if isinstance(self._own, str) else []
        with contextlib.ExitStack() as held:
            trees = [
                held.enter_context(still(self._engine, image, self._user_of(held), self._labels()))
                for image in dict.fromkeys([*images, *own])
            ]
            if not isinstance(self._own, str):
                trees += held.enter_context(self._own.shared(()))
            yield trees

    def run(self, spec: RunSpec) -> BoxRun:
        """Run one program to its end; see `Sandbox.run`.

        Raises:
            SandboxError: The container failed, or `close` was called meanwhile.
        """
        image = spec.image
        if image is None:
            if not isinstance(self._own, str):
                return self._own.run(spec)
            image = self._own
        try:
            return self._run(spec, self._engine.image(image))
        except OSError as error:
            raise SandboxError(f"the container failed: {error}") from error
        except SandboxError:
            # Where the engine is being restarted, the next try finds it back.
            self._engine.await_return()
            raise

    def close(self) -> None:
        """Kill what is running; every `run` in progress raises SandboxError."""
        left = tuple(self._left)
        self._running.close()
        for container in left:
            self._remove(container, LAST_TRY_S)
        if not isinstance(self._own, str):
            self._own.close()

    def _run(self, spec: RunSpec, image: Image) -> FinishedRun:
        problems = input_problems(spec, strangers=not self._runs_as_this_user)
        if spec.limits.gpus and self._engine.is_gvisor:
            problems.append(f"gvisor: lends no GPUs, got gpus = {spec.limits.gpus}")
        if problems:
            raise SandboxError(*problems)
        code_bytes = bytes_in_tmpfs(spec.code)
        if code_bytes > spec.limits.memory_bytes:
            return no_room_for_the_entry(Usage(peak_bytes=None, oom_kills=1))
        with contextlib.ExitStack() as held:
            gpus = held.enter_context(Gpus().lent(spec.limits.gpus))
            user, owned = self._user_of(held), self._labels()
            output = _output(self._engine, spec, user, owned, held)
            container = self._create(spec, image, user, owned, gpus, output, held)
            log, stdout, mark = Log(spec.limits.log_bytes), stream_of(spec), new_mark()
            with self._running.registered(container):
                attached = attach(
                    self._engine.command("start", "--attach", "--interactive", container),
                    mark=mark,
                    ready_s=setup_s(code_bytes, spec.limits.cpus),
                    log=log,
                    stdout=stdout,
                    held=held,
                )
                became = attached.prepare(
                    order_for(spec, mark, path=image.path, gvisor=self._engine.is_gvisor),
                    entry_stream(spec.code),
                )
                if became is Readiness.BEYOND_MEMORY or (
                    became is Readiness.DEAD and self._state(container)["OOMKilled"]
                ):
                    return no_room_for_the_entry(Usage(peak_bytes=None, oom_kills=1))
                if became is Readiness.DEAD:
                    raise attached.failure("it could not be started")
                pid = int(self._state(container)["Pid"])
                self._bound_terminals(pid)
                with contextlib.ExitStack() as undo:
                    folder = EmptyFolder() if output is None else output.hold(pid)
                    undo.callback(folder.close)
                    ending, usage, full = self._drive(spec, container, pid, attached, folder, held)
                    undo.pop_all()
            return finished(ending, usage, folder, log, stdout, disk_full=full)

    @property
    def _runs_as_this_user(self) -> bool:
        """Whether this is an ordinary user who may command root's engine, but not look into it."""
        return os.geteuid() != 0 and not self._engine.is_rootless

    def _user_of(self, held: contextlib.ExitStack) -> UidLease:
        """Who the next box's program is, until `held` is closed."""
        few = self._engine.is_rootless
        user = own_uid() if self._runs_as_this_user else lease_uid(few=few)
        return held.enter_context(contextlib.closing(user))

    def _labels(self) -> Mapping[str, str]:
        """Of the next box."""
        return labels(self._run_word, secrets.token_hex(8))

    def _create(
        self,
        spec: RunSpec,
        image: Image,
        user: UidLease,
        owned: Mapping[str, str],
        gpus: Sequence[Gpu],
        output: OutputMount | None,
        held: contextlib.ExitStack,
    ) -> str:
        """Make the container; it is removed with `held`."""
        options = container_walls(
            self._engine,
            image,
            spec,
            user=user,
            code_bytes=bytes_in_tmpfs(spec.code),
            labels=owned,
            gpus=gpus,
        )
        options += [] if output is None else output.arguments
        container = self._engine.call("create", *options, image.id).strip()
        held.callback(self._remove, container)
        return container

    def _drive(
        self,
        spec: RunSpec,
        container: str,
        pid: int,
        attached: Attached,
        output: HeldFolder | EmptyFolder,
        held: contextlib.ExitStack,
    ) -> tuple[Ending, Usage, bool]:
        """See a started container to its end: how, what it used, whether its scratch was full."""
        first = os.pidfd_open(pid)
        held.callback(os.close, first)
        weak = self.limit_tier is LimitTier.WEAK
        meter = Watchdog(spec.limits, pid) if weak else KernelsCount(spec.limits, pid, container)
        watch = Watch(
            excess=lambda: meter.excess(output.used_bytes()),
            measure=meter.read,
            kill=lambda: None if meter.end() else self._kill(container),
            first=first,
        )
        ending, full = attached.run(spec.limits.wall_s, watch)
        usage = meter.usage
        if not (usage.oom_kills or (ending.explained and meter.is_read)):
            usage = replace(usage, oom_kills=int(self._state(container)["OOMKilled"]))
        if not (ending.explained or usage.oom_kills):
            raise attached.failure("somebody else killed it, or its engine went away")
        return ending, usage, full

    def _bound_terminals(self, pid: int) -> None:
        """gVisor's are its own kernel's; of root's engine an ordinary user's boxes have none."""
        if self._engine.is_gvisor or self._runs_as_this_user:
            return
        if (why := bound_terminals(pid)) is not None:
            raise SandboxError(f"the container failed: its terminals cannot be bounded ({why})")

    def _state(self, container: str) -> Mapping[str, Any]:
        (said,) = self._engine.inspect("container", container)
        state: Mapping[str, Any] = said["State"]
        return state

    def _kill(self, container: str) -> None:
        """Kill a container at once; one that has just died by itself will not be killed."""
        try:
            self._engine.call("kill", container)
        except SandboxError:
            if self._state(container)["Running"]:
                raise

    def _remove(self, container: str, timeout_s: float = CALL_S) -> None:
        """Remove a container; one that cannot be is tried again when the sandbox is closed."""
        try:
            self._engine.call("rm", "--force", "--volumes", container, timeout_s=timeout_s)
        except SandboxError:
            self._left.add(container)


def _output(
    engine: Engine,
    spec: RunSpec,
    user: UidLease,
    owned: Mapping[str, str],
    held: contextlib.ExitStack,
) -> OutputMount | None:
    """The output folder that a box gets, if it gets one."""
    if spec.output is None:
        return None
    size = spec.limits.output_bytes
    if not engine.is_gvisor:
        return Mounted(engine, spec.output, size, user)
    return held.enter_context(volume(engine, spec.output, size, user, owned))
