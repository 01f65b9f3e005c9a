"""`push` to a real registry, with TLS, passwords and tokens, with faults on the way, and to registries that lie."""

from __future__ import annotations

import base64
import http.server
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import Pycontainer, copy_store, new_environment, remove_environment
from registry import Answer, authority, environment, forward, read_body, registry, server
from test_image_layer import LayerTar, docker_archive

SEED = int(os.environ.get("PYCONTAINER_TEST_SEED", "20261125"))
PUSHES = int(os.environ.get("PYCONTAINER_TEST_PULLS", "12"))
LAYERS = 4
Request = http.server.BaseHTTPRequestHandler


@pytest.fixture(scope="module")
def store() -> Iterator[pathlib.Path]:
    """A PYCONTAINER_ROOT with the image app:1, of several layers, which tests copy."""
    made = new_environment()
    generator = random.Random(2)
    layers = [LayerTar().add(f"file{n}", generator.randbytes(300_000 + n)).data() for n in range(LAYERS)]
    Pycontainer(made)("load", "-q", input=docker_archive(layers, "app:1"), text=False, check=True)
    yield pathlib.Path(made["PYCONTAINER_ROOT"])
    remove_environment(made)


@pytest.fixture
def engine(store: pathlib.Path, pycontainer: Pycontainer, tmp_path: pathlib.Path) -> Pycontainer:
    """With the image app:1."""
    copy_store(store, pycontainer.environment)
    pycontainer.environment.update(environment(tmp_path))
    return pycontainer


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Iterator[str]:
    with registry(tmp_path / "registry") as host:
        yield host


@pytest.fixture
def second(tmp_path: pathlib.Path) -> Iterator[Pycontainer]:
    """Another store."""
    made = new_environment()
    try:
        yield Pycontainer({**made, **environment(tmp_path)})
    finally:
        remove_environment(made)


def described(engine: Pycontainer, name: str) -> tuple[str, list[str]]:
    """Id and layers."""
    image = json.loads(engine("image", "inspect", name, check=True).stdout)[0]
    return image["Id"], image["RootFS"]["Layers"]


def manifest_digest(result: subprocess.CompletedProcess) -> str:
    found = re.fullmatch(r"\S+: digest: (sha256:[0-9a-f]{64}) size: [0-9]+", result.stdout.splitlines()[-1])
    assert found, result.stdout
    return found[1]


def check_arrived(second: Pycontainer, engine: Pycontainer, name: str, digest: str) -> None:
    """It can be fetched, and is what was sent."""
    assert second("pull", "-q", name, check=True).stdout == f"{name.rpartition(':')[0]}@{digest}\n"
    assert described(second, name) == described(engine, name)
    second("rmi", name, check=True)


def refused(engine: Pycontainer, *arguments: str) -> str:
    """What is said of a push that fails: one or two lines."""
    result = engine("push", *arguments)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if "asking again" not in line]
    assert 1 <= len(lines) <= 2, result.stderr
    return "\n".join(lines)


class Front:
    """Before a registry: what was asked, and what `change` makes of it; None of its means the registry's own answer."""

    def __init__(self, host: str, change: Callable[[Request, bytes], Answer | None] = lambda *_: None) -> None:
        self.host = host
        self.change = change
        self.seen: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    def __call__(self, request: Request) -> Answer | None:
        body = read_body(request)
        with self.lock:
            self.seen.append((request.command, request.path))
            self.headers.append(dict(request.headers.items()))
            answer = self.change(request, body)
        return answer or forward(self.host, request, body)

    def count(self, method: str, part: str = "") -> int:
        return sum(m == method and part in path for m, path in self.seen)


def test_push_and_pull(engine: Pycontainer, second: Pycontainer, host: str, tmp_path: pathlib.Path) -> None:
    name = f"{host}/team/app:1"
    engine("tag", "app:1", name, check=True)
    result = engine("push", name, check=True)
    lines = result.stdout.splitlines()
    assert lines[0] == f"The push refers to repository [{host}/team/app]"
    shorts = [layer.removeprefix("sha256:")[:12] for layer in described(engine, name)[1]]
    assert sorted(lines[1:-1]) == sorted(f"{short}: Pushed" for short in shorts)
    digest = manifest_digest(result)
    check_arrived(second, engine, name, digest)
    again = engine("push", name, check=True)
    assert sorted(again.stdout.splitlines()[1:-1]) == sorted(f"{short}: Layer already exists" for short in shorts)
    assert manifest_digest(again) == digest
    assert engine("push", "-q", name, check=True).stdout == f"{name}\n"
    assert engine("image", "push", "-q", name, check=True).stdout == f"{name}\n"
    # What others make of it.
    inspect = ["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"]
    found = json.loads(subprocess.run(inspect, capture_output=True, check=True).stdout)
    assert found["Digest"] == digest and len(found["Layers"]) == LAYERS
    copy = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/copy:1"]
    subprocess.run(copy, check=True)


