"""Processor time: a quota, and shares."""

from __future__ import annotations

import os
import time

from pycontainer.kernel import cgroup
from pycontainer.labs._stage import IMAGE, Stage

SUMMARY = "A quota of processor time, and shares of it."
CONTROLLERS = ("cpu",)
_LOOP = ["sh", "-c", "while :; do :; done"]
_MORE, _LESS = "lab-cpu-more", "lab-cpu-less"


def show(stage: Stage) -> None:
    _quota(stage)
    _shares(stage)


def _quota(stage: Stage) -> None:
    name = "lab-cpu"
    stage.part("A quarter of a processor")
    stage.say("An endless loop may run for 25 ms of every 100 ms.")
    stage.run("run", "-d", "--name", name, "--network", "none", "--cpus", "0.25", IMAGE, *_LOOP)
    stage.files(name, "cpu.max", "cpu.stat")
    begin, used = time.monotonic(), stage.value(name, "cpu.stat", "usage_usec")
    stage.wait(3)
    share = (stage.value(name, "cpu.stat", "usage_usec") - used) / 1e6 / (time.monotonic() - begin)
    stage.files(name, "cpu.stat")
    stage.say(f"It had {share:.2f} of a processor. nr_throttled counts the periods in which it had to stop.")
    stage.remove(name)


def _shares(stage: Stage) -> None:
    stage.part("Two that compete have 3 to 1")
    processors = os.sched_getaffinity(0)
    one: list[str] = []
    if len(processors) > 1:
        hierarchy = cgroup.find_hierarchy()
        if hierarchy is None or "cpuset" not in hierarchy.controllers:
            stage.say("This machine has several processors and no cpuset controller to put both on one of them.")
            return
        one = ["--cpuset-cpus", str(min(processors))]
    for name, shares in ((_MORE, "3072"), (_LESS, "1024")):
        stage.run("run", "-d", "--name", name, "--network", "none", *one, "--cpu-shares", shares, IMAGE, *_LOOP)
        stage.files(name, "cpu.weight")
    used = {name: -stage.value(name, "cpu.stat", "usage_usec") for name in (_MORE, _LESS)}
    stage.wait(4)
    for name in used:
        used[name] += stage.value(name, "cpu.stat", "usage_usec")
        stage.say(f"{name} has used {used[name] / 1e6:.2f} seconds (usage_usec in cpu.stat).")
    stage.say(
        f"That is {used[_MORE] / max(used[_LESS], 1):.1f} to 1. Alone, each would have all of it: no quota is set."
    )
