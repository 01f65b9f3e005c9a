"""What a container is to have of the network."""

from __future__ import annotations

from pycontainer.engine.config import attachments
from pycontainer.engine.config.ports import PortOptions
from pycontainer.engine.config.quantity import parse_size
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]


class Network:
    """Where a container stands in the network.

    mode         none, host, container:NAME, or the name of the first network
    attachments  the networks, in order; none for the first three
    hostname     "" where it was not said
    ports      what -p, -P and --expose say
    add_host   NAME:ADDRESS
    rate       bytes a second in each direction, and bytes that may go at once; None for no limit
    """

    __slots__ = ("add_host", "attachments", "dns", "dns_options", "dns_search", "hostname", "mode", "ports", "rate")

    def __init__(self, values: Values) -> None:
        self.mode, self.attachments = attachments.parse(values)
        self.hostname = _hostname(values.get("hostname") or "")
        self.ports = PortOptions(values)
        self.dns: list[str] = list(values.get("dns") or [])
        self.dns_search: list[str] = list(values.get("dns_search") or [])
        self.dns_options: list[str] = list(values.get("dns_option") or [])
        self.add_host: list[str] = list(values.get("add_host") or [])
        self.rate = _rate(values.get("network_rate") or "")
        if self.shares_container:
            self._check_shared(values)
        if self.rate is not None and not self.attachments:
            shared = "host's" if self.mode == "host" else "other container's"
            why = (
                "has no network" if self.mode == "none" else f"has the {shared} network, which is not its own to limit"
            )
            raise UsageError("--network-rate", self.mode, f"the container {why}", "it goes with --network bridge")

    @property
    def shares_container(self) -> str:
        """The name of the container whose network it has; "" for none."""
        return self.mode.removeprefix("container:") if self.mode.startswith("container:") else ""

    def _check_shared(self, values: Values) -> None:
        # What the other container's network has is not for this one to say.
        flags = ("hostname", "publish", "publish_all", "expose", "dns", "dns_search", "dns_option", "add_host")
        for name in flags:
            if values.get(name):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(flag, self.mode, "the network is the other container's", "give that one the option")

    def check_rights(self, capabilities: list[str]) -> None:
        """Raise UsageError where the container could lift what limits it."""
        if self.rate is not None and "CAP_NET_ADMIN" in capabilities:
            hint = "leave out one of them: --network-rate, or --cap-add NET_ADMIN (--privileged has it)"
            raise UsageError("--network-rate", "", "with CAP_NET_ADMIN the container could lift it", hint)


_UNITS = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "bit": 1}
_SLOWEST, _FASTEST = 1000, (1 << 32) - 1  # bytes a second, of which the kernel's field has 32 bits
_LEAST_BURST = 10 << 10  # bytes: a packet fits into it, jumbo frames too
_MOST_BURST = 1 << 30
_BURST_SECONDS = 0.01  # seconds' worth of bytes, unless it is said


def _rate(text: str) -> tuple[int, int] | None:
    """RATE[:BURST]: bits a second as tc(8) writes them, powers of 1,000; bytes as other options have sizes."""
    if text in ("", "0"):
        return None
    rate_text, colon, burst_text = text.lower().partition(":")
    unit = next((unit for unit in _UNITS if rate_text.endswith(unit)), "")
    number = rate_text.removesuffix(unit)
    try:
        rate = int(float(number) * _UNITS[unit]) // 8 if set(number) <= set("0123456789.") else 0
        burst = parse_size("", burst_text) if colon else max(int(rate * _BURST_SECONDS), 32 << 10)
    except (ValueError, KeyError, OverflowError, UsageError):
        rate = burst = 0
    if not (_SLOWEST <= rate <= _FASTEST and _LEAST_BURST <= burst <= _MOST_BURST):
        hint = "from 8kbit to 34gbit with a burst of 10k to 1g, such as 10mbit or 10mbit:64k; 0 is no limit"
        raise UsageError("--network-rate", repr(text), "not a rate", hint)
    return rate, burst


def _hostname(text: str) -> str:
    if len(text) > 64 or any(character.isspace() or character == "/" for character in text):
        raise UsageError("--hostname", repr(text), "not a host name", "at most 64 characters, no spaces")
    return text
