"""Network namespaces, one for each machine that a test plays with; made and removed by root."""

import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Network:
    """Machines on one wire.

    Args:
        address: Name -> IPv4 address.
        tag: What the names of its namespaces begin with.
    """

    address: Mapping[str, str]
    tag: str

    def enter(self, name: str) -> Sequence[str]:
        """What starts a program there: the network is that machine's, all else is ours."""
        return ("nsenter", f"--net=/run/netns/{self.tag}-{name}")

    def processes(self, name: str) -> list[str]:
        """What runs there, by the names of the programs."""
        asked = ["ip", "netns", "pids", f"{self.tag}-{name}"]
        told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        found = (Path("/proc", number, "comm") for number in told.split())
        return [path.read_text().strip() for path in found if path.exists()]

    def cut(self, name: str) -> None:
        """Pull the plug."""
        _ip("-n", f"{self.tag}-wire", "link", "set", name, "down")


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """A bridge on this machine, and namespaces on it."""
    tag = f"adv{secrets.token_hex(2)}"
    net = f"10.{200 + os.getpid() % 50}.{secrets.randbelow(250)}"
    address = {name: f"{net}.{10 + number}" for number, name in enumerate(names)}
    wire = f"{tag}-wire"
    with ExitStack() as held:
        # The bridge has a namespace, too: in ours a firewall may drop what passes through.
        for space in (wire, *(f"{tag}-{name}" for name in names)):
            _ip("netns", "add", space)
            held.callback(_ip, "netns", "delete", space)
        _ip("-n", wire, "link", "add", "bridge", "type", "bridge")
        _ip("-n", wire, "link", "set", "bridge", "up")
        _ip("link", "add", f"{tag}h", "type", "veth", "peer", "name", "here", "netns", wire)
        _ip("-n", wire, "link", "set", "here", "master", "bridge", "up")
        _ip("address", "add", f"{net}.1/24", "dev", f"{tag}h")
        _ip("link", "set", f"{tag}h", "up")
        for name in names:
            space = f"{tag}-{name}"
            _ip("-n", wire, "link", "add", name, "type", "veth", "peer", "eth0", "netns", space)
            _ip("-n", wire, "link", "set", name, "master", "bridge", "up")
            _ip("-n", space, "address", "add", f"{address[name]}/24", "dev", "eth0")
            for own in ("eth0", "lo"):
                _ip("-n", space, "link", "set", own, "up")
        yield Network(address=address, tag=tag)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
