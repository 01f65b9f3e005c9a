"""Images, volumes, bundles and programs that mean harm: what they reach is the container's own, or a clear refusal.

Where an escape would write, it would write into a directory of the test's own.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import re
import resource
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import COMMAND, Pycontainer, lock_holder, new_environment, remove_environment, wait_until
from test_image_layer import LayerTar
from test_image_load import Layout, hex_of, named
from test_runtime import RUNTIME, Runtime, rootfs, runtime  # noqa: F401
from tiny_elf import needs_x86_64

from pycontainer.engine.database import open_database
from pycontainer.image import manifest
from pycontainer.image.load import load
from pycontainer.image.store import Store
from pycontainer.kernel import cgroup

SECONDS = 60
NONE = ("run", "--rm", "--network", "none")
USERNS = pytest.mark.parametrize("userns", [[], ["--userns", "host"]], ids=["userns", "host"])


class Box(Pycontainer):
    """A store of its own, into which hostile images are loaded, and a directory of the host's to be attacked."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(environment)
        self.victim = self.root / "victim"
        self.victim.mkdir()
        # For everybody, because the container's root is nobody there.
        for directory in (self.root, self.victim):
            directory.chmod(0o777)
        (self.victim / "marker").write_text("host\n")
        self.base = self._base()
        self.loaded: dict[tuple[bytes, str], str] = {}

    def _base(self) -> bytes:
        program = pathlib.Path("/bin/busybox")
        if not program.exists():
            pytest.skip("busybox is not installed")
        tar = LayerTar().directory("bin").directory("tmp", 0o1777)
        tar.add("bin/busybox", program.read_bytes(), mode=0o755)
        applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
        for name in applets:
            if name != "busybox":
                tar.symlink(f"bin/{name}", "busybox")
        return tar.data()

    def image(self, layer: LayerTar | None = None, **config: Any) -> str:
        """Load an image of busybox, this layer on top, and this configuration, once; its name."""
        key = (layer.data() if layer else b"", json.dumps(config))
        if key not in self.loaded:
            self.loaded[key] = self._load([self.base] + ([key[0]] if layer else []), config)
        return self.loaded[key]

    def _load(self, layers: list[bytes], config: dict[str, Any]) -> str:
        layout = Layout()
        document = {
            "os": "linux",
            "architecture": manifest.host_architecture(),
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hex_of(data)}" for data in layers]},
        }
        name = f"hostile:{len(self.loaded)}"
        text = {
            "schemaVersion": 2,
            "config": layout.blob(manifest.CONFIG_TYPE, json.dumps(document).encode()),
            "layers": [layout.blob(manifest.LAYER_TYPE, data) for data in layers],
        }
        layout.top(layout.blob(manifest.MANIFEST_TYPE, json.dumps(text).encode(), **named(name)))
        if len(layers) > 1:
            # Without a command of its own, because there are more than a hundred of them.
            with contextlib.closing(open_database(str(self.root))) as connection:
                load(Store(str(self.root), connection), io.BytesIO(layout.archive()))
        else:
            # What is hostile is the configuration, and a test may look at what the command says to it.
            self("load", input=layout.archive(), text=False, check=True)
        return name

    def sh(self, script: str, *arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
        """Options and an image, which runs a script."""
        return self(*NONE, *arguments, "sh", "-c", script, **keywords)

    def probe(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a look above the root; it must be refused, or see nothing but the container's own root."""
        script = f"stat -c %d:%i / /.. /../.. /sys/../..; cat /..{self.victim}/marker 2>&1; echo end"
        result = self.sh(script, *arguments)
        if result.returncode == 125:
            check_refused(result)
        else:
            assert result.returncode == 0, result.stderr
            lines = result.stdout.splitlines()
            assert len(set(lines[:4])) == 1, f"above the root there is something else: {lines}"
            assert "host" not in lines
            assert lines[-1] == "end"
        self.check_unharmed()
        return result

    def check_unharmed(self) -> None:
        assert os.listdir(self.victim) == ["marker"], "it reached a directory of the host's"
        assert (self.victim / "marker").read_text() == "host\n"


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    environment = new_environment()
    try:
        yield Box(environment)
    finally:
        remove_environment(environment)


def check_refused(result: subprocess.CompletedProcess[Any], status: int = 125, *texts: str) -> None:
    """One or two lines that can be read, and nothing of the program's."""
    assert result.returncode == status, result.stderr
    for text in texts:
        assert text in result.stderr, result.stderr
    check_clean(result.stderr)
    assert len(result.stderr.splitlines()) in (1, 2), result.stderr
    assert result.stderr.startswith("pycontainer: "), result.stderr
    assert result.stdout == ""


def check_clean(text: str) -> None:
    """Nothing that a terminal obeys, and no fault of ours."""
    odd = [character for character in text if not (character.isprintable() or character in "\n\t")]
    assert not odd, f"{odd} in {text!r}"
    assert "Traceback" not in text
    assert "fault of pycontainer's" not in text, text
    # Python's own words for what nobody foresaw.
    assert not re.search(r"\b[A-Z]\w+Error\b|codec can't", text), text


class TestRoot:
    """Mount points that lead to the root: the host's is not uncovered."""

    @USERNS
    @pytest.mark.parametrize("target", ["/", "..", ".", "../..", "bin/.."])
    @pytest.mark.parametrize("name", ["sys", "proc", "dev"])
    def test_what_the_engine_mounts(self, box: Box, name: str, target: str, userns: list[str]) -> None:
        image = box.image(LayerTar().symlink(name, target))
        check_refused(box.probe(*userns, image), 125, f"/{name}")

    @USERNS
    @pytest.mark.parametrize("target", ["/", "..", ".", "../..", "bin/..", "l2"])
    @pytest.mark.parametrize("kind", ["--tmpfs", "-v"])
    def test_what_the_user_mounts(self, box: Box, kind: str, target: str, userns: list[str]) -> None:
        image = box.image(LayerTar().symlink("t", target).symlink("l2", "/"))
        value = "/t" if kind == "--tmpfs" else f"{box.root}/volume:/t"
        check_refused(box.probe(*userns, kind, value, image), 125, "/t", "root itself")

    @pytest.mark.parametrize("target", ["/", "..", "../.."])
    def test_a_link_on_the_way_stays_inside(self, box: Box, target: str) -> None:
        image = box.image(LayerTar().symlink("t", target))
        options = ("--tmpfs", "/t/x", "-v", f"{box.root}/volume:/t/y")
        assert box.probe(*options, image).returncode == 0
        assert box.sh("grep -c ' /[xy] ' /proc/mounts", *options, image).stdout == "2\n"

    @USERNS
    @pytest.mark.parametrize("target", ["/", "..", "../.."])
    def test_a_link_that_another_container_makes_in_a_shared_volume(
        self, box: Box, target: str, userns: list[str]
    ) -> None:
        shared = pathlib.Path(tempfile.mkdtemp(dir=box.root))
        image = box.image()
        shared.chmod(0o777)
        made = box.sh(f"ln -sfn {target} /s/link", *userns, "-v", f"{shared}:/s", image, check=True)
        assert made.returncode == 0
        assert os.readlink(shared / "link") == target
        options = (*userns, "-v", f"{shared}:/s", "-v", f"{box.root}/volume:/s/link")
        box.probe(*options, image)
        box.probe(*userns, "-v", f"{shared}:/s", "--tmpfs", "/s/link", image)
        (shared / "link").unlink()

    @pytest.mark.parametrize("destination", ["/", "", ".", "..", "/..", "/bin/..", "//"])
    @pytest.mark.parametrize("kind", ["tmpfs", "bind"])
    def test_a_bundles_destination(
        self,
        runtime: Runtime,  # noqa: F811
        tmp_path: pathlib.Path,
        kind: str,
        destination: str,
    ) -> None:
        mount = {"destination": destination, "type": kind, "source": str(tmp_path), "options": ["rbind"]}
        runtime.config["mounts"].append(mount if kind == "bind" else mount | {"options": []})
        runtime.write("ls", "/..")
        (tmp_path / "marker").touch()
        process = subprocess.run(
            [*RUNTIME, "--root", runtime.root, "run", "-b", runtime.bundle, "c"], capture_output=True, text=True
        )
        assert process.stdout == "", "the host's root, or the root covered"
        assert process.returncode == 1
        assert process.stderr.startswith("pycontainer-runtime: ")
        check_clean(process.stderr)


class TestDirectoriesThatAreMade:
    """What is missing is made in the container, whatever way leads out of it."""

    @USERNS
    @pytest.mark.parametrize("prefix", ["/..", "/../..", "/bin/../..", "/tmp/../../.."])
    def test_working_directory(self, box: Box, prefix: str, userns: list[str]) -> None:
        path = f"{prefix}{box.victim}/made"
        for arguments in ((*userns, "-w", path, box.image()), (*userns, box.image(WorkingDir=path))):
            result = box.sh("pwd", *arguments)
            box.check_unharmed()
            assert (result.returncode, result.stdout) == (0, f"{box.victim}/made\n"), result.stderr

    @USERNS
    def test_working_directory_through_a_link(self, box: Box, userns: list[str]) -> None:
        layer = LayerTar().symlink("out", f"..{box.victim}")
        result = box.sh("pwd", *userns, box.image(layer, WorkingDir="/out/made"))
        box.check_unharmed()
        assert result.returncode in (0, 125), result.stderr
        check_clean(result.stderr)

    @USERNS
    def test_etc_that_is_a_link(self, box: Box, userns: list[str]) -> None:
        image = box.image(LayerTar().symlink("etc", f"..{box.victim}/etc"))
        result = box.sh("cat /etc/hostname", *userns, "-h", "inside", image)
        box.check_unharmed()
        assert (result.returncode, result.stdout) == (0, "inside\n") or result.returncode == 125, result.stderr
        check_clean(result.stderr)

    @USERNS
    @pytest.mark.parametrize("target", ["/..{}/t", "../..{}/t", "..{}"])
    def test_mount_points(self, box: Box, target: str, userns: list[str]) -> None:
        image = box.image(LayerTar().symlink("t", target.format(box.victim)))
        for option in (["--tmpfs", "/t"], ["--tmpfs", "/t/u"], ["-v", f"{box.root}/volume:/t/v"]):
            result = box.sh("true", *userns, *option, image)
            box.check_unharmed()
            assert result.returncode in (0, 125), result.stderr
            check_clean(result.stderr)

    @pytest.mark.parametrize("prefix", ["x/../..", "/x/../..", "/..", "..", "/tmp/../../.."])
    def test_a_bundles_destination(
        self,
        box: Box,
        runtime: Runtime,  # noqa: F811
        prefix: str,
    ) -> None:
        destination = f"{prefix}{box.victim}/made"
        runtime.config["root"] = {"path": str(box.root / "rootfs")}
        fill(box.root / "rootfs")
        runtime.config["mounts"].append({"destination": destination, "type": "tmpfs", "source": "x"})
        runtime.write("sh", "-c", "grep -o ' [^ ]*/made ' /proc/mounts", cwd=f"/..{box.victim}/cwd")
        result = subprocess.run(
            [*RUNTIME, "--root", runtime.root, "run", "-b", runtime.bundle, "c"], capture_output=True, text=True
        )
        box.check_unharmed()
        assert result.stdout.strip() == f"{box.victim}/made", result.stderr


def fill(directory: pathlib.Path) -> None:
    """A root file system of busybox that a test may change."""
    if not directory.exists():
        for name in ("bin", "etc", "tmp", "dev", "p"):
            (directory / name).mkdir(parents=True)
        (directory / "bin/busybox").write_bytes(pathlib.Path("/bin/busybox").read_bytes())
        (directory / "bin/busybox").chmod(0o755)
        for name in ("sh", "grep", "cat", "true", "ls"):
            (directory / "bin" / name).symlink_to("busybox")


class TestProc:
    """An image that brings a /proc of its own is not believed."""

    @USERNS
    @pytest.mark.parametrize("name", ["proc", "sys", "dev"])
    @pytest.mark.parametrize("target", ["../tmp", "/tmp", "tmp", "/data"])
    def test_a_link_is_refused(self, box: Box, name: str, target: str, userns: list[str]) -> None:
        imitation = box.root / "imitation"
        (imitation / "sys/kernel").mkdir(parents=True, exist_ok=True)
        (imitation / "sys/kernel/cap_last_cap").write_text("0\n")
        image = box.image(LayerTar().symlink(name, target))
        check_refused(box(*NONE, *userns, "-v", f"{imitation}:/data", image, "true"), 125, f"/{name}")

    def test_a_link_below_dev_or_sys(self, box: Box) -> None:
        """The image's own are covered by the file systems that are mounted there."""
        layer = LayerTar().directory("dev").symlink("dev/pts", f"..{box.victim}").symlink("dev/null", "/bin/busybox")
        layer.directory("sys").symlink("sys/fs", "/").directory("proc").symlink("proc/kcore", "/bin/busybox")
        result = box.sh("test -c /dev/null && test -d /dev/pts/ && test -x /bin/busybox && echo fine", box.image(layer))
        assert (result.stdout, result.stderr) == ("fine\n", "")
        box.check_unharmed()

    def test_the_last_capability_is_the_hosts(self, box: Box, runtime: Runtime) -> None:  # noqa: F811
        root = box.root / "rootfs-capability"
        fill(root)
        (root / "proc/sys/kernel").mkdir(parents=True, exist_ok=True)
        (root / "proc/sys/kernel/cap_last_cap").write_text("3\n")
        runtime.config["root"] = {"path": str(root)}
        runtime.config["mounts"] = [{"destination": "/p", "type": "proc", "source": "proc"}]
        runtime.write("grep", "CapBnd", "/p/self/status", capabilities={"bounding": ["CAP_KILL"]})
        assert runtime.run() == "CapBnd:\t0000000000000020\n"

    def test_a_sysctl_is_written_to_procfs_only(self, box: Box, runtime: Runtime) -> None:  # noqa: F811
        root = box.root / "rootfs-sysctl"
        fill(root)
        (root / "proc/sys/net/ipv4").mkdir(parents=True, exist_ok=True)
        (root / "proc/sys/net/ipv4/ip_forward").write_text("own\n")
        runtime.config["root"] = {"path": str(root)}
        runtime.config["mounts"] = []
        runtime.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
        runtime.write("true")
        assert "ip_forward" in runtime.run(status=1)
        assert (root / "proc/sys/net/ipv4/ip_forward").read_text() == "own\n"

    @pytest.mark.parametrize("path", ["/proc", "/proc/", "/proc/sys", "/proc/1/attr", "/x/../proc/sys", "//proc/sys"])
    @pytest.mark.parametrize("kind", ["-v", "--tmpfs"])
    def test_no_volume_there(self, box: Box, kind: str, path: str) -> None:
        value = path if kind == "--tmpfs" else f"{box.root}/volume:{path}"
        for userns in ([], ["--userns", "host"]):
            check_refused(box(*NONE, *userns, kind, value, box.image(), "true"), 125, "/proc")

    @pytest.mark.parametrize("target", ["/proc/sys", "/proc/self/attr", "proc", "/proc"])
    def test_no_volume_there_through_a_link(self, box: Box, target: str) -> None:
        image = box.image(LayerTar().symlink("t", target))
        for value in ("/t", "/t/kernel"):
            check_refused(box(*NONE, "-v", f"{box.root}/volume:{value}", image, "true"))

    def test_a_mask_does_not_lead_to_the_hosts_device(self, box: Box) -> None:
        """Without a user namespace a chmod of the mask would be one of the host's /dev/null."""
        before = os.stat("/dev/null")
        if before.st_mode & 0o777 != 0o666:
            pytest.skip("/dev/null has not its usual mode, which the container tries to give it")
        script = (
            "cd /proc; chmod 666 interrupts && echo changed; touch interrupts && echo touched; cat interrupts; echo end"
        )
        result = box.sh(script, "--userns", "host", box.image())
        assert result.stdout == "end\n"


@pytest.mark.parametrize("userns", [[], ["--userns", "host"]])
def test_a_program_header_of_nonsense(box: Box, userns: list[str]) -> None:
    image = box.image(LayerTar().add("bad", b"\x7fELF\x02" + b"\xff" * 123, mode=0o755))
    check_refused(box(*NONE, *userns, image, "/bad"), 126, "exec format error")


@pytest.mark.parametrize("option", ["-w", "--tmpfs", "-v"])
def test_a_path_of_very_many_names(box: Box, option: str) -> None:
    deep = "/d" * 1200
    result = box(
        *NONE, option, f"/tmp:{deep}" if option == "-v" else deep, box.image(), "sh", "-c", f"cd {deep} && echo x"
    )
    assert (result.returncode, result.stdout) == (0, "x\n"), result.stderr


ELF_CODE = bytes.fromhex("31ff b83c000000 0f05")  # exit(0)


def elf_with_interpreter(interpreter: bytes, offset: int = 64) -> bytes:
    """An x86-64 executable with PT_LOAD and PT_INTERP, its program headers at `offset`. See elf(5)."""

    def program_header(kind: int, place: int, size: int) -> bytes:
        fields = (place, 0x400000 + place, 0x400000 + place, size, size, 1 if kind == 3 else 4096)
        return (
            kind.to_bytes(4, "little") + (5).to_bytes(4, "little") + b"".join(n.to_bytes(8, "little") for n in fields)
        )

    name = interpreter + b"\0"
    code = offset + 2 * 56
    end = code + len(ELF_CODE)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0\x01\0\0\0" + (0x400000 + code).to_bytes(8, "little")
    header += offset.to_bytes(8, "little") + bytes(8) + bytes(4) + b"\x40\0\x38\0\x02\0" + bytes(6)
    headers = program_header(3, end, len(name)) + program_header(1, 0, end + len(name))
    return header.ljust(offset, b"\0") + headers + ELF_CODE + name


def program(data: bytes, name: str = "prog") -> LayerTar:
    return LayerTar().add(name, data, mode=0o755)


class TestOwnProgram:
    """The engine's own interpreter is never executed in a container: it could be written to (CVE-2019-5736)."""

    def check(self, box: Box, image: str, *command: str) -> None:
        for userns in ([], ["--userns", "host"]):
            check_refused(box(*NONE, *userns, image, *command), 126, "exec", "own interpreter")

    @pytest.mark.parametrize(
        "path",
        ["/proc/self/exe", "/proc/1/exe", "/proc/thread-self/exe", "/proc/self/task/1/exe", "/../proc/self/exe"],
    )
    def test_by_its_magic_link(self, box: Box, path: str) -> None:
        self.check(box, box.image(Entrypoint=[path]))
        self.check(box, box.image(), path)

    def test_relative_and_in_path(self, box: Box) -> None:
        self.check(box, box.image(Entrypoint=["./self/exe"], WorkingDir="/proc"))
        self.check(box, box.image(Entrypoint=["exe"], Env=["PATH=/proc/self"]))

    def test_by_links(self, box: Box) -> None:
        layer = LayerTar().symlink("a", "b").symlink("b", "/proc/self/exe").symlink("d", "/proc/self")
        image = box.image(layer)
        self.check(box, image, "/a")
        self.check(box, image, "/d/exe")

    @pytest.mark.parametrize(
        "line",
        [
            b"#!/proc/self/exe", b"#! /proc/self/exe -c pass", b"#!\t/proc/self/exe\t", b"#!/proc/1/exe\n",
            b"#!proc/self/exe\n", b"#!/link\n", b"#!/second\n",
        ],
    )  # fmt: skip
    def test_as_a_scripts_interpreter(self, box: Box, line: bytes) -> None:
        layer = program(line).symlink("link", "/proc/self/exe").add("second", b"#!/link\n", mode=0o755)
        self.check(box, box.image(layer, Entrypoint=["/prog"]))

    @pytest.mark.parametrize("name", ["x\x0b", "x\x0c", "x\r", "x\x1c"])
    def test_as_an_interpreter_with_a_strange_name(self, box: Box, name: str) -> None:
        """The kernel ends the name at a space, a tab or the line's end, and nowhere else."""
        layer = program(f"#!/{name}\n".encode()).symlink(name, "/proc/self/exe").symlink("x", "/bin/true")
        self.check(box, box.image(layer, Entrypoint=["/prog"]))

    @needs_x86_64
    @pytest.mark.parametrize("offset", [64, 200, 4096, 5000, 100_000])
    def test_as_an_elf_files_interpreter(self, box: Box, offset: int) -> None:
        data = elf_with_interpreter(b"/proc/self/exe", offset)
        self.check(box, box.image(program(data), Entrypoint=["/prog"]))
        data = elf_with_interpreter(b"/link", offset)
        layer = program(data).symlink("link", "/proc/self/exe").add("script", b"#!/prog\n", mode=0o755)
        self.check(box, box.image(layer, Entrypoint=["/script"]))

    @needs_x86_64
    def test_a_bundles(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.write("/proc/self/exe")
        assert "own interpreter" in runtime.run(status=126)
        runtime.create()
        assert "own interpreter" in runtime("start", "c", status=126)
        runtime.wait_for("stopped")
        runtime("delete", "c")

    @pytest.mark.parametrize("line", [b"#!/x\0y\n", b"#!\n", b"#!   \n", b"#!/" + b"x" * 300, b"#!\xff\xfe\n"])
    def test_first_lines_that_are_nonsense(self, box: Box, line: bytes) -> None:
        result = box(*NONE, box.image(program(line), Entrypoint=["/prog"]))
        assert result.returncode in (126, 127), result.stderr
        check_refused(result, result.returncode, "exec")

    def test_a_script_that_is_its_own_interpreter(self, box: Box) -> None:
        result = box(*NONE, box.image(program(b"#!/prog\n"), Entrypoint=["/prog"]))
        check_refused(result, 126, "exec")


class TestFilesOfTheEngine:
    @USERNS
    @pytest.mark.parametrize(
        "target",
        ["/run/systemd/resolve/stub-resolv.conf", "../run/systemd/resolve/stub-resolv.conf", "other", "../../../a/b"],
    )
    def test_a_dangling_link_in_their_place(self, box: Box, target: str, userns: list[str]) -> None:
        layer = LayerTar().directory("etc")
        for name in ("resolv.conf", "hosts", "hostname"):
            layer.symlink(f"etc/{name}", f"{target}.{name}")
        script = "cat /etc/hostname; grep -c localhost /etc/hosts; cat /etc/resolv.conf; readlink /etc/hostname"
        result = box.sh(script, *userns, "-h", "inside", "--dns", "192.0.2.1", box.image(layer))
        assert result.returncode == 0, result.stderr
        lines = result.stdout.splitlines()
        assert lines[0] == "inside"
        assert int(lines[1]) >= 1
        assert "nameserver 192.0.2.1" in lines
        assert lines[-1] == f"{target}.hostname"

    @pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf"])
    @pytest.mark.parametrize("target", ["loop", "/", "/proc/version", "/dev/null"])
    def test_an_odd_link_in_their_place(self, box: Box, name: str, target: str) -> None:
        target = name if target == "loop" else target
        image = box.image(LayerTar().directory("etc").symlink(f"etc/{name}", target))
        result = box.sh("test -c /dev/null && echo > /dev/null && cat /etc/hostname", "-h", "inside", image)
        if result.returncode == 125:
            check_refused(result, 125, name)

    @USERNS
    def test_read_only_with_the_root(self, box: Box, userns: list[str]) -> None:
        image = box.image(LayerTar().directory("etc"))
        script = """
        for f in hosts hostname resolv.conf; do
            echo x 2>/dev/null >> /etc/$f && echo wrote $f
            chmod 600 /etc/$f 2>/dev/null && echo changed $f
            grep " /etc/$f " /proc/mounts | grep -q " ro," || echo $f is writable
        done
        cat /etc/hostname
        """
        assert box.sh(script, *userns, "--read-only", "-h", "inside", image).stdout == "inside\n"
        assert box.sh("echo x >> /etc/hosts && echo wrote", *userns, image).stdout == "wrote\n"


class TestCgroup:
    def test_a_tree_of_great_depth_is_removed(self, box: Box) -> None:
        hierarchy = cgroup.find_hierarchy()
        if hierarchy is None:
            pytest.skip("needs cgroup2")
        top = pathlib.Path(hierarchy.mountpoint, box.state.name)
        script = """
        mount -o remount,rw /sys/fs/cgroup && cd /sys/fs/cgroup || exit 3
        hundred=$(printf 'deeper/%.0s' $(seq 100))
        for i in $(seq 15); do mkdir -p $hundred && cd -P $hundred || exit 4; done
        sleep 1000 & echo $! > cgroup.procs || exit 5
        """
        try:
            result = box.sh(script, "--userns", "host", "--cap-add", "SYS_ADMIN", box.image())
            assert (result.returncode, result.stderr) == (0, "")
            assert box("ps", "-aq", check=True).stderr == ""
            assert not top.exists() or os.listdir(top) == [] or not [path for path in top.iterdir() if path.is_dir()]
        finally:
            for container in top.glob("*"):
                if container.is_dir():
                    cut(container)

    def test_without_cgroup2_there_is_no_device_filter(self, box: Box) -> None:
        """With the host's ids mknod would then make any device; with a user namespace it makes none."""
        script = "tac /proc/mounts | while read _ place type _; do test $type != cgroup2 || umount $place; done"

        def elsewhere(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["unshare", "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh", *COMMAND, *NONE, *arguments],
                env={**os.environ, **box.environment},
                capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=SECONDS,
            )  # fmt: skip

        make = ("sh", "-c", "mknod /x b 7 0 2>/dev/null && echo made; echo end")
        check_refused(elsewhere("--userns", "host", box.image(), *make), 125, "cgroup2", "device")
        assert elsewhere(box.image(), *make).stdout == "end\n"


def cut(directory: pathlib.Path) -> None:
    """Remove a chain of cgroups that the product left behind, however long its path."""
    before = os.open(".", os.O_RDONLY)
    try:
        (directory / "cgroup.kill").write_text("1")
        os.chdir(directory)
        depth = 0
        while names := [entry.name for entry in os.scandir(".") if entry.is_dir()]:
            os.chdir(names[0])
            depth += 1
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("deeper")
        os.chdir("..")
        os.rmdir(directory.name)
    finally:
        os.fchdir(before)
        os.close(before)


class TestState:
    def test_the_engine_leaves_other_runtime_containers_alone(self, box: Box, runtime: Runtime) -> None:  # noqa: F811
        """pycontainer-runtime's own default is `runtime` in the engine's state directory."""
        runtime.root = box.state / "runtime"
        runtime.write("sleep", "1000")
        runtime.create()
        try:
            assert box("ps", "-a", check=True).stderr == ""
            box(*NONE, box.image(), "true", check=True)
            assert runtime.state()["status"] == "created"
            runtime("start", "c")
            assert box("ps", "-a", check=True).stderr == ""
            assert runtime.state()["status"] == "running"
        finally:
            runtime("delete", "--force", "c")

    @pytest.mark.parametrize("text", ["", "{}", "[]", "{", "null", '{"pid": "1"}', '{"pid": -1}', "\x00\xff"])
    def test_a_broken_state_file_stops_nobody(self, box: Box, runtime: Runtime, text: str) -> None:  # noqa: F811
        for root in (box.state / "engine", box.state / "runtime", runtime.root):
            directory = root / ("e" * 64)
            directory.mkdir(parents=True, mode=0o700)
            (directory / "state.json").write_text(text)
        try:
            check_clean(box("ps", "-a", check=True).stderr)
            box(*NONE, box.image(), "true", check=True)
            runtime.write("true")
            runtime.create()
            assert "c" in runtime("list", "-q").split()
            runtime("delete", "--force", "c")
            runtime("delete", "--force", "e" * 64)
        finally:
            for root in (box.state / "engine", box.state / "runtime", runtime.root):
                directory = root / ("e" * 64)
                (directory / "state.json").unlink(missing_ok=True)
                if directory.exists():
                    directory.rmdir()


class TestStreams:
    @pytest.mark.parametrize("stream", [1, 2])
    def test_somebody_else_holds_the_output_open(self, box: Box, stream: int) -> None:
        """Any process of the host, or of a container that got it over a socket, can hold it for ever."""
        image = box.image()
        process = box.popen(
            *NONE, "-i", image, "sh", "-c", "echo ready; cat; echo bye",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        held = -1
        try:
            assert process.stdout.readline() == b"ready\n"
            [file] = box.state.glob("*/*/state.json")
            held = os.open(f"/proc/{json.loads(file.read_text())['pid']}/fd/{stream}", os.O_WRONLY)
            assert process.communicate(timeout=SECONDS) == (b"bye\n", None)
            assert process.returncode == 0
        finally:
            process.kill()
            process.wait()
            if held >= 0:
                os.close(held)


CONTROL = "\x1b[31mred\nsecond\r\x07\x9b2J\u202e\x7f"


class TestText:
    """What an image says is shown, and obeyed by no terminal."""

    def test_in_errors(self, box: Box) -> None:
        for config, status in (
            ({"Cmd": [f"/{CONTROL}"]}, 127),
            ({"Cmd": [CONTROL]}, 127),
            ({"Cmd": ["x"], "Env": [f"PATH=/{CONTROL}"]}, 127),
            ({"Cmd": ["true"], "WorkingDir": f"/bin/busybox/{CONTROL}"}, 125),
            ({"Cmd": ["true"], "User": CONTROL}, 125),
        ):
            result = box(*NONE, box.image(**config))
            check_refused(result, status)
            assert "\u202e" not in result.stderr
        layer = program(f"#!/{CONTROL}".encode())
        check_refused(box(*NONE, box.image(layer, Cmd=["/prog"])), 127)

    def test_in_ps(self, box: Box) -> None:
        image = box.image(Cmd=["true", CONTROL])
        assert box("run", "--network", "none", "--name", "shown", image).returncode == 0
        failing = box.image(Cmd=[f"/{CONTROL}"])
        assert box("run", "--network", "none", "--name", "failed", failing).returncode == 127
        try:
            result = box("ps", "-a", check=True)
            check_clean(result.stdout + result.stderr)
            assert len(result.stdout.splitlines()) == 3, result.stdout
        finally:
            box("rm", "shown", "failed", check=True)

    @pytest.mark.parametrize("style", ["steps", "calls", "json"])
    def test_in_the_explanation(self, box: Box, style: str) -> None:
        image = box.image(Cmd=["true", CONTROL], WorkingDir=f"/tmp/{CONTROL}", Env=[f"A={CONTROL}"])
        result = box(*NONE, f"--explain={style}", image, check=True)
        check_clean(result.stderr)
        assert "\nsecond" not in result.stderr

    @pytest.mark.parametrize(
        "config",
        [
            {"Cmd": ["/\ud800"]},
            {"Cmd": ["true"], "WorkingDir": "/bin/busybox/\ud800"},
            {"Cmd": ["true"], "Env": ["A=\ud800"]},
            {"Cmd": ["true"], "User": "\ud800"},
        ],
    )
    def test_a_lone_surrogate(self, box: Box, config: dict[str, Any]) -> None:
        """JSON can say it, UTF-8 cannot."""
        with pytest.raises(pytest.fail.Exception, match="half of a surrogate pair"):
            box.image(**config)
        check_clean(box("images", check=True).stderr)


class TestConfiguration:
    def test_a_variable_without_a_name_is_dropped(self, box: Box) -> None:
        image = box.image(Env=["=x", "A=b", "", "B", "C="], Cmd=["env"])
        result = box(*NONE, image, check=True)
        lines = result.stdout.splitlines()
        assert {"A=b", "C="} <= set(lines)
        assert not [line for line in lines if line.startswith("=") or not line]

    @pytest.mark.parametrize("path", ["srv/app", "./srv/app", "../srv/app", "srv//app/"])
    def test_a_relative_working_directory_is_below_the_root(self, box: Box, path: str) -> None:
        assert box(*NONE, box.image(WorkingDir=path, Cmd=["pwd"]), check=True).stdout == "/srv/app\n"

    @pytest.mark.parametrize(
        "config",
        [
            {"Cmd": "sh"}, {"Cmd": [1]}, {"Cmd": {"a": 1}}, {"Entrypoint": "sh"}, {"Env": "A=b"}, {"Env": [1]},
            {"Env": {"A": "b"}}, {"WorkingDir": 1}, {"WorkingDir": ["/"]}, {"User": 0}, {"User": ["root"]},
            {"Cmd": ["a\0b"]}, {"Env": ["A=\0"]}, {"WorkingDir": "/\0"}, {"User": "\0"}, {"Cmd": [None]},
        ],
    )  # fmt: skip
    def test_wrong_types_are_no_fault_of_ours(self, box: Box, config: dict[str, Any]) -> None:
        try:
            image = box.image(**{"Cmd": ["true"], **config})
        except pytest.fail.Exception as refused:
            # Refused when it was loaded: just as good.
            assert b"fault of" not in str(refused).encode()
            return
        result = box(*NONE, image)
        check_clean(result.stderr)
        assert result.returncode in (0, 125, 126, 127), result.stderr

    @pytest.mark.parametrize("option", ["shared", "rshared"])
    def test_a_shared_volume_is_refused(self, box: Box, option: str) -> None:
        """What the container mounts there would appear on the host."""
        check_refused(box(*NONE, "-v", f"{box.root}/volume:/v:{option}", box.image(), "true"), 125, "shared")

    def test_limits_that_leave_little_room(self, box: Box) -> None:
        image = box.image()
        for limit in ("nofile=8", "nofile=4", "as=30000000", "fsize=0", "data=4000000", "stack=1000000", "nproc=4"):
            result = box.sh("echo ran", "--ulimit", limit, image)
            assert (result.returncode, result.stdout, result.stderr) == (0, "ran\n", ""), limit
        assert box.sh("ulimit -n", "--ulimit", "nofile=8", image).stdout == "8\n"

    def test_the_primary_group_is_among_the_groups(self, box: Box) -> None:
        """CVE-2022-36109: negative permissions of a group must hold for its members."""
        image = box.image(LayerTar().directory("etc").add("etc/group", b"app:x:700:\nmore:x:701:one\n").add(
            "etc/passwd", b"one:x:600:700::/:/bin/sh\n"))  # fmt: skip
        for user, groups in (("one", "700 701"), ("1000:1001", "1001"), ("one:701", "701"), ("0", "0")):
            result = box.sh("sed -n 's/^Groups:[[:space:]]*//p' /proc/self/status", "-u", user, image, check=True)
            assert result.stdout.split() == groups.split(), user

    def test_a_directory_that_only_root_or_only_the_user_may_enter(self, box: Box) -> None:
        image = box.image(LayerTar().directory("secret", 0o700).directory("home", 0o700, uid=1000, gid=1000))
        assert box(*NONE, "-u", "1000", "-w", "/secret", image, "pwd", check=True).stdout == "/secret\n"
        options = ("-u", "1000", "-w", "/home", "--cap-drop", "ALL")
        assert box(*NONE, *options, image, "pwd", check=True).stdout == "/home\n"


class TestBundle:
    """What config.json of a bundle says, or leaves out."""

    def test_no_capabilities_means_none(self, runtime: Runtime) -> None:  # noqa: F811
        for capabilities in ({}, None):
            runtime.config["process"].pop("capabilities", None)
            if capabilities is not None:
                runtime.config["process"]["capabilities"] = capabilities
            runtime.write(
                "sh", "-c", "while read line; do case $line in Cap*) echo $line;; esac; done < /proc/1/status"
            )
            lines = runtime.run().splitlines()
            assert [line.split()[1] for line in lines] == ["0" * 16] * 5, lines

    def test_the_largest_limit_is_infinity(self, runtime: Runtime) -> None:  # noqa: F811
        if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
            pytest.skip("the limit was lowered here, and it takes CAP_SYS_RESOURCE to raise it")
        runtime.write(
            "sh", "-c", "ulimit -Sf; ulimit -Hf",
            rlimits=[{"type": "RLIMIT_FSIZE", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1}],
        )  # fmt: skip
        assert runtime.run() == "unlimited\nunlimited\n"

    def test_a_detached_run_that_fails_is_undone(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.write("nosuch")
        assert "not found" in runtime.run("c", "-d", status=127)
        assert runtime("list", "-q") == ""
        assert not list(runtime.root.iterdir())

    def test_a_pid_file_that_cannot_be_written_undoes_a_detached_run(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.write("sleep", "1000")
        assert "pid" in runtime.run("c", "-d", "--pid-file", "/no/such/pid", status=1)
        assert runtime("list", "-q") == ""


@pytest.mark.parametrize("user", ["0", "1000:1000", "33"])
def test_a_killed_monitor_takes_the_container_along(box: Box, user: str) -> None:
    """The kernel forgets the parent-death signal when ids change, and it must be asked for again."""
    process = box.popen(
        *NONE, "-u", user, box.image(), "sh", "-c", "echo ready; exec sleep 1000",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"ready\n"
    [file] = box.state.glob("*/*/state.json")
    pidfd = os.pidfd_open(json.loads(file.read_text())["pid"])
    try:
        os.kill(lock_holder(box.state / "containers" / file.parent.name), signal.SIGKILL)
        assert select.select([pidfd], [], [], SECONDS)[0], "the container outlived its monitor"
        complaint = process.communicate(timeout=SECONDS)[1]
        assert (process.returncode, complaint.count(b"\n")) == (125, 2), complaint
        assert b"was killed" in complaint
    finally:
        os.close(pidfd)
        box("ps", check=True)


# prctl(PR_SET_PDEATHSIG, 0), write(1, "ready\n", 6), and pause() for ever, at 0x400078.
UNTIED = bytes.fromhex(
    "bf01000000 31f6 b89d000000 0f05bf01000000 be a5004000 ba06000000 b801000000 0f05b822000000 0f05 ebf7 72656164790a"
)


def elf(code: bytes) -> bytes:
    """A static x86-64 executable: elf(5)."""
    size = (120 + len(code)).to_bytes(8, "little")
    base = (0x400000).to_bytes(8, "little")
    header = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0\1\0\0\0" + (0x400078).to_bytes(8, "little")
    header += (64).to_bytes(8, "little") + bytes(8) + bytes(4) + b"\x40\0\x38\0\1\0" + bytes(6)
    return header + b"\1\0\0\0\5\0\0\0" + bytes(8) + base + base + size + size + bytes(8) + code


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is for x86-64")
def test_a_container_that_unties_itself_does_not_outlive_its_monitor(box: Box) -> None:
    """It takes back the signal that it gets when its parent dies; the launcher notices, and no command need come."""
    image = box.image(LayerTar().add("untied", elf(UNTIED), mode=0o755))
    process = box.popen(
        *NONE, image, "/untied", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    [file] = box.state.glob("*/*/state.json")
    container = file.parent.name
    pidfd = os.pidfd_open(json.loads(file.read_text())["pid"])
    try:
        os.kill(lock_holder(box.state / "containers" / container), signal.SIGKILL)
        assert select.select([pidfd], [], [], SECONDS)[0], "the container outlived its monitor"
        process.communicate(timeout=SECONDS)
        wait_until(lambda: not (box.state / "containers" / container).exists(), message="it was not put away")
        assert not file.exists()
    finally:
        os.close(pidfd)
        box("ps", check=True)
