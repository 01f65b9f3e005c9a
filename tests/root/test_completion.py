"""Completion in real shells: keys are typed at a terminal, and the line that came of them is looked at."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator

import pytest
from conftest import COMMAND, Pycontainer

PROMPT = "(type)"
# Shell -> how it is started without anybody's configuration, and how it is told of the completion.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(pycontainer completion bash); PS1='{prompt}'"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "pycontainer completion zsh >~/_pycontainer; fpath=(~ $fpath); autoload -U compinit; compinit -u -D; "
        "PS1='{prompt}'",
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        "pycontainer completion fish | source; set -g fish_autosuggestion_enabled 0; "
        "function fish_prompt; echo -n '{prompt}'; end",
    ),
}


class Shell:
    """One that runs on a terminal, with `pycontainer` on its PATH."""

    def __init__(self, name: str, box: Pycontainer, home: pathlib.Path) -> None:
        program, setup = SHELLS[name]
        command = home / "pycontainer"
        command.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
        command.chmod(0o755)
        kept = {"HOME": str(home), "TERM": "dumb", "PATH": f"{home}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(home)
                os.execvpe(program[0], program, {**os.environ, **box.environment, **kept})
            finally:
                os._exit(127)
        # In two parts, so that what is shown of these keys is not taken for the prompt.
        self.type(setup.format(prompt=PROMPT[:3] + "''" + PROMPT[3:]) + "\n")
        self.read_until(re.escape(PROMPT))

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def read_until(self, pattern: str) -> re.Match[str]:
        """What the terminal shows, up to what matches."""
        shown, deadline = "", time.monotonic() + 60
        while True:
            readable, _, _ = select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))
            assert readable, f"not shown: {pattern} in {shown!r}"
            shown += os.read(self.terminal, 65536).decode(errors="replace")
            if found := re.search(pattern, shown, re.DOTALL):
                return found

    def complete(self, keys: str) -> str:
        """The line that is there after the keys were typed."""
        # Control-A and control-E go to the line's two ends; the shell removes the inner quotes.
        self.type(f"{keys}\x01echo '<''<' '\x05''>''>'\n")
        found = self.read_until(rf"<< (.*?)>>\s.*{re.escape(PROMPT)}")
        return found[1].rstrip()

    def end(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.fixture(scope="module")
def stored(box: Pycontainer) -> Pycontainer:
    """With containers of two statuses, and images."""
    for name in ("sleeper", "runner"):
        box("create", "--name", name, "busybox", check=True)
    box("tag", "busybox", "app:v1", check=True)
    # No process need run for it, because completion only reads.
    with sqlite3.connect(box.root / "db.sqlite") as connection:
        connection.execute("UPDATE containers SET status = 'running' WHERE name = 'runner'")
    connection.close()
    return box


@pytest.fixture(scope="module", params=SHELLS)
def shell(
    request: pytest.FixtureRequest, stored: Pycontainer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    home = tmp_path_factory.mktemp("home")
    (home / "names.env").write_text("A=1\n")
    shell = Shell(request.param, stored, home)
    yield shell
    shell.end()


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("sys\tbo\t", "system boot"),
        ("run --resta\t", "run --restart"),
        ("run --restart al\t", "run --restart always"),
        ("run --restart=al\t", "run --restart=always"),
        ("run --rm --resta\tunl\t", "run --rm --restart unless-stopped"),
        ("run -e 'A=b c' --resta\t", "run -e A=b c --restart"),
        ("run --network=no\t-it\t", "run --network=none -it"),
        ("stop \t", "stop runner"),
        ("stop sle\t", "stop sle"),
        ("start \t", "start sleeper"),
        ("rm -f runner sl\t", "rm -f runner sleeper"),
        ("rmi app:\t", "rmi app:v1"),
        ("run --rm app\t", "run --rm app:v1"),
        ("run app:v1 --resta\t", "run app:v1 --resta"),
        ("cp sle\t/etc/passwd .", "cp sleeper:/etc/passwd ."),
        ("cp ./nam\trun\t/", "cp ./names.env runner:/"),
        ("run --env-file nam\t", "run --env-file names.env"),
        ("run --env-file=./nam\t", "run --env-file=./names.env"),
        ("rm nam\t", "rm nam"),
        ("kill -s SIGUSR1 \t", "kill -s SIGUSR1 runner"),
        ("nosuch -\t", "nosuch -"),
    ],
)
def test_what_is_typed_is_completed(shell: Shell, keys: str, line: str) -> None:
    assert shell.complete(f"pycontainer {keys}") == f"pycontainer {line}"


def test_a_user_gets_no_names_and_no_errors(stored: Pycontainer) -> None:
    result = stored("__complete", "--", "inspect", "")
    assert "sleeper" in result.stdout
    # Who is not root cannot look into the store.
    nobody = stored("__complete", "--", "run", "-v", "", env={"PYCONTAINER_ROOT": "/proc/1/nosuch"}, check=True)
    assert (nobody.stdout, nobody.stderr) == (":files\t\n", "")


def test_asking_makes_nothing(stored: Pycontainer, tmp_path: pathlib.Path) -> None:
    result = stored("__complete", "--", "rm", "", env={"PYCONTAINER_ROOT": str(tmp_path / "none")}, check=True)
    assert (result.stdout, result.stderr) == ("", "")
    assert not (tmp_path / "none").exists()
