"""`inspect`, the `prune` family, `system df`, `info` and `version` as a user meets them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from conftest import Pycontainer

from pycontainer.engine import containers

NONE = ("--network", "none")
SLEEP = ("busybox", "sleep", "1000")


@pytest.fixture
def engine(box: Pycontainer) -> Iterator[Pycontainer]:
    """The module's store; the containers and volumes of the test are removed."""
    yield box
    for kind, command in (("ps -aq", "rm -fv"), ("volume ls -q", "volume rm")):
        if found := box(*kind.split(), check=True).stdout.split():
            box(*command.split(), *found, check=True)


def inspected(engine: Pycontainer, *arguments: str) -> dict:
    (found,) = json.loads(engine("inspect", *arguments, check=True).stdout)
    return found


def test_a_container_that_runs(engine: Pycontainer) -> None:
    options = ("-e", "A=1", "-l", "k=v", "-v", "data:/srv:ro", "-w", "/tmp", "--restart", "on-failure:3", "-h", "box")
    container = engine("run", "-d", "--name", "web", *options, *NONE, *SLEEP, check=True).stdout.strip()
    found = inspected(engine, "web")
    assert found == inspected(engine, container[:12])
    assert (found["Id"], found["Name"], found["Path"], found["Args"]) == (container, "/web", "sleep", ["1000"])
    state = found["State"]
    assert (state["Status"], state["Running"], state["ExitCode"]) == ("running", True, 0)
    with open(f"/proc/{state['Pid']}/cmdline") as file:
        assert file.read() == "sleep\x001000\x00"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", state["StartedAt"])
    assert {"A=1"} <= set(found["Config"]["Env"]) and found["Config"]["Labels"] == {"k": "v"}
    assert (found["Config"]["WorkingDir"], found["Config"]["Hostname"]) == ("/tmp", "box")
    assert found["HostConfig"]["NetworkMode"] == "none"
    assert found["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    (mount,) = found["Mounts"]
    assert (mount["Type"], mount["Name"], mount["Destination"], mount["RW"]) == ("volume", "data", "/srv", False)
    image = json.loads(engine("image", "inspect", "busybox", check=True).stdout)[0]
    assert found["Image"] == image["Id"]


def test_a_container_that_has_ended(engine: Pycontainer) -> None:
    engine("run", "--name", "gone", *NONE, "busybox", "sh", "-c", "echo 123 > /file; exit 3")
    found = inspected(engine, "-s", "gone")
    state = found["State"]
    assert (state["Status"], state["Running"], state["Pid"], state["ExitCode"]) == ("exited", False, 0, 3)
    assert state["FinishedAt"] > state["StartedAt"]
    assert found["SizeRw"] == 4
    assert found["SizeRootFs"] == 4 + inspected(engine, "busybox")["Size"]


def test_what_a_name_means(engine: Pycontainer) -> None:
    """A container comes first, then an image, a network, a volume; --type says which."""
    engine("volume", "create", "busybox", check=True)
    assert inspected(engine, "busybox")["RepoTags"] == ["busybox:latest"]
    assert inspected(engine, "--type", "volume", "busybox")["Driver"] == "local"
    engine("create", "--name", "busybox", *NONE, *SLEEP, check=True)
    assert inspected(engine, "busybox")["Name"] == "/busybox"
    assert inspected(engine, "bridge")["Driver"] == "bridge"
    assert inspected(engine, "--type", "image", "busybox")["RepoTags"] == ["busybox:latest"]


def test_templates(engine: Pycontainer) -> None:
    engine("create", "--name", "one", "-l", "b=2", "-l", "a=1", *NONE, *SLEEP, check=True)
    engine("create", "--name", "two", *NONE, *SLEEP, check=True)

    def shown(template: str, *names: str) -> str:
        return engine("inspect", "-f", template, *names).stdout

    assert shown("{{.Name}} {{.State.Status}}", "one", "two") == "/one created\n/two created\n"
    assert shown("{{json .Config.Labels}}", "one") == '{"a":"1","b":"2"}\n'
    assert shown("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "one") == "a=1;b=2;\n"
    assert shown('{{join .Args ","}}{{if .State.Running}}up{{else}}down{{end}}', "one") == "1000down\n"
    assert shown('{{index .Config.Labels "a"}}', "one") == "1\n"
    line = engine("inspect", "--format", "json", "one", check=True).stdout
    assert line.count("\n") == 1 and json.loads(line)["Name"] == "/one"
    wrong = engine("inspect", "-f", "{{.Nosuch}}", "one")
    assert wrong.returncode == 1 and "Nosuch" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "nothing"], "no such object"),
        (["inspect", "NO/thing:"], "no such object"),
        (["inspect", "--type", "container", "busybox"], "no such container"),
        (["inspect", "--type", "thing", "busybox"], "no such type"),
        (["image", "inspect", "nothing"], "no such image"),
        (["network", "inspect", "nothing"], "no such network"),
        (["volume", "inspect", "nothing"], "no such volume"),
    ],
)
def test_what_is_not_there(arguments: list[str], message: str, engine: Pycontainer) -> None:
    result = engine(*arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stdout in ("[]\n", "")


def test_what_is_there_is_shown_beside_what_is_not(engine: Pycontainer) -> None:
    result = engine("inspect", "nothing", "busybox")
    assert result.returncode == 1
    assert [found["RepoTags"] for found in json.loads(result.stdout)] == [["busybox:latest"]]
    assert "nothing" in result.stderr


def test_a_network_has_the_containers_that_run_in_it(pycontainer: Pycontainer, busybox: str) -> None:
    pycontainer("run", "-d", "--name", "in", *SLEEP, check=True)
    pycontainer("run", "-d", "--name", "out", *NONE, *SLEEP, check=True)
    pycontainer("create", "--name", "still", *SLEEP, check=True)
    (found,) = json.loads(pycontainer("network", "inspect", "bridge", check=True).stdout)
    (endpoint,) = found["Containers"].values()
    assert endpoint["Name"] == "in"
    address = pycontainer("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "in", check=True).stdout.strip()
    assert endpoint["IPv4Address"].partition("/")[0] == address
    assert f" {address}/" in pycontainer("exec", "in", "ip", "addr", check=True).stdout
    pycontainer("rm", "-f", "in", "out", "still", check=True)


def test_pruning_containers(engine: Pycontainer) -> None:
    engine("run", "-d", "--name", "runs", *NONE, *SLEEP, check=True)
    ended = engine("create", "--name", "new", "-l", "keep", *NONE, *SLEEP, check=True).stdout.strip()
    engine("run", "--name", "old", *NONE, "busybox", "sh", "-c", "echo 123 > /file")
    assert engine("container", "prune", input="n\n", check=True).stdout.endswith("[y/N] ")
    assert engine("container", "prune", check=True).stdout.endswith("[y/N] \n"), "the end of the input is a no"
    assert len(engine("ps", "-aq", check=True).stdout.split()) == 3
    result = engine("container", "prune", "--filter", "label!=keep", input="y\n", check=True)
    assert "Total reclaimed space: 4B\n" in result.stdout
    assert engine("ps", "-a", "--format", "{{.Names}}", check=True).stdout.split() == ["new", "runs"]
    result = engine("container", "prune", "-f", check=True)
    assert result.stdout == f"Deleted Containers:\n{ended}\n\nTotal reclaimed space: 0B\n"
    assert engine("container", "prune", "-f", check=True).stdout == "Total reclaimed space: 0B\n"


def test_pruning_images(engine: Pycontainer) -> None:
    engine("run", "--name", "base", *NONE, "busybox", "sh", "-c", "echo 12345 > /file", check=True)
    nameless = engine("commit", "base", check=True).stdout.strip()
    engine("commit", "-m", "not the same", "base", "named:v1", check=True)
    engine("create", "--name", "user", *NONE, nameless, "true", check=True)
    assert engine("image", "prune", "-f", check=True).stdout == "Total reclaimed space: 0B\n", "it is in use"
    engine("rm", "user", check=True)
    result = engine("image", "prune", "-f", check=True)
    assert f"deleted: {nameless}" in result.stdout
    assert "named:v1" in engine("images", "--format", "{{.Repository}}:{{.Tag}}", check=True).stdout
    result = engine("image", "prune", "-af", check=True)
    assert "untagged: named:v1" in result.stdout
    assert "busybox" not in result.stdout, "a container is made of it"


def test_pruning_everything(engine: Pycontainer) -> None:
    engine("run", "-d", "--name", "runs", "-v", "/anonymous", *NONE, *SLEEP, check=True)
    engine("run", "--name", "ended", "-v", "/data", "-v", "kept:/kept", *NONE, "busybox", "true", check=True)
    result = engine("system", "prune", input="n\n", check=True)
    assert "stopped containers" in result.stdout and "volumes" not in result.stdout
    engine("system", "prune", "-f", check=True)
    assert engine("ps", "-a", "--format", "{{.Names}}", check=True).stdout == "runs\n"
    assert len(engine("volume", "ls", "-q", check=True).stdout.split()) == 3
    engine("system", "prune", "-f", "--volumes", check=True)
    left = engine("volume", "ls", "-q", check=True).stdout.split()
    assert "kept" in left and len(left) == 2
    refused = engine("system", "prune", "--volumes", "--filter", "until=1h")
    assert refused.returncode == 1 and "not with --volumes" in refused.stderr


def test_disk_usage(engine: Pycontainer) -> None:
    engine("run", "-d", "--name", "runs", *NONE, "busybox", "sh", "-c", "echo 123 > /file; sleep 1000", check=True)
    engine(
        "run", "--name", "ended", "-v", "data:/srv", *NONE, "busybox", "sh", "-c", "echo 1 > /srv/x; echo 1234567 > /f"
    )
    engine("volume", "create", "unused", check=True)
    rows = {row["Type"]: row for row in map(json.loads, engine("system", "df", "--format", "json").stdout.splitlines())}
    assert (rows["Images"]["TotalCount"], rows["Images"]["Active"]) == ("1", "1")
    assert rows["Images"]["Reclaimable"] == "0B (0%)"
    containers = rows["Containers"]
    assert (containers["TotalCount"], containers["Active"], containers["Size"]) == ("2", "1", "12B")
    assert containers["Reclaimable"] == "8B (66%)"
    volumes = rows["Local Volumes"]
    assert (volumes["TotalCount"], volumes["Active"], volumes["Size"], volumes["Reclaimable"]) == (
        "2",
        "1",
        "2B",
        "0B (0%)",
    )
    table = engine("system", "df", check=True).stdout.splitlines()
    assert table[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    everything = engine("system", "df", "-v", check=True).stdout
    for word in ("busybox", "runs", "ended", "unused", "SHARED SIZE"):
        assert word in everything


def test_information(engine: Pycontainer) -> None:
    engine("create", "--name", "one", *NONE, *SLEEP, check=True)
    text = engine("info", check=True).stdout
    assert "Containers: 1\n" in text and " Stopped: 1\n" in text
    assert engine("info", "--format", "{{.Containers}} {{.Driver}}", check=True).stdout == "1 overlay\n"
    found = json.loads(engine("info", "--format", "json", check=True).stdout)
    assert found["DockerRootDir"] == str(engine.root)
    version = engine("--version", check=True).stdout.split()[1]
    assert engine("version", check=True).stdout.startswith(f"pycontainer: {version}\n")
    assert engine("version", "--format", "{{.Server.Version}}", check=True).stdout == f"{version}\n"


def test_top(box: Pycontainer) -> None:
    """Only what runs in it, whatever the terminal, in the columns that were asked for."""
    box("run", "-d", "--name", "busy", "--network", "none", "busybox", "sh", "-c", "sleep 1000 & wait", check=True)
    try:
        for options in ((), ("aux",), ("-o", "pid,args"), ("-eo", "pid,args")):
            head, *rows = box("top", "busy", *options, check=True).stdout.splitlines()
            assert "PID" in head
            assert len(rows) == 2 and all("sleep 1000" in row for row in rows), options
        assert box("top", "busy", "-o", "args").returncode == 1
    finally:
        box("rm", "-f", "busy", check=True)
    assert "not running" in box("top", "busy").stderr or "no such container" in box("top", "busy").stderr


def test_one_that_is_still_put_away_can_be_removed(engine: Pycontainer) -> None:
    """After `wait` its monitor may hold it for a moment; one that goes on to run is refused."""
    container = engine("run", "-d", "--name", "web", *NONE, "busybox", "true", check=True).stdout.strip()
    engine("wait", "web", check=True)
    owner = containers.lock(str(engine.state), container)
    with engine.popen("rm", "web", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as removing:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                removing.wait(0.7)
        finally:
            # Whatever happens, because `rm -f` would end this process for a monitor that hangs.
            containers.unlock(str(engine.state), container, owner)
        assert removing.communicate(timeout=60) == ("web\n", None) and removing.returncode == 0
    engine("run", "-d", "--name", "web", *NONE, *SLEEP, check=True)
    refused = engine("rm", "web")
    assert refused.returncode == 1 and "remove container: web: it is running\n" in refused.stderr


def test_by_force_what_is_not_there_is_gone(box: Pycontainer) -> None:
    result = box("rm", "-f", "no-such-thing")
    assert (result.returncode, result.stdout) == (0, "")
    assert "no-such-thing" in result.stderr
    assert box("rm", "no-such-thing").returncode == 1
