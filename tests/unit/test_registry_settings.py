"""What a client of registries is told: challenges, config.toml, certificates, credentials."""

from __future__ import annotations

import base64
import json
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.errors import HostError, UsageError
from pycontainer.image.registry import challenge, config, credentials
from pycontainer.image.registry.challenge import Challenge
from pycontainer.image.registry.credentials import Credentials

_TOKENS = st.text("abcXYZ019-_.", min_size=1, max_size=8)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


class TestChallenge:
    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("", []),
            ("Basic", [("basic", {})]),
            ('Basic realm="a \\"b\\" c"', [("basic", {"realm": 'a "b" c'})]),
            (
                'Bearer realm="https://auth.example.com/token",service="x",scope="repository:a/b:pull,push"',
                [("bearer", {"realm": "https://auth.example.com/token", "service": "x",
                             "scope": "repository:a/b:pull,push"})],
            ),
            ('Basic realm="a", Bearer realm=b , x="c"', [("basic", {"realm": "a"}), ("bearer", {"realm": "b", "x": "c"})]),  # noqa: E501
            ('Negotiate, NTLM TlRMTV==, Basic Realm="x"', [("negotiate", {}), ("ntlm", {}), ("basic", {"realm": "x"})]),
            ('Bearer realm = "x" , , service=y', [("bearer", {"realm": "x", "service": "y"})]),
            ('Bearer realm="x', [("bearer", {})]),
            ('"', []),
            ("=", []),
        ],
    )  # fmt: skip
    def test_challenges(self, header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
        assert challenge.parse(header) == [Challenge(*each) for each in expected]

    @given(st.text(max_size=200) | st.text('Basic realm=",\\ \t', max_size=200))
    def test_anything(self, header: str) -> None:
        for each in challenge.parse(header):
            assert each.scheme == each.scheme.lower()

    @given(
        st.lists(
            st.tuples(_TOKENS, st.dictionaries(_TOKENS.map(str.lower), _VALUES, min_size=1, max_size=3)), max_size=3
        )
    )
    def test_what_is_well_formed_reads_back(self, challenges: list[tuple[str, dict[str, str]]]) -> None:
        def quoted(text: str) -> str:
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

        header = ", ".join(
            f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
            for scheme, parameters in challenges
        )
        assert challenge.parse(header) == [Challenge(scheme.lower(), parameters) for scheme, parameters in challenges]

    def test_a_long_one_takes_no_long_time(self) -> None:
        # Would not come to its end if it were tried again from every place.
        challenge.parse('Basic realm="' + "\\" * 200_001)
        challenge.parse("Basic " + "a" * 200_000 + '"')
        challenge.parse(", " * 100_000 + '"')


@pytest.fixture
def places(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Files of a test's own in place of the machine's."""
    monkeypatch.setenv("PYCONTAINER_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("PYCONTAINER_CERTS", f"{tmp_path}/ours:{tmp_path}/theirs")
    monkeypatch.setenv("PYCONTAINER_AUTH", str(tmp_path / "own/auth.json"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def urls(domain: str) -> list[str]:
    return [endpoint.url for endpoint in config.endpoints(domain)]


class TestConfig:
    def test_without_a_file(self, places: pathlib.Path) -> None:
        assert urls("docker.io") == ["https://registry-1.docker.io"]
        assert urls("registry.example.com:5000") == ["https://registry.example.com:5000"]
        for host in ("localhost:5000", "127.0.0.1", "127.8.9.1:80", "[::1]:5000"):
            assert urls(host) == [f"https://{host}", f"http://{host}"]
        assert all(endpoint.verify and not endpoint.authorities for endpoint in config.endpoints("docker.io"))

    def test_mirrors_and_insecure(self, places: pathlib.Path) -> None:
        (places / "config.toml").write_text(
            '[registry."docker.io"]\nmirrors = ["https://m.example.com/", "http://127.0.0.1:5000"]\n'
            '[registry."r:1"]\ninsecure = true\n'
        )
        assert urls("docker.io") == ["https://m.example.com", "http://127.0.0.1:5000", "https://registry-1.docker.io"]
        assert urls("r:1") == ["https://r:1", "http://r:1"]
        assert not any(endpoint.verify for endpoint in config.endpoints("r:1"))

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("x", "not TOML"),
            ("a = 1", "a: no such setting"),
            ("images = 1", "images: not a table"),
            ("[images]\ndirectories = 1", "images.directories: no such setting"),
            ('[images]\ndirectory = "images"', "images.directory: not an absolute path"),
            ('[images]\ndirectory = "/a\\u0000b"', "images.directory: not an absolute path"),
            ("registry = 1", "registry: not a table"),
            ("signatures = 1", "signatures: not a table"),
            ('signatures.team = "/k"', 'signatures."team": not HOST or HOST/PATH'),
            ('signatures."r.io/team:1" = "/k"', 'signatures."r.io/team:1": not HOST or HOST/PATH'),
            ('signatures."r.io/" = "/k"', 'signatures."r.io/": not HOST or HOST/PATH'),
            ('signatures."r.io/Team" = "/k"', 'signatures."r.io/Team": not HOST or HOST/PATH'),
            ('signatures."index.docker.io/team" = "/k"', "not HOST or HOST/PATH"),
            ('signatures."" = "/k"', "not HOST or HOST/PATH"),
            ('signatures."r.io" = 1', 'signatures."r.io": not the absolute path of a key'),
            ('signatures."r.io" = "key.pub"', "not the absolute path of a key"),
            ('signatures."r.io" = "/k"\nsignatures."R.io:443" = "/k"', 'signatures."R.io:443": another line means'),
            ("registry.x = 1", 'registry."x": not a table'),
            ("[registry.x]\nmirror = 1", 'registry."x".mirror: no such setting'),
            ("[registry.x]\ninsecure = 1", "not a boolean"),
            ('[registry.x]\nmirrors = "https://x"', "not a list of URLs"),
            ('[registry.x]\nmirrors = ["x"]', "not a list of URLs"),
            ('[registry.x]\nmirrors = ["ftp://x"]', "not a list of URLs"),
            ('[registry.x]\nmirrors = ["http://x:99999999"]', "not a list of URLs"),
        ],
    )
    def test_mistakes(self, places: pathlib.Path, text: str, words: str) -> None:
        (places / "config.toml").write_text(text)
        with pytest.raises(UsageError) as caught:
            config.endpoints("x")
        assert words in caught.value.message and str(places / "config.toml") in caught.value.message

    def test_certificates(self, places: pathlib.Path) -> None:
        for name in (
            "theirs/r:1/a.crt",
            "theirs/r:1/b.crt",
            "theirs/r:1/me.cert",
            "theirs/r:1/me.key",
            "ours/q/c.crt",
            "theirs/q/d.crt",
        ):
            (places / name).parent.mkdir(parents=True, exist_ok=True)
            (places / name).write_text(name)
        (endpoint,) = config.endpoints("r:1")
        assert endpoint.authorities.split() == ["theirs/r:1/a.crt", "theirs/r:1/b.crt"]
        assert endpoint.certificate == (f"{places}/theirs/r:1/me.cert", f"{places}/theirs/r:1/me.key")
        assert config.endpoints("q")[0].authorities.split() == ["ours/q/c.crt"]
        (places / "theirs/r:1/me.key").unlink()
        with pytest.raises(UsageError, match=r"there is no me\.key"):
            config.endpoints("r:1")


def auth(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


class TestCredentials:
    def test_kept_and_forgotten(self, places: pathlib.Path) -> None:
        assert credentials.find("r:1") is None
        assert credentials.store("r:1", Credentials("alice", "s:e cret")) == str(places / "own/auth.json")
        credentials.store("docker.io", Credentials("bob", "pass"))
        assert credentials.find("r:1") == Credentials("alice", "s:e cret")
        assert credentials.find("docker.io") == Credentials("bob", "pass")
        assert credentials.find("r") is None
        assert (places / "own/auth.json").stat().st_mode & 0o777 == 0o600
        assert os.listdir(places / "own") == ["auth.json"]
        assert credentials.erase("r:1") and not credentials.erase("r:1")
        assert credentials.find("r:1") is None and credentials.find("docker.io") is not None

    @pytest.mark.parametrize("key", ["r:1", "https://r:1", "https://r:1/v2/", "http://r:1/v1"])
    def test_dockers_file(self, places: pathlib.Path, key: str) -> None:
        (places / "config.json").write_text(json.dumps({"auths": {key: {"auth": auth("a:b")}, "x": {}}}))
        assert credentials.find("r:1") == Credentials("a", "b")
        assert credentials.find("x") is None
        credentials.store("r:1", Credentials("own", "one"))
        assert credentials.find("r:1") == Credentials("own", "one")

    def test_the_hub(self, places: pathlib.Path) -> None:
        (places / "config.json").write_text(
            json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": auth("a:b")}}})
        )
        assert credentials.find("docker.io") == Credentials("a", "b")

    def test_helpers(self, places: pathlib.Path) -> None:
        helper = places / "docker-credential-test"
        helper.write_text(
            "#!/bin/sh\nread server\ncase $server in\n"
            'r:1) echo \'{"ServerURL":"r:1","Username":"u","Secret":"s"}\';;\n'
            't:1) echo \'{"Username":"<token>","Secret":"tok"}\';;\n'
            "bad) echo nonsense;;\nfail) echo it is locked; exit 1;;\n"
            "*) echo credentials not found in native keychain; exit 1;;\nesac\n"
        )
        helper.chmod(0o755)
        (places / "config.json").write_text(json.dumps({"credsStore": "test"}))
        assert credentials.find("r:1") == Credentials("u", "s")
        assert credentials.find("t:1") == Credentials("", "", "tok")
        assert credentials.find("other") is None
        with pytest.raises(HostError, match="docker-credential-test: it is locked"):
            credentials.find("fail")
        with pytest.raises(HostError, match="not what a helper says"):
            credentials.find("bad")
        (places / "config.json").write_text(json.dumps({"credHelpers": {"r:1": "absent"}}))
        with pytest.raises(HostError, match="docker-credential-absent: command not found"):
            credentials.find("r:1")
        assert credentials.find("other") is None

    @pytest.mark.parametrize(
        "text",
        ["x", "[]", '{"auths": 1}', '{"auths": {"r:1": 1}}', '{"auths": {"r:1": {"auth": "!"}}}', '{"credsStore": 1}'],
    )
    def test_broken_files(self, places: pathlib.Path, text: str) -> None:
        (places / "config.json").write_text(text)
        with pytest.raises(UsageError) as caught:
            credentials.find("r:1")
        assert str(places / "config.json") in caught.value.message
