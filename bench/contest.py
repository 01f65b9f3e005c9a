"""Command lines that take turns in one hyperfine, and the table with the ratio of each to pycontainer's."""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys

import peers
import report


class Contestant:
    """One command line that hyperfine measures.

    group    names those that are compared with one another
    prepare  a line for a shell, before each run and not measured
    """

    def __init__(self, group: str, name: str, command: list[str], prepare: str = "true") -> None:
        self.group = group
        self.name = name
        self.command = command
        self.prepare = prepare
        self.times: list[float] = []


def open_peers(directory: str, notes: list[str], *, podman: bool = True) -> list[peers.Engine]:
    """pycontainer first, then all that are there; without pycontainer the program ends."""
    found: list[peers.Engine] = []
    for kind in (peers.Pycontainer, peers.Docker, *([peers.Podman] if podman else [])):
        try:
            found.append(kind(directory))
        except peers.Unavailable as reason:
            if kind is peers.Pycontainer:
                sys.exit(f"{sys.argv[0]}: {reason}")
            notes.append(f"{kind.name} ({reason})")
    return found


def build_busybox(directory: str) -> str:
    """The archive of the built-in image, which all engines load."""
    archive = f"{directory}/busybox.tar"
    peers.run([sys.executable, str(peers.REPOSITORY / "images/busybox/build.py"), archive])
    return archive


def measure(contestants: list[Contestant], runs: int, path: str, *, warmup: int = 2) -> None:
    """One hyperfine for all of them, so that all meet the same neighbours on this machine."""
    command = ["hyperfine", "-N", "--style", "basic", "--warmup", str(warmup)]
    command += ["--runs", str(runs), "--export-json", path]
    if any(each.prepare != "true" for each in contestants):
        command += [word for each in contestants for word in ("--prepare", f"sh -c {shlex.quote(each.prepare)}")]
    subprocess.run([*command, *(shlex.join(each.command) for each in contestants)], check=True, stdout=sys.stderr)
    with open(path) as file:
        for contestant, result in zip(contestants, json.load(file)["results"], strict=True):
            contestant.times += result["times"]


def describe(contestants: list[Contestant], groups: list[str]) -> str:
    """A row each, in the order of `groups`; the ratio is pycontainer's mean time in parts of this one's."""
    rows = [["what", "command", "mean ms", "min ms", "deviation ms", "pycontainer takes"]]
    for contestant in contestants:
        first = next(each for each in contestants if each.group == contestant.group)
        mean = statistics.mean(contestant.times)
        share = ""
        # Where pycontainer could not take part there is nothing to compare with.
        if contestant is not first and first.name.startswith("pycontainer"):
            least = min(first.times) / min(contestant.times)
            share = f"{statistics.mean(first.times) / mean:.2f} of it (minimum: {least:.2f})"
        deviation = statistics.stdev(contestant.times) if len(contestant.times) > 1 else 0.0
        numbers = [f"{1000 * value:.0f}" for value in (mean, min(contestant.times), deviation)]
        rows.append([contestant.group, f"`{contestant.name}`", *numbers, share])
    return report.table([rows[0], *sorted(rows[1:], key=lambda row: groups.index(row[0]))])
