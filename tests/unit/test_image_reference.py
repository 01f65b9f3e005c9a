"""Image references, against the cases that Docker's reference grammar is known by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.errors import UsageError
from pycontainer.image import reference

F64 = "f" * 64
HEX = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a"


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("alpine", "docker.io", "library/alpine", "latest", ""),
        ("test_com", "docker.io", "library/test_com", "latest", ""),
        ("test.com:tag", "docker.io", "library/test.com", "tag", ""),
        ("test.com:5000", "docker.io", "library/test.com", "5000", ""),
        ("test.com/repo:tag", "test.com", "repo", "tag", ""),
        ("test:5000/repo", "test:5000", "repo", "latest", ""),
        ("test:5000/repo:tag", "test:5000", "repo", "tag", ""),
        (f"test:5000/repo@sha256:{F64}", "test:5000", "repo", "", f"sha256:{F64}"),
        (f"test:5000/repo:tag@sha256:{F64}", "test:5000", "repo", "tag", f"sha256:{F64}"),
        ("lowercase:Uppercase", "docker.io", "library/lowercase", "Uppercase", ""),
        ("a/" * 127 + "a:tag-puts-this-over-max", "docker.io", "a/" * 127 + "a", "tag-puts-this-over-max", ""),
        ("sub-dom1.foo.com/bar/baz/quux", "sub-dom1.foo.com", "bar/baz/quux", "latest", ""),
        ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com", "myimage", "xn--n3h.com", ""),
        ("foo_bar.com:8080", "docker.io", "library/foo_bar.com", "8080", ""),
        ("foo/foo_bar.com:8080", "docker.io", "foo/foo_bar.com", "8080", ""),
        ("192.168.1.1", "docker.io", "library/192.168.1.1", "latest", ""),
        ("192.168.1.1:5000/repo", "192.168.1.1:5000", "repo", "latest", ""),
        ("[2001:db8::1]/repo", "[2001:db8::1]", "repo", "latest", ""),
        (f"[2001:db8::1]:5000/repo:tag@sha256:{F64}", "[2001:db8::1]:5000", "repo", "tag", f"sha256:{F64}"),
        ("localhost/foo", "localhost", "foo", "latest", ""),
        ("Uppercase/lowercase", "Uppercase", "lowercase", "latest", ""),
        ("docker/docker", "docker.io", "docker/docker", "latest", ""),
        ("docker.io/debian", "docker.io", "library/debian", "latest", ""),
        ("index.docker.io/library/debian", "docker.io", "library/debian", "latest", ""),
        ("index.docker.io/debian", "docker.io", "library/debian", "latest", ""),
        ("127.0.0.1:5000/library/debian", "127.0.0.1:5000", "library/debian", "latest", ""),
        ("foo--bar/b__a.z", "docker.io", "foo--bar/b__a.z", "latest", ""),
        (f"docker.io/{HEX}", "docker.io", f"library/{HEX}", "latest", ""),
    ],
)
def test_parse(text: str, domain: str, path: str, tag: str, digest: str) -> None:
    assert reference.parse(text) == (domain, path, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":justtag",
        f"@sha256:{F64}",
        "repo@sha256:" + "f" * 34,
        f"repo@sha256:{F64.upper()}",
        f"validname@invaliddigest:{F64}{F64}",
        "Uppercase:tag",
        "test:5000/Uppercase/lowercase:tag",
        "a/" * 128 + "a:tag",
        "aa/asdf$$^/aa",
        "[2001:db8::1]",
        "[fe80::1%eth0]:5000/repo",
        "https://github.com/docker/docker",
        "docker/Docker",
        "-docker",
        "-docker/docker",
        "-docker.io/docker/docker",
        "docker///docker",
        "docker.io/docker/Docker",
        "docker.io/docker///docker",
        HEX,
        "a:" + "t" * 129,
        "a:.tag",
        "a___b",
        "foo/bar\n",
        "é/bar",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError):
        reference.parse(text)


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("alpine", "alpine:latest"),
        ("docker.io/library/alpine:3", "alpine:3"),
        ("docker.io/library/foo/bar", "library/foo/bar:latest"),
        ("user/repo", "user/repo:latest"),
        ("localhost:5000/alpine", "localhost:5000/alpine:latest"),
        (f"alpine@sha256:{F64}", f"alpine@sha256:{F64}"),
    ],
)
def test_familiar(text: str, familiar: str) -> None:
    parsed = reference.parse(text)
    assert parsed.familiar == familiar
    assert reference.parse(parsed.familiar) == parsed


def test_untagged() -> None:
    assert reference.parse("alpine", tagged=False).tag == ""


@given(st.text(max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except UsageError:
        return
    assert reference.parse(str(parsed)) == parsed
    assert reference.parse(parsed.familiar) == parsed


@pytest.mark.parametrize(
    "text", [f"sha256:{'a' * 64}", "sha256:ab", "sha256", "library/sha512:x", "docker.io/sha384:1"]
)
def test_an_image_is_not_called_what_is_read_as_an_id(text: str) -> None:
    with pytest.raises(UsageError, match="how an image's ID begins"):
        reference.parse_name(text)


def test_names_to_give() -> None:
    assert reference.parse_name("example.com/sha256:1").tag == "1"
    with pytest.raises(UsageError, match="digest"):
        reference.parse_name(f"app@sha256:{'a' * 64}")
