"""What a lab is shown on: it runs pycontainer's own command line, shows the kernel's files, and clears up.

A lab is a module of this package with three names:

    SUMMARY      one line, of what it shows
    CONTROLLERS  the controllers that its limits need, () where it shows none
    show(stage)  does it
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import textwrap
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from pycontainer import labs
from pycontainer.engine import containers, volumes
from pycontainer.engine.containers import Container
from pycontainer.engine.database import open_database
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, HostError, ImageNotFound, StepFailed, UsageError
from pycontainer.image import directory, reference
from pycontainer.image.registry.config import images_directory
from pycontainer.image.store import Store
from pycontainer.kernel import cgroup, mount
from pycontainer.network import lease

WIDTH = 80
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # that end a lab
IMAGE = "busybox"
# What a lab may make: what it is called, and the command that removes it. In the order in which that can be done.
_KINDS = {
    "container": ("a container", ("pycontainer", "rm", "-f")),
    "network": ("a network", ("pycontainer", "network", "rm")),
    "network namespace": ("a network namespace", ("ip", "netns", "delete")),
    "volume": ("a volume", ("pycontainer", "volume", "rm")),
    "image": ("an image", ("pycontainer", "rmi")),
}
_NAMESPACES = "/run/netns"  # where ip-netns(8) keeps them
_LOAD = "images/busybox/build.py busybox.tar && pycontainer load -i busybox.tar, in a clone of pycontainer"
_UNIFIED = "boot with systemd.unified_cgroup_hierarchy=1, or use a virtual machine: `vagrant up` brings one up"


def names() -> list[str]:
    """Every lab there is."""
    return sorted(module.name for module in pkgutil.iter_modules(labs.__path__) if not module.name.startswith("_"))


def load(name: str) -> ModuleType:
    """The lab of that name. Raises UsageError."""
    if name not in names():
        raise UsageError("lab", name, "no such lab", f"one of {', '.join(names())}")
    return importlib.import_module(f"{labs.__name__}.{name}")


def require(settings: Settings, name: str) -> None:
    """See whether this machine can show the lab. Raises HostError, ImageNotFound, Conflict, OSError."""
    _require_controllers(name, load(name).CONTROLLERS)
    connection = open_database(settings.root)
    try:
        Store(settings.root, connection).resolve(IMAGE)
    except ImageNotFound as error:
        # From there `run` takes it by itself.
        if not directory.find(images_directory(settings.root), reference.parse(IMAGE)):
            raise ImageNotFound(f"lab {name}", IMAGE, "no such image", _LOAD) from error
    finally:
        connection.close()
    # What has the name of something it makes is somebody else's, or another lab's that runs.
    for kind, found in _existing(settings):
        if f"{found}-".startswith(f"lab-{name}-"):
            what, words = _KINDS[kind]
            hint = f"{' '.join(words)} {found}"
            raise Conflict(f"lab {name}", found, f"there is {what} of that name", hint)


def _existing(settings: Settings) -> list[tuple[str, str]]:
    """The kind and name of all that is there of what a lab may make; an image's without :latest."""
    connection = open_database(settings.root)
    images = Store(settings.root, connection).images()
    found = [("container", each.name) for each in containers.list_all(connection)]
    found += [("volume", each.name) for each in volumes.list_all(connection)]
    found += [("image", name.removesuffix(":latest")) for each in images for name in each.names]
    found += [("network", each.name) for each in lease.find_all(connection)]
    found += [("network namespace", name) for name in _namespaces()]
    connection.close()
    return found


def _namespaces() -> list[str]:
    """Those that ip-netns(8) has names for."""
    try:
        return os.listdir(_NAMESPACES)
    except FileNotFoundError:
        return []


