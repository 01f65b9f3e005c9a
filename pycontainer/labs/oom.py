"""Out of memory: who is killed, who is slowed down, who lives."""

from __future__ import annotations

from pycontainer.labs._stage import IMAGE, Stage

SUMMARY = "A container wants more memory than it may have."
CONTROLLERS = ("memory",)
_LEAK = "m=$(yes | head -c 512k); while :; do v=$v$m; sleep 0.2; done"
_FIRST, _NAME = "lab-oom-leak", "lab-oom"


def show(stage: Stage) -> None:
    _leak(stage)
    _high(stage)
    _child(stage)
    _swap(stage)
    _group(stage)


def _leak(stage: Stage) -> None:
    stage.part("A leak meets memory.max")
    stage.say("A shell's variable grows by half a MiB five times a second; 16 MiB are allowed.")
    stage.run("run", "--name", _FIRST, "--network", "none", "-m", "16m", IMAGE, "sh", "-c", _LEAK, status=137)
    stage.run("why", _FIRST)
    stage.say("137 is 128 + SIGKILL; oom_kill in memory.events tells whose signal that was.")


def _high(stage: Stage) -> None:
    stage.part("memory.high slows down and kills nobody")
    stage.run("run", "-d", "--name", _NAME, "--network", "none", "--memory-high", "16m", IMAGE, "sleep", "600")
    stage.files(_NAME, "memory.high", "memory.events")
    status, _ = stage.run("exec", _NAME, "timeout", "10", *_take("20M"), status=None)
    stage.files(_NAME, "memory.events")
    end = "it came to its end" if status == 0 else "in 10 seconds it did not come to its end"
    stage.say(f"20 MiB where 16 are wished for: it had to wait, and {end}.")


def _child(stage: Stage) -> None:
    stage.part("A child dies, its parent lives")
    stage.run("update", "--memory-high", "0", "-m", "16m", _NAME)
    stage.files(_NAME, "memory.max", "memory.oom.group", "memory.events")
    stage.run("exec", _NAME, *_take("64M"), status=137)
    stage.files(_NAME, "memory.events")
    stage.run("ps", "--filter", f"name={_NAME}", "--format", "{{.Names}} {{.Status}}")
    stage.say("The kernel kills the largest process, which need not be the first.")


def _swap(stage: Stage) -> None:
    with open("/proc/swaps") as file:
        has_swap = len(file.readlines()) > 1
    stage.part("With swap it is slow, and lives")
    if not has_swap:
        stage.say("This machine has no swap. --memory-swap 96m would let 80 MiB go there.")
        return
    stage.run("update", "-m", "16m", "--memory-swap", "96m", _NAME)
    stage.files(_NAME, "memory.swap.max", "memory.events")
    stage.run("exec", _NAME, *_take("64M"))
    stage.files(_NAME, "memory.events")
    stage.say("64 MiB in 16: max counts how often the limit was met, and nobody was killed.")


def _group(stage: Stage) -> None:
    stage.part("With --oom-group all die together")
    stage.run("update", "-m", "16m", "--memory-swap", "16m", "--oom-group", _NAME)
    stage.files(_NAME, "memory.oom.group")
    stage.run("exec", _NAME, *_take("64M"), status=137)
    stage.run("wait", _NAME)
    stage.say("No half of a service stays behind, and a restart policy begins it anew.")


def _take(size: str) -> list[str]:
    """A program that asks for that much at once, and uses it."""
    return ["dd", "if=/dev/zero", "of=/dev/null", f"bs={size}", "count=1"]
