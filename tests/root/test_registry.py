"""`pull`, `login` and `run` against a real registry, with TLS, passwords and tokens, and with faults on the way."""

from __future__ import annotations

import hashlib
import http.client
import http.server
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Pycontainer, new_environment, remove_environment
from registry import Answer, Faulty, Tokens, authority, environment, fetch, registry, server
from test_image_layer import LayerTar, docker_archive

from pycontainer.image import manifest

SEED = int(os.environ.get("PYCONTAINER_TEST_SEED", "20261124"))
PULLS = int(os.environ.get("PYCONTAINER_TEST_PULLS", "12"))
NONE = ("--network", "none")
PATH = "team/app"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, busybox_archive: pathlib.Path) -> pathlib.Path:
    """A directory of a registry that has busybox, and an image of several layers, for everybody and in private."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    directory = tmp_path_factory.mktemp("registry")
    generator = random.Random(1)
    layers = [
        LayerTar().add(f"file{n}", generator.randbytes(200_000 + n)).add("same", b"x" * n).data() for n in range(4)
    ]
    (directory / "app.tar").write_bytes(docker_archive(layers, "app:1"))
    with registry(directory) as host:
        for archive, name in (
            (busybox_archive, "library/busybox:latest"), (directory / "app.tar", f"{PATH}:1"),
            (directory / "app.tar", "private/app:1"), (directory / "app.tar", "private/all:1"),
            (directory / "app.tar", "private/all:2"),
        ):  # fmt: skip
            command = [
                "skopeo",
                "copy",
                "-q",
                "--dest-tls-verify=false",
                f"docker-archive:{archive}",
                f"docker://{host}/{name}",
            ]
            subprocess.run(command, check=True)
    return directory


@pytest.fixture(scope="module")
def host(data: pathlib.Path) -> Iterator[str]:
    with registry(data) as host:
        yield host


@pytest.fixture
def engine(pycontainer: Pycontainer, tmp_path: pathlib.Path) -> Pycontainer:
    pycontainer.environment.update(environment(tmp_path))
    return pycontainer


def stored(engine: Pycontainer) -> list[str]:
    return engine("images", "--format", "{{.Repository}}:{{.Tag}}", check=True).stdout.splitlines()


def check_store(engine: Pycontainer) -> None:
    """Every blob is what its name says, and no work is left."""
    for blob in (engine.root / "blobs/sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    assert os.listdir(engine.root / "tmp") == []


def test_pull_and_run(engine: Pycontainer, host: str) -> None:
    name = f"{host}/library/busybox"
    result = engine("pull", name, check=True)
    lines = result.stdout.splitlines()
    assert lines[:2] == ["Using default tag: latest", "latest: Pulling from library/busybox"]
    assert lines[2].startswith("Digest: sha256:") and lines[3] == f"Status: Downloaded newer image for {name}:latest"
    assert lines[4] == f"{name}:latest"
    assert "Image is up to date" in engine("pull", f"{name}:latest", check=True).stdout
    digest = lines[2].removeprefix("Digest: ")
    assert engine("pull", "-q", name, check=True).stdout == f"{name}@{digest}\n"
    assert engine("run", "--rm", *NONE, name, "echo", "it runs", check=True).stdout == "it runs\n"
    assert engine("run", "--rm", *NONE, f"{name}@{digest}", "echo", "too", check=True).stdout == "too\n"
    check_store(engine)
    assert os.listdir(engine.root / "downloads") == []


def test_run_pulls_what_is_missing(engine: Pycontainer, host: str, tmp_path: pathlib.Path) -> None:
    """As `pycontainer run alpine` will on a machine with internet, with the registry as Docker Hub's mirror."""
    engine.environment.update(environment(tmp_path, docker_io=f"http://{host}"))
    refused = engine("run", "--rm", "--pull", "never", *NONE, "busybox", "true")
    assert refused.returncode == 125 and "no such image" in refused.stderr
    result = engine("run", "-i", "--rm", *NONE, "busybox", "cat", input="typed before it was there\n", check=True)
    assert result.stdout == "typed before it was there\n"
    assert "pulling it" in result.stderr and "Digest: sha256:" in result.stderr
    assert stored(engine) == ["busybox:latest"]
    result = engine("run", "--rm", *NONE, "busybox", "echo", "x", check=True)
    assert (result.stdout, result.stderr) == ("x\n", "")
    result = engine("run", "--rm", "--pull", "always", "-q", *NONE, "busybox", "echo", "x", check=True)
    assert result.stdout == "x\n"
    container = engine("create", "--pull", "always", "-q", *NONE, "busybox", "true", check=True).stdout.strip()
    assert len(container) == 64
    engine("rm", container, check=True)


