"""Whatever fails or is killed at whatever step of a command, nothing is left once the next command has run."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import copy_store, lasting, lock_holder, new_environment, remove_environment, wait_until
from leftovers import Leftovers, network_namespaces

DRIVER = pathlib.Path(__file__).parent / "fault_driver.py"
SEED = int(os.environ.get("PYCONTAINER_TEST_SEED", "20261122"))
# PYCONTAINER_TEST_FAULTS=all puts every fault at every operation, and kills at more moments. Otherwise the faults take
# turns, two of the eight at each operation, the signals too; and of several operations that do the same (a
# device, one more device) it is the first and the last.
ALL = os.environ.get("PYCONTAINER_TEST_FAULTS") == "all"
DRAWS = 60 if ALL else 5
# A volume, a file system, a directory and a limit, so that there are operations of every kind.
OPTIONS = ["--tmpfs", "/scratch", "-w", "/new", "--ulimit", "nofile=64:64"]


def takes_turn(number: int, which: int, among: int) -> bool:
    """Whether the `which`th of several kinds of faults is to happen at this operation."""
    return ALL or number % among == which


def chosen(operations: list[list[str]]) -> list[tuple[int, list[str]]]:
    """The operations that get a fault, with their numbers."""
    steps = [(who, step.split(" /")[0]) for who, step, _ in operations]
    firsts = {step: number for number, step in reversed([*enumerate(steps)])}
    lasts = {step: number for number, step in enumerate(steps)}
    wanted = {*firsts.values(), *lasts.values()}
    return [(number, operation) for number, operation in enumerate(operations) if ALL or number in wanted]


class Installation:
    """One installation and the driver that runs its commands; see fault_driver.py."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.driver = subprocess.Popen(
            [sys.executable, "-P", DRIVER],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.root = pathlib.Path(environment["PYCONTAINER_ROOT"])
        assert self.driver.stdout
        self.leftovers = Leftovers(environment, [self.driver.pid, int(self.driver.stdout.readline())])

    def __call__(self, *arguments: str, **fault: Any) -> dict[str, Any]:
        """Run a command line with or without a fault; the driver's answer."""
        assert self.driver.stdin and self.driver.stdout
        self.driver.stdin.write(json.dumps({"arguments": arguments, **fault}) + "\n")
        self.driver.stdin.flush()
        answer: dict[str, Any] = json.loads(self.driver.stdout.readline())
        return answer

    def rows(self) -> dict[str, tuple[str, int]]:
        """Container id -> status and exit status."""
        connection = sqlite3.connect(f"{self.root}/db.sqlite")
        try:
            return {row[0]: row[1:] for row in connection.execute("SELECT id, status, exit_status FROM containers")}
        finally:
            connection.close()

    def close(self) -> None:
        assert self.driver.stdin and self.driver.stdout
        self.driver.stdin.close()
        self.driver.wait(10)
        self.driver.stdout.close()


@contextlib.contextmanager
def started(environment: dict[str, str], store: pathlib.Path) -> Iterator[Installation]:
    """An installation with busybox, whose bridge is there already."""
    copy_store(store, environment)
    made = Installation(environment)
    try:
        first = made("run", "--rm", "busybox", "true")
        assert first["status"] == 0, first["stderr"]
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def installation(busybox_root: pathlib.Path) -> Iterator[Installation]:
    environment = new_environment()
    try:
        with started(environment, busybox_root) as made:
            yield made
    finally:
        remove_environment(environment)


def run_command(*options: str) -> list[str]:
    return ["run", *options, *OPTIONS, "busybox", "true"]


def ids(answer: dict[str, Any]) -> set[str]:
    """The container that the command made, as far as it came."""
    return {found[0] for _, _, path in answer["operations"] if (found := re.findall(r"\b[0-9a-f]{64}\b", path))} - {""}


