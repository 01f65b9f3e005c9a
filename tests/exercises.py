"""docs/exercises.md: what it says to type, and what it says is printed then."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

from conftest import REPOSITORY, Pycontainer

PAGE = REPOSITORY / "docs/exercises.md"


class Exercise:
    """commands are for a shell, answer is what they print, with … for anything in a line, or for any lines."""

    def __init__(self, title: str, commands: str, answer: str) -> None:
        self.title = title
        self.commands = commands
        self.answer = answer

    def __repr__(self) -> str:
        return self.title.partition(":")[0]


def exercises(*parts: str) -> list[Exercise]:
    """Those of these parts of the page."""
    found = []
    for part in re.split(r"^# ", PAGE.read_text(), flags=re.MULTILINE):
        if part.partition("\n")[0] in parts:
            for text in part.split("\n## ")[1:]:
                commands, answer = re.findall(r"^```(?:sh|text)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
                found.append(Exercise(text.partition("\n")[0], commands, answer))
    return found


def pattern(answer: str) -> str:
    """A regular expression; how much space there is between words makes no difference."""
    lines = [" ".join(line.split()) for line in answer.splitlines()]
    return "".join(
        r"(?:.*\n)*?" if line == "…" else ".*?".join(map(re.escape, line.split("…"))) + r"\n" for line in lines
    )


def check(exercise: Exercise, pycontainer: Pycontainer, programs: pathlib.Path) -> None:
    """Type it in a shell; what is printed is the answer, and nothing is left."""
    environment = {**os.environ, **pycontainer.environment, "PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C"}
    done = subprocess.run(
        ["bash", "-c", exercise.commands],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    printed = "".join(f"{' '.join(line.split())}\n" for line in done.stdout.splitlines())
    assert re.fullmatch(pattern(exercise.answer), printed), f"{printed}\ninstead of\n{exercise.answer}"
    assert pycontainer("ps", "-aq", check=True).stdout == ""
