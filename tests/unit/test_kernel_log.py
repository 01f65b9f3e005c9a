"""Reading the kernel's log: whom the OOM killer has ended."""

# The kernel writes long lines.
# ruff: noqa: E501

from __future__ import annotations

import os

from hypothesis import example, given
from hypothesis import strategies as st

from pycontainer.kernel import kernel_log

MIB = 1 << 20
# As Linux 6.18 writes it: every table line by itself.
LIMIT = """\
dd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
memory: usage 65536kB, limit 65536kB, failcnt 23
swap: usage 0kB, limit 0kB, failcnt 0
Memory cgroup stats for /pycontainer/abc:
anon 66846720
file 4096
kernel 253952
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
[    796]     0   796    26160    16663    16331      332         0   155648        0             0 dd
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/pycontainer/abc,task_memcg=/pycontainer/abc/x,task=dd,pid=796,uid=0
Memory cgroup out of memory: Killed process 796 (dd) total-vm:104640kB, anon-rss:65324kB, file-rss:1328kB, shmem-rss:4kB, UID:0 pgtables:152kB oom_score_adj:0
""".splitlines()
HOST = """\
oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/pycontainer/abc,task=a (b),pid=12,uid=0
Out of memory: Killed process 12 (a (b)) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:40kB oom_score_adj:0
""".splitlines()


def test_the_limit_of_a_cgroup() -> None:
    (kill,) = kernel_log.oom_kills(LIMIT)
    assert (kill.pid, kill.name, kill.is_host) == (796, "dd", False)
    assert (kill.limited, kill.member) == ("/pycontainer/abc", "/pycontainer/abc/x")
    assert kill.memory == {"total": 104640 << 10, "anon": 65324 << 10, "file": 1328 << 10, "shmem": 4096}
    assert kill.usage == {"anon": 66846720, "file": 4096, "kernel": 253952}


def test_a_table_in_one_record() -> None:
    """As Linux 6.1 writes it."""
    lines = [*LIMIT[:3], "Memory cgroup stats for /pycontainer/abc:anon 66846720", *LIMIT[5:]]
    (kill,) = kernel_log.oom_kills(lines)
    assert kill.usage == {"anon": 66846720, "file": 4096, "kernel": 253952}


def test_the_machine_as_a_whole() -> None:
    (kill,) = kernel_log.oom_kills(HOST)
    assert (kill.pid, kill.name, kill.is_host, kill.limited, kill.member) == (12, "a (b)", True, "", "/pycontainer/abc")
    assert kill.usage == {}


def test_each_is_told_of_its_own_cgroup() -> None:
    first, second = kernel_log.oom_kills(LIMIT + HOST)
    assert (first.member, second.member, second.usage) == ("/pycontainer/abc/x", "/pycontainer/abc", {})


def test_a_kill_without_its_tables_is_not_said_to_be_of_the_cgroup_before() -> None:
    line = LIMIT[-1].replace("796", "800")
    first, second = kernel_log.oom_kills([*LIMIT, line])
    assert first.member == "/pycontainer/abc/x"
    assert (second.pid, second.limited, second.member, second.usage, second.is_host) == (800, "", "", {}, False)


def test_a_group_is_killed_together() -> None:
    group = "Tasks in /pycontainer/abc/x are going to be killed due to memory.oom.group set"
    found = kernel_log.oom_kills([*LIMIT, group, LIMIT[-1], LIMIT[-1].replace("796 (dd)", "797 (sh)")])
    assert [(kill.pid, kill.name, kill.member) for kill in found[1:]] == [
        (796, "dd", "/pycontainer/abc/x"), (797, "sh", "/pycontainer/abc/x"),
    ]  # fmt: skip


@given(st.lists(st.sampled_from(LIMIT + HOST).flatmap(lambda line: st.sampled_from([line, line[:40], line[8:]]))))
def test_parts_of_a_log(lines: list[str]) -> None:
    for kill in kernel_log.oom_kills(lines):
        assert kill.pid in (796, 12)


@example(["¹"])
@given(st.lists(st.text()))
def test_any_text(lines: list[str]) -> None:
    kernel_log.oom_kills([*lines, *(f"x: Killed process {line}" for line in lines), *(f"oom-kill:{x}" for x in lines)])


def test_a_record_is_its_text() -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_DIRECT)
    os.write(writer, b"6,339,5140900,-;one\\x0atwo\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n")
    os.write(writer, b"4,340,5140901,-,caller=T1;three; four\n")
    assert kernel_log.read_lines(reader) == ["one", "two", "three; four"]
    assert kernel_log.read_lines(reader) == []
    os.close(reader)
    os.close(writer)