def test_what_was_pulled_keeps_its_digest(
    engine: Pycontainer, second: Pycontainer, host: str, busybox_archive: pathlib.Path
) -> None:
    """An image of docker's types, compressed by skopeo, under a new name: nothing of it changes."""
    first = f"{host}/library/busybox:latest"
    command = ["skopeo", "copy", "-q", "--dest-tls-verify=false", "-f", "v2s2"]
    subprocess.run([*command, f"docker-archive:{busybox_archive}", f"docker://{first}"], check=True)
    digest = engine("pull", "-q", first, check=True).stdout.strip().partition("@")[2]
    engine("tag", first, f"{host}/other/box:2", check=True)
    result = engine("push", f"{host}/other/box:2", check=True)
    assert manifest_digest(result) == digest
    assert result.stdout.splitlines()[1].endswith(": Mounted from library/busybox")
    check_arrived(second, engine, f"{host}/other/box:2", digest)


def test_mounts_and_second_pushes_send_nothing(engine: Pycontainer, host: str) -> None:
    front = Front(host)
    with server(front) as proxy:
        engine("tag", "app:1", f"{proxy}/team/app", check=True)
        result = engine("push", f"{proxy}/team/app", check=True)
        assert result.stdout.startswith("Using default tag: latest\nThe push refers to repository")
        assert front.count("POST") == front.count("PUT", "/blobs/") == LAYERS + 1 and not front.count("PATCH")
        front.seen.clear()
        engine("push", f"{proxy}/team/app", check=True)
        assert (front.count("HEAD"), front.count("POST"), front.count("PUT")) == (LAYERS + 1, 0, 1)
        front.seen.clear()
        engine("tag", "app:1", f"{proxy}/team/two", check=True)
        result = engine("push", f"{proxy}/team/two", check=True)
        assert result.stdout.count(": Mounted from team/app\n") == LAYERS
        assert (front.count("POST", "from=team%2Fapp"), front.count("PUT")) == (LAYERS + 1, 1)
        # A repository that the registry does not have after all.
        engine("tag", "app:1", f"{proxy}/a/nowhere", check=True)
        engine("rmi", f"{proxy}/team/app", f"{proxy}/team/two", check=True)
        engine("tag", "app:1", f"{proxy}/team/three", check=True)
        assert engine("push", f"{proxy}/team/three", check=True).stdout.count(": Pushed\n") == LAYERS


def test_all_tags(engine: Pycontainer, host: str, busybox_archive: pathlib.Path) -> None:
    engine("load", "-q", "-i", busybox_archive, check=True)
    for tag, image in (("1", "app:1"), ("2", "app:1"), ("box", "busybox")):
        engine("tag", image, f"{host}/all:{tag}", check=True)
    engine("tag", "app:1", f"{host}/alley:1", check=True)
    lines = engine("push", "-a", f"{host}/all", check=True).stdout.splitlines()
    assert [line.partition(":")[0] for line in lines if ": digest:" in line] == ["1", "2", "box"]
    assert engine("push", "-a", "-q", f"{host}/all", check=True).stdout == f"{host}/all\n"
    tags = ["skopeo", "list-tags", "--tls-verify=false", f"docker://{host}/all"]
    assert sorted(json.loads(subprocess.run(tags, capture_output=True, check=True).stdout)["Tags"]) == ["1", "2", "box"]


