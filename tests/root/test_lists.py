"""`ps`, `images`, `events`, `volume ls` and `network ls` as a user meets them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest
from conftest import Pycontainer, wait_until

NONE = ("--network", "none")
SLEEP = ("busybox", "sleep", "1000")


@pytest.fixture
def engine(box: Pycontainer) -> Iterator[Pycontainer]:
    """The module's store; the containers and volumes of the test are removed."""
    yield box
    for kind, command in (("ps -aq", "rm -fv"), ("volume ls -q", "volume rm")):
        if found := box(*kind.split(), check=True).stdout.split():
            box(*command.split(), *found, check=True)


def column(engine: Pycontainer, *arguments: str) -> list[str]:
    return engine(*arguments, check=True).stdout.splitlines()


def names(engine: Pycontainer, *arguments: str) -> list[str]:
    return column(engine, "ps", "--format", "{{.Names}}", *arguments)


def status(engine: Pycontainer, name: str) -> str:
    return column(engine, "ps", "-a", "--filter", f"name=^{name}$", "--format", "{{.Status}}")[0]


def test_ps_shows_what_runs_newest_first(engine: Pycontainer) -> None:
    engine("run", "-d", "--name", "first", *NONE, *SLEEP, check=True)
    engine("create", "--name", "second", *NONE, *SLEEP, check=True)
    engine("run", "-d", "--name", "third", *NONE, *SLEEP, check=True)
    engine("run", "--name", "fourth", *NONE, "busybox", "false")
    assert names(engine) == ["third", "first"]
    assert names(engine, "-a") == ["fourth", "third", "second", "first"]
    assert names(engine, "-l") == ["fourth"]
    assert names(engine, "-n", "3") == ["fourth", "third", "second"]
    assert names(engine, "-n", "1", "-f", "status=created") == ["second"]
    assert names(engine, "-f", "status=exited", "-f", "exited=1") == ["fourth"]
    assert names(engine, "-f", "since=second", "-f", "ancestor=busybox") == ["third"]
    ids = column(engine, "ps", "-aq", "--no-trunc")
    assert [len(each) for each in ids] == [64] * 4
    assert column(engine, "ps", "-aq") == [each[:12] for each in ids]


def test_the_table_of_ps(engine: Pycontainer) -> None:
    container = engine(
        "run", "-d", "--name", "web", *NONE, "busybox", "sh", "-c", "sleep 1000; true", check=True
    ).stdout
    header, line = column(engine, "ps")
    assert header.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    cells = re.split(r" {2,}", line)
    assert cells[:3] == [container[:12], "busybox", '"sh -c sleep 1000; t…"']
    assert cells[3].endswith(" ago") and cells[4].startswith("Up ") and cells[-1] == "web"
    assert line.index("busybox") == header.index("IMAGE") and line.index("web") == header.index("NAMES")
    assert '"sh -c sleep 1000; true"' in column(engine, "ps", "--no-trunc")[1]


def test_the_words_of_the_status(engine: Pycontainer) -> None:
    engine("create", "--name", "new", *NONE, *SLEEP, check=True)
    assert status(engine, "new") == "Created"
    engine("run", "--name", "ended", *NONE, "busybox", "sh", "-c", "exit 3")
    assert re.fullmatch(r"Exited \(3\) .* ago", status(engine, "ended"))
    engine("run", "-d", "--name", "frozen", *NONE, *SLEEP, check=True)
    assert re.fullmatch(r"Up (?!.*ago).*", status(engine, "frozen"))
    engine("pause", "frozen", check=True)
    assert re.fullmatch(r"Up .* \(Paused\)", status(engine, "frozen"))
    # One that fails at once, so that it waits for its next start most of the time.
    engine("run", "-d", "--name", "again", "--restart", "always", *NONE, "busybox", "false", check=True)
    wait_until(lambda: re.fullmatch(r"Restarting \(1\) .* ago", status(engine, "again")))
    health = ("--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-retries", "1")
    engine("run", "-d", "--name", "patient", *health, *NONE, *SLEEP, check=True)
    wait_until(lambda: status(engine, "patient").endswith("(unhealthy)"))
    engine("exec", "patient", "touch", "/well", check=True)
    wait_until(lambda: status(engine, "patient").endswith("(healthy)"))


