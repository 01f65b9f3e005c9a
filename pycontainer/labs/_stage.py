"""What a lab is shown on: it runs pycontainer's own command line, shows the kernel's files, and clears up.

A lab is a module of this package with three names:

    SUMMARY      one line, of what it shows
    CONTROLLERS  the controllers that its limits need
    show(stage)  does it
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import shlex
import signal
import subprocess
import sys
import termios
import textwrap
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from pycontainer import labs
from pycontainer.engine import containers
from pycontainer.engine.database import open_database
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, HostError, ImageNotFound, StepFailed, UsageError
from pycontainer.image import directory, reference
from pycontainer.image.registry.config import images_directory
from pycontainer.image.store import Store
from pycontainer.kernel import cgroup

WIDTH = 80
IMAGE = "busybox"
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
    # What has the name of one of its containers is somebody else's, or another lab's that runs.
    taken = [each.name for each in containers.list_all(connection) if f"{each.name}-".startswith(f"lab-{name}-")]
    connection.close()
    if taken:
        raise Conflict(f"lab {name}", taken[0], "there is a container of that name", f"pycontainer rm -f {taken[0]}")


def _require_controllers(name: str, controllers: tuple[str, ...]) -> None:
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

    name      the lab's; its containers are called lab-NAME, or lab-NAME-SOMETHING
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
        self._made: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        # As the user has called it, that is without the words of this call.
        self._command = [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]
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
            self._made.append(words[words.index("--name") + 1])
        self._print(f"$ {self._marked(command_line(words))}\n")
        found, output = self._call(words)
        for line in output.splitlines():
            self._print("\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="    ")) + "\n")
        if found:
            self._print(f"exit status {found}\n")
        if status is not None and found != status:
            cause = f"{words[0]} ended with {found} and not with {status}: this machine does not show it"
            raise StepFailed("lab", self.name, 0, cause=cause)
        return found, output

    def remove(self, *containers: str) -> None:
        """Remove containers, for the next part or to let them use nothing any more."""
        self.run("rm", "-f", *containers)
        self._made = [name for name in self._made if name not in containers]

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
        if self._process is not None and self._process.poll() is None:
            # Because what it was about to make must be there before it can be removed.
            self._process.terminate()
            self._process.communicate()
        if not self._made:
            return
        # Asked for and not remembered, because a command may have failed before it made one, or after.
        connection = open_database(self.settings.root)
        left = [each.name for each in containers.list_all(connection) if each.name in self._made]
        connection.close()
        # In a session of its own, because Ctrl-C must not end it.
        words = [*self._command, "rm", "-f", *left]
        if left and subprocess.run(words, start_new_session=True, stdout=subprocess.DEVNULL).returncode:
            hint = f"pycontainer rm -f {' '.join(left)}"
            raise StepFailed("lab", self.name, 0, cause="its containers could not be removed", hint=hint)

    def _directory(self, container: str) -> str:
        connection = open_database(self.settings.root)
        found = containers.find(connection, container)
        connection.close()
        return self._cgroups + found.cgroup(self.settings)

    def _call(self, words: tuple[str, ...]) -> tuple[int, str]:
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self._process = subprocess.Popen([*self._command, *words], stdin=subprocess.DEVNULL, **out)  # type: ignore[call-overload]
        output, _ = self._process.communicate()
        return self._process.returncode, output

    def _wait(self) -> None:
        self._print("\n(any key)\n")
        before = termios.tcgetattr(0)
        tty.setcbreak(0)
        try:
            os.read(0, 1)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)

    def _marked(self, text: str) -> str:
        return f"\033[1m{text}\033[0m" if self._bold else text

    def _print(self, text: str) -> None:
        # At once, because one reads it while it happens.
        sys.stdout.write(text)
        sys.stdout.flush()


def command_line(words: tuple[str, ...]) -> str:
    """As it is typed, on lines of the width; a word is not broken."""
    lines = ["pycontainer"]
    for word in map(shlex.quote, words):
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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        yield made
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # And not SIG_IGN, which a command would begin with.
            signal.signal(number, lambda *_: None)
        made.clear()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
