"""What a lab refuses before it makes anything; and those that need no limits, to their end."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest
from conftest import Pycontainer, is_unified

from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, ImageNotFound
from pycontainer.labs import _stage

NAMESPACES = "/run/netns"  # where ip-netns(8) keeps those that it has names for


@pytest.mark.skipif(is_unified(), reason="this machine can show every lab")
@pytest.mark.parametrize("name", [name for name in _stage.names() if _stage.load(name).CONTROLLERS])
def test_a_machine_that_cannot_show_it(pycontainer: Pycontainer, busybox: str, name: str) -> None:
    result = pycontainer("lab", name)
    assert (result.returncode, result.stdout) == (1, "")
    error, hint = result.stderr.splitlines()
    (controller,) = _stage.load(name).CONTROLLERS
    assert error.startswith(f"pycontainer: lab: {name}: ") and f"{controller} controller" in error
    assert hint.startswith("hint: boot with systemd.unified_cgroup_hierarchy=1")


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this machine had the controllers."""
    monkeypatch.setattr(_stage, "_require_controllers", lambda *_: None)


def test_an_image_that_is_not_there(pycontainer: Pycontainer, able: None) -> None:
    settings = Settings()
    settings.root, settings.state = str(pycontainer.root), str(pycontainer.state)
    with pytest.raises(ImageNotFound, match=r"lab oom: busybox: no such image\nhint: .*pycontainer load -i"):
        _stage.require(settings, "oom")


def test_a_container_of_that_name(box: Pycontainer, able: None) -> None:
    settings = Settings()
    settings.root, settings.state = str(box.root), str(box.state)
    _stage.require(settings, "cpu")
    box("create", "--name", "lab-cpu-more", "--network", "none", "busybox", check=True)
    with pytest.raises(Conflict, match=r"lab cpu: lab-cpu-more: there is a container"):
        _stage.require(settings, "cpu")
    _stage.require(settings, "oom")
    box("rm", "lab-cpu-more", check=True)


def test_a_volume_or_an_image_of_that_name(box: Pycontainer) -> None:
    """It has somebody's data."""
    box("volume", "create", "lab-volumes-data", check=True)
    result = box("lab", "volumes")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "pycontainer: lab volumes: lab-volumes-data: there is a volume of that name",
        "hint: pycontainer volume rm lab-volumes-data",
    ]
    box("volume", "rm", "lab-volumes-data", check=True)
    box("tag", "busybox", "lab-layers-image", check=True)
    result = box("lab", "layers")
    assert (result.returncode, result.stdout) == (1, "")
    assert "lab-layers-image: there is an image of that name" in result.stderr
    box("rmi", "lab-layers-image", check=True)


