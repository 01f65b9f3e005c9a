"""What others have done to an installation, or its disk, and what the next command makes of it."""

from __future__ import annotations

import subprocess

from conftest import Pycontainer

SLEEP = ("busybox", "sleep", "1000")


def test_ports_are_published_again_after_somebody_has_removed_the_rules(pycontainer: Pycontainer, busybox: str) -> None:
    pycontainer("run", "-d", "--name", "web", "-p", "80", *SLEEP, check=True)
    table = ("ip", f"pycontainer_{pycontainer.bridge}")

    def elements() -> str:
        command = ["nft", "list", "map", *table, "published"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    before = elements()
    assert " . 80" in before
    subprocess.run(["nft", "delete", "table", *table], check=True)
    pycontainer("run", "--rm", "busybox", "true", check=True)
    assert elements() == before
    pycontainer("rm", "-f", "web", check=True)
