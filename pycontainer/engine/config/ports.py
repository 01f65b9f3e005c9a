"""-p, -P and --expose."""

from __future__ import annotations

import _socket

from pycontainer.errors import UsageError
from pycontainer.network.publication import ANY, ANY6, EVERYWHERE, PROTOCOLS, Wanted, is_ipv6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]
Port = tuple[int, str]  # number and protocol

_HINT = (
    "-p 8080:80, -p 127.0.0.1:8080:80/udp, -p [::1]:8080:80, -p 8000-8010:8000-8010, or -p 80 for a free port of the "
    "host's"
)


_MAPPED = bytes(10) + b"\xff\xff"  # how IPv6 writes an address of IPv4, to which no socket of IPv6 alone is bound


class PortOptions:
    """What is to be published and exposed, as far as one can tell without the image."""

    __slots__ = ("exposed", "publish_all", "published")

    def __init__(self, values: Values) -> None:
        self.published = [wanted for text in values.get("publish") or [] for wanted in parse_publish(text)]
        self.exposed = [port for text in values.get("expose") or [] for port in parse_expose(text)]
        self.publish_all = bool(values.get("publish_all"))
        _check_once(self.published)

    def __bool__(self) -> bool:
        """Whether anything is to be published, as far as one can tell without the image."""
        return bool(self.published) or self.publish_all


def parse_publish(text: str) -> list[Wanted]:
    """`[IP:][HOST]:CONTAINER[/PROTOCOL]` or `CONTAINER[/PROTOCOL]`; either port may be a range. Raises UsageError.

    An IPv6 address is in brackets. Without an address it is every one of the host's.
    """
    place, _, protocol = text.partition("/")
    begin, bracket, rest = place.rpartition("]")
    parts = [f"{begin}{bracket}", *rest.split(":")[1:]] if bracket else place.split(":")
    if len(parts) > 3 or (bracket and (len(parts) < 3 or not rest.startswith(":"))):
        raise UsageError("--publish", repr(text), "not an address and two ports, or less", _HINT)
    protocol = _protocol("--publish", text, protocol)
    first, last = _range("--publish", text, parts[-1])
    address = _address(text, parts[0]) if len(parts) == 3 else EVERYWHERE
    if is_ipv6(address) and protocol == "sctp":
        raise UsageError("--publish", repr(text), "SCTP is published on IPv4 addresses only", _HINT)
    host = parts[-2] if len(parts) > 1 else ""
    ports = range(first, last + 1)
    if host in ("", "0"):
        return [Wanted(protocol, port, address) for port in ports]
    host_first, host_last = _range("--publish", text, host)
    if first == last:
        return [Wanted(protocol, first, address, host_first, host_last)]
    if host_last - host_first != last - first:
        raise UsageError("--publish", repr(text), "the two ranges are not of one length", _HINT)
    return [Wanted(protocol, port, address, *[port - first + host_first] * 2) for port in ports]


def parse_expose(text: str) -> list[Port]:
    """`PORT[/PROTOCOL]`, where PORT may be a range. Raises UsageError."""
    number, _, protocol = text.partition("/")
    first, last = _range("--expose", text, number)
    protocol = _protocol("--expose", text, protocol)
    return [(port, protocol) for port in range(first, last + 1)]


def parse_private(text: str) -> Port:
    """A port of a container's as `port` takes it. Raises UsageError."""
    ports = parse_expose(text)
    if len(ports) != 1:
        raise UsageError("port", repr(text), "not one port", "such as 80 or 53/udp")
    return ports[0]


def _protocol(flag: str, text: str, protocol: str) -> str:
    lower = protocol.lower() if "/" in text else "tcp"
    if lower not in PROTOCOLS:
        raise UsageError(flag, repr(text), f"unknown protocol {protocol!r}", "tcp, udp or sctp")
    return lower


def _range(flag: str, text: str, ports: str) -> tuple[int, int]:
    first, dash, last = ports.partition("-")
    numbers = [_number(first), _number(last if dash else first)]
    if not 0 < numbers[0] <= numbers[1]:
        hint = _HINT if flag == "--publish" else "a number from 1 to 65535, or a range such as 8000-8010"
        raise UsageError(flag, repr(text), f"{ports!r} is not a port", hint)
    return numbers[0], numbers[1]


def _number(text: str) -> int:
    """0 for what is no port."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < 1 << 16 else 0


def _address(text: str, written: str) -> str:
    """In its canonical form."""
    brackets = written.startswith("[") and written.endswith("]")
    family = _socket.AF_INET6 if brackets else _socket.AF_INET
    address = written[1:-1] if brackets else written or EVERYWHERE
    if address == EVERYWHERE and not brackets:
        return address
    try:
        packed = _socket.inet_pton(family, address)
        if packed.startswith(_MAPPED):
            raise ValueError("IPv4 in brackets")
        return _socket.inet_ntop(family, packed)
    except (OSError, ValueError):
        cause = f"{written!r} is not an address: IPv4, or IPv6 in brackets"
        raise UsageError("--publish", repr(text), cause, _HINT) from None


def _check_once(published: list[Wanted]) -> None:
    """Raises UsageError where two options want the same port of the host's."""
    taken: dict[tuple[str, int], list[str]] = {}
    for wanted in published:
        if not wanted.first or wanted.first != wanted.last:
            continue
        places = taken.setdefault((wanted.protocol, wanted.first), [])
        for address in (ANY, ANY6) if wanted.host_address == EVERYWHERE else (wanted.host_address,):
            others = [each for each in places if is_ipv6(each) == is_ipv6(address)]
            if address in others or (others and {ANY, ANY6} & {address, *others}):
                port = f"{wanted.first}/{wanted.protocol}"
                raise UsageError("--publish", port, "the same port of the host's is published twice")
            places.append(address)