@pytest.fixture
def namespaces() -> Iterator[None]:
    """One session at a time, because the names of network namespaces are the whole machine's.

    What ip-netns(8) keeps them in is as it was before: no directory, one without a mount, or one with it.
    """
    descriptor = os.open("/run", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        was_there, was_mounted = os.path.exists(NAMESPACES), is_mounted(NAMESPACES)
        yield
        if not was_mounted and is_mounted(NAMESPACES):
            subprocess.run(["umount", "--lazy", NAMESPACES], check=True)  # a process that was killed may be in it yet
        if not was_there and os.path.exists(NAMESPACES):
            os.rmdir(NAMESPACES)
    finally:
        os.close(descriptor)


def is_mounted(path: str) -> bool:
    """Not os.path.ismount(), which does not see a mount of a directory onto itself."""
    return subprocess.run(["findmnt", "--noheadings", "--mountpoint", path], stdout=subprocess.DEVNULL).returncode == 0


def test_a_network_or_a_namespace_of_that_name(box: Pycontainer, namespaces: None) -> None:
    box("network", "create", "lab-dns-net", check=True)
    result = box("lab", "dns")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "pycontainer: lab dns: lab-dns-net: there is a network of that name",
        "hint: pycontainer network rm lab-dns-net",
    ]
    box("network", "rm", "lab-dns-net", check=True)
    subprocess.run(["ip", "netns", "add", "lab-network-far"], check=True)
    result = box("lab", "network")
    subprocess.run(["ip", "netns", "delete", "lab-network-far"], check=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[1] == "hint: ip netns delete lab-network-far"


def left(box: Pycontainer) -> list[str]:
    """What a lab may have made, and what is not the store's in its directory."""
    listed = (("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q", "--filter", "type=custom"))
    found = [box(*words, check=True).stdout for words in listed]
    found += re.findall(r"^lab-\S+", subprocess.check_output(["ip", "netns", "list"], text=True), re.MULTILINE)
    found += box("images", "-q", check=True).stdout.splitlines()[1:]
    found += [name for name in os.listdir(box.root) if name.startswith("lab-")]
    if (box.root / "containers").exists():
        found += os.listdir(box.root / "containers")
    return [each for each in found if each]


def transcript(box: Pycontainer, name: str) -> list[str]:
    """The parts that it printed."""
    result = box("lab", name)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert [line for line in lines if len(line) > _stage.WIDTH] == []
    assert "\033" not in result.stdout
    assert left(box) == []
    return re.split(r"\n\n(?=\d\. )", result.stdout)


def base_of_ids(part: str) -> str:
    """The host's id that a container's root has, of the first uid_map in there."""
    found = re.search(r"/proc/self/uid_map\n +0 +([1-9]\d*) +\d+\n", part)
    assert found is not None, part
    return found[1]


def test_layers(box: Pycontainer) -> None:
    _, image, mount, copied, whiteout, opaque, diff, commit, end = transcript(box, "layers")
    assert image.count("$ ls -C layers/") == 3
    names = re.search(r"lowerdir=(\S+),upperdir=\S+,workdir=", mount.replace("\n    ", ""))
    assert names is not None and names[1].count(":") == 2
    base = base_of_ids(mount)
    assert re.search(rf"^drwxr-xr-x \d+ {base} {base} .* upper$", mount, re.MULTILINE)
    before, after = copied.split(">> /etc/passwd")
    assert " passwd\n" not in before and re.search(rf"-rw-r--r-- 1 {base} {base} .* passwd\n", after)
    assert "upper/etc/passwd\nme:x:7:7::/:\n" in after and "*/etc/passwd\nnobody:x:65534" in after
    assert re.search(
        r"^4 +changes +/etc/passwd +yes\n1 +adds +/etc/passwd +no, because of layer 4$", after, re.MULTILINE
    )
    assert re.search(r"^c-{9} \d+ 0 0 0, 0 .*/upper/etc/group$", whiteout, re.MULTILINE)
    assert re.search(r"^4 +whites out +/etc/group +no$", whiteout, re.MULTILINE)
    assert "    spool: trusted.overlay.opaque=y\n" in opaque
    assert re.search(r"^4 +hides +/var/spool +no$", opaque, re.MULTILINE)
    assert "\nC /etc\nD /etc/group\nC /etc/passwd\nC /var\nC /var/spool\nD /var/spool/mail\n" in diff
    assert diff.endswith("\nnobody:x:65534:65534:nobody:/home:/bin/false\n/etc/group\n\n/var/spool:\nmail")
    assert re.search(r"^4 +sleep 600 +0 +1 +2$", commit, re.MULTILINE)
    assert "/upper': No such file or directory\nexit status 2" in end
    # The same three layers, as in the beginning.
    table = r"LAYER.*\n(?:\d .*\n)+"
    assert re.findall(table, end) == re.findall(table, image) and len(re.findall(table, image)) == 1


def test_volumes(box: Pycontainer) -> None:
    _, without, filled, two, owners, directory, end = transcript(box, "volumes")
    base = base_of_ids(without)
    assert re.search(r"^-rw-r--r-- +1 0 +0 +6 .* page$", without, re.MULTILINE)
    assert re.search(rf"^-rw-r--r-- 1 {base} {base} 6 .* page$", without, re.MULTILINE)
    assert "No such file or directory\nexit status 2" in without
    first, later = filled.split("It was made")
    assert re.search(r" spool\n.* www$", first.strip()) and "/var:\nwww\n" in later
    assert "-rw-r--r-- 1 0 0 6 " in later and "/var/www:\npage\n" in later
    mounts = re.findall(r" /var (r[wo]),(\S+) - ", two.replace("\n    ", " "))
    assert [mount[0] for mount in mounts] == ["rw", "ro"] and all("idmapped" in mount[1] for mount in mounts)
    assert "\nhello\nmore\n" in two and "Read-only file system\nexit status 1" in two
    assert "it is used by container" in two
    maps = re.findall(r"^ +0 +(\d+) +65536$", owners, re.MULTILINE)
    assert len(set(maps)) == 2
    assert len(re.findall(r"^-rw-r--r-- +1 +1000 +1000 +0 .* users$", owners, re.MULTILINE)) == 3
    assert "\nthe host writes\n" in directory and "\nso does the container\n" in directory
    assert re.search(r"^-rw-r--r-- +1 +0 +0 22 .* answer\n-rw-r--r-- 1 1000 1000 16 .* page$", directory, re.MULTILINE)
    assert "Read-only file system\nexit status 1" in directory
    removed, gone = end.split("$ pycontainer volume rm")
    assert " page\n" in removed and "No such file or directory\nexit status 2" in gone


def received(part: str) -> list[int]:
    """How many answers each ping(8) of a part got; -1 where nothing could be sent."""
    found = re.findall(r"^(?:\d packets transmitted, (\d) packets received|ping: .* unreachable)", part, re.MULTILINE)
    return [int(count or -1) for count in found]


def seen(part: str) -> dict[str, int]:
    """Whom packets came from in the last list of a part, and how many."""
    listed = part.rpartition("elements = {")[2].replace("\n    ", " ")
    return {address: int(count) for address, count in re.findall(r"([\d.]+) counter packets (\d+)", listed)}


def test_network(box: Pycontainer, namespaces: None) -> None:
    _, cable, addresses, way_out, translation, route, link, rules, same, end = transcript(box, "network")
    assert re.search(r"^plug@if\d+ +UP ", cable, re.MULTILINE) and re.search(r"^eth0@if\d+ +UP ", cable, re.MULTILINE)
    assert received(addresses) == [1, -1] and received(way_out) == [0]
    assert seen(way_out) == {"198.18.0.2": 1}
    assert received(translation) == [1] and seen(translation) == {"198.18.0.2": 1, "203.0.113.1": 1}
    assert received(route) == [-1, 1, 1]
    *broken, mended = received(link)
    assert broken == [0] and mended >= 2
    assert re.search(r"^plug@if\d+ +DOWN ", link, re.MULTILINE) and "<NO-CARRIER," in link
    assert received(rules) == [0, 1, 1] and seen(rules)["198.18.0.2"] == 2
    bridge = re.search(r"^(pyc-\w+) +UP +([\d.]+)/20", same, re.MULTILINE)
    assert bridge is not None and re.search(r"^pyc\w{12}@if\d+ +UP ", same, re.MULTILINE)
    assert f"default via {bridge[2]} dev eth0" in same and f'oifname != "{bridge[1]}" masquerade' in same
    assert received(same) == [1]
    assert 'Device "plug" does not exist.\nexit status 1' in end


def test_dns(box: Pycontainer) -> None:
    _, network, names, replicas, server, _ = transcript(box, "dns")
    own = re.search(r"^nameserver (\S+)$", network, re.MULTILINE)
    assert own is not None
    # Before it runs, while it does, stopped, started again.
    answers = re.split(r"^Server:.*\nAddress:.*$", names, flags=re.MULTILINE)[1:]
    assert ["Name:   lab-dns-web\nAddress: " in answer for answer in answers] == [False, True, False, True]
    assert names.count("can't find lab-dns-web") == names.count("exit status 1") == 2
    first, second = (re.findall(r"^Address: (\S+)$", answer, re.MULTILINE) for answer in replicas.split("Server:")[1:3])
    assert len(first) == 3 and second == [*first[1:], first[0]]
    served = re.findall(r"^lab-dns-(one|two|three)$", replicas, re.MULTILINE)
    # The seventh is what rm says.
    assert sorted(served[:6]) == ["one", "one", "three", "three", "two", "two"] and served[6] == "one"
    assert sorted(served[7:]) == ["three"] * 3 + ["two"] * 3
    (spare, killed), (other, serves) = re.findall(
        r'\("pyc-dns-spare",pid=(\d+).*\("pyc-dns",pid=(\d+)', server.replace("\n    ", " ")
    )
    assert f"$ kill -9 {killed}\n" in server and serves == spare and other not in (spare, killed)
    assert "Name:   lab-dns-two\nAddress: " in server and f"Server:         {own[1]}\n" in server


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("layers", "$ pycontainer commit"),
        ("layers", "$ pycontainer diff"),
        ("volumes", "$ pycontainer run --rm"),
        ("volumes", "/mnt"),
        ("network", "$ ip netns add lab-network-box"),
        ("network", "$ ip netns exec"),
        ("network", "$ pycontainer run"),
        ("dns", "$ pycontainer network create"),
        ("dns", "$ kill"),
    ],
)
def test_an_interrupted_lab_leaves_nothing(box: Pycontainer, namespaces: None, name: str, line: str) -> None:
    lab = box.popen("lab", name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert lab.stdout is not None
    printed: list[str] = []
    while not printed or line not in printed[-1]:
        printed.append(lab.stdout.readline())
        assert printed[-1], "".join(printed)
    lab.send_signal(signal.SIGINT)
    lab.communicate(timeout=60)
    assert lab.returncode == 130
    assert left(box) == []