def _keeps_namespaces() -> bool:
    """Whether ip-netns(8) has made ready for them; its mount stays with the last of them gone."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split()[4] == _NAMESPACES for line in file)


def _require_controllers(name: str, controllers: tuple[str, ...]) -> None:
    if not controllers:
        return
    hierarchy = cgroup.find_hierarchy()
    if hierarchy is None:
        raise HostError("lab", name, "cgroup v2 is not mounted", _UNIFIED)
    for controller in controllers:
        try:
            hierarchy.require(controller, name)
        except HostError as error:
            raise HostError("lab", name, error.cause, _UNIFIED) from error


class Stage:
    """Where one lab is shown.

    name      the lab's; what it makes is called lab-NAME, or lab-NAME-SOMETHING
    settings  the installation's
    step      wait for a key before each part
    """

    def __init__(self, name: str, settings: Settings, *, step: bool) -> None:
        self.name = name
        self.settings = settings
        self.step = step
        self._bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._parts = 0
        self._shown = ""
        self._made: list[tuple[str, str]] = []
        self._directories: list[str] = []
        self._has_changed_directory = False
        self._process: subprocess.Popen[str] | None = None
        # As the user has called it, that is without the words of this call.
        self._command = [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]
        self._had_namespaces = _keeps_namespaces()
        hierarchy = cgroup.find_hierarchy()
        self._cgroups = hierarchy.mountpoint if hierarchy else ""

    def part(self, text: str) -> None:
        """Begin the next part."""
        self._parts += 1
        if self.step:
            self._wait()
        self._print(f"\n{self._marked(f'{self._parts}. {text}')}\n")

    def say(self, text: str) -> None:
        """Sentences for the reader."""
        self._print(f"{textwrap.fill(text, WIDTH)}\n")

    def run(self, *words: str, status: int | None = 0) -> tuple[int, str]:
        """Show a command line of pycontainer's, do it and show what it prints; exit status and output.

        status  what it must be, None for whatever it is

        Raises StepFailed.
        """
        if "--name" in words:
            self.own("container", words[words.index("--name") + 1])
        self._print(f"$ {self._marked(command_line(words))}\n")
        found, output = self._call(words)
        self._report(words[0], output, found, status)
        return found, output

    def host(self, *words: str, status: int = 0) -> str:
        """Show a command of the host's, do it in the installation's directory and show what it prints; its output.

        Of names of 64 digits it shows 12, and lets a shell's pattern stand for the others.

        Raises StepFailed.
        """
        if not self._has_changed_directory:
            self._print(f"$ {self._marked(f'cd {shlex.quote(self.settings.root)}')}\n")
            self._has_changed_directory = True
        self._print(f"$ {self._marked(_fold([shorten(shlex.quote(word)) for word in words]))}\n")
        # Times and errors as everybody has them, and columns for ls -C.
        environment = {**os.environ, "LC_ALL": "C", "COLUMNS": str(WIDTH)}
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
        done = subprocess.run(words, cwd=self.settings.root, stdin=subprocess.DEVNULL, **out)  # type: ignore[call-overload]
        self._report(words[0], shorten(done.stdout), done.returncode, status)
        return str(done.stdout)

    def attribute(self, path: str, name: str) -> None:
        """Show an extended attribute of a file below the installation's directory. Raises OSError."""
        value = os.getxattr(f"{self.settings.root}/{path}", name)
        self._print(f"    {os.path.basename(path)}: {name}={os.fsdecode(value)}\n")

    def find(self, container: str) -> Container:
        """The container of that name. Raises NotFound."""
        connection = open_database(self.settings.root)
        try:
            return containers.find(connection, container)
        finally:
            connection.close()

    def own(self, kind: str, name: str) -> None:
        """Remove what is of a kind of _KINDS at the end, if it is there then."""
        self._made.append((kind, name))

    def directory(self) -> str:
        """A new directory of the host's, which is removed at the end. Raises OSError."""
        # There, because that file system has what containers need, such as ID-mapped mounts.
        made = tempfile.mkdtemp(prefix=f"lab-{self.name}-", dir=self.settings.root)
        self._directories.append(made)
        return made

    def remove(self, *containers: str) -> None:
        """Remove containers, for the next part or to let them use nothing any more."""
        self.run("rm", "-f", *containers)
        self._made = [each for each in self._made if each[1] not in containers]

    def files(self, container: str, *files: str) -> None:
        """Show files of a running container's cgroup, and once where they are. Raises OSError, NotFound."""
        place = self._directory(container)
        if place != self._shown:
            # A shell takes the pattern for the whole.
            self._print(f"  {place[: len(place) - 52]}*/\n")
            self._shown = place
        column = max(map(len, files)) + 2
        for file in files:
            text = "  ".join(cgroup.read(f"{place}/{file}").splitlines()) or "(empty)"
            lines = textwrap.wrap(text, WIDTH - column - 4, break_on_hyphens=False)
            for position, line in enumerate(lines):
                self._print(f"    {'' if position else file:{column}}{line}\n")

    def value(self, container: str, file: str, key: str) -> int:
        """One number of a file of `key number` lines; 0 where it is not there. Raises OSError, NotFound."""
        lines = cgroup.read(f"{self._directory(container)}/{file}").splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[0] == key), 0)

    def wait(self, seconds: float) -> None:
        """Let containers run for a time."""
        self.say(f"({seconds:.0f} seconds)")
        time.sleep(seconds)

    def clear(self) -> None:
        """Remove what is left, whatever has happened. Raises StepFailed."""
        while self._process is not None and self._process.poll() is None:
            # Not ended, because others would go on to make what it has asked for. Without its container it ends soon.
            self._remove("container")
            with suppress(subprocess.TimeoutExpired):
                self._process.communicate(timeout=0.1)
        hints = [hint for kind in _KINDS if (hint := self._remove(kind))]
        for path in self._directories:
            try:
                shutil.rmtree(path)
            except OSError:
                hints.append(f"rm -r {path}")
        if not self._had_namespaces and _keeps_namespaces() and not _namespaces():
            # ip-netns(8) has mounted it on itself. Lazily, for a process that was killed in one may not be gone yet.
            with suppress(OSError):
                mount.umount2(_NAMESPACES, mount.MNT_DETACH)
            with suppress(OSError):
                os.rmdir(_NAMESPACES)
        if hints:
            raise StepFailed("lab", self.name, 0, cause="not all of it could be removed", hint="; ".join(hints))

    def _remove(self, kind: str) -> str:
        """Remove all of a kind that was made and is there; the command by which somebody else may try, if it failed."""
        # Asked for and not remembered, because a command may have failed before it made one, or after.
        there = set(self._made) & set(_existing(self.settings)) if self._made else set()
        names = sorted(name for each, name in there if each == kind)
        words = _KINDS[kind][1]
        call = [*self._command, *words[1:]] if words[0] == "pycontainer" else [*words]
        # ip(8) takes one name, and pycontainer all, which is quicker.
        for some in [[name] for name in names] if call == [*words] else [names] * bool(names):
            # In a session of its own, because Ctrl-C must not end it.
            if subprocess.run([*call, *some], start_new_session=True, stdout=subprocess.DEVNULL).returncode:
                return " ".join([*words, *some])
        return ""

    def _directory(self, container: str) -> str:
        return self._cgroups + self.find(container).cgroup(self.settings)

    def _report(self, command: str, output: str, found: int, status: int | None) -> None:
        """What a command has printed and how it ended. Raises StepFailed where it must not end so."""
        for line in output.splitlines():
            self._print("\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False)) + "\n")
        if found:
            self._print(f"exit status {found}\n")
        if status is not None and found != status:
            cause = f"{command} ended with {found} and not with {status}: this machine does not show it"
            raise StepFailed("lab", self.name, 0, cause=cause)

    def _call(self, words: tuple[str, ...]) -> tuple[int, str]:
        # In a session of its own, because what Ctrl-C ends may leave half of it to be made: see clear().
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        # Because a signal in the middle of it would leave one that clear() does not wait for.
        with _deferred():
            self._process = subprocess.Popen([*self._command, *words], stdin=subprocess.DEVNULL, **out)  # type: ignore[call-overload]
        output, _ = self._process.communicate()
        return self._process.returncode, output

    def _wait(self) -> None:
        before = termios.tcgetattr(0)
        try:
            # First, and without throwing away what was typed: a key may come as soon as it is asked for.
            tty.setcbreak(0, termios.TCSANOW)
            self._print("\n(any key)\n")
            os.read(0, 1)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)

    def _marked(self, text: str) -> str:
        return f"\033[1m{text}\033[0m" if self._bold else text

    def _print(self, text: str) -> None:
        # At once, because one reads it while it happens.
        sys.stdout.write(text)
        sys.stdout.flush()


