"""Container engines, driven by their command-line clients: every call with an outer time limit.

Docker and Podman understand the same words; where they differ, the difference stands here. gVisor
is a runtime of one of them: it changes who plays the kernel, not what is asked of the engine.

A client may hang for as long as its engine does, and an engine may go away and come back (it is
restarted for an update, say). So no call waits for ever, and what an engine does not answer is
`SandboxError`: our failure, tried again, never a submission's.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from advcomp.errors import SandboxError, SandboxTimeout, SandboxUnavailable
from advcomp.sandbox.obstacles import explained

__all__ = [
    "CALL_S",
    "ENGINES",
    "GVISOR",
    "Engine",
    "Image",
    "open_engine",
    "open_engines",
    "runtime_version",
]

CALL_S = 300.0
"""How long a call may take that only makes, looks at or removes something small.

It is done at once, but for an engine that is taking in an image of several GB meanwhile.
"""
RETURN_S = 30.0
"""How long an engine that has gone may take to come back."""
RETURN_LOOK_S = 0.5
ENGINES = ("docker", "podman")
GVISOR = "runsc"
NO_NETWORK = "--network=none"
REMEDIES = {
    "docker": "install it (Debian: `sudo apt-get install docker.io`)",
    "podman": "install it (Debian: `sudo apt-get install podman uidmap`)",
    "gvisor": "install it (Debian: `sudo apt-get install runsc`), and Podman for images (without "
    "an engine root's boxes show this machine's programs); or, with Docker, "
    "`sudo runsc install -- --network=none && sudo systemctl restart docker`",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What is used of an image's configuration, or must be overridden: nothing else of it is.

    Args:
        id: `sha256:...`, the digest of its configuration.
        path: Its PATH, where it has one.
        variables: Names of all variables that it sets.
        volumes: Where it wants writable volumes.
    """

    id: str
    path: str
    variables: tuple[str, ...]
    volumes: tuple[str, ...]


DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What engines give to programs of an image without PATH."""


class Engine:
    """One engine: its client, its runtime, and what it says of itself.

    Args:
        name: `docker` or `podman`.
        program: Path of the client.
        runtime: An OCI runtime other than the engine's own choice.
        flags: Options of the runtime, for Podman; Docker's are in its own configuration.
    """

    def __init__(
        self, name: str, program: str, runtime: str | None = None, *, flags: Sequence[str] = ()
    ) -> None:
        self.name = name
        self._program = program
        self._runtime = runtime
        self._flags = flags
        self.image = cache(self._image)

    @property
    def is_docker(self) -> bool:
        """Whether this is Docker."""
        return self.name == "docker"

    @property
    def is_gvisor(self) -> bool:
        """Whether programs run on gVisor's kernel instead of the host's."""
        return Path(self._runtime or "").name == GVISOR

    @property
    def ordinary(self) -> "Engine":
        """The same engine with the runtime whose programs run on the host's kernel."""
        return Engine(self.name, self._program, _runtime_for(self.name))

    @property
    def runtime_arguments(self) -> list[str]:
        """Options of Docker's `create`; Podman is told with every call."""
        return ["--runtime", self._runtime] if self._runtime and self.is_docker else []

    def command(self, *words: str) -> list[str]:
        """The client's command line."""
        if self._runtime is None or self.is_docker:
            return [self._program, *words]
        flags = [word for flag in self._flags for word in ("--runtime-flag", flag)]
        return [self._program, "--runtime", self._runtime, *flags, *words]

    def call(self, *words: str, timeout_s: float = CALL_S) -> str:
        """What the client prints.

        Raises:
            SandboxError: It fails; `SandboxTimeout` where it does not answer in time.
        """
        with subprocess.Popen(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        ) as client:
            try:
                printed, complaints = client.communicate(timeout=timeout_s)
            except BaseException as error:
                # What it has started itself may be what hangs, and hold its pipes.
                os.killpg(client.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise SandboxTimeout(
                    f"{self.name} {words[0]}: no answer within {timeout_s:g} s"
                ) from error
        if client.returncode != 0:
            said = " ".join(complaints.split())
            raise SandboxError(f"{self.name} {words[0]}: {said or client.returncode}")
        return printed

    def inspect(self, kind: str, *names: str) -> list[Mapping[str, Any]]:
        """What the engine says of containers, images or volumes, one mapping for each."""
        found: list[Mapping[str, Any]] = json.loads(self.call(kind, "inspect", *names))
        return found

    def await_return(self) -> None:
        """Wait for an engine that has gone; not longer than `RETURN_S`.

        Raises:
            SandboxError: It does not come back.
        """
        deadline = time.monotonic() + RETURN_S
        while True:
            try:
                self.call("version", timeout_s=RETURN_S)
            except SandboxError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETURN_LOOK_S)
            else:
                return

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """What the engine says of itself."""
        said: Mapping[str, Any] = json.loads(self.call("info", "--format", "{{json .}}"))
        return said

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """The engine and the runtime, by name."""
        return {self.name: self._version(), **self._runtime_version()}

    @cached_property
    def is_rootless(self) -> bool:
        """Whether it runs without root's rights, so that it can map few uids."""
        if self.is_docker:
            return any("rootless" in o or "userns" in o for o in self.info["SecurityOptions"])
        return bool(self.info["host"]["security"]["rootless"])

    @property
    def has_nvidia_hook(self) -> bool:
        """Whether its option `--gpus` works; else GPUs are named as CDI does."""
        return self.is_docker and "nvidia" in self.info["Runtimes"]

    @cached_property
    def keeps_limits(self) -> bool:
        """Whether it can limit memory, processes and CPU."""
        if self.is_docker:
            needed = ("MemoryLimit", "SwapLimit", "PidsLimit", "CpuCfsQuota")
            return all(self.info.get(name) for name in needed)
        controllers = set(self.info["host"]["cgroupControllers"] or ())
        return not self.is_rootless or controllers >= {"memory", "pids", "cpu"}

    def _image(self, image: str) -> Image:
        """An image that the engine has.

        Raises:
            SandboxError: It has none of that name.
        """
        (said,) = self.inspect("image", image)
        config = said["Config"] or {}
        variables = dict(word.partition("=")[::2] for word in config.get("Env") or ())
        identity = str(said["Id"])
        return Image(
            id=identity if identity.startswith("sha256:") else f"sha256:{identity}",
            path=variables.get("PATH") or DEFAULT_PATH,
            variables=tuple(sorted(variables)),
            volumes=tuple(sorted(config.get("Volumes") or ())),
        )

    def _version(self) -> str:
        if self.is_docker:
            return self.call("version", "--format", "{{.Server.Version}}").strip()
        return str(self.info["version"]["Version"])

    def _runtime_version(self) -> Mapping[str, str]:
        if self._runtime is None and self.is_docker:
            name = str(self.info["DefaultRuntime"])
            commit = self.info.get(f"{name.capitalize()}Commit") or {}
            return {name: str(commit.get("ID") or "unknown")}
        name = self._runtime or str(self.info["host"]["ociRuntime"]["name"])
        return {Path(name).name: runtime_version(name)}


