"""Names of containers: they come and go, one name for several, and a name server that is killed."""

from __future__ import annotations

import re

from pycontainer.engine.database import open_database
from pycontainer.errors import StepFailed
from pycontainer.labs._stage import IMAGE, Stage
from pycontainer.network import lease

SUMMARY = "Names that come and go with containers, one for three, and who answers."
CONTROLLERS = ()
_NETWORK = "lab-dns-net"
_CLIENT, _WEB = "lab-dns-client", "lab-dns-web"
_REPLICAS = ("lab-dns-one", "lab-dns-two", "lab-dns-three")
_ALIAS = "any"
_START = ["run", "-d", "--network", _NETWORK]
_SLEEP = [IMAGE, "sleep", "600"]
_SERVE = "echo $NAME > /tmp/index.html; exec httpd -f -h /tmp"


def show(stage: Stage) -> None:
    gateway = _network(stage)
    _names(stage)
    _replicas(stage)
    _server(stage, gateway)
    _end(stage)


def _network(stage: Stage) -> str:
    """The address of the name server."""
    stage.part("A network of one's own has a name server")
    stage.own("network", _NETWORK)
    stage.run("network", "create", "--internal", _NETWORK)
    stage.run(*_START, "--name", _CLIENT, *_SLEEP)
    stage.run("exec", _CLIENT, "cat", "/etc/resolv.conf")
    stage.say("It is the host, at its address in that network. This one is internal, so that nobody else is asked.")
    connection = open_database(stage.settings.root)
    stored = lease.find(connection, _NETWORK)
    connection.close()
    assert stored
    return stored.gateway


def _names(stage: Stage) -> None:
    stage.part("A name is there while its container runs")
    _look_up(stage, _WEB, status=1)
    stage.run(*_START, "--name", _WEB, *_SLEEP)
    _look_up(stage, _WEB)
    stage.run("stop", "-t", "0", _WEB)
    _look_up(stage, _WEB, status=1)
    stage.run("start", _WEB)
    _look_up(stage, _WEB)
    stage.say(
        "Nothing is to be remembered: the name server reads the engine's database, and a name is right as soon as the "
        "command has ended."
    )


def _replicas(stage: Stage) -> None:
    stage.part("One name for three, in turns")
    for name in _REPLICAS:
        words = ["--name", name, "--network-alias", _ALIAS, "-e", f"NAME={name}"]
        stage.run(*_START, *words, IMAGE, "sh", "-c", _SERVE)
    for _ in range(2):
        _look_up(stage, _ALIAS)
    ask = ["exec", _CLIENT, "sh", "-c", f"for i in 1 2 3 4 5 6; do wget -qO- {_ALIAS}; done"]
    stage.run(*ask)
    stage.say(
        "All of them each time, and each time another one first, which most programs take. (With glibc those come "
        "first that have more bits in common with the program's own address, RFC 6724: here all have as many.)"
    )
    stage.remove(_REPLICAS[0])
    stage.run(*ask)
    stage.say("None was sent to the one that is gone.")


def _server(stage: Stage, gateway: str) -> None:
    stage.part("A name server that is killed is replaced")
    listening = _servers(stage, gateway)
    found = re.search(r'\("pyc-dns",pid=(\d+)', listening)
    if found is None:
        raise StepFailed("lab", stage.name, 0, cause="ss does not tell who the name server is")
    stage.say("pyc-dns answers. pyc-dns-spare has the same socket and waits for the other's end.")
    stage.host("kill", "-9", found[1])
    _look_up(stage, _REPLICAS[1])
    _servers(stage, gateway)
    stage.say("What had been asked meanwhile was waiting in the socket. The spare one goes on, and has made another.")


def _end(stage: Stage) -> None:
    stage.part("The name server ends with the last container")
    stage.remove(_CLIENT, _WEB, *_REPLICAS[1:])
    stage.run("network", "rm", _NETWORK)


def _look_up(stage: Stage, name: str, status: int = 0) -> None:
    stage.run("exec", _CLIENT, "nslookup", "-type=a", name, status=status)


def _servers(stage: Stage, gateway: str) -> str:
    """Who listens there, as the kernel has it."""
    return stage.host("ss", "-Hlunp", "src", f"{gateway}:53")