def shorten(text: str) -> str:
    """The text with the first 12 digits of each id, and a star for the others."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1*", text)


def command_line(words: tuple[str, ...]) -> str:
    """As it is typed, on lines of the width; a word is not broken."""
    return _fold(["pycontainer", *map(shlex.quote, words)])


def _fold(words: list[str]) -> str:
    lines = words[:1]
    for word in words[1:]:
        # Two columns are the prompt's, two the backslash's.
        if len(lines[-1]) + 1 + len(word) > WIDTH - 4:
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return " \\\n".join(lines)


@contextmanager
def stage(name: str, settings: Settings, *, step: bool) -> Iterator[Stage]:
    """A stage that is cleared at the end, also when somebody ends the lab. Raises UsageError, StepFailed."""
    if step and not sys.stdin.isatty():
        raise UsageError("lab", "--step", "standard input is no terminal, so there is no key to wait for")
    made = Stage(name, settings, step=step)
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        yield made
    finally:
        for number in _SIGNALS:
            # And not SIG_IGN, which a command would begin with.
            signal.signal(number, lambda *_: None)
        made.clear()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _deferred() -> Iterator[None]:
    """A signal that ends the lab does so afterwards. Raises KeyboardInterrupt."""
    arrived: list[int] = []
    before = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt
