#!/usr/bin/env python3
"""Build the image `busybox:latest` from Debian's busybox-static.

    build.py OUTPUT [BUSYBOX]

OUTPUT is written as an OCI image layout in a tar archive with a `manifest.json` beside it, which is also what
`docker save` writes, so `pycontainer load`, `docker load` and `podman load` read it. BUSYBOX is a statically linked
busybox (/bin/busybox). The image's id is printed. The same BUSYBOX gives the same bytes on every run: all times are
EPOCH, all members are sorted, and the layers are not compressed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile

EPOCH = 1767225600  # seconds; 2026-01-01, the time of every file and of the image
CREATED = "2026-01-01T00:00:00Z"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "sbin": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/sbin": 0o755,
    "var": 0o755,
    "var/spool": 0o755,
    "var/spool/mail": 0o755,
    "var/www": 0o755,
}

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""

GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
kmem:x:9:
wheel:x:10:root
www-data:x:33:
utmp:x:43:
staff:x:50:
users:x:100:
nobody:x:65534:
"""

SHADOW = "".join(line.split(":")[0] + ":*:::::::\n" for line in PASSWD.splitlines())

MOTD = "A later layer removes this file.\n"

NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"

PROFILE = f"""\
export PATH={PATH}
export PS1='\\u@\\h:\\w\\$ '
umask 022
"""


def member(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644) -> tarfile.TarInfo:
    """A tar header that depends on its arguments only; owner is root."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = mode
    info.mtime = EPOCH
    return info


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = member(name, kind, 0o777 if kind == tarfile.SYMTYPE else 0o755)
    info.linkname = target
    return info


def archive(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """An uncompressed ustar archive of `members`, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def base_layer() -> bytes:
    """Directories and the files that name users and groups."""
    members = [(member(name, tarfile.DIRTYPE, mode), b"") for name, mode in sorted(DIRECTORIES.items())]
    for name, text, mode in (
        ("etc/group", GROUP, 0o644),
        ("etc/motd", MOTD, 0o644),
        ("etc/passwd", PASSWD, 0o644),
        ("etc/shadow", SHADOW, 0o600),
    ):
        members.append((member(name, mode=mode), text.encode()))
    return archive(members)


def busybox_layer(busybox: str) -> bytes:
    """The program, and a hard link for each of its applets."""
    with open(busybox, "rb") as file:
        program = file.read()
    listing = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout
    applets = sorted(set(listing.split()) - {"busybox"})
    members = [(member("bin/busybox", mode=0o755), program)]
    members += [(link(f"bin/{name}", tarfile.LNKTYPE, "bin/busybox"), b"") for name in applets]
    # Because scripts begin with #!/usr/bin/env.
    members.append((link("usr/bin/env", tarfile.SYMTYPE, "../../bin/env"), b""))
    return archive(members)


def configuration_layer() -> bytes:
    """Files for the shell and the name service, and a whiteout of a file of the first layer."""
    return archive(
        [
            (member("etc/.wh.motd"), b""),
            (member("etc/nsswitch.conf"), NSSWITCH.encode()),
            (member("etc/profile"), PROFILE.encode()),
        ]
    )


def as_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def descriptor(kind: str, blob: bytes) -> dict[str, object]:
    """OCI image-spec, descriptor.md."""
    return {
        "mediaType": f"application/vnd.oci.image.{kind}",
        "digest": f"sha256:{sha256(blob)}",
        "size": len(blob),
    }


def image(layers: list[bytes], steps: list[str]) -> tuple[str, bytes]:
    """The image's id and its archive. `steps` says what made each layer."""
    machine = platform.machine()
    config = as_json(
        {
            "created": CREATED,
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {"Cmd": ["sh"], "Env": [f"PATH={PATH}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}" for layer in layers]},
            "history": [{"created": CREATED, "created_by": step} for step in steps],
        }
    )
    manifest = as_json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", config),
            "layers": [descriptor("layer.v1.tar", layer) for layer in layers],
        }
    )
    names = {
        "io.containerd.image.name": "docker.io/library/busybox:latest",
        "org.opencontainers.image.ref.name": "latest",
    }
    index = {"schemaVersion": 2, "manifests": [descriptor("manifest.v1+json", manifest) | {"annotations": names}]}
    docker = {
        "Config": f"blobs/sha256/{sha256(config)}",
        "RepoTags": ["busybox:latest"],
        "Layers": [f"blobs/sha256/{sha256(layer)}" for layer in layers],
    }
    files = {f"blobs/sha256/{sha256(blob)}": blob for blob in (config, manifest, *layers)}
    files["index.json"] = as_json(index)
    files["manifest.json"] = as_json([docker])
    files["oci-layout"] = as_json({"imageLayoutVersion": "1.0.0"})
    members = [(member(name, tarfile.DIRTYPE, 0o755), b"") for name in ("blobs", "blobs/sha256")]
    members += [(member(name), files[name]) for name in sorted(files)]
    return f"sha256:{sha256(config)}", archive(members)


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print("usage: build.py OUTPUT [BUSYBOX]", file=sys.stderr)
        return 2
    output = sys.argv[1]
    busybox = sys.argv[2] if len(sys.argv) == 3 else "/bin/busybox"
    if not os.access(busybox, os.X_OK):
        print(f"build.py: {busybox}: no such program\nhint: install the Debian package busybox-static", file=sys.stderr)
        return 1
    name, content = image(
        [base_layer(), busybox_layer(busybox), configuration_layer()],
        ["base directories, users and groups", "busybox and its applets", "shell and name service configuration"],
    )
    with open(output, "wb") as file:
        file.write(content)
    print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