def test_an_image_that_nobody_has(engine: Pycontainer) -> None:
    """Without network: what is missing, who was asked, and what to do."""
    result = engine("run", "--rm", *NONE, "nosuch")
    assert (result.returncode, result.stdout) == (125, "")
    lines = result.stderr.splitlines()
    assert lines[0] == "pycontainer: no image nosuch:latest here: pulling it"
    assert "registry-1.docker.io" in lines[-2] and "pycontainer load" in lines[-1]


def test_what_a_mirror_sees(engine: Pycontainer, host: str, tmp_path: pathlib.Path) -> None:
    proxy = Faulty(host, SEED)
    proxy.generator.choice = lambda _: ""  # type: ignore[method-assign,assignment]
    with server(proxy) as mirror:
        engine.environment.update(environment(tmp_path, docker_io=f"http://{mirror}"))
        engine("pull", "busybox", check=True)
    paths = [path for path, _ in proxy.seen]
    assert paths[0] == "/v2/library/busybox/manifests/latest"
    assert all(path.startswith("/v2/library/busybox/blobs/sha256:") for path in paths[1:])
    headers = proxy.seen[0][1]
    for kind in (
        "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ):  # fmt: skip
        assert kind in headers["Accept"]
    assert not any("Authorization" in sent for _, sent in proxy.seen)


def test_all_tags(engine: Pycontainer, host: str) -> None:
    engine("pull", "-a", f"{host}/private/all", check=True)
    assert stored(engine) == [f"{host}/private/all:1", f"{host}/private/all:2"]
    refused = engine("pull", "-a", f"{host}/{PATH}:1")
    assert refused.returncode == 1 and "all of them" in refused.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HOST/library/nosuch", "no such image or tag"),
        ("HOST/library/busybox:nosuch", "no such image or tag"),
        (f"HOST/library/busybox@sha256:{'0' * 64}", "no such image or tag"),
        ("127.0.0.1:1/x", "connection refused"),
        ("UPPER/Case", "must be lower case"),
        ("HOST/x --platform windows/amd64", "not a platform that runs here"),
    ],
)
def test_what_cannot_be_pulled(engine: Pycontainer, host: str, name: str, words: str) -> None:
    result = engine("pull", *name.replace("HOST", host).split())
    assert result.returncode == 1
    assert words in result.stderr and 1 <= len(result.stderr.splitlines()) <= 2
    assert stored(engine) == []


def ask(host: str, method: str, reference: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, str]:
    """Status, body and type of a manifest."""
    connection = http.client.HTTPConnection(host)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/v2/{PATH}/manifests/{reference}", body or None, fields)
    response = connection.getresponse()
    return response.status, response.read(), response.headers.get("Content-Type", "")


def test_another_platform(engine: Pycontainer, host: str) -> None:
    """An index in which there is an image for another platform only."""
    _, body, kind = ask(host, "GET", "1", Accept=", ".join(manifest.MANIFEST_TYPES))
    entry = {
        "mediaType": kind, "digest": manifest.digest_of(body), "size": len(body),
        "platform": {"os": "linux", "architecture": "riscv64"},
    }  # fmt: skip
    index = {"schemaVersion": 2, "mediaType": manifest.INDEX_TYPES[0], "manifests": [entry]}
    assert ask(host, "PUT", "many", json.dumps(index).encode(), Content_Type=manifest.INDEX_TYPES[0])[0] == 201
    refused = engine("pull", f"{host}/{PATH}:many")
    assert refused.returncode == 1 and "only for linux/riscv64" in refused.stderr
    engine("pull", "--platform", "linux/riscv64", f"{host}/{PATH}:many", check=True)
    assert stored(engine) == [f"{host}/{PATH}:many"]
    assert ask(host, "DELETE", manifest.digest_of(json.dumps(index).encode()))[0] in (202, 405)


