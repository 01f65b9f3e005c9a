"""`features`: what this runtime implements, out of the tables by which it reads config.json.

Follows the OCI runtime specification, features.md and features-linux.md: it says what the program can do, whatever the
machine is that it is asked on.
"""

from __future__ import annotations

from pycontainer import json_text
from pycontainer.kernel import capability, namespace
from pycontainer.runtime import mounts, resources, spec
from pycontainer.runtime.state import OCI_VERSION

Json = dict[str, object]


def show() -> str:
    """What `features` prints: the features document (features.md), as JSON."""
    return f"{json_text.pretty(document())}\n"


def document() -> Json:
    """The features document as a value (features.md, features-linux.md)."""
    return {
        "ociVersionMin": spec.OLDEST_VERSION,
        "ociVersionMax": OCI_VERSION,
        "hooks": list(spec.HOOKS),
        "mountOptions": mounts.names(),
        "linux": {
            "namespaces": sorted(namespace.TYPES),
            "capabilities": capability.NAMES,
            "cgroup": {
                "v1": False,
                "v2": True,
                "systemd": False,
                "systemdUser": False,
                "rdma": "rdma" not in resources.REFUSED,
            },
            "seccomp": {"enabled": "seccomp" not in spec.REFUSED_OF_LINUX},
            "apparmor": {"enabled": "apparmorProfile" not in spec.REFUSED_OF_PROCESS},
            "selinux": {"enabled": "selinuxLabel" not in spec.REFUSED_OF_PROCESS},
            "intelRdt": {"enabled": "intelRdt" not in spec.REFUSED_OF_LINUX},
            # Of version 1.2, and said nevertheless, because engines look here before they ask for it.
            "mountExtensions": {"idmap": {"enabled": True}},
        },
    }
