"""`--explain` of commands that start nothing: what it tells, and `=calls` against strace(1).

As in test_explain.py, each operation's lines stand in the trace right behind its calls. Here they are compared as sets:
a tree is removed in the order in which the file system lists it.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator

import pytest
from conftest import COMMAND, Pycontainer, wait_until
from registry import environment, registry
from test_explain import Block, Call, Explained, Matcher, Parser, descriptor, expand
from test_lecture import commands, steps

# What changes something outside this process. Each must be explained while an operation is.
CHANGES = """
mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat mknod mknodat chmod fchmod
fchmodat chown fchown lchown fchownat setxattr lsetxattr fsetxattr mount umount2 move_mount open_tree mount_setattr
chroot unshare setns kill pidfd_send_signal
""".split()
SEEN = "write fork vfork clone chdir openat sendto sendmsg socket execve".split()
# Of what a chrooted child makes of an archive's members, what the archive does not hold: whiteouts.
FOR_OVERLAYFS = re.compile(r"S_IFCHR.*makedev\(0, 0\)|trusted\.overlay\.")


def traced(pycontainer: Pycontainer, tmp_path: pathlib.Path, *words: str) -> tuple[list[Block | Call], str]:
    """Run a command under strace with what it forks: its calls and its explanation's blocks in order; its stdout."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace, told = tmp_path / "trace", tmp_path / "told"
    names = ",".join(f"?{name}" for name in [*CHANGES, *SEEN])
    strace = ["strace", "-f", "-v", "-yy", "-s", "1000000", "-o", str(trace), "-e", f"trace={names}"]
    done = subprocess.run(
        [*strace, *COMMAND, *words, "--explain=calls", "--explain-to", str(told)],
        env={**os.environ, **pycontainer.environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: list[Block | Call] = []
    unfinished: dict[str, str] = {}
    # Of what is executed, and of what a chrooted child does, the most is not ours to explain.
    chrooted: set[str] = set()
    executed: set[str] = set()
    first = trace.read_text(errors="surrogateescape").partition(" ")[0]
    for line in trace.read_text(errors="surrogateescape").splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.lstrip()
        if rest.endswith(" <unfinished ...>"):
            unfinished[pid] = rest.removesuffix(" <unfinished ...>")
            continue
        if rest.startswith("<... "):
            rest = unfinished.pop(pid) + rest.partition(" resumed>")[2]
        match = re.match(r"(\w+)\((.*)\) += (.*)$", rest, re.DOTALL)
        if (
            match is None
            or pid in executed
            or (pid in chrooted and "chdir" not in rest and not FOR_OVERLAYFS.search(rest))
        ):
            continue
        name, arguments, result = match.groups()
        if name == "chroot":
            chrooted.add(pid)
        if name == "execve" and pid != first and result == "0":
            executed.add(pid)
        if name == "write" and re.match(rf"\d+<{re.escape(str(told))}>", arguments):
            text = Parser(arguments).items("")[1][1]
            assert isinstance(text, bytes)
            found.append(Block(text.decode()))
        else:
            found.append(Call(name, arguments, result))
    return found, done.stdout


def disagreements(records: list[Block | Call]) -> list[str]:
    found: list[str] = []
    matcher, made = Matcher(), []
    for record in records:
        if isinstance(record, Call):
            made.append(record)
            continue
        lines = [each for line in record.calls for each in expand(line)]
        for each in itertools.chain.from_iterable([line] * line.times for line in lines):
            call = next((call for call in made if matches(matcher, each, call)), None)
            if call is None:
                found.append(f"explained, not made: {each.line}")
            else:
                made.remove(call)
        found += [
            f"made, not explained: {call!r}" for call in made if must_be_explained(call) and not is_told_later(call)
        ]
        made = [call for call in made if is_told_later(call)]
    # What comes after the last one.
    return found + [f"made, not explained: {call!r}" for call in made if must_be_explained(call)]


def matches(matcher: Matcher, explained: Explained, call: Call) -> bool:
    return matcher.matches(explained, call, by_helper=explained.by_helper)


def must_be_explained(call: Call) -> bool:
    # Python's and SQLite's business, the lock under which a container is removed, the directory where an image arrives.
    is_within = (
        "/db.sqlite" in call.text
        or "/__pycache__/" in call.text
        or re.search(r'"/run/[^"]+/(containers/|dns")', call.text)
    )
    if call.name in ("sendto", "sendmsg"):
        return "<NETLINK:[" in str(call.arguments[0])
    if call.name == "write":
        return descriptor(str(call.arguments[0]))[1].startswith(("/proc/", "/sys/"))
    is_own = call.name in ("mkdir", "rmdir", "unlinkat", "unlink") and re.search(r"/tmp/[0-9a-f]{16}\b", call.text)
    # A process that fetches is ended in any case, though it has mostly ended itself.
    is_end = call.name == "kill" and call.arguments[1] == "SIGKILL"
    return call.name in CHANGES and not (call.failed or is_within or is_own or is_end)


def is_told_later(call: Call) -> bool:
    """What the process does that fetches, which is told when it has ended."""
    return call.name in ("rename", "link", "mkdir") and "/downloads" in call.text


def check_calls(pycontainer: Pycontainer, tmp_path: pathlib.Path, *words: str) -> str:
    """Compare both ways; what the command has printed."""
    records, printed = traced(pycontainer, tmp_path, *words)
    assert any(isinstance(record, Block) and record.calls for record in records), "nothing was explained"
    problems = disagreements(records)
    assert not problems, "\n" + "\n".join(problems)
    for block in records:
        if isinstance(block, Block):
            assert len(block.reasons) == 1, block.calls
            for command in block.commands:
                assert subprocess.run(["bash", "-n", "-c", command.replace("…", "x")]).returncode == 0, command
    return printed


def look(text: str) -> list[str]:
    """What each command that the lecture gives to look at something prints."""
    done = [subprocess.run(["bash", "-c", each], capture_output=True, text=True) for each in commands(text, "?")]
    assert all(each.returncode == 0 for each in done), [each.stderr for each in done]
    return [each.stdout for each in done]


def told(pycontainer: Pycontainer, *words: str) -> str:
    """The lecture; nothing else may be printed but the operands' names."""
    result = pycontainer(*words, "--explain", check=True)
    lines = result.stderr.splitlines()
    assert lines[0].endswith("to look at it afterwards") and max(map(len, lines[1:])) <= 80 + LONGER
    assert [number for number, _ in steps(result.stderr)] == [*range(1, len(steps(result.stderr)) + 1)]
    assert {side for _, side in steps(result.stderr)} == {"host"}
    assert not re.search(r"{\w+}", result.stderr)
    return result.stderr


LONGER = 120  # a path cannot be folded


def flat(text: str) -> str:
    """Without the folds."""
    return " ".join(text.replace("│", "").split())


def titles(text: str) -> list[str]:
    return re.findall(r"^ ?\d+ +host │ (.*)$", text, re.MULTILINE)


def test_volumes(pycontainer: Pycontainer) -> None:
    text = told(pycontainer, "volume", "create", "kept")
    assert titles(text) == ["Make a volume"] and "/volumes/kept/_data" in look(text)[0]
    pycontainer("volume", "create", "other", check=True)
    text = told(pycontainer, "volume", "rm", "kept", "other")
    assert titles(text) == ["Remove volumes: 2"] and look(text) == [""]


def test_the_calls_of_volumes(pycontainer: Pycontainer, tmp_path: pathlib.Path) -> None:
    # The first one makes the directory that all are in.
    assert check_calls(pycontainer, tmp_path, "volume", "create", "kept") == "kept\n"
    data = pycontainer.root / "volumes/kept/_data"
    (data / "deep/er").mkdir(parents=True)
    for name in ("a", "b", "deep/c", "deep/er/d"):
        (data / name).write_text(name)
    assert check_calls(pycontainer, tmp_path, "volume", "rm", "kept") == "kept\n"


def test_a_container_goes(box: Pycontainer) -> None:
    box("create", "--name", "idle", "-v", "/volume", "--network", "none", "busybox", "true", check=True)
    box("run", "-d", "--name", "runs", "--network", "none", "busybox", "sleep", "600", check=True)
    text = told(box, "rm", "-v", "idle")
    assert titles(text) == ["Remove containers: 1"] and "volumes without a name: 1." in " ".join(text.split())
    assert look(text)[0].count("\n") == 1
    text = told(box, "rm", "-f", "runs")
    assert titles(text) == ["End it", "Remove containers: 1"] and look(text) == [""]


def test_the_calls_of_a_removal(box: Pycontainer, tmp_path: pathlib.Path) -> None:
    for words in (("--name", "writer", "-v", "/volume"), ("--name", "second")):
        box("run", *words, "--network", "none", "busybox", "sh", "-c", CHANGE, check=True)
    assert check_calls(box, tmp_path, "rm", "-v", "writer", "second") == "writer\nsecond\n"
    box("run", "-d", "--name", "runs", "--network", "none", "busybox", "sleep", "600", check=True)
    assert check_calls(box, tmp_path, "rm", "-f", "runs") == "runs\n"


def test_an_archive_is_taken_in(pycontainer: Pycontainer, busybox_archive: pathlib.Path) -> None:
    text = told(pycontainer, "load", "-i", str(busybox_archive))
    assert titles(text) == ["Take in what the archive holds", "Unpack layers: 3", "Store it"]
    listed, _, layers = look(text)
    assert "manifest.json" in listed and layers.count("\n") == 3
    text = told(pycontainer, "load", "-i", str(busybox_archive))
    assert titles(text) == ["Take in what the archive holds", "Store it"], "all layers are there"


def test_the_calls_of_a_load(
    pycontainer: Pycontainer, busybox: str, busybox_archive: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # The store's own directories stay.
    pycontainer("rmi", busybox, check=True)
    archive = tmp_path / "layers.tar"
    archive.write_bytes(layered())
    for path in (busybox_archive, archive):
        assert check_calls(pycontainer, tmp_path, "load", "-i", str(path)).startswith("Loaded image: ")


def test_a_tarball_is_taken_in(box: Pycontainer, tmp_path: pathlib.Path) -> None:
    archive = tmp_path / "tree.tar"
    archive.write_bytes(tar({"etc/": b"", "etc/here": b"x"}))
    text = told(box, "import", str(archive), "tree")
    assert titles(text) == ["Take in what the archive holds", "Unpack layers: 1", "Store it"]
    assert "as it is, it will be the image's only layer" in flat(text) and "etc/here" in look(text)[0]
    assert box("import", "--explain", "-", "tree", input=archive.read_bytes(), text=False).returncode == 0
    box("rmi", "tree", check=True)
    assert check_calls(box, tmp_path, "import", str(archive), "tree").startswith("sha256:")
    box("rmi", "tree", check=True)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, busybox_archive: pathlib.Path) -> Iterator[str]:
    """A registry that has busybox."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    with registry(tmp_path_factory.mktemp("registry")) as host:
        target = f"docker://{host}/team/busybox:1"
        command = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{busybox_archive}", target]
        subprocess.run(command, check=True)
        yield host


@pytest.fixture
def asking(pycontainer: Pycontainer, tmp_path: pathlib.Path) -> Pycontainer:
    pycontainer.environment.update(environment(tmp_path))
    return pycontainer


def test_an_image_is_fetched(asking: Pycontainer, host: str) -> None:
    name = f"{host}/team/busybox:1"
    text = told(asking, "pull", name)
    fetch, store = titles(text)[1], "Store it"
    assert re.fullmatch(r"Fetch what is not here: 4 blobs, \d+ bytes", fetch)
    assert titles(text) == ["Ask what the image is made of", fetch, "Unpack layers: 3", store]
    assert f"curl --location --output {asking.root}/tmp/" in commands(text, "$")[1]
    blobs, _, layers = look(text)
    assert len(re.findall(r" [0-9a-f]{64}$", blobs, re.MULTILINE)) == 5 and layers.count("\n") == 3
    text = told(asking, "pull", name)
    assert titles(text) == ["Ask what the image is made of", "Fetch what is not here: 0 blobs, 0 bytes", store]


def test_the_calls_of_a_pull(asking: Pycontainer, host: str, busybox: str, tmp_path: pathlib.Path) -> None:
    # The store's own directories stay.
    asking("rmi", busybox, check=True)
    assert "Status: Downloaded newer" in check_calls(asking, tmp_path, "pull", f"{host}/team/busybox:1")


def test_what_comes_of_it_is_said_after_the_steps(asking: Pycontainer, host: str) -> None:
    process = asking.popen(
        "pull", "--explain", f"{host}/team/busybox:1", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and said.index("Store it") < said.index("Digest: ")


def test_an_image_that_is_not_there(asking: Pycontainer, host: str) -> None:
    plain, explained = asking("pull", f"{host}/no/such"), asking("pull", "--explain", f"{host}/no/such")
    assert explained.returncode == plain.returncode == 1 and explained.stderr.endswith(plain.stderr)
    assert titles(explained.stderr) == ["Ask what the image is made of"]


def layered() -> bytes:
    """An archive with an image whose second layer deletes a file, and hides what is in a directory."""
    first = tar({"etc/": b"", "etc/gone": b"x", "etc/more/": b"", "etc/more/old": b"y"})
    second = tar({"etc/": b"", "etc/.wh.gone": b"", "etc/more/": b"", "etc/more/.wh..wh..opq": b""})
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in (first, second)]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}}
    manifest = [{"Config": "config.json", "RepoTags": ["layered:latest"], "Layers": ["first", "second"]}]
    return tar(
        {
            "first": first,
            "second": second,
            "config.json": json.dumps(config).encode(),
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.type, member.mode = (tarfile.DIRTYPE, 0o755) if name.endswith("/") else (tarfile.REGTYPE, 0o644)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_a_container_is_stopped(box: Pycontainer) -> None:
    script = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    box("run", "-d", "--name", "asked", "--network", "none", "busybox", "sh", "-c", script, check=True)
    text = told(box, "stop", "-t", "30", "asked")
    assert titles(text) == ["Ask it to end"]
    assert "sends SIGTERM through" in flat(text) and "waits 30 seconds before" in flat(text)
    assert commands(text, "$")[0].startswith("kill -TERM ")
    assert box("stop", "--explain", "asked", check=True).stderr == "", "it has ended: nothing is done"
    box("rm", "asked", check=True)


def test_what_has_changed_becomes_an_image(box: Pycontainer) -> None:
    box("run", "-d", "--name", "source", "--network", "none", "busybox", "sh", "-c", f"{CHANGE}; sleep 600", check=True)
    try:
        wait_until(lambda: "/d/link" in box("diff", "source", check=True).stdout)
        text = told(box, "commit", "source", "made")
        assert titles(text) == ["Pack what the container has changed", "Unpack layers: 1", "Store it"]
        assert "d\n" in look(text)[0]
        assert box("ps", "-q", "--filter", "status=running", check=True).stdout.count("\n") == 1
    finally:
        box("rm", "-f", "source", check=True)
        box("rmi", "made", check=True)


def test_the_calls_of_a_commit(box: Pycontainer, tmp_path: pathlib.Path) -> None:
    box("run", "--name", "source", "--network", "none", "busybox", "sh", "-c", CHANGE, check=True)
    check_calls(box, tmp_path, "commit", "source", "made")
    box("rm", "source", check=True)
    box("rmi", "made", check=True)


@pytest.fixture
def member(busybox: str, pycontainer: Pycontainer) -> Iterator[str]:
    """A container that runs in the network that is always there."""
    pycontainer("run", "-d", "--name", "member", "busybox", "sleep", "600", check=True)
    yield "member"
    pycontainer("rm", "-f", "member", check=True)


def test_a_network_is_made_and_removed(pycontainer: Pycontainer) -> None:
    text = told(pycontainer, "network", "create", "told")
    bridge = "Make a bridge, with an address on it"
    assert titles(text) == ["Look at what is there", bridge, "Have packets translated and filtered"]
    routes, address, rules = look(text)
    subnet = json.loads(pycontainer("network", "inspect", "told", check=True).stdout)[0]["IPAM"]["Config"][0]
    assert subnet["Subnet"] in routes and f" {subnet['Gateway']}/" in address and subnet["Subnet"] in rules
    pycontainer("network", "create", "other", check=True)
    text = told(pycontainer, "network", "rm", "told", "other")
    assert titles(text) == ["Remove networks: 2"] and address.split()[0] not in look(text)[0]


def test_a_container_is_connected(pycontainer: Pycontainer, member: str) -> None:
    pycontainer("network", "create", "told", check=True)
    gateway = json.loads(pycontainer("network", "inspect", "told", check=True).stdout)[0]["IPAM"]["Config"][0][
        "Gateway"
    ]
    wire, ask = "Wire it inside the running container", "Tell it which name server to ask"
    text = told(pycontainer, "network", "connect", "told", member)
    assert titles(text) == ["Look at what is there", "Start the network's name server", wire, ask]
    _, found, addresses, resolv = look(text)
    address = json.loads(pycontainer("inspect", member, check=True).stdout)[0]["NetworkSettings"]["Networks"]["told"][
        "IPAddress"
    ]
    assert f"Address: {address}\n" in found and f" {address}/" in addresses and f"nameserver {gateway}\n" in resolv
    assert [command.split()[0] for command in commands(text, "$")] == ["ip", "dnsmasq", "ip", "printf"]
    text = told(pycontainer, "network", "disconnect", "bridge", member)
    assert titles(text) == ["Pull the cable out", "Look at what is there", wire], "the other one is the way out now"
    (_, _, addresses), route = look(text), commands(text, "$")[-1]
    assert f" {address}/" in addresses and route.endswith(f"ip route add default via {gateway}")
    text = told(pycontainer, "network", "disconnect", "told", member)
    assert titles(text) == ["Pull the cable out", ask] and gateway not in look(text)[1]
    # It does not run: nothing is wired, and so nothing told.
    pycontainer("stop", "-t", "0", member, check=True)
    assert pycontainer("network", "connect", "--explain", "told", member, check=True).stderr == ""


def test_the_calls_of_networks(pycontainer: Pycontainer, member: str, tmp_path: pathlib.Path) -> None:
    check_calls(pycontainer, tmp_path, "network", "create", "told")
    check_calls(pycontainer, tmp_path, "network", "connect", "told", member)
    check_calls(pycontainer, tmp_path, "network", "disconnect", "bridge", member)
    check_calls(pycontainer, tmp_path, "network", "disconnect", "told", member)
    assert check_calls(pycontainer, tmp_path, "network", "rm", "told") == "told\n"


def test_the_calls_of_a_limited_rate(busybox: str, pycontainer: Pycontainer, tmp_path: pathlib.Path) -> None:
    words = ("--name", "slow", "--network-rate", "10mbit")
    pycontainer("run", "-d", *words, "busybox", "sleep", "600", check=True)
    pycontainer("network", "create", "told", check=True)
    check_calls(pycontainer, tmp_path, "network", "connect", "told", "slow")
    check_calls(pycontainer, tmp_path, "network", "disconnect", "bridge", "slow")
    pycontainer("rm", "-f", "slow", check=True)


CHANGE = "mkdir -p /d/e; echo a >/d/a; echo b >/d/e/b; rm /bin/ls; ln -s a /d/link"


def test_as_json(box: Pycontainer) -> None:
    result = box("volume", "create", "--explain=json", "described", check=True)
    (record,) = (json.loads(line) for line in result.stderr.splitlines())
    assert (record["operation"], record["side"]) == ("MakeVolume", "host") and record["calls"]
    assert result.stdout == "described\n"


def test_without_it_nothing_is_told(box: Pycontainer) -> None:
    assert box("volume", "create", "silent", check=True).stderr == ""
    assert box("volume", "rm", "silent", check=True).stderr == ""


@pytest.mark.parametrize("words", [("volume", "create"), ("volume", "rm", "x"), ("rm", "x")])
def test_a_style_that_is_none_is_refused(box: Pycontainer, words: tuple[str, ...]) -> None:
    result = box(*words, "--explain=script")
    assert result.returncode == 1 and "only `run` and `create`" in result.stderr and result.stdout == ""


def test_a_failure_is_said_as_without_it(box: Pycontainer) -> None:
    for words in (("volume", "rm", "none"), ("rm", "none")):
        plain, explained = box(*words), box(*words, "--explain")
        assert explained.returncode == plain.returncode == 1 and explained.stderr.endswith(plain.stderr)


def test_killed_while_it_explains(box: Pycontainer) -> None:
    """Who explains is gone: the command goes on."""
    read, write = os.pipe()
    process = box.popen("volume", "create", "--explain", "unread", stderr=write, stdout=subprocess.PIPE)
    os.close(read)
    os.close(write)
    assert process.wait(60) == 0
    box("volume", "rm", "unread", check=True)
