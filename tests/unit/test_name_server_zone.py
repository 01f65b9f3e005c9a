"""What a network's name server keeps in memory."""

from __future__ import annotations

import pathlib

import pytest

from pycontainer.engine.database import open_database
from pycontainer.engine.name_server import Zone
from pycontainer.engine.settings import Settings
from pycontainer.network import lease


def test_forged_addresses_are_not_remembered(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAINER_ROOT", str(tmp_path))
    settings = Settings()
    connection = open_database(settings.root)
    with connection:
        lease.store(connection, lease.StoredNetwork("one", "pyc-one", "10.99.16.0/20", "10.99.16.1", "1" * 64))
        for number in (1, 2):
            lease.allocate(connection, "one", f"{number}" * 64)
    zone = Zone(settings, "1" * 64)
    kept = {id(zone.names(f"10.99.{third}.{last}")) for third in range(16, 20) for last in range(256)}
    # Of the two containers, and of all others together.
    assert len(kept) == 3
    with connection:
        lease.allocate(connection, "one", "3" * 64)
    assert zone.names("10.99.16.4") is not zone.names("10.99.16.5")
    zone.close()
    connection.close()
