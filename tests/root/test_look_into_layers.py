"""`layers`: what each layer does, and which one a path comes from."""

from __future__ import annotations

import json

import pytest
from conftest import Pycontainer


@pytest.fixture(scope="module")
def stack(box: Pycontainer) -> Pycontainer:
    """Image `two` has a layer more than busybox, and container `cc` one more than that."""
    steps = [
        ("c1", "busybox", "rm /bin/ls; echo more >> /etc/passwd; mkdir -p /a/b; echo 1 > /a/b/f; ln -s a /link"),
        ("cc", "two", "rm -r /a; mkdir -p /a/b; echo 2 > /a/b/g; touch /bin/ls; rm /etc/group; echo 3 > /new"),
    ]
    for name, image, script in steps:
        box("run", "--name", name, "--network", "none", image, "sh", "-ec", script, check=True)
        if name == "c1":
            box("commit", name, "two", check=True)
    return box


def trace(box: Pycontainer, name: str, path: str, status: int = 0) -> list[tuple[str, str, str]]:
    result = box("layers", "--format", "json", name, path)
    assert result.returncode == status, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return [(row["Layer"], row["Does"], row["Seen"]) for row in rows]


def test_what_each_does(stack: Pycontainer) -> None:
    lines = stack("layers", "--format", "{{.Layer}} {{.Adds}} {{.Changes}} {{.Removes}}", "cc", check=True).stdout
    # Of the container: /bin/ls and /a/b/g and /new are new, f and group are gone, and nothing else has changed.
    # Of the other: /a, /a/b, f and the link; passwd; ls.
    assert lines.splitlines()[:2] == ["5 3 0 2", "4 4 1 1"]
    own = stack("layers", "--format", "{{.CreatedBy}}", "cc", check=True).stdout.splitlines()
    assert own[0] == "the container cc" and len(own) == 5
    assert len(stack("layers", "--format", "json", "two", check=True).stdout.splitlines()) == 4


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("/etc/passwd", 0, [("4", "changes", "yes"), ("1", "adds", "no, because of layer 4")]),
        ("bin//ls", 0, [("5", "adds", "yes"), ("4", "whites out", "no, because of layer 5"),
                        ("2", "adds", "no, because of layer 4")]),
        ("/etc/group", 1, [("5", "whites out", "no"), ("1", "adds", "no, because of layer 5")]),
        ("/a/b/f", 1, [("5", "hides", "no"), ("4", "adds", "no, because of layer 5")]),
        ("/a", 0, [("5", "changes", "yes"), ("4", "adds", "no, because of layer 5")]),
        ("/etc", 0, [("5", "changes", "yes"), ("4", "changes", "yes"), ("3", "changes", "yes"), ("1", "adds", "yes")]),
        ("/new", 0, [("5", "adds", "yes")]),
        ("/link", 0, [("4", "adds", "yes")]),
    ],
)  # fmt: skip
def test_where_a_path_comes_from(
    stack: Pycontainer, path: str, status: int, expected: list[tuple[str, str, str]]
) -> None:
    assert trace(stack, "cc", path, status) == expected


def test_a_link_is_not_followed(stack: Pycontainer) -> None:
    result = stack("layers", "--no-trunc", "--format", "{{.Detail}}", "two", "/link", check=True)
    assert result.stdout == "a symbolic link to a\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nope"], "pycontainer: no such image: nope"),
        (["busybox", "/nope"], "pycontainer: look for path: /nope: no layer has it"),
        (["busybox", "/etc/../x"], "pycontainer: layers: '/etc/../x': goes up"),
    ],
)
def test_errors(stack: Pycontainer, words: list[str], error: str) -> None:
    result = stack("layers", *words)
    assert (result.returncode, result.stdout, result.stderr.splitlines()[0]) == (1, "", error)