def test_what_cannot_be_pushed(engine: Pycontainer, host: str) -> None:
    engine("tag", "app:1", "127.0.0.1:1/app:1", check=True)
    engine("tag", "app:1", "127.0.0.1:99999/app:1", check=True)
    for arguments, words in (
        (f"{host}/nosuch", f"An image does not exist locally with the tag: {host}/nosuch\nhint: `pycontainer tag"),
        (f"-a {host}/nosuch", f"An image does not exist locally with the tag: {host}/nosuch"),
        ("app:2", "tag does not exist: app:2"),
        (f"app@sha256:{'0' * 64}", "cannot push a digest reference"),
        ("-a app:1", "tag can't be used with --all-tags/-a"),
        ("UPPER/Case", "must be lower case"),
        ("127.0.0.1:1/app:1", "connection refused\nhint: is there a way to it?"),
        ("127.0.0.1:99999/app:1", "127.0.0.1:99999"),
        ("app:1", "registry-1.docker.io"),
    ):
        assert words in refused(engine, *arguments.split()), arguments


def test_mirrors_get_nothing(engine: Pycontainer, host: str, tmp_path: pathlib.Path) -> None:
    front = Front(host)
    with server(front) as proxy:
        engine.environment.update(environment(tmp_path, docker_io=f"http://{proxy}"))
        assert "registry-1.docker.io" in refused(engine, "app:1")
    assert front.seen == []


def test_tls_and_passwords(engine: Pycontainer, second: Pycontainer, tmp_path: pathlib.Path) -> None:
    ca, certificate, key = authority(tmp_path)
    if shutil.which("htpasswd") is None:
        pytest.skip("htpasswd is not installed")
    passwords = tmp_path / "htpasswd"
    made = subprocess.run(["htpasswd", "-Bbn", "alice", "secret"], capture_output=True, text=True, check=True)
    passwords.write_text(made.stdout)
    auth = f"{{htpasswd: {{realm: test, path: {passwords}}}}}"
    with registry(tmp_path / "registry", tls=(certificate, key), auth=auth) as host:
        name = f"{host}/team/app:1"
        engine("tag", "app:1", name, check=True)
        said = refused(engine, name)
        assert "certificate is not accepted" in said and f"certs.d/{host}/ca.crt" in said
        place = tmp_path / "certs.d" / host
        place.mkdir(parents=True)
        shutil.copy(ca, place / "ca.crt")
        said = refused(engine, name)
        assert "access denied" in said and f"pycontainer login {host}" in said
        engine("login", "-u", "alice", "--password-stdin", host, input="secret\n", check=True)
        digest = manifest_digest(engine("push", name, check=True))
        check_arrived(second, engine, name, digest)
        shutil.rmtree(place)
        (tmp_path / "config.toml").write_text(f'[registry."{host}"]\ninsecure = true\n')
        assert manifest_digest(engine("push", name, check=True)) == digest


class Tokens(Front):
    """A token server, and before a registry what wants its tokens; a token says whose it is and what it permits.

    Each is good for `uses` requests.
    """

    uses = 1000

    def __init__(self, host: str) -> None:
        super().__init__(host, self.guard)
        self.own = ""
        self.used: dict[str, int] = {}
        self.scopes: list[list[str]] = []

    def guard(self, request: Request, body: bytes) -> Answer | None:
        sent = request.headers.get("Authorization", "")
        if request.path.startswith("/token"):
            scopes = parse_qs(urlsplit(request.path).query).get("scope", [])
            self.scopes.append(scopes)
            known = sent == f"Basic {base64.b64encode(b'alice:secret').decode()}"
            number = len(self.scopes)
            token = base64.b64encode(json.dumps([known, scopes, number]).encode()).decode()
            return 200, {}, json.dumps({"token": token}).encode()
        found = re.match(r"/v2/(.+)/(?:blobs|manifests|tags)/", request.path)
        path = found[1] if found else ""
        action = "pull" if request.command in ("GET", "HEAD") else "push"
        if sent.startswith("Bearer "):
            known, scopes, _ = json.loads(base64.b64decode(sent[7:]))
            self.used[sent] = self.used.get(sent, 0) + 1
            granted = [s.rpartition(":") for s in scopes]
            permitted = not path or any(r == f"repository:{path}" and action in a.split(",") for r, _, a in granted)
            if permitted and (known or action == "pull") and self.used[sent] <= self.uses:
                return None if path else (200, {}, b"{}")
        scope = f',scope="repository:{path}:{action}"' if path else ""
        challenge = f'Bearer realm="http://{self.own}/token",service="test"{scope}'
        return 401, {"WWW-Authenticate": challenge}, b'{"errors":[{"code":"UNAUTHORIZED","message":"no access"}]}'


