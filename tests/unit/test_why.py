"""What `why` makes of a container's row and of what its cgroup told."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.cli import why as shown
from pycontainer.engine import teardown, why
from pycontainer.engine.config.quantity import format_size, parse_size
from pycontainer.kernel import signals

MIB = 1 << 20
LIMITED = {"limit": 64 * MIB, "peak": 64 * MIB, "events": {"max": 20, "oom": 1, "oom_kill": 1}}


def row(status: str = "exited", exit_status: int | None = 0, **values: Any) -> Any:
    known = {"name": "web", "error": "", "health": {}, "restart_count": 0, "finished": time.time()}
    known["config"] = SimpleNamespace(remove=False)
    return SimpleNamespace(**known | {"status": status, "exit_status": exit_status} | values)


def kill(**values: Any) -> dict[str, Any]:
    memory = {"total": 102 * MIB, "anon": 60 * MIB, "file": MIB, "shmem": 0}
    return {
        "pid": 9,
        "name": "dd",
        "memory": memory,
        "host": False,
        "own": True,
        "usage": {},
        "time": time.time(),
    } | values


def judge(container: Any, **found: Any) -> why.Verdict:
    return why.judge(container, {"ended_by": 0, "sent": [], "kills": [], "events": {}, **found})


def killed(*, exit_status: int = 137, number: int = signals.SIGKILL, **found: Any) -> why.Verdict:
    return judge(row(exit_status=exit_status), ended_by=number, **found)


class TestMemory:
    def test_its_own_limit(self) -> None:
        verdict = killed(**LIMITED, kills=[kill()])
        assert (verdict.kind, verdict.text) == ("oom", "killed by the kernel: the memory limit of 64m was reached")
        assert verdict.advice == "try -m 112m: dd had asked for 102m of memory, others had 4m"

    def test_where_the_kernels_log_cannot_be_read(self) -> None:
        assert killed(**LIMITED).kind == "oom"

    def test_a_cgroup_above_it(self) -> None:
        verdict = killed(events={"oom": 0, "oom_kill": 1}, kills=[kill(own=False)])
        assert verdict.kind == "oom-parent"

    def test_the_whole_machine(self) -> None:
        verdict = killed(limit=64 * MIB, events={"oom": 0, "oom_kill": 1}, kills=[kill(own=False, host=True)])
        assert verdict.kind == "oom-host" and "not this container" in verdict.text

    def test_the_whole_machine_without_a_log(self) -> None:
        assert killed(events={"oom": 0, "oom_kill": 1}).kind == "oom-host"

    def test_a_child_and_then_its_parent(self) -> None:
        verdict = judge(row(exit_status=3), **LIMITED, kills=[kill()])
        assert verdict.kind == "oom-child" and verdict.text.endswith("then it exited with 3")

    def test_a_child_of_a_shell_that_passes_the_status_on(self) -> None:
        assert judge(row(exit_status=137), **LIMITED, kills=[kill()]).kind == "oom-child"

    def test_long_before_an_ordinary_end(self) -> None:
        verdict = judge(row(exit_status=1), **LIMITED, kills=[kill(time=time.time() - 60)])
        assert verdict.kind == "exited" and "earlier" in verdict.details[0]

    def test_a_child_of_a_parent_that_ends_well(self) -> None:
        verdict = judge(row(exit_status=0), **LIMITED, kills=[kill()])
        assert (verdict.kind, verdict.text) == ("exited", "it exited by itself with 0")

    def test_a_child_of_one_that_runs(self) -> None:
        verdict = judge(row("running", None), **LIMITED, kills=[kill()])
        assert verdict.kind == "oom-child" and verdict.text.startswith("it runs")

    def test_a_user_who_kills_it_after_a_child_was_killed(self) -> None:
        assert killed(**LIMITED, kills=[kill(time=time.time() - 60)], sent=[[9, "kill"]]).kind == "killed"

    def test_the_line_for_the_one_who_ran_it(self) -> None:
        found = {"ended_by": 9, "sent": [], **LIMITED, "kills": [kill()]}
        line = "killed: the memory limit of 64m was reached (exit 137)"
        assert why.oom_line(row(), 137, found) == f"{line}; pycontainer why web tells more"
        assert why.oom_line(row(config=SimpleNamespace(remove=True)), 137, found) == line
        assert why.oom_line(row(), 137, {**found, "sent": [[9, "kill"]]}) == ""


class TestSignals:
    @pytest.mark.parametrize(
        ("sent", "number", "status", "kind"),
        [
            ([[15, "stop"]], 15, 143, "stopped"),
            ([[15, "stop"]], 0, 0, "stopped"),
            ([[15, "stop"]], 0, 3, "stopped"),
            ([[15, "stop"], [9, "timeout"]], 9, 137, "stop-timeout"),
            ([[9, "kill"]], 9, 137, "killed"),
            ([[10, "kill"]], 10, 138, "killed"),
            ([[2, "client"]], 2, 130, "interrupted"),
            ([[2, "client"]], 0, 130, "interrupted"),
            ([[2, "client"]], 0, 0, "exited"),
            ([[1, "terminal"]], 1, 129, "interrupted"),
            ([[15, "shutdown"]], 15, 143, "stopped"),
            # Another signal than that which was sent.
            ([[10, "kill"]], 9, 137, "killed-outside"),
            ([], 9, 137, "killed-outside"),
            ([], 15, 143, "killed-outside"),
            ([], 11, 139, "crashed"),
            ([], 6, 134, "crashed"),
            ([], 31, 159, "crashed"),
        ],
    )
    def test_what_it_was_the_end_of(self, sent: list[list[Any]], number: int, status: int, kind: str) -> None:
        assert judge(row(exit_status=status), ended_by=number, sent=sent).kind == kind

    def test_what_did_not_stop_in_time(self) -> None:
        verdict = killed(sent=[[15, "stop"], [9, "timeout"]])
        assert verdict.text == "it was told to stop by SIGTERM, did not in time, and was killed"


class TestExit:
    @pytest.mark.parametrize(("status", "part"), [(0, ""), (1, "logs web"), (127, "not found"), (137, "SIGKILL")])
    def test_by_itself(self, status: int, part: str) -> None:
        verdict = judge(row(exit_status=status))
        assert (verdict.kind, verdict.text) == ("exited", f"it exited by itself with {status}")
        assert part in "\n".join(verdict.details)

    def test_with_too_few_processes(self) -> None:
        verdict = judge(row(exit_status=2), pids={"max": 7}, pids_limit=20)
        assert verdict.kind == "pids" and "7 times" in verdict.text and "20" in verdict.text
        assert judge(row(exit_status=0), pids={"max": 7}, pids_limit=20).kind == "exited"

    def test_without_any_evidence(self) -> None:
        assert why.judge(row(exit_status=137), {}).kind == "unknown"
        assert why.judge(row(exit_status=1), {}).kind == "exited"


class TestRow:
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (teardown.KILLED, "monitor-killed"),
            (teardown.LOST, "machine-down"),
            ("exec: nope: executable file not found in $PATH\nthe container's PATH is /bin", "never-started"),
            ("no such image: sha256:1", "never-started"),
        ],
    )
    def test_what_is_said_there(self, error: str, kind: str) -> None:
        verdict = why.judge(row(exit_status=137, error=error), {})
        assert verdict.kind == kind
        assert kind != "never-started" or verdict.details == error.splitlines()

    def test_one_that_was_never_started(self) -> None:
        assert why.judge(row("created", None), {}).kind == "not-started"


class TestTrouble:
    def test_none(self) -> None:
        assert judge(row("running", None), cpu={"nr_periods": 100, "nr_throttled": 3}).kind == "running"

    def test_its_processors(self) -> None:
        verdict = judge(row("running", None), cpu={"nr_periods": 100, "nr_throttled": 60})
        assert verdict.kind == "throttled" and "60%" in verdict.text

    def test_its_processes(self) -> None:
        assert judge(row("running", None), pids={"max": 2}, pids_limit=9).kind == "pids"

    def test_its_health(self) -> None:
        health = {"Status": "unhealthy", "FailingStreak": 3, "Log": [{"Output": "no\nanswer"}]}
        verdict = judge(row("running", None, health=health))
        assert (verdict.kind, verdict.details) == ("unhealthy", ["no", "answer"])

    def test_paused_and_restarting(self) -> None:
        assert judge(row("paused", None)).kind == "paused"
        assert judge(row("restarting", 1, restart_count=2)).text.endswith("number 3; the last run exited with 1")


class TestSuggestion:
    def test_for_what_grew_there_is_none(self) -> None:
        samples = [[float(second), (4 + 6 * second) * MIB] for second in range(11)]
        assert why.growth(samples) == 6 * MIB
        text = why.suggest(row(), {**LIMITED, "samples": samples, "kills": [kill()]})
        assert (
            text == "it grew to the end, by 360m a minute, as a leak does: twice the limit would last 11 seconds longer"
        )

    @pytest.mark.parametrize("sizes", [[], [1, 2, 3], [5, 4, 5, 4, 5, 4], [9, 9, 9, 9, 9, 9]])
    def test_what_is_no_growth(self, sizes: list[int]) -> None:
        assert why.growth([[float(second), size] for second, size in enumerate(sizes)]) == 0

    def test_for_one_that_maps_much_more_than_it_uses(self) -> None:
        memory = {"total": 20 << 30, "anon": 60 * MIB}
        assert why.suggest(row(), {**LIMITED, "kills": [kill(memory=memory)]}).startswith("try -m 128m, and look")

    def test_without_a_limit(self) -> None:
        assert why.suggest(row(), {"limit": None}) == ""


class TestPlot:
    def bars(self, verdict: why.Verdict, **found: Any) -> str:
        """The line of bars, without the limit behind it."""
        samples = [[float(second), 8 * MIB * second] for second in range(5)]
        known = {**LIMITED, "kills": [], "ended_by": signals.SIGKILL, "samples": samples, **found}
        lines = shown._lines(row(exit_status=137), verdict, known)
        return next(line for line in lines if line.endswith("  64m")).split()[0]

    def test_at_its_end_by_the_oom_killer_it_reaches_the_limit(self) -> None:
        assert self.bars(killed(**LIMITED)) == "▁▂▃▄█"

    def test_a_kernel_that_knows_no_peak(self) -> None:
        assert self.bars(killed(**LIMITED), peak=None) == "▁▂▃▄▅"

    def test_another_end_is_shown_as_it_was(self) -> None:
        assert self.bars(killed(sent=[[signals.SIGKILL, "kill"]])) == "▁▂▃▄▅"


@given(st.integers(0, 1 << 50))
def test_sizes_are_written_as_they_are_read(size: int) -> None:
    written = parse_size("-m", format_size(size))
    assert abs(written - size) <= size / 100