def test_tls_with_a_private_authority(engine: Pycontainer, data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ca, certificate, key = authority(tmp_path)
    with registry(data, tls=(certificate, key)) as host:
        name = f"{host}/library/busybox"
        refused = engine("pull", name)
        assert refused.returncode == 1 and "certificate is not accepted" in refused.stderr
        assert f"certs.d/{host}/ca.crt" in refused.stderr
        place = tmp_path / "certs.d" / host
        place.mkdir(parents=True)
        shutil.copy(ca, place / "ca.crt")
        engine("pull", name, check=True)
        shutil.rmtree(place)
        (tmp_path / "config.toml").write_text(f'[registry."{host}"]\ninsecure = true\n')
        engine("pull", name, check=True)


def test_a_password(engine: Pycontainer, data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    passwords = tmp_path / "htpasswd"
    command = ["htpasswd", "-Bbn", "alice", "secret"]
    if shutil.which("htpasswd") is None:
        pytest.skip("htpasswd is not installed")
    passwords.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    with registry(data, auth=f"{{htpasswd: {{realm: test, path: {passwords}}}}}") as host:
        name = f"{host}/library/busybox"
        refused = engine("pull", name)
        assert refused.returncode == 1 and "access denied" in refused.stderr and f"login {host}" in refused.stderr
        login = ("login", "-u", "alice", "--password-stdin", host)
        wrong = engine(*login, input="wrong\n")
        assert wrong.returncode == 1 and not (tmp_path / "auth.json").exists()
        result = engine(*login, input="secret\n", check=True)
        assert result.stdout == "Login Succeeded\n"
        assert (tmp_path / "auth.json").stat().st_mode & 0o777 == 0o600
        engine("pull", name, check=True)
        assert "Removing login credentials" in engine("logout", host, check=True).stdout
        assert "Not logged in" in engine("logout", host, check=True).stdout
        assert engine("pull", name).returncode == 1
        # What docker has kept is read as well.
        (tmp_path / "config.json").write_text(
            json.dumps({"auths": {f"https://{host}/v2/": {"auth": "YWxpY2U6c2VjcmV0"}}})
        )
        engine("pull", name, check=True)


def test_tokens(engine: Pycontainer, host: str, tmp_path: pathlib.Path) -> None:
    tokens = Tokens(host)
    with server(tokens) as front:
        tokens.own = front
        engine("pull", f"{front}/{PATH}:1", check=True)
        asked = [path for path, _ in tokens.asked if path.startswith("/token")]
        assert len(asked) == 1, "one token serves for all"
        assert asked[0] == "/token?x=1&service=test+registry&scope=repository%3Ateam%2Fapp%3Apull"
        refused = engine("pull", f"{front}/private/app:1")
        assert refused.returncode == 1 and "access denied" in refused.stderr
        wrong = engine("login", "-u", "alice", "--password-stdin", front, input="wrong")
        assert wrong.returncode == 1 and "incorrect username or password" in wrong.stderr
        engine("login", "-u", "alice", "--password-stdin", front, input="secret", check=True)
        engine("pull", f"{front}/private/app:1", check=True)


def test_credentials_stay_with_their_host(engine: Pycontainer, host: str) -> None:
    """A redirect to where the bytes are is followed without them."""
    elsewhere: list[str] = []

    def store(request: object) -> tuple[int, dict[str, str], bytes]:
        elsewhere.append(request.headers.get("Authorization", ""))  # type: ignore[attr-defined]
        from registry import fetch

        return fetch(host, request.path, {})  # type: ignore[attr-defined]

    with server(store) as other:
        tokens = Tokens(host)

        def front(request: object) -> tuple[int, dict[str, str], bytes] | None:
            if "/blobs/" in request.path and request.headers.get("Authorization"):  # type: ignore[attr-defined]
                return 307, {"Location": f"http://{other}{request.path}"}, b""  # type: ignore[attr-defined]
            return tokens(request)  # type: ignore[arg-type]

        with server(front) as own:
            tokens.own = own
            engine("pull", f"{own}/{PATH}:1", check=True)
    assert elsewhere and set(elsewhere) == {""}


@pytest.fixture
def engines(tmp_path: pathlib.Path) -> Iterator[list[Pycontainer]]:
    """Five, each with a store of its own."""
    made = [Pycontainer({**new_environment(), **environment(tmp_path)}) for _ in range(5)]
    yield made
    for engine in made:
        remove_environment(engine.environment)


def share_out(engines: list[Pycontainer], work: Callable[[Pycontainer, int], bool]) -> list[bool]:
    """What came of `work` for each number of PULLS, in turn by each engine; all at once, because most of it waits."""

    def turn(position: int) -> list[bool]:
        return [work(engines[position], number) for number in range(position, PULLS, len(engines))]

    with ThreadPoolExecutor(len(engines)) as threads:
        return list(itertools.chain.from_iterable(threads.map(turn, range(len(engines)))))


def test_faults_on_the_way(engines: list[Pycontainer], host: str) -> None:
    """Each pull ends in the right image or a clear error, and the store is as it should be."""

    def pull(engine: Pycontainer, number: int) -> bool:
        with server(Faulty(host, f"{SEED} {number}")) as proxy:
            result = engine("pull", f"{proxy}/{PATH}:1")
        assert "Traceback" not in result.stderr, f"{number}: {result.stderr}"
        check_store(engine)
        if result.returncode == 0:
            engine("rmi", f"{proxy}/{PATH}:1", check=True)
            return True
        last = result.stderr.splitlines()[-2:]
        assert result.returncode == 1 and any(line.startswith("pycontainer: ") for line in last), f"{number}: {last}"
        assert stored(engine) == []
        return False

    assert any(share_out(engines, pull)), "not one came through"


def test_killed_at_any_moment(engines: list[Pycontainer], host: str) -> None:
    def pull(engine: Pycontainer, number: int) -> bool:
        generator = random.Random(f"{SEED} {number}")
        process = engine.popen("pull", f"{host}/{PATH}:1", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(generator.uniform(0.1, 0.6))
        process.send_signal(generator.choice((signal.SIGKILL, signal.SIGINT, signal.SIGTERM)))
        return process.wait(60) != 0

    share_out(engines, pull)
    for engine in engines:
        engine("pull", f"{host}/{PATH}:1", check=True)
        engine("images", check=True)
        check_store(engine)
        assert os.listdir(engine.root / "downloads") == []


def test_a_broken_download_goes_on_where_it_was(engine: Pycontainer, host: str) -> None:
    proxy = Faulty(host, SEED)
    cut: set[str] = set()
    whole = proxy.generator

    def once(request: object) -> object:
        path = request.path  # type: ignore[attr-defined]
        whole.choice = lambda _: "cut" if "/blobs/" in path and path not in cut else ""  # type: ignore[method-assign,assignment]
        whole.random = lambda: 0.5  # type: ignore[method-assign]
        answer = proxy(request)  # type: ignore[arg-type]
        cut.add(path)
        return answer

    with server(once) as front:  # type: ignore[arg-type]
        engine("pull", f"{front}/{PATH}:1", check=True)
    ranges = [sent["Range"] for _, sent in proxy.seen if "Range" in sent]
    assert ranges and all(text.startswith("bytes=") and text.endswith("-") and text != "bytes=0-" for text in ranges)
    check_store(engine)


def test_a_layer_is_unpacked_while_another_is_on_its_way(engine: Pycontainer, host: str) -> None:
    last, seen = [""], []

    def answer(request: http.server.BaseHTTPRequestHandler) -> Answer:
        reply = fetch(host, request.path, {"Accept": request.headers.get("Accept", "")})
        if "/manifests/" in request.path:
            last[0] = json.loads(reply[2])["layers"][-1]["digest"]
        elif request.path.endswith(last[0]):
            deadline = time.monotonic() + 30
            while not seen and time.monotonic() < deadline:
                seen.extend((engine.root / "tmp").glob("*/layer-*/file0"))
                time.sleep(0.01)
        return reply

    with server(answer) as front:
        engine("pull", f"{front}/{PATH}:1", check=True)
    assert seen, "no layer was there before the last had come"
    check_store(engine)


def test_the_process_that_fetches_is_killed(engine: Pycontainer, host: str) -> None:
    pulls: list[subprocess.Popen[bytes]] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> Answer | None:
        if "/blobs/" not in request.path:
            return fetch(host, request.path, {"Accept": request.headers.get("Accept", "")})
        pid = pulls[0].pid
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        return None

    with server(answer) as front:
        pulls.append(engine.popen("pull", f"{front}/{PATH}:1", stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        _, printed = pulls[0].communicate(timeout=60)
    assert pulls[0].returncode == 1 and b"the process that fetches it was killed" in printed
    assert stored(engine) == []
    engine("pull", f"{host}/{PATH}:1", check=True)
    check_store(engine)
    assert os.listdir(engine.root / "downloads") == []


def test_two_at_once_fetch_nothing_twice(engine: Pycontainer, host: str) -> None:
    proxy = Faulty(host, SEED)
    proxy.generator.choice = lambda _: ""  # type: ignore[method-assign,assignment]
    with server(proxy) as front:
        pulls = [engine.popen("pull", "-q", f"{front}/{PATH}:1", stdout=subprocess.PIPE) for _ in range(4)]
        digests = {process.communicate(timeout=60)[0] for process in pulls}
        assert [process.returncode for process in pulls] == [0] * 4 and len(digests) == 1
    blobs = [path for path, _ in proxy.seen if "/blobs/" in path]
    assert len(blobs) == len(set(blobs)) == 5
    check_store(engine)
    assert os.listdir(engine.root / "downloads") == []