@pytest.mark.parametrize("uses", [1000, 8])
def test_tokens(engine: Pycontainer, second: Pycontainer, host: str, uses: int) -> None:
    """One token for all that is to be done; and where it becomes too old in the middle, another."""
    tokens = Tokens(host)
    tokens.uses = uses
    with server(tokens) as front:
        tokens.own = front
        name = f"{front}/team/app:1"
        engine("tag", "app:1", name, check=True)
        said = refused(engine, name)
        assert "access denied" in said and f"pycontainer login {front}" in said
        tokens.uses = 1000
        engine("login", "-u", "alice", "--password-stdin", front, input="secret", check=True)
        tokens.uses = uses
        tokens.scopes.clear()
        digest = manifest_digest(engine("push", name, check=True))
        assert all("repository:team/app:pull,push" in scopes for scopes in tokens.scopes)
        assert len(tokens.scopes) == 1 or uses < 1000
        tokens.uses = 1000
        check_arrived(second, engine, name, digest)
        tokens.scopes.clear()
        engine("tag", "app:1", f"{front}/team/two:1", check=True)
        assert engine("push", f"{front}/team/two:1", check=True).stdout.count("Mounted from team/app") == LAYERS
        assert tokens.scopes[0] == ["repository:team/two:pull,push", "repository:team/app:pull"]


def test_credentials_stay_with_their_host(engine: Pycontainer, second: Pycontainer, host: str) -> None:
    """The place for an upload is on another host, or is given without one."""
    tokens = Tokens(host)
    elsewhere = Front(host)

    def send_away(request: Request, body: bytes) -> Answer | None:
        if answer := tokens.guard(request, body):
            return answer
        if request.command != "POST":
            return None
        status, headers, data = forward(host, request, body)
        place = headers["Location"].partition("://")[2].partition("/")
        if random.Random(request.path + str(tokens.count("POST"))).random() < 0.5:
            return status, {**headers, "Location": f"/{place[2]}"}, data
        return status, {**headers, "Location": f"http://{other}/{place[2]}"}, data

    tokens.change = send_away
    with server(elsewhere) as other, server(tokens) as front:
        tokens.own = front
        engine("login", "-u", "alice", "--password-stdin", front, input="secret", check=True)
        engine("tag", "app:1", f"{front}/team/app:1", check=True)
        digest = manifest_digest(engine("push", f"{front}/team/app:1", check=True))
        check_arrived(second, engine, f"{front}/team/app:1", digest)
    assert elsewhere.seen and not any("Authorization" in sent for sent in elsewhere.headers)
    assert tokens.count("PUT", "/blobs/")


@pytest.mark.parametrize("kind", ["asked", 413, 416, "small", "never"])
def test_pieces(engine: Pycontainer, second: Pycontainer, host: str, kind: int | str) -> None:
    """Where the registry wants them, or takes no more at once."""
    least = 100_000

    def change(request: Request, body: bytes) -> Answer | None:
        if kind == "never" and request.command in ("PUT", "PATCH") and "/blobs/" in request.path and body:
            return 413, {}, b"<html>"
        if kind == "asked" and request.command == "POST":
            status, headers, data = forward(host, request, body)
            return status, {**headers, "OCI-Chunk-Min-Length": str(9 << 20)}, data
        if kind in (413, 416) and request.command == "PUT" and "/blobs/" in request.path and body:
            return int(kind), {}, b""
        if kind == "small" and len(body) > 1 << 20 and "/blobs/" in request.path:
            return 413, {}, b""
        return None

    size = least if kind != "small" else 9 << 20
    layer = LayerTar().add("file", random.Random(3).randbytes(size)).data()
    engine("load", "-q", input=docker_archive([layer], "large:1"), text=False, check=True)
    front = Front(host, change)
    with server(front) as proxy:
        name = f"{proxy}/team/large:1"
        engine("tag", "large:1", name, check=True)
        if kind == "never":
            said = refused(engine, name)
            assert "layer 1 of 1" in said and "at once (status 413)" in said and "client_max_body_size" in said
            return
        digest = manifest_digest(engine("push", name, check=True))
        check_arrived(second, engine, name, digest)
        assert front.count("PATCH") >= (10 if kind == "small" else 2)


