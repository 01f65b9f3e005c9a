"""`save` and `history` with real stores, and what other tools read of an archive."""

from __future__ import annotations

import gzip
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Pycontainer, new_directory, new_environment, remove_environment, wait_until
from test_image_layer import LayerTar
from test_image_load import BASE, TOP, Layout, hex_of

from pycontainer.image import manifest

GZIP = "+gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@pytest.fixture
def run_box(busybox: str, pycontainer: Pycontainer) -> Pycontainer:
    return pycontainer


@pytest.fixture
def other() -> Iterator[Pycontainer]:
    """A second installation, which has nothing."""
    environment = new_environment()
    yield Pycontainer(environment)
    remove_environment(environment)


def compressed_layout(name: str, layers: list[bytes], docker: bool = False) -> Layout:
    """An image as a registry has it: compressed layers, and a manifest with what nothing here would write."""
    layout = Layout()
    diff_ids = [f"sha256:{hex_of(data)}" for data in layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    kinds = (manifest.CONFIG_TYPES[docker], DOCKER_LAYER if docker else manifest.LAYER_TYPE + GZIP)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": manifest.MANIFEST_TYPES[docker],
        "config": layout.blob(kinds[0], json.dumps(config).encode()),
        "layers": [layout.blob(kinds[1], gzip.compress(data, mtime=1)) for data in layers],
    }
    if not docker:
        document["annotations"] = {"some": "thing"}
    data = json.dumps(document, indent=3).encode()
    annotations = {"io.containerd.image.name": name}
    layout.top(layout.blob(manifest.MANIFEST_TYPES[docker], data, annotations=annotations))
    return layout


def read(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive if each.isreg()}


def digest_of(box: Pycontainer, name: str) -> str:
    return box("images", "--no-trunc", "--format", "{{.Digest}}", name, check=True).stdout.strip()


def id_of(box: Pycontainer, name: str) -> str:
    return box("images", "-q", "--no-trunc", name, check=True).stdout.strip()


def tool(*words: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"{words[0]} is not installed")
    result = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result


