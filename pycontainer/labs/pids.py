"""A fork bomb, which does no harm."""

from __future__ import annotations

from pycontainer.labs._stage import IMAGE, Stage

SUMMARY = "A fork bomb, which does no harm."
CONTROLLERS = ("pids",)
_BOMB = "bomb() { bomb | bomb & }; sleep 2; bomb; sleep 600"
_NAME = "lab-pids"


def show(stage: Stage) -> None:
    stage.part("A program that starts itself twice, and so on")
    stage.say("Without a limit the machine would soon have no process left for anybody. It begins after two seconds.")
    stage.run("run", "-d", "--name", _NAME, "--network", "none", "--pids-limit", "20", IMAGE, "sh", "-c", _BOMB)
    stage.files(_NAME, "pids.max", "pids.current", "pids.events")
    stage.wait(4)
    stage.files(_NAME, "pids.current", "pids.events")
    stage.run("why", _NAME)
    stage.say("fork(2) fails in there with EAGAIN, so often as max says, and nowhere else.")
    stage.part("It goes like any other container")
    stage.remove(_NAME)
    stage.say("All of its processes went at once, by cgroup.kill.")