def open_engines(name: str) -> list[Engine]:
    """The engines that could serve a backend (docker, podman or gvisor) and answer, best first.

    Raises:
        SandboxUnavailable: There is none: why, and the remedy.
    """
    return _with_gvisor() if name == "gvisor" else [open_engine(name)]


def open_engine(name: str) -> Engine:
    """Docker or Podman.

    Raises:
        SandboxUnavailable: It is not there, or does not answer: why, and the remedy.
    """
    program = shutil.which(name)
    if program is None:
        raise SandboxUnavailable(f"{name}: not installed", f"remedy: {REMEDIES[name]}")
    engine = Engine(name, program, _runtime_for(name))
    try:
        engine.info  # noqa: B018 - asked once, kept
    except SandboxError as error:
        raise SandboxUnavailable(*explained(*error.problems)) from error
    return engine


def _with_gvisor() -> list[Engine]:
    """Podman, which can be told how to run it; Docker, where it was told by its administrator.

    gVisor's own network must be off: a box needs none, and a gVisor that is older than its kernel
    fails over it, leaving processes that Docker cannot clear away.
    """
    program = shutil.which(GVISOR)
    if program is None:
        raise SandboxUnavailable("gvisor: not installed", f"remedy: {REMEDIES['gvisor']}")
    found: list[Engine] = []
    problems: list[str] = []
    for name in ("podman", "docker"):
        try:
            engine = open_engine(name)
        except SandboxUnavailable as error:
            problems.append(f"gvisor: {error.problems[0]}")
            continue
        client = engine.command()[0]
        if name == "podman":
            found.append(Engine(name, client, program, flags=["network=none"]))
        elif NO_NETWORK in (engine.info["Runtimes"].get(GVISOR) or {}).get("runtimeArgs", ()):
            found.append(Engine(name, client, GVISOR))
        else:
            problems.append(f"gvisor: docker has no runtime {GVISOR} with {NO_NETWORK}")
    if not found:
        raise SandboxUnavailable(*problems, f"remedy: {REMEDIES['gvisor']}")
    return found


def _runtime_for(name: str) -> str | None:
    """crun, which Podman prefers, refuses cgroup v1 beside v2; runc does not."""
    has_v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return "runc" if name == "podman" and not has_v2 and shutil.which("runc") else None


def runtime_version(runtime: str) -> str:
    """Version of an OCI runtime, from the first line that it prints."""
    program = shutil.which(runtime)
    if program is None:
        return "unknown"
    said = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False, timeout=CALL_S
    )
    return (said.stdout.split("\n")[0].split() or ["unknown"])[-1]