def complaint(answer: dict[str, Any]) -> str:
    """What is wrong with the command's last words; "" when they are one or two lines that say step and cause."""
    # And what went wrong while things were put away, each on a line of its own.
    lines = [line for line in answer["stderr"].splitlines() if not line.startswith("pycontainer: also: ")]
    if "Traceback" in answer["stderr"] or not 1 <= len(lines) <= 2 or "PYCONTAINER_DEBUG" in answer["stderr"]:
        return f"said {answer['stderr']!r}"
    if not re.fullmatch(r"pycontainer: [^:]+: .+", lines[0]) or not all(x.startswith("hint: ") for x in lines[1:]):
        return f"said {answer['stderr']!r}"
    return ""


def dry_run(installation: Installation, arguments: list[str]) -> dict[str, Any]:
    answer = installation(*arguments)
    assert answer["status"] == 0, answer["stderr"]
    installation("rm", *installation.rows()) if installation.rows() else None
    return answer


def settle(installation: Installation, answer: dict[str, Any], repair: bool) -> list[str]:
    """What is left: after the next command with `repair`, and of a container that stays after it was removed."""
    problems = []
    # What goes on without the command line, such as a container, has to end by itself.
    if running := lasting(lambda: set(installation.leftovers.processes()), 10):
        problems.append(f"still there: {running}")
    if not repair:
        # What the command line has asked for just before its end may only be on its way to the launcher.
        time.sleep(0.05)
        lasting(lambda: set(installation.leftovers.processes()), 10)
    if repair:
        listing = installation("ps", "-a")
        if listing["status"] or listing["stderr"]:
            problems.append(f"ps -a: {listing['status']} {listing['stderr']}")
    rows = installation.rows()
    problems += installation.leftovers.found(ids(answer), keep=rows)
    if rows:
        removal = installation("rm", *rows)
        # The launcher may just have put away the one whose monitor was killed.
        if removal["status"] and not removal["stderr"].rstrip().endswith("no such container"):
            problems.append(f"rm: {removal['stderr']}")
        problems += installation.leftovers.found(ids(answer))
    return problems


class Problems(list[str]):
    """What went wrong. Fails the test by itself when there is more than anybody would read."""

    def add(self, where: str, found: list[str]) -> None:
        self.extend(f"{where}: {problem}" for problem in found)
        if len(self) > 8:
            self.check()

    def check(self) -> None:
        if self:
            pytest.fail("\n".join(self), pytrace=False)


# (fault, victim, option); with "keep" the container is not removed at its end.
FAULTS = [
    ("fail", "", "--rm"),
    ("fail-after", "", "keep"),
    ("before", "errand", "--rm"),
    ("after", "errand", "keep"),
    ("before", "monitor", "keep"),
    ("after", "monitor", "--rm"),
    ("after", "child", "--rm"),
    ("before", "client", "keep"),
]


@pytest.mark.parametrize(("fault", "victim", "option"), FAULTS, ids=lambda text: text or "operation")
def test_a_fault_at_every_operation_leaves_nothing(
    installation: Installation, fault: str, victim: str, option: str, tmp_path: pathlib.Path
) -> None:
    arguments = run_command(*([option] if option == "--rm" else []), "-v", f"{tmp_path}:/data")
    operations = dry_run(installation, arguments)["operations"]
    assert len(operations) > 60
    clone = [step for _, step, _ in operations].index("clone the container's first process")
    problems = Problems()
    # Two of the eight at each operation.
    which = FAULTS.index((fault, victim, option)) % 4
    for turn, (number, (who, step, path)) in enumerate(chosen(operations)):
        if (victim == "child" and number < clone) or not takes_turn(turn, which, 4):
            continue
        error = (errno.ENOSPC, errno.EPERM)[number % 2]
        answer = installation(*arguments, fault=fault, victim=victim, number=number, errno=error)
        wrong = []
        if fault == "after" and step == "execute":
            # Where the program has replaced the process, nobody is left to do it.
            expected = [0]
        elif fault == "fail-after" and step == "execute":
            expected = [0]
        elif victim == "client":
            expected = [-signal.SIGKILL]
        elif victim == "child" and who == "child" and step in START:
            # All that can be seen from outside is that the process ended.
            expected = [125, 137]
        else:
            expected = [125, 126]
            if said := complaint(answer):
                wrong.append(said)
        if answer["status"] not in expected:
            wrong.append(f"status {answer['status']}: {answer['stderr']}")
        if fault.startswith("fail") and answer["status"]:
            begun = answer["operations"][number][1].replace("execute", "exec")
            if begun not in answer["stderr"] or os.strerror(error).lower() not in answer["stderr"]:
                wrong.append(f"does not name step and cause: {answer['stderr']!r}")
        wrong += settle(installation, answer, repair=victim == "monitor")
        problems.add(f"{fault} {victim} at {number} ({step}: {path})", wrong)
    problems.check()
    assert not network_namespaces()
    assert len(installation.leftovers.tables()) == 1