def test_the_placeholders_of_ps(engine: Pycontainer) -> None:
    options = ("-l", "b=2", "-l", "a.name=1", "-v", "data:/srv", "-v", "/tmp:/host")
    engine(
        "run", "-d", "--name", "web", *options, *NONE, "busybox", "sh", "-c", "echo 123 > /file; sleep 1000", check=True
    )
    (row,) = map(json.loads, column(engine, "ps", "--format", "json"))
    expected = {
        "Names": "web", "Image": "busybox", "Labels": "a.name=1,b=2", "Mounts": "data,/tmp", "LocalVolumes": "1",
        "Networks": "none", "State": "running", "Ports": "", "Size": "0B",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \S+", row["CreatedAt"])
    lines = column(engine, "ps", "--format", 'table {{.Names}}\\t{{.Label "a.name"}}')
    assert lines == ["NAMES     name", "web       1"]
    wait_until(lambda: column(engine, "ps", "--format", "{{.Size}}")[0].startswith("4B (virtual "))
    assert "4B (virtual " in column(engine, "ps", "-s")[1]


def test_an_image_whose_name_went_to_another_is_shown_by_its_id(engine: Pycontainer) -> None:
    image = column(engine, "images", "-q", "busybox")[0]
    engine("tag", "busybox", "mine:v1", check=True)
    engine("create", "--name", "old", *NONE, "mine:v1", "true", check=True)
    try:
        assert column(engine, "ps", "-a", "--format", "{{.Image}}") == ["mine:v1"]
        engine("rmi", "mine:v1", check=True)
        assert column(engine, "ps", "-a", "--format", "{{.Image}}") == [image]
    finally:
        engine("rmi", "mine:v1")


def test_hostile_text_does_not_reach_the_terminal(engine: Pycontainer) -> None:
    engine("create", "--name", "worse", "-l", "x=\x1b]0;a\x07", *NONE, "busybox", "\x1b[31m\n", check=True)
    for format_ in (
        (),
        ("--format", "{{.Labels}} {{.Command}}"),
        ("--format", "table {{.Command}}"),
        ("--format", "json"),
    ):
        output = engine("ps", "-a", "--no-trunc", *format_, check=True).stdout
        assert "\x1b" not in output and "\x07" not in output
    assert "\x1b" not in engine("events", "--since", "1h", "--until", "0s", check=True).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ps", "--filter", "nme=x"], "no such filter 'nme'"),
        (["ps", "--filter", "status=x"], "status=x: no such value"),
        (["ps", "--last", "x"], "--last: 'x': not a number"),
        (["ps", "--format", "{{.Name"], "template: :1:7: unclosed action"),
        (["images", "--filter", "before=nothing"], "no such image: nothing"),
        (["events", "--since", "soon"], "--since: 'soon': not a time"),
        (["volume", "ls", "--filter", "dangling=x"], "dangling=x: not a boolean"),
        (["network", "ls", "--filter", "type=x"], "type=x: no such value"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str, engine: Pycontainer) -> None:
    result = engine(*arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert message in result.stderr


def test_images(engine: Pycontainer) -> None:
    engine("tag", "busybox", "localhost:5000/team/app:v1", check=True)
    try:
        header, *lines = column(engine, "images")
        assert header.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
        assert [line.split()[:2] for line in lines] == [["busybox", "latest"], ["localhost:5000/team/app", "v1"]]
        (image,) = set(column(engine, "images", "-q"))
        (whole,) = column(engine, "images", "-q", "--no-trunc", "busybox")
        assert re.fullmatch(rf"sha256:{image}[0-9a-f]{{52}}", whole)
        form = ("--format", "{{.Repository}}:{{.Tag}}")
        assert column(engine, "images", "localhost:5000/*/app", *form) == ["localhost:5000/team/app:v1"]
        assert column(engine, "images", "busybox:latest", *form) == ["busybox:latest"]
        assert column(engine, "images", "nothing", *form) == []
        assert column(engine, "images", "-f", "dangling=true", *form) == []
        (row,) = map(json.loads, column(engine, "images", "--format", "json", "busybox"))
        assert row["ID"] == image and row["Containers"] == "0" and row["Digest"].startswith("sha256:")
    finally:
        engine("rmi", "localhost:5000/team/app:v1", check=True)


def test_events_of_a_life(engine: Pycontainer) -> None:
    engine("run", "--rm", "--name", "life", "-l", "a=b", "-v", "data:/srv", *NONE, "busybox", "sh", "-c", "exit 3")
    stored = ("events", "--since", "1h", "--until", "0s")
    mine = (*stored, "-f", "container=life")
    form = ("--format", "{{.Action}} {{.Actor.Attributes.exitCode}}")
    actions = column(engine, *mine, *form)
    assert [action for action in actions if action.split()[0] in ("create", "start", "die", "destroy")] == [
        "create <no value>", "start <no value>", "die 3", "destroy <no value>",
    ]  # fmt: skip
    line = column(engine, *mine, "-f", "event=die")[0]
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)"
    assert re.fullmatch(rf"{time} container die [0-9a-f]{{64}} \(a=b, exitCode=3, image=busybox, name=life\)", line)
    (event,) = map(json.loads, column(engine, *mine, "-f", "event=die", "--format", "json"))
    assert (event["status"], event["Type"], event["from"], event["scope"]) == ("die", "container", "busybox", "local")
    assert event["id"] == event["Actor"]["ID"] and event["Actor"]["Attributes"]["exitCode"] == "3"
    assert event["timeNano"] // 1_000_000_000 == event["time"]
    # The time of an event, as it is written, is that event's.
    moment = line.split()[0]
    assert column(engine, "events", "--since", moment, "--until", moment, "-f", "container=life") == [line]
    assert [text.split()[2] for text in column(engine, *stored, "-f", "volume=data")][:2] == ["create", "mount"]


def test_events_as_they_happen(engine: Pycontainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    engine("create", "--name", "one", *NONE, "busybox", "true", check=True)
    command = (
        "events",
        "--since",
        "0",
        "-f",
        "event=create",
        "-f",
        "type=container",
        "--format",
        "{{.Actor.Attributes.name}}",
    )
    with engine.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        lines = iter(process.stdout.readline, "")
        # What is stored comes first: now it follows.
        assert "one\n" in lines
        engine("create", "--name", "two", *NONE, "busybox", "true", check=True)
        assert next(lines) == "two\n"
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (130, "")


def test_events_end_when_nobody_reads_them(engine: Pycontainer) -> None:
    engine("create", "--name", "one", *NONE, "busybox", "true", check=True)
    with engine.popen("events", "--since", "0", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        engine("rm", "one", check=True)
        assert (process.wait(30), process.stderr.read()) == (141, "")


def test_volumes(engine: Pycontainer) -> None:
    engine("volume", "create", "--label", "a=b", "one", check=True)
    engine("create", *NONE, "-v", "two:/srv", "busybox", check=True)
    assert column(engine, "volume", "ls") == ["DRIVER    VOLUME NAME", "local     one", "local     two"]
    assert column(engine, "volume", "ls", "-q", "-f", "dangling=true") == ["one"]
    assert column(engine, "volume", "ls", "--format", '{{.Name}} {{.Labels}} {{.Label "a"}}') == ["one a=b b", "two  "]
    (row,) = map(json.loads, column(engine, "volume", "ls", "-f", "name=two", "--format", "json"))
    assert (row["Scope"], row["Mountpoint"]) == ("local", f"{engine.root}/volumes/two/_data")


def test_networks(engine: Pycontainer) -> None:
    header, *lines = column(engine, "network", "ls")
    assert header.split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert [line.split()[1:] for line in lines] == [
        ["bridge", "bridge", "local"], ["host", "host", "local"], ["none", "null", "local"],
    ]  # fmt: skip
    (network_id,) = column(engine, "network", "ls", "-q", "--no-trunc", "-f", "driver=null")
    assert len(network_id) == 64 and lines[2].startswith(network_id[:12])
    assert column(engine, "network", "ls", "--format", "{{.Name}}", "-f", f"id={network_id}") == ["none"]
