"""/etc/resolv.conf, /etc/hosts and /etc/hostname of a container: text in, text out. See resolv.conf(5), hosts(5)."""

from __future__ import annotations

import _socket

from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RESOLV_CONF = "/etc/resolv.conf"
# systemd-resolved's list of the servers behind its own 127.0.0.53.
RESOLVED_CONF = "/run/systemd/resolve/resolv.conf"

LOCALHOST = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def nameservers(text: str) -> list[str]:
    """The addresses of the name servers in a resolv.conf, in order; what is not an address is left out."""
    return [server for server in _words(text, "nameserver") if _is_address(server)]


def needs_resolved(host: str) -> bool:
    """Whether the host's resolv.conf names only servers on its loopback, which a container cannot reach."""
    servers = nameservers(host)
    return bool(servers) and not any(map(_is_reachable, servers))


def resolv_conf(
    host: str, servers: tuple[str, ...] = (), search: tuple[str, ...] = (), options: tuple[str, ...] = ()
) -> str:
    """A resolv.conf for a container with a network of its own, from the text of the host's.

    `servers`, `search` and `options` (--dns, --dns-search, --dns-opt) each replace what the host has; a search of "."
    is none. Servers of the host that a container on an IPv4 bridge cannot reach are dropped. The text may end up
    without a nameserver: nameservers() tells. Raises UsageError.
    """
    for server in servers:
        if not _is_address(server):
            raise UsageError("--dns", server, "not an IP address")
    chosen = list(servers) or [server for server in nameservers(host) if _is_reachable(server)]
    domains = list(search) or _words(host, "search") or _words(host, "domain")
    lines = [f"nameserver {server}" for server in chosen]
    if domains and domains != ["."]:
        lines.append(f"search {' '.join(domains)}")
    if settings := list(options) or _words(host, "options"):
        lines.append(f"options {' '.join(settings)}")
    return "".join(f"{line}\n" for line in lines)


def exchange_servers(text: str, ours: set[str], chosen: list[str]) -> str:
    """A resolv.conf with `chosen` in place of its first name server that is one of `ours`.

    Where it has none of them, `chosen` comes first of all; what else it says stays.
    """
    lines = text.splitlines()
    mine = [
        number
        for number, line in enumerate(lines)
        if line.split()[:1] == ["nameserver"] and line.split()[1:2] and line.split()[1] in ours
    ]
    place = mine[0] if mine else 0
    rest = [line for number, line in enumerate(lines) if number not in mine]
    new = [f"nameserver {server}" for server in chosen]
    return "".join(f"{line}\n" for line in [*rest[:place], *new, *rest[place:]])


def parse_add_host(argument: str, gateway: str) -> tuple[str, str]:
    """`--add-host NAME:ADDRESS` (or NAME=ADDRESS) as name and address; host-gateway is the host. Raises UsageError."""
    name, _, address = argument.partition("=" if "=" in argument else ":")
    if address == "host-gateway":
        if not gateway:
            raise UsageError("--add-host", argument, "without the bridge network there is no host-gateway")
        address = gateway
    address = address.removeprefix("[").removesuffix("]")
    if not name or name.split() != [name] or not _is_address(address):
        raise UsageError("--add-host", argument, "not NAME:ADDRESS", "ADDRESS is an IP address or host-gateway")
    return name, address


def hosts(
    hostname: str = "", addresses: Sequence[str] = (), extra: tuple[tuple[str, str], ...] = (), host: str = ""
) -> str:
    """A hosts file: localhost, `extra` names with their addresses, the container's own addresses with its name.

    `host` is the host's own file, which stands in for the first part with `--network host`.
    """
    text = host if host.endswith("\n") or not host else f"{host}\n"
    text = text or LOCALHOST
    for name, other in extra:
        text += f"{other}\t{name}\n"
    short = hostname.partition(".")[0]
    for address in addresses if hostname else ():
        text += f"{address}\t{hostname}" + (f" {short}\n" if short != hostname else "\n")
    return text


def hostname(name: str) -> str:
    """See hostname(5)."""
    return f"{name}\n"


def _words(text: str, keyword: str) -> list[str]:
    """What follows `keyword`: of all its lines for nameserver, of the last otherwise, as the resolver reads them."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.partition("#")[0].partition(";")[0].split()
        if words and words[0] == keyword:
            found = found + words[1:2] if keyword == "nameserver" else words[1:]
    return found


def _is_address(text: str) -> bool:
    # A link-local IPv6 address names its link after a percent sign.
    for family, address in ((_socket.AF_INET, text), (_socket.AF_INET6, text.partition("%")[0])):
        try:
            _socket.inet_pton(family, address)
            return True
        except (OSError, ValueError):
            continue
    return False


def _is_reachable(server: str) -> bool:
    return ":" not in server and not server.startswith("127.") and server != "0.0.0.0"