def test_a_registry_that_takes_nothing(engine: Pycontainer, tmp_path: pathlib.Path) -> None:
    with registry(tmp_path / "registry", readonly=True) as host:
        engine("tag", "app:1", f"{host}/app:1", check=True)
        said = refused(engine, f"{host}/app:1")
        assert "it takes nothing (status 405)" in said and "read-only" in said


@pytest.mark.parametrize("path", ["/blobs/uploads/", "/manifests/"])
def test_a_registry_that_has_something_else(engine: Pycontainer, host: str, path: str) -> None:
    def lie(request: Request, body: bytes) -> Answer | None:
        if request.command != "PUT" or path not in request.path:
            return None
        status, headers, data = forward(host, request, body)
        return status, {**headers, "Docker-Content-Digest": f"sha256:{'0' * 64}"}, data

    with server(Front(host, lie)) as proxy:
        engine("tag", "app:1", f"{proxy}/app:1", check=True)
        assert f"wrong digest: the registry says sha256:{'0' * 64}" in refused(engine, f"{proxy}/app:1")


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (429, {"Retry-After": "3600"}, "it may not be asked so often: slow down"),
        (429, {"Retry-After": "0"}, "it may not be asked so often: slow down"),
        (500, {}, "it answers with status 500: slow down"),
        (403, {}, "access denied: slow down"),
        (401, {}, "access denied: slow down"),
        (400, {}, "it answers with status 400: slow down"),
    ],
)
def test_a_registry_that_refuses(
    engine: Pycontainer, host: str, status: int, headers: dict[str, str], words: str
) -> None:
    for method, part in (("PUT", "/blobs/uploads/"), ("POST", "/blobs/"), ("PUT", "/manifests/"), ("GET", "/v2/")):

        def refuse(request: Request, body: bytes, method: str = method, part: str = part) -> Answer | None:
            if request.command != method or part not in request.path:
                return None
            return status, headers, b'{"errors":[{"code":"X","message":"Slow down"}]}'

        with server(Front(host, refuse)) as proxy:
            name = f"{proxy}/{method.lower()}{len(part)}:1"
            engine("tag", "app:1", name, check=True)
            if method == "GET" and status in (401, 403):
                continue
            assert words in refused(engine, name)


def test_it_waits_as_long_as_it_is_told(engine: Pycontainer, host: str) -> None:
    told: set[str] = set()

    def limit(request: Request, body: bytes) -> Answer | None:
        if request.command in told:
            return None
        told.add(request.command)
        return 429, {"Retry-After": "1"}, b""

    with server(Front(host, limit)) as proxy:
        engine("tag", "app:1", f"{proxy}/app:1", check=True)
        result = engine("push", f"{proxy}/app:1", check=True)
    assert "asking again in 1 s" in result.stderr and {"GET", "HEAD", "POST", "PUT"} <= told


def test_what_is_gone_or_damaged_here(engine: Pycontainer, second: Pycontainer, host: str) -> None:
    name = f"{host}/app:1"
    engine("tag", "app:1", name, check=True)
    blobs = engine.root / "blobs/sha256"
    layer = next(path for path in sorted(blobs.iterdir()) if path.stat().st_size > 300_000)
    data = layer.read_bytes()
    layer.write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
    said = refused(engine, name)
    assert re.search(rf"push: layer \d of {LAYERS} of {name}, sha256:{layer.name}: its blob has changed", said)
    assert f"hint: remove {layer}, then pull or load" in said
    layer.write_bytes(data[:1000])
    assert f"sha256:{layer.name}: its blob has 1000 bytes, not" in refused(engine, name)
    layer.unlink()
    said = refused(engine, name)
    assert f"sha256:{layer.name}: its blob is gone from the disk" in said and "pull or load the image again" in said
    layer.write_bytes(data)
    check_arrived(second, engine, name, manifest_digest(engine("push", name, check=True)))


def test_lines_stay_whole_beside_the_bar(engine: Pycontainer, host: str) -> None:
    """Where standard error is a terminal, of few columns, and standard output another one, or a pipe."""
    name = f"{host}/team/app:1"
    engine("tag", "app:1", name, check=True)
    digest = manifest_digest(engine("push", name, check=True))
    ours, theirs = os.openpty()
    try:
        for both in (False, True):
            process = engine.popen("push", name, stdout=theirs if both else subprocess.PIPE, stderr=theirs, text=True)
            output = process.communicate(timeout=60)[0]
            assert process.returncode == 0
            shown = os.read(ours, 1 << 16).decode()
            assert both or "pushing" in shown
            assert f"1: digest: {digest} size: " in (shown if both else output)
            assert both or len(output.splitlines()) == LAYERS + 2
    finally:
        os.close(ours)
        os.close(theirs)