class TestRoundTrip:
    @pytest.mark.parametrize("docker", [False, True])
    def test_compressed_blobs_stay_what_they_were(
        self, pycontainer: Pycontainer, other: Pycontainer, docker: bool
    ) -> None:
        layout = compressed_layout("docker.io/library/app:1", [BASE, TOP], docker)
        pycontainer("load", input=layout.archive(), text=False, check=True)
        data = pycontainer("save", "app:1", text=False, check=True).stdout
        files = read(data)
        for name, content in layout.files.items():
            if name.startswith("blobs/"):
                assert files[name] == content
        assert other("load", input=data, text=False, check=True).stdout == b"Loaded image: app:1\n"
        assert digest_of(other, "app:1") == digest_of(pycontainer, "app:1")
        assert id_of(other, "app:1") == id_of(pycontainer, "app:1")
        assert other("save", "app:1", text=False, check=True).stdout == data

    def test_several_images(self, run_box: Pycontainer, other: Pycontainer, tmp_path: pathlib.Path) -> None:
        run_box("create", "--name", "c0", "busybox", check=True)
        run_box("cp", "/etc/hostname", "c0:/file", check=True)
        run_box("commit", "-m", "why", "c0", "more:1", check=True)
        run_box("tag", "busybox", "more:2", check=True)
        run_box("tag", "busybox", "localhost:5000/x/y", check=True)
        run_box("import", "-", "plain", input=BASE, text=False, check=True)
        archive = tmp_path / "x.tar"
        plain = id_of(run_box, "plain")
        assert run_box("save", "-o", archive, "more", "localhost:5000/x/y", plain[7:19], check=True).stdout == ""
        assert archive.stat().st_mode & 0o7777 == 0o600
        lines = other("load", "-i", archive, check=True).stdout.splitlines()
        assert sorted(lines) == sorted([
            "Loaded image: more:1", "Loaded image: more:2", "Loaded image: localhost:5000/x/y:latest",
            f"Loaded image ID: {plain}",
        ])  # fmt: skip
        for name in ("more:1", "more:2"):
            assert digest_of(other, name) == digest_of(run_box, name)
            # Without the ages, which go on meanwhile.
            columns = ("--no-trunc", "--format", "{{.ID}} {{.CreatedAt}} {{.CreatedBy}} {{.Size}} {{.Comment}}")
            assert other("history", *columns, name).stdout == run_box("history", *columns, name).stdout
        members = tarfile.open(archive).getnames()  # noqa: SIM115
        assert len(members) == len(set(members))

    def test_a_layer_that_is_there_twice(self, pycontainer: Pycontainer, other: Pycontainer) -> None:
        layout = compressed_layout("docker.io/library/twice:1", [BASE, TOP, BASE])
        pycontainer("load", input=layout.archive(), text=False, check=True)
        data = pycontainer("save", "twice:1", text=False, check=True).stdout
        other("load", input=data, text=False, check=True)
        assert digest_of(other, "twice:1") == digest_of(pycontainer, "twice:1")

    def test_a_manifest_that_is_not_what_the_archive_is(self, pycontainer: Pycontainer) -> None:
        """Docker 25 writes manifests without layers; only manifest.json says what is there."""
        layout = compressed_layout("docker.io/library/app:1", [BASE])
        pycontainer("load", input=layout.archive(), text=False, check=True)
        files = read(pycontainer("save", "app:1", text=False, check=True).stdout)
        for index in (b"nonsense", b'{"schemaVersion":2,"manifests":[{"mediaType":"x"}]}', None):
            layout.files = dict(files)
            if index is not None:
                layout.files["index.json"] = index
            else:
                config = json.loads(files["manifest.json"])[0]["Config"]
                size, digest = len(files[config]), f"sha256:{config.rpartition('/')[2]}"
                descriptor = {"mediaType": manifest.CONFIG_TYPE, "digest": digest, "size": size}
                empty = {"schemaVersion": 2, "mediaType": manifest.MANIFEST_TYPE, "config": descriptor, "layers": []}
                layout.top(layout.blob(manifest.MANIFEST_TYPE, json.dumps(empty).encode()))
            pycontainer("rmi", "app:1", check=True)
            pycontainer("load", input=layout.archive(), text=False, check=True)
            assert len(pycontainer("history", "-q", "app:1", check=True).stdout.splitlines()) == 1
            pycontainer("save", "app:1", text=False, check=True)

    @pytest.mark.parametrize("docker", [False, True])
    @pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
    def test_skopeo(self, pycontainer: Pycontainer, tmp_path: pathlib.Path, transport: str, docker: bool) -> None:
        layers = [BASE, TOP, BASE]
        layout = compressed_layout("docker.io/library/app:1", layers, docker)
        pycontainer("load", input=layout.archive(), text=False, check=True)
        pycontainer("tag", "app:1", "app:2", check=True)
        source = f"{transport}:{tmp_path}/x.tar"
        if transport == "docker-archive" or not docker:
            pycontainer("save", "-o", tmp_path / "x.tar", "app", check=True)
            source += ":app:2" if transport == "docker-archive" else ":2"
        else:
            # Older versions find manifests of docker's type in an OCI archive only where they need not look by a name.
            pycontainer("save", "-o", tmp_path / "x.tar", "app:2", check=True)
        tool("skopeo", "--tmpdir", tmp_path, "copy", source, f"dir:{tmp_path}/out")
        written = json.loads((tmp_path / "out/manifest.json").read_bytes())
        assert written["config"]["digest"] == id_of(pycontainer, "app:1").split()[0]
        if transport == "oci-archive":
            data = (tmp_path / "out/manifest.json").read_bytes()
            assert f"sha256:{hex_of(data)}" == digest_of(pycontainer, "app:1")
        for entry, layer in zip(written["layers"], layers, strict=True):
            content = (tmp_path / "out" / entry["digest"].removeprefix("sha256:")).read_bytes()
            assert (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content) == layer

    def test_skopeo_takes_an_image_without_a_name(self, run_box: Pycontainer, tmp_path: pathlib.Path) -> None:
        image = id_of(run_box, "busybox")
        run_box("save", "-o", tmp_path / "x.tar", image, check=True)
        for transport in ("docker-archive", "oci-archive"):
            source = f"{transport}:{tmp_path}/x.tar"
            tool("skopeo", "--tmpdir", tmp_path, "copy", source, f"dir:{tmp_path}/{transport}")
            assert json.loads((tmp_path / transport / "manifest.json").read_bytes())["config"]["digest"] == image

    def test_podman(self, run_box: Pycontainer, tmp_path: pathlib.Path) -> None:
        root = new_directory()
        try:
            run_box("save", "-o", tmp_path / "x.tar", "busybox", check=True)
            podman = ("podman", "--root", f"{root}/root", "--runroot", f"{root}/run", "--storage-driver", "vfs")
            tool(*podman, "load", "-i", tmp_path / "x.tar")
            found = tool(*podman, "images", "--no-trunc", "--format", "{{.ID}} {{.Tag}}").stdout.split()
            assert found == [id_of(run_box, "busybox"), "latest"]
        finally:
            shutil.rmtree(root)

    def test_docker(self, run_box: Pycontainer, other: Pycontainer, docker: list[str], tmp_path: pathlib.Path) -> None:
        image = id_of(run_box, "busybox")
        run_box("save", "-o", tmp_path / "x.tar", "busybox", check=True)
        tool(*docker, "load", "-i", tmp_path / "x.tar")
        assert tool(*docker, "images", "-q", "--no-trunc", "busybox").stdout.strip() == image
        tool(*docker, "tag", "busybox", "theirs:1")
        tool(*docker, "save", "-o", tmp_path / "y.tar", "busybox", "theirs:1")
        other("load", "-i", tmp_path / "y.tar", check=True)
        assert id_of(other, "busybox") == id_of(other, "theirs:1") == image
        assert other("run", "--rm", "--network", "none", "theirs:1", "echo", "hello", check=True).stdout == "hello\n"


