from __future__ import annotations

import pytest

from pycontainer.errors import UsageError
from pycontainer.network import files

STUB = "# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n"


def test_reachable_servers_search_and_options_are_kept() -> None:
    host = "; old\nnameserver 192.0.2.53 # first\nnameserver 192.0.2.54\nsearch a.example b.example\noptions ndots:2\n"
    assert files.resolv_conf(host) == (
        "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch a.example b.example\noptions ndots:2\n"
    )


def test_servers_that_a_container_cannot_reach_are_dropped() -> None:
    host = "nameserver 127.0.0.1\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.53\nnameserver bad\n"
    assert files.resolv_conf(host) == "nameserver 192.0.2.53\n"


def test_nothing_reachable_leaves_no_nameserver() -> None:
    assert files.nameservers(files.resolv_conf(STUB)) == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (STUB, True),
        ("", False),
        ("nameserver 192.0.2.1\n", False),
        ("nameserver 127.0.0.1\nnameserver 8.8.8.8\n", False),
    ],
)
def test_only_loopback_servers_ask_for_resolveds_list(host: str, expected: bool) -> None:
    assert files.needs_resolved(host) is expected


def test_flags_replace_what_the_host_has() -> None:
    host = "nameserver 192.0.2.53\nsearch lan\noptions ndots:2\n"
    assert files.resolv_conf(host, servers=("192.0.2.9", "2001:db8::1")) == (
        "nameserver 192.0.2.9\nnameserver 2001:db8::1\nsearch lan\noptions ndots:2\n"
    )
    assert files.resolv_conf(host, search=("a", "b"), options=("rotate",)) == (
        "nameserver 192.0.2.53\nsearch a b\noptions rotate\n"
    )
    assert "search" not in files.resolv_conf(host, search=(".",))


def test_a_loopback_server_given_by_the_user_is_kept() -> None:
    assert files.resolv_conf(STUB, servers=("127.0.0.1",)).startswith("nameserver 127.0.0.1\n")


def test_last_search_line_counts_and_domain_stands_in() -> None:
    assert "search b\n" in files.resolv_conf("search a\nsearch b\n")
    assert "search example.org\n" in files.resolv_conf("domain example.org\n")


@pytest.mark.parametrize("server", ["", "dns.example.org", "1.2.3", "1.2.3.4\nnameserver 6.6.6.6", "1.2.3.4\0"])
def test_dns_must_be_an_address(server: str) -> None:
    with pytest.raises(UsageError, match="not an IP address"):
        files.resolv_conf("", servers=(server,))


def test_hosts_of_a_container_on_the_bridge() -> None:
    text = files.hosts("web.example.org", ["10.99.0.2"], (("db", "10.99.0.3"),))
    assert text.startswith("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost")
    assert text.endswith("10.99.0.3\tdb\n10.99.0.2\tweb.example.org web\n")


def test_hosts_without_an_address_names_localhost_only() -> None:
    assert files.hosts("web") == files.LOCALHOST
    assert files.hosts("web", ["10.99.0.2"]).endswith("10.99.0.2\tweb\n")


def test_hosts_on_the_hosts_network_extends_the_hosts_file() -> None:
    assert files.hosts(host="127.0.0.1 localhost", extra=(("db", "::1"),)) == "127.0.0.1 localhost\n::1\tdb\n"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("db:10.0.0.1", ("db", "10.0.0.1")),
        ("db=10.0.0.1", ("db", "10.0.0.1")),
        ("db:2001:db8::1", ("db", "2001:db8::1")),
        ("db=[2001:db8::1]", ("db", "2001:db8::1")),
        ("host.docker.internal:host-gateway", ("host.docker.internal", "10.99.0.1")),
    ],
)
def test_add_host(argument: str, expected: tuple[str, str]) -> None:
    assert files.parse_add_host(argument, "10.99.0.1") == expected


@pytest.mark.parametrize("argument", ["db", "db:", ":10.0.0.1", "a b:10.0.0.1", "db:nowhere", "a\nb:10.0.0.1"])
def test_add_host_refuses(argument: str) -> None:
    with pytest.raises(UsageError, match="--add-host"):
        files.parse_add_host(argument, "10.99.0.1")


def test_host_gateway_needs_a_gateway() -> None:
    with pytest.raises(UsageError, match="host-gateway"):
        files.parse_add_host("db:host-gateway", "")


def test_hostname() -> None:
    assert files.hostname("web") == "web\n"