def test_two_at_once(engine: Pycontainer, second: Pycontainer, host: str) -> None:
    name = f"{host}/team/app:1"
    engine("tag", "app:1", name, check=True)
    pushes = [engine.popen("push", name, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    last = {process.communicate(timeout=60)[0].splitlines()[-1] for process in pushes}
    assert [process.returncode for process in pushes] == [0] * 3 and len(last) == 1
    check_arrived(second, engine, name, last.pop().split()[2])


class Faults(Front):
    """What happens to a request is drawn from a generator."""

    def __init__(self, host: str, seed: object) -> None:
        super().__init__(host)
        self.generator = random.Random(str(seed))

    def __call__(self, request: Request) -> Answer | None:
        with self.lock:
            kinds = [""] * 12 + ["cut", "close", "lost", "500", "503", "429", "404", "flip", "lie", "416"]
            fault, place = self.generator.choice(kinds), self.generator.random()
        if fault == "cut":
            request.rfile.read(int(place * int(request.headers.get("Content-Length") or 0)))
            return None
        body = read_body(request)
        if fault == "close":
            return None
        if fault in ("500", "503", "404", "416"):
            return int(fault), {}, b"trouble"
        if fault == "429":
            return 429, {"Retry-After": "0"}, b"{}"
        if fault == "flip" and body:
            at = int(place * len(body))
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        status, headers, data = forward(self.host, request, body)
        if fault == "lost":
            return None
        if fault == "lie":
            headers = {**headers, "Docker-Content-Digest": f"sha256:{'0' * 64}"}
        return status, headers, data


def test_faults_on_the_way(engine: Pycontainer, second: Pycontainer, host: str) -> None:
    """Each push ends well, and then all of the image is there, or in a clear error."""
    good = 0
    for number in range(PUSHES):
        with server(Faults(host, f"{SEED} {number}")) as proxy:
            engine("tag", "app:1", f"{proxy}/team/app{number}:1", check=True)
            result = engine("push", f"{proxy}/team/app{number}:1")
        assert "Traceback" not in result.stderr and "fault of pycontainer" not in result.stderr, (
            f"{number}: {result.stderr}"
        )
        if result.returncode == 0:
            good += 1
            engine("tag", "app:1", f"{host}/team/app{number}:1", check=True)
            check_arrived(second, engine, f"{host}/team/app{number}:1", manifest_digest(result))
        else:
            last = result.stderr.splitlines()[-2:]
            assert result.returncode == 1 and any(line.startswith("pycontainer: ") for line in last), f"{number}"
    assert good, "not one came through"


def test_killed_at_any_moment(engine: Pycontainer, second: Pycontainer, host: str) -> None:
    """Whenever it is ended, the next push brings the rest."""
    generator = random.Random(SEED)
    # Half as many, because each is two.
    for number in range(PUSHES // 2):
        name = f"{host}/team/app{number}:1"
        engine("tag", "app:1", name, check=True)
        process = engine.popen("push", name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(generator.uniform(0.05, 0.5))
        process.send_signal(generator.choice((signal.SIGKILL, signal.SIGINT, signal.SIGTERM)))
        process.wait(60)
        digest = manifest_digest(engine("push", name, check=True))
        if number % 5 == 0:
            check_arrived(second, engine, name, digest)
        engine("rmi", name, check=True)
    assert os.listdir(engine.root / "tmp") == []


def test_interrupted_while_the_registry_is_silent(engine: Pycontainer, host: str) -> None:
    """Ctrl-C ends it at once, whatever is waited for."""
    asked = threading.Event()
    done = threading.Event()

    def hang(request: Request, body: bytes) -> Answer | None:
        if request.command == "PUT":
            asked.set()
            done.wait(30)
        return None

    with server(Front(host, hang)) as proxy:
        engine("tag", "app:1", f"{proxy}/app:1", check=True)
        process = engine.popen("push", f"{proxy}/app:1", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert asked.wait(30)
            process.send_signal(signal.SIGINT)
            assert process.wait(5) == 130
        finally:
            process.kill()
            process.wait(10)
            done.set()