@pytest.fixture
def docker() -> Iterator[list[str]]:
    """The client of a dockerd of the test's own, which sees no network and leaves no mount."""
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    home = new_directory()
    socket = f"unix://{home}/socket"
    places = ["--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "--pidfile", f"{home}/pid", "-H", socket]
    plain = ["--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip6tables=false"]
    with open(home / "log", "w") as log:
        daemon = subprocess.Popen(["unshare", "--mount", "--net", "dockerd", *places, *plain], stdout=log, stderr=log)
    try:
        client = ["docker", "-H", socket]
        wait_until(
            lambda: daemon.poll() is not None or not subprocess.run([*client, "info"], capture_output=True).returncode,
            60,
        )
        if daemon.poll() is not None:
            pytest.skip(f"dockerd does not start here: {(home / 'log').read_text().strip().splitlines()[-1][:200]}")
        yield client
    finally:
        daemon.terminate()
        daemon.wait(60)
        shutil.rmtree(home)


class TestOutput:
    def test_not_to_a_terminal(self, run_box: Pycontainer) -> None:
        master, slave = os.openpty()
        process = run_box.popen("save", "busybox", stdout=slave, stderr=subprocess.PIPE)
        os.close(slave)
        _, error = process.communicate(timeout=60)
        os.close(master)
        assert (process.returncode, b"cowardly refusing to save to a terminal" in error) == (1, True)

    def test_a_reader_that_goes_is_no_fault(self, run_box: Pycontainer) -> None:
        process = run_box.popen("save", "busybox", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141

    @pytest.mark.parametrize("words", [["nope"], ["busybox", "nope:1"], ["0" * 64]])
    def test_an_unknown_image(self, run_box: Pycontainer, tmp_path: pathlib.Path, words: list[str]) -> None:
        (tmp_path / "x.tar").write_text("old")
        result = run_box("save", "-o", tmp_path / "x.tar", *words)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith(f"pycontainer: no such image: {words[-1]}\n")
        assert os.listdir(tmp_path) == ["x.tar"]
        assert (tmp_path / "x.tar").read_text() == "old"

    def test_without_an_image(self, pycontainer: Pycontainer) -> None:
        assert pycontainer("save", "nope").stderr.startswith("pycontainer: no such image: nope\n")
        assert pycontainer("save").returncode == 1

    @pytest.mark.parametrize("exists", [False, True])
    def test_a_full_disk(self, run_box: Pycontainer, tmp_path: pathlib.Path, exists: bool) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
        try:
            if exists:
                (tmp_path / "x.tar").write_text("old")
            result = run_box("save", "-o", tmp_path / "x.tar", "busybox")
            assert result.returncode == 1
            assert result.stderr == f"pycontainer: save: {tmp_path}/x.tar: no space left on device\n"
            assert os.listdir(tmp_path) == (["x.tar"] if exists else [])
        finally:
            subprocess.run(["umount", tmp_path], check=True)
        assert run_box("save", "-o", "/dev/full", "busybox").returncode == 1

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_killed_in_the_middle(self, run_box: Pycontainer, number: int) -> None:
        """Nothing is to be cleared, because the file has no name until it is complete."""
        blob = LayerTar().add("big", os.urandom(64 << 20)).data()
        run_box("import", "-q", "-", "big", input=blob, text=False, check=True)
        directory = new_directory()
        try:
            process = run_box.popen("save", "-o", f"{directory}/x.tar", "big", stderr=subprocess.DEVNULL)
            wait_until(lambda: any(size > 1 << 20 for size in written(process.pid, directory)))
            process.send_signal(number)
            process.wait(60)
            assert process.returncode in (-number, 130)
            assert os.listdir(directory) == []
            run_box("save", "-o", f"{directory}/x.tar", "big", check=True)
            assert os.listdir(directory) == ["x.tar"]
        finally:
            shutil.rmtree(directory)


def written(pid: int, directory: pathlib.Path) -> Iterator[int]:
    """The sizes of the files in `directory` that a process has open."""
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{descriptor}"
        try:
            if os.readlink(path).startswith(f"{directory}/"):
                yield os.stat(path).st_size
        except FileNotFoundError:
            pass


class TestStore:
    def test_an_image_that_is_removed_meanwhile(self, run_box: Pycontainer, other: Pycontainer) -> None:
        run_box(
            "import", "-q", "-", "big", input=LayerTar().add("b", os.urandom(8 << 20)).data(), text=False, check=True
        )
        process = run_box.popen("save", "big", stdout=subprocess.PIPE)
        begin = process.stdout.read(512)
        run_box("rmi", "big", check=True)
        data = begin + process.stdout.read()
        assert process.wait(60) == 0
        other("load", input=data, text=False, check=True)
        run_box("images", check=True)
        names = {name.rpartition("/")[2] for name in read(data) if name.startswith("blobs/")}
        assert not names & set(os.listdir(run_box.root / "blobs/sha256"))

    def test_a_layer_directory_that_is_gone(self, run_box: Pycontainer) -> None:
        """Nothing is made of it: the archive has what arrived."""
        before = run_box("save", "busybox", text=False, check=True).stdout
        table = run_box("history", "busybox", check=True).stdout
        for layer in (run_box.root / "layers").iterdir():
            shutil.rmtree(layer)
        assert run_box("save", "busybox", text=False, check=True).stdout == before
        assert run_box("history", "busybox", check=True).stdout == table

    @pytest.mark.parametrize("damage", [pathlib.Path.unlink, lambda path: path.write_bytes(b"x" * path.stat().st_size)])
    def test_a_blob_that_is_gone_or_wrong(
        self,
        run_box: Pycontainer,
        busybox_archive: pathlib.Path,
        tmp_path: pathlib.Path,
        damage: Callable[[pathlib.Path], object],
    ) -> None:
        before = run_box("save", "busybox", text=False, check=True).stdout
        layer = json.loads(read(before)["manifest.json"])[0]["Layers"][1]
        blob = run_box.root / layer
        damage(blob)
        result = run_box("save", "-o", tmp_path / "x.tar", "busybox")
        assert result.returncode == 1
        assert f"save: layer 2 of 3 of busybox:latest, sha256:{blob.name}: its blob " in result.stderr
        assert os.listdir(tmp_path) == []
        broken = run_box("save", "busybox", text=False)
        assert broken.returncode == 1
        with pytest.raises(tarfile.ReadError):
            read(broken.stdout)
        # What the hint says.
        blob.unlink(missing_ok=True)
        run_box("load", "-i", busybox_archive, check=True)
        assert run_box("save", "busybox", text=False, check=True).stdout == before


class TestHistory:
    def test_of_a_committed_image(self, run_box: Pycontainer) -> None:
        run_box("create", "--name", "c0", "busybox", "true", check=True)
        run_box("commit", "-m", "why", "c0", "new", check=True)
        rows = [
            json.loads(line) for line in run_box("history", "--format", "json", "new", check=True).stdout.splitlines()
        ]
        assert (rows[0]["ID"], rows[0]["Size"], rows[0]["Comment"], rows[0]["CreatedBy"]) == (
            id_of(run_box, "new")[7:19], "0B", "why", "true",
        )  # fmt: skip
        assert {row["ID"] for row in rows[1:]} == {"<missing>"}
        sizes = run_box("history", "-H=false", "--format", "{{.Size}}", "new", check=True).stdout.split()
        size = run_box("image", "inspect", "--format", "{{.Size}}", "new", check=True).stdout
        assert sum(map(int, sizes)) == int(size)
        # Not with the column of "ago", because a second may pass in between.
        words = ("history", "--no-trunc", "--format", "{{.ID}} {{.CreatedAt}} {{.CreatedBy}} {{.Size}}", "new")
        assert run_box("image", *words, check=True).stdout == run_box(*words, check=True).stdout

    def test_an_unknown_image(self, pycontainer: Pycontainer) -> None:
        result = pycontainer("history", "nope")
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("pycontainer: no such image: nope\n")