# What the container's first process does between `start` and its program.
START = {
    "set rlimit",
    "drop capabilities from the bounding set",
    "set user",
    "set capabilities",
    "change to the working directory",
    "execute",
}


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_at_every_operation_reaches_the_program(installation: Installation, number: signal.Signals) -> None:
    arguments = ["run", "--rm", *OPTIONS, "busybox", "sleep", "1000"]
    operations = dry_run(installation, run_command("--rm"))["operations"]
    problems = Problems()
    for turn, (position, (_, step, path)) in enumerate(chosen(operations)):
        if not takes_turn(turn, SIGNALS.index(number), len(SIGNALS)):
            continue
        answer = installation(*arguments, fault="before", number=position, signal=number)
        wrong = [] if answer["status"] == 128 + number else [f"status {answer['status']}"]
        if answer["stderr"]:
            wrong.append(answer["stderr"])
        wrong += settle(installation, answer, repair=False)
        problems.add(f"{number} at {position} ({step}: {path})", wrong)
    problems.check()


def test_a_fault_at_every_operation_that_makes_the_bridge(installation: Installation) -> None:
    def take_network_away() -> None:
        bridge = installation.environment["PYCONTAINER_BRIDGE"]
        subprocess.run(["ip", "link", "delete", bridge], stderr=subprocess.DEVNULL)
        subprocess.run(["nft", "delete", "table", "ip", f"pycontainer_{bridge}"], stderr=subprocess.DEVNULL)

    usual = len(dry_run(installation, run_command("--rm"))["operations"])
    take_network_away()
    operations = dry_run(installation, run_command("--rm"))["operations"]
    problems = Problems()
    faults = [("fail", ""), ("fail-after", ""), ("before", "monitor"), ("after", "errand")]
    for which, (fault, victim) in enumerate(faults):
        for number in range(len(operations) - usual + 3):
            if not takes_turn(number, which, len(faults)):
                continue
            take_network_away()
            answer = installation(*run_command("--rm"), fault=fault, victim=victim, number=number, errno=errno.EPERM)
            wrong = []
            if fault.startswith("fail"):
                if answer["status"] != 125:
                    wrong.append(f"status {answer['status']}")
                if said := complaint(answer):
                    wrong.append(said)
            wrong += settle(installation, answer, repair=victim == "monitor")
            again = installation(*run_command("--rm"))
            if again["status"]:
                wrong.append(f"the next run: {again['status']} {again['stderr']}")
            wrong += installation.leftovers.found(ids(again))
            if len(tables := installation.leftovers.tables()) != 1:
                wrong.append(f"nft tables: {tables}")
            problems.add(f"{fault} at {number} ({operations[number]})", wrong)
    problems.check()


def draws(name: str, count: int, top: float) -> Iterator[float]:
    """`count` moments between 0 and `top` seconds, the same on every run with the same seed."""
    print(f"seed {SEED}, 0 to {top:.3f} s")
    generator = random.Random(f"{SEED} {name}")
    for _ in range(count):
        yield generator.uniform(0, top)


@pytest.mark.parametrize("victim", ["client", "monitor", "errand", "child"])
@pytest.mark.parametrize("options", [["--rm"], []], ids=["rm", "keep"])
def test_sigkill_at_random_moments(installation: Installation, options: list[str], victim: str) -> None:
    arguments = ["run", *options, "busybox", "sleep", "0.01"]
    seconds = dry_run(installation, arguments)["seconds"]
    problems = Problems()
    for delay in draws(f"sigkill {victim} {options}", DRAWS, seconds * 1.2):
        answer = installation(*arguments, victim=victim, delay=delay)
        problems.add(f"killed after {delay}", settle(installation, answer, repair=True))
    problems.check()


