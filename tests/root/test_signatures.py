"""`pull --verify` against a real registry, with signatures as cosign stores them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import http.server
import json
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Pycontainer
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from registry import environment, fetch, registry, server

PATH = "team/app"
NONE = ("--network", "none")
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"

Sign = Callable[[bytes], bytes]


def ecdsa() -> tuple[Any, Sign]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, lambda data: key.sign(data, ec.ECDSA(hashes.SHA256()))


def of_rsa() -> tuple[Any, Sign]:
    key = rsa.generate_private_key(65537, 2048)
    return key, lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def of_ed25519() -> tuple[Any, Sign]:
    key = ed25519.Ed25519PrivateKey.generate()
    return key, key.sign


def written(key: Any, path: pathlib.Path) -> str:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(path)


class Store:
    """A registry with one image, whose signatures the test puts there."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.name = f"{host}/{PATH}:1"
        self.digest = "sha256:" + hashlib.sha256(self.request("GET", f"/v2/{PATH}/manifests/1")).hexdigest()

    def request(self, method: str, url: str, body: bytes | None = None, kind: str = "") -> bytes:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
        headers = {"Content-Type": kind} if kind else {"Accept": accept}
        connection.request(method, url, body, headers)
        response = connection.getresponse()
        data = response.read()
        assert response.status < 300, (method, url, data)
        self.location = response.headers.get("Location", "")
        connection.close()
        return data

    def add_blob(self, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.request("POST", f"/v2/{PATH}/blobs/uploads/")
        location = self.location.removeprefix(f"http://{self.host}")
        mark = "&" if "?" in location else "?"
        self.request("PUT", f"{location}{mark}digest={digest}", data, "application/octet-stream")
        return {"digest": digest, "size": len(data)}

    def payload(self, digest: str = "", kind: str = "cosign container image signature") -> bytes:
        image = {"docker-manifest-digest": digest or self.digest}
        critical = {"identity": {"docker-reference": f"{self.host}/{PATH}"}, "image": image, "type": kind}
        return json.dumps({"critical": critical, "optional": None}).encode()

    def sign(self, *signatures: tuple[bytes, bytes | str]) -> None:
        """Store these payloads with their signatures beside the image, in the place of those that were there."""
        kind = "application/vnd.oci.image"
        config = {"mediaType": f"{kind}.config.v1+json", **self.add_blob(b"{}")}
        layers = [
            {
                "mediaType": PAYLOAD,
                **self.add_blob(payload),
                "annotations": {
                    "dev.cosignproject.cosign/signature": signature
                    if isinstance(signature, str)
                    else base64.b64encode(signature).decode()
                },
            }
            for payload, signature in signatures
        ]
        document = {"schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json", "config": config, "layers": layers}
        tag = f"{self.digest.replace(':', '-')}.sig"
        self.request("PUT", f"/v2/{PATH}/manifests/{tag}", json.dumps(document).encode(), f"{kind}.manifest.v1+json")

    def bundle(self, *documents: Any, kind: str = BUNDLE) -> list[dict[str, Any]]:
        """Store bundles that refer to the image, and under its tag the index of them, in the place of another."""
        oci = "application/vnd.oci"
        config = {"mediaType": f"{oci}.empty.v1+json", **self.add_blob(b"{}")}
        entries = []
        for document in documents:
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            manifest = json.dumps({
                "schemaVersion": 2, "mediaType": f"{oci}.image.manifest.v1+json", "artifactType": BUNDLE,
                "config": config, "layers": [{"mediaType": BUNDLE, **self.add_blob(data)}],
                "subject": {"mediaType": f"{oci}.image.manifest.v1+json", "digest": self.digest, "size": 1},
            }).encode()  # fmt: skip
            digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
            self.request("PUT", f"/v2/{PATH}/manifests/{digest}", manifest, f"{oci}.image.manifest.v1+json")
            entries.append({
                "mediaType": f"{oci}.image.manifest.v1+json", "digest": digest, "size": len(manifest),
                "artifactType": kind,
            })  # fmt: skip
        index = {"schemaVersion": 2, "mediaType": f"{oci}.image.index.v1+json", "manifests": entries}
        tag = self.digest.replace(":", "-")
        self.request("PUT", f"/v2/{PATH}/manifests/{tag}", json.dumps(index).encode(), f"{oci}.image.index.v1+json")
        return entries


def enveloped(sign: Sign, digest: str, predicate: str = "https://sigstore.dev/cosign/sign/v1") -> dict[str, Any]:
    """A bundle with a statement about an image."""
    subject = [{"digest": {"sha256": digest.removeprefix("sha256:")}}]
    statement = {"_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": predicate}
    payload = json.dumps({**statement, "predicate": {}}).encode()
    kind = b"application/vnd.in-toto+json"
    signature = sign(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    envelope = {
        "payload": base64.b64encode(payload).decode(), "payloadType": kind.decode(),
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }  # fmt: skip
    return {"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "x"}}, "dsseEnvelope": envelope}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, busybox_archive: pathlib.Path) -> Iterator[Store]:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    with registry(tmp_path_factory.mktemp("signed")) as host:
        target = f"docker://{host}/{PATH}:1"
        words = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{busybox_archive}", target]
        subprocess.run(words, check=True)
        yield Store(host)


def test_it_has_to_be_signed_with_the_key(pycontainer: Pycontainer, store: Store, tmp_path: pathlib.Path) -> None:
    """Without a signature, with another's, with one of another image, and with the right one among others."""
    (key, sign), (other, sign_other) = ecdsa(), ecdsa()
    mine, others = written(key, tmp_path / "mine.pub"), written(other, tmp_path / "other.pub")

    def pull(*keys: str, status: int = 0) -> str:
        result = pycontainer("pull", *(word for each in keys for word in ("--verify", each)), store.name)
        assert result.returncode == status, result.stderr
        assert status == 0 or pycontainer("images", "-q").stdout == ""
        return result.stderr

    assert "it is not signed" in pull(mine, status=1)
    payload = store.payload()
    store.sign((payload, sign_other(payload)))
    assert "its signature is not good for this image and key" in pull(mine, status=1)
    wrong = store.payload("sha256:" + "0" * 64)
    store.sign((wrong, sign(wrong)), (payload, "no base64"), (payload, b"no signature"))
    assert "none of its 2 signatures" in pull(mine, status=1)
    store.sign((store.payload(kind="something else"), sign(store.payload(kind="something else"))))
    assert "not good" in pull(mine, status=1)
    store.sign((b"[]", sign(b"[]")))
    assert "not good" in pull(mine, status=1)
    store.sign((payload, sign_other(payload)), (payload, sign(payload)))
    pull(mine)
    pull(others, mine)
    # By its digest too, which is what is signed.
    pycontainer("pull", "--verify", mine, f"{store.host}/{PATH}@{store.digest}", check=True)


def test_a_file_of_that_name_does_not_count(
    pycontainer: Pycontainer, store: Store, tmp_path: pathlib.Path, busybox_archive: pathlib.Path
) -> None:
    key, sign = ecdsa()
    store.sign((b"[]", sign(b"[]")))
    place = pycontainer.root / "images" / store.host / "team"
    place.mkdir(parents=True)
    shutil.copy(busybox_archive, place / "app_1.tar")
    path = written(key, tmp_path / "key.pub")
    assert "Loading from" in pycontainer("pull", store.name, check=True).stdout
    result = pycontainer("pull", "--verify", path, store.name)
    assert (result.returncode, "not good" in result.stderr) == (1, True)


@pytest.mark.parametrize("make", [of_rsa, of_ed25519])
def test_other_kinds_of_keys(
    pycontainer: Pycontainer, store: Store, tmp_path: pathlib.Path, make: Callable[[], tuple[Any, Sign]]
) -> None:
    key, sign = make()
    payload = store.payload()
    store.sign((payload, sign(payload)))
    pycontainer("pull", "--verify", written(key, tmp_path / "key.pub"), store.name, check=True)
    store.sign((payload, sign(payload)[::-1]))
    assert pycontainer("pull", "--verify", str(tmp_path / "key.pub"), store.name).returncode == 1


@pytest.mark.parametrize(
    "data", [None, b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nMAAA\n-----END PUBLIC KEY-----\n"]
)
def test_a_key_that_is_none(pycontainer: Pycontainer, store: Store, tmp_path: pathlib.Path, data: bytes | None) -> None:
    path = tmp_path / "key.pub"
    if data is not None:
        path.write_bytes(data)
    result = pycontainer("pull", "--verify", path, store.name)
    assert result.returncode == 1
    assert f"--verify: {path}: " in result.stderr
    assert "Traceback" not in result.stderr


class TestBundles:
    """As cosign 3 signs: what refers to the image."""

    @pytest.fixture
    def pull(self, pycontainer: Pycontainer, store: Store) -> Iterator[Callable[..., str]]:
        """Pull with a key, by another host's name if need be; what it says where it fails."""

        def pull(key: str, host: str = "") -> str:
            result = pycontainer("pull", "--verify", key, f"{host or store.host}/{PATH}:1")
            assert result.returncode in (0, 1) and "Traceback" not in result.stderr
            return result.stderr

        store.sign()
        yield pull
        store.bundle()

    @pytest.mark.parametrize("make", [ecdsa, of_rsa, of_ed25519])
    def test_a_statement(
        self, store: Store, pull: Callable[..., str], tmp_path: pathlib.Path, make: Callable[[], tuple[Any, Sign]]
    ) -> None:
        (key, sign), (_, sign_other) = make(), make()
        mine = written(key, tmp_path / "mine.pub")
        store.bundle()
        assert "it is not signed" in pull(mine)
        store.bundle(enveloped(sign_other, store.digest))
        assert "its signature is not good" in pull(mine)
        another = "sha256:" + "0" * 64
        slsa = "https://slsa.dev/provenance/v1"
        store.bundle(enveloped(sign, another), enveloped(sign, store.digest, slsa), b"no bundle", [])
        assert "none of its 2 signatures" in pull(mine)
        store.bundle(b"{", enveloped(sign_other, store.digest), enveloped(sign, store.digest))
        assert pull(mine) == ""
        # As the index has it where its writer took the config's type.
        store.bundle(enveloped(sign, store.digest), kind="application/vnd.oci.empty.v1+json")
        assert pull(mine) == ""
        store.bundle(enveloped(sign, store.digest), kind="application/spdx+json")
        assert "it is not signed" in pull(mine)

    @pytest.mark.parametrize("make", [ecdsa, of_rsa, of_ed25519])
    def test_the_manifest_itself(
        self, store: Store, pull: Callable[..., str], tmp_path: pathlib.Path, make: Callable[[], tuple[Any, Sign]]
    ) -> None:
        key, sign = make()
        mine = written(key, tmp_path / "mine.pub")
        data = store.request("GET", f"/v2/{PATH}/manifests/1")

        def message(signed: bytes) -> dict[str, Any]:
            digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
            signature = base64.b64encode(sign(signed)).decode()
            said = {"messageDigest": {"algorithm": "SHA2_256", "digest": digest}, "signature": signature}
            return {"mediaType": BUNDLE, "messageSignature": said}

        store.bundle(message(data + b" "))
        assert "its signature is not good" in pull(mine)
        store.bundle(message(data))
        assert pull(mine) == ""

    def test_a_registry_that_lists_referrers(
        self, store: Store, pull: Callable[..., str], tmp_path: pathlib.Path
    ) -> None:
        """In two parts, and nothing is under the tag."""
        key, sign = ecdsa()
        mine = written(key, tmp_path / "mine.pub")
        entries = store.bundle(enveloped(sign, "sha256:" + "0" * 64), enveloped(sign, store.digest))
        store.bundle()
        asked = []

        def front(request: http.server.BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
            if "/referrers/" not in request.path:
                return fetch(store.host, request.path, {"Accept": request.headers.get("Accept", "")})
            asked.append(request.path)
            index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
            first = "next=" not in request.path
            index["manifests"] = entries[:1] if first else entries[1:]
            link = {"Link": f'<{request.path}?next=1>; rel="next"'} if first else {}
            return 200, {"Content-Type": str(index["mediaType"]), **link}, json.dumps(index).encode()

        with server(front) as host:
            assert pull(mine, host) == ""
        path = f"/v2/{PATH}/referrers/{store.digest}"
        assert asked == [path, f"{path}?next=1"]

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_a_registry_that_has_no_such_request(
        self, store: Store, pull: Callable[..., str], tmp_path: pathlib.Path, status: int
    ) -> None:
        """It is said that there is no signature, which counts, and not that the request was refused."""
        key, sign = ecdsa()
        mine = written(key, tmp_path / "mine.pub")

        def front(request: http.server.BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
            if "/referrers/" in request.path:
                return status, {}, b""
            return fetch(store.host, request.path, {"Accept": request.headers.get("Accept", "")})

        with server(front) as host:
            said = pull(mine, host)
            assert "it is not signed" in said
            store.bundle(enveloped(sign, store.digest))
            assert pull(mine, host) == ""


class TestPolicy:
    """[signatures] in config.toml: what is below a name is signed, or it neither comes nor runs."""

    @pytest.fixture
    def key(self, pycontainer: Pycontainer, store: Store, tmp_path: pathlib.Path) -> Sign:
        pycontainer.environment.update(environment(tmp_path))
        key, sign = ecdsa()
        path = written(key, tmp_path / "team.pub")
        with open(pycontainer.environment["PYCONTAINER_CONFIG"], "a") as file:
            file.write(f'[signatures]\n"{store.host}/team" = "{path}"\n')
        store.sign((b"[]", sign(b"[]")))
        return sign

    @staticmethod
    def refused(pycontainer: Pycontainer, *words: str) -> str:
        result = pycontainer(*words)
        assert result.returncode in (1, 125) and result.stdout == "" and "Traceback" not in result.stderr
        return result.stderr

    def test_pull_and_run_verify(self, pycontainer: Pycontainer, store: Store, key: Sign) -> None:
        run = ("run", "--rm", *NONE, store.name, "echo", "it runs")
        assert "its signature is not good" in pycontainer("pull", store.name).stderr
        assert "its signature is not good" in self.refused(pycontainer, *run)
        assert pycontainer("images", "-q").stdout == ""
        payload = store.payload()
        store.sign((payload, key(payload)))
        assert pycontainer(*run, check=True).stdout == "it runs\n"
        assert pycontainer(*run, check=True).stdout == "it runs\n"
        # Another name for the same bytes, and the digest, which is what was signed.
        pycontainer("tag", store.name, f"{store.host}/team/other:2", check=True)
        for name in (f"{store.host}/team/other:2", f"{store.host}/{PATH}@{store.digest}"):
            pycontainer("run", "--rm", "--pull", "never", *NONE, name, "true", check=True)

    def test_what_was_not_pulled_does_not_run(
        self, pycontainer: Pycontainer, store: Store, key: Sign, busybox_archive: pathlib.Path
    ) -> None:
        payload = store.payload()
        store.sign((payload, key(payload)))
        pycontainer("load", "-i", busybox_archive, check=True)
        pycontainer("run", "--name", "box", *NONE, "busybox", "true", check=True)
        pycontainer("tag", "busybox", store.name, check=True)
        for words in (("run", "--rm"), ("run", "--rm", "--pull", "never"), ("run", "-d"), ("create",)):
            said = self.refused(pycontainer, *words, *NONE, store.name, "true")
            assert f"check signature policy: {store.name}: " in said and "team.pub" in said
            assert f"pycontainer pull {store.name}" in said
        assert pycontainer("ps", "-aq").stdout.count("\n") == 1
        # It is the signed one after all, though an archive has brought it with another manifest.
        pycontainer("pull", store.name, check=True)
        pycontainer("run", "--rm", *NONE, store.name, "true", check=True)
        pycontainer("commit", "box", store.name, check=True)
        assert "check signature policy" in self.refused(pycontainer, "run", "--rm", *NONE, store.name, "true")
        pycontainer("rm", "box", check=True)

    def test_another_key_in_the_same_file(
        self, pycontainer: Pycontainer, store: Store, key: Sign, tmp_path: pathlib.Path
    ) -> None:
        payload = store.payload()
        store.sign((payload, key(payload)))
        pycontainer("pull", store.name, check=True)
        other, sign = ecdsa()
        written(other, tmp_path / "team.pub")
        run = ("run", "--rm", "--pull", "never", *NONE, store.name, "true")
        assert "check signature policy" in self.refused(pycontainer, *run)
        assert "its signature is not good" in pycontainer("pull", store.name).stderr
        store.sign((payload, key(payload)), (payload, sign(payload)))
        pycontainer("pull", store.name, check=True)
        pycontainer(*run, check=True)
        (tmp_path / "team.pub").unlink()
        assert f"{tmp_path}/team.pub: no such file" in self.refused(pycontainer, *run)
        assert f"{tmp_path}/team.pub: no such file" in pycontainer("pull", store.name).stderr

    def test_the_command_line_adds_to_it(
        self, pycontainer: Pycontainer, store: Store, key: Sign, tmp_path: pathlib.Path
    ) -> None:
        other, sign = ecdsa()
        path = written(other, tmp_path / "other.pub")
        payload = store.payload()
        store.sign((payload, sign(payload)))
        assert "its signature is not good" in pycontainer("pull", "--verify", path, store.name).stderr
        store.sign((payload, sign(payload)), (payload, key(payload)))
        pycontainer("pull", "--verify", path, store.name, check=True)

    def test_neither_a_file_nor_a_mirror_goes_around_it(
        self, pycontainer: Pycontainer, store: Store, key: Sign, tmp_path: pathlib.Path, busybox_archive: pathlib.Path
    ) -> None:
        place = pycontainer.root / "images" / store.host / "team"
        place.mkdir(parents=True)
        shutil.copy(busybox_archive, place / "app_1.tar")
        assert "its signature is not good" in pycontainer("pull", store.name).stderr
        config = pathlib.Path(pycontainer.environment["PYCONTAINER_CONFIG"])
        config.write_text(
            f'[registry."r.example.com"]\nmirrors = ["http://{store.host}"]\n'
            f'[signatures]\n"r.example.com" = "{tmp_path}/team.pub"\n'
        )
        assert "its signature is not good" in self.refused(
            pycontainer, "run", "--rm", *NONE, f"r.example.com/{PATH}:1", "true"
        )
        config.write_text('[signatures]\n"r.example.com" = 1\n')
        for words in (("pull", store.name), ("run", "--rm", *NONE, store.name)):
            assert f'{config}: signatures."r.example.com": not the absolute path of a key' in pycontainer(*words).stderr