@pytest.mark.parametrize("options", [["--rm"], []], ids=["rm", "keep"])
def test_sigkill_of_the_command_that_repairs(installation: Installation, options: list[str]) -> None:
    arguments = ["run", *options, "busybox", "sleep", "0.01"]
    seconds = dry_run(installation, arguments)["seconds"]
    problems = Problems()
    moments = zip(
        draws(f"run {options}", DRAWS, seconds * 1.2), draws(f"repair {options}", DRAWS, seconds * 0.7), strict=True
    )
    for delay, second_delay in moments:
        answer = installation(*arguments, victim="monitor", delay=delay)
        installation("ps", "-a", delay=second_delay)
        installation("ps", "-a", delay=seconds * 0.7 - second_delay)
        problems.add(f"killed after {delay} and {second_delay}", settle(installation, answer, repair=True))
    problems.check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("options", [["--rm"], []], ids=["rm", "keep"])
def test_signals_at_random_moments_leave_nothing_without_another_command(
    installation: Installation, number: signal.Signals, options: list[str]
) -> None:
    arguments = ["run", *options, "busybox", "sleep", "0.01"]
    seconds = dry_run(installation, arguments)["seconds"]
    problems = Problems()
    for delay in draws(f"signal {number} {options}", DRAWS, seconds * 1.2):
        answer = installation(*arguments, delay=delay, signal=number)
        expected = answer["status"] in (0, -number, 128 + number)
        wrong = [] if expected else [f"status {answer['status']}: {answer['stderr']}"]
        if "Traceback" in answer["stderr"]:
            wrong.append(answer["stderr"])
        wrong += settle(installation, answer, repair=False)
        problems.add(f"signal after {delay}", wrong)
    problems.check()


def test_what_cannot_be_repaired_stops_no_command(installation: Installation) -> None:
    answer = installation("run", "-d", "--rm", "busybox", "sleep", "1000")
    assert answer["status"] == 0, answer["stderr"]
    (container_id,) = installation.rows()
    stubborn = installation.root / "containers" / container_id / "upper/stubborn"
    stubborn.touch()
    subprocess.run(["chattr", "+i", stubborn], check=True)
    os.kill(lock_holder(pathlib.Path(installation.leftovers.state, "containers", container_id)), signal.SIGKILL)
    complaint = f"pycontainer: repair container {container_id[:12]}: stubborn: operation not permitted\n"
    try:
        # The launcher tries it first, and while it does, nobody else looks.
        wait_until(lambda: installation("ps", "-a")["stderr"] == complaint)
        for command in (["ps", "-a"], ["run", "--rm", "busybox", "true"]):
            answer = installation(*command)
            assert (answer["status"], answer["stderr"]) == (0, complaint)
    finally:
        subprocess.run(["chattr", "-i", stubborn], check=True)
    assert settle(installation, answer, repair=True) == []


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("tarball") / "root.tar"
    with tarfile.open(path, "w") as archive:
        for top in range(20):
            for position in range(20):
                archive.add(__file__, f"{top}/{position}")
    return path


@pytest.mark.parametrize("kind", ["load", "import", "rmi"])
def test_sigkill_of_what_changes_images(
    installation: Installation, kind: str, busybox_archive: pathlib.Path, tarball: pathlib.Path
) -> None:
    add = {"load": ["load", "-q", "-i", str(busybox_archive)], "import": ["import", "-q", str(tarball), "fresh"]}
    add["rmi"] = add["import"]
    name = "busybox" if kind == "load" else "fresh"
    command = ["rmi", "fresh"] if kind == "rmi" else add[kind]
    installation("rmi", name)
    if kind == "rmi":
        installation(*add[kind])
    seconds = installation(*command)["seconds"]
    problems = Problems()
    for delay in draws(kind, DRAWS, seconds * 1.2):
        if kind == "rmi":
            installation(*add[kind])
        else:
            installation("rmi", name)
        installation(*command, delay=delay)
        listing = installation("images")
        wrong = [f"images: {listing}"] if listing["status"] or listing["stderr"] else []
        # A child of the killed command has the store's lock until it notices; then it is the next command's to clear.
        deadline = time.monotonic() + 10
        while (left := unneeded(installation.root)) and time.monotonic() < deadline:
            time.sleep(0.05)
            installation("images")
        wrong += installation.leftovers.found() + left
        problems.add(f"killed after {delay}", wrong)
    problems.check()
    installation("rmi", name)
    again = installation(*add[kind])
    assert again["status"] == 0, again["stderr"]
    assert not unneeded(installation.root)


def unneeded(root: pathlib.Path) -> list[str]:
    """Where what is on disk differs from what the database knows."""
    connection = sqlite3.connect(root / "db.sqlite")
    try:
        rows = connection.execute("SELECT layers, blobs FROM images").fetchall()
        recorded = {row[0] for row in connection.execute("SELECT chain_id FROM layers")}
    finally:
        connection.close()
    layers = {chain for row in rows for chain in row[0].split()}
    blobs = {blob for row in rows for blob in row[1].split()}
    found = {"layers": set(os.listdir(root / "layers")), "blobs": set(os.listdir(root / "blobs/sha256"))}
    return [
        f"{what}: {len(one - other)} too many, {len(other - one)} missing"
        for what, one, other in (
            ("layers", found["layers"], layers),
            ("layers in the database", recorded, layers),
            ("blobs", found["blobs"], blobs),
        )
        if one != other
    ]


@pytest.fixture
def small(busybox_root: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Installation]:
    """An installation with busybox on a file system of 32 MiB."""
    environment = new_environment()
    root = environment["PYCONTAINER_ROOT"]
    image = tmp_path / "disk"
    with open(image, "wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-b", "4096", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, root], check=True)
    try:
        with started(environment, busybox_root) as made:
            yield made
    finally:
        subprocess.run(["umount", root], check=True)
        remove_environment(environment)


@contextlib.contextmanager
def full_disk(root: pathlib.Path, free: int) -> Iterator[None]:
    """Fill the file system but for about `free` bytes, the engine's reserve included."""
    (root / "reserve").unlink(missing_ok=True)
    filler = root / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 15, 1 << 10):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
        file.truncate(file.tell() - free)
    try:
        yield
    finally:
        filler.unlink()


def test_run_on_a_full_disk(small: Installation) -> None:
    problems = Problems()
    statuses = []
    # From the database's first page to config.json and the container's own file, the disk ends everywhere.
    sizes = (0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 256)
    for turn, free in enumerate(kilobytes << 10 for kilobytes in sizes):
        for which, options in enumerate((["--rm"], [])):
            if not takes_turn(turn, which, 2):
                continue
            with full_disk(small.root, free):
                answer = small("run", *options, "busybox", "sh", "-c", "echo x > /x && sync /x")
            wrong = []
            statuses.append(answer["status"])
            if answer["status"] not in (0, 1, 125):
                wrong.append(f"status {answer['status']}")
            if answer["status"] == 125 and (said := complaint(answer)):
                wrong.append(said)
            wrong += settle(small, answer, repair=True)
            if (again := small("run", "--rm", "busybox", "true"))["status"]:
                wrong.append(f"afterwards: {again['stderr']}")
            problems.add(f"{free} bytes free, {options}", wrong)
    problems.check()
    assert statuses[0] == 125 and statuses[-1] == 0


def test_import_on_a_full_disk(small: Installation, tarball: pathlib.Path) -> None:
    problems = Problems()
    for free in [kilobytes << 10 for kilobytes in (0, 16, 256, 2048, 4096)]:
        with full_disk(small.root, free):
            answer = small("import", "-q", str(tarball), "fresh")
        wrong = []
        if answer["status"] != 1:
            wrong.append(f"status {answer['status']}")
        elif said := complaint(answer):
            wrong.append(said)
        elif not re.search("no space left|disk is full|disk full", answer["stderr"]):
            wrong.append(f"does not say why: {answer['stderr']}")
        wrong += small.leftovers.found() + unneeded(small.root)
        problems.add(f"{free} bytes free", wrong)
    problems.check()
    again = small("import", "-q", str(tarball), "fresh")
    assert again["status"] == 0, again["stderr"]
    assert not unneeded(small.root)
