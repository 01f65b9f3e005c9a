"""The engines that are compared: where each comes from, how it is started, how its command line begins.

Each has `name`, `version`, `command` (the beginning of its command line), `options` (what its `run` needs on this
host), and `close()`. What is missing or refuses this host raises Unavailable with a reason, which goes into the
table's notes.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
INSTALLED = pathlib.Path("/opt/pycontainer/bin")


class Unavailable(Exception):
    """The peer cannot take part; the text says why."""


def run(command: list[str], **keywords: object) -> str:
    """Run to the end and give the standard output. Raises Unavailable with the last line of the standard error."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, **keywords)  # type: ignore[call-overload]
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise Unavailable(f"{os.path.basename(command[0])} failed: {lines[-1].strip()[:200]}")
    return str(done.stdout)


class Pycontainer:
    """What install.sh has installed, and otherwise what `prepare` has."""

    name = "pycontainer"
    options: list[str] = []

    def __init__(self, directory: str) -> None:
        self.root = f"{directory}/pycontainer"
        os.environ.update(
            PYCONTAINER_ROOT=self.root,
            PYCONTAINER_STATE=f"/run/pycontainer-bench-{os.path.basename(directory)}",
            PYCONTAINER_BRIDGE="pycbench",
        )
        if (INSTALLED / "pycontainer").exists():
            programs, self.origin = INSTALLED, f"installed in {INSTALLED.parent}"
        else:
            programs, self.origin = pathlib.Path(f"{directory}/venv/bin"), "this checkout, installed as install.sh does"
        self.command = [str(programs / "pycontainer")]
        self.runtime = [str(programs / "pycontainer-runtime"), "--root", f"{directory}/pycontainer-runtime"]
        self.version = run([*self.command, "--version"]).split()[-1]

    def close(self) -> None:
        shutil.rmtree(os.environ["PYCONTAINER_STATE"], ignore_errors=True)


def prepare(directory: str) -> None:
    """Without an installation: a virtual environment in `directory` with launch scripts like those of install.sh."""
    if (INSTALLED / "pycontainer").exists():
        return
    prefix = pathlib.Path(directory) / "venv"
    copy = prefix.parent / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, copy)
        else:
            (copy / name).write_text("")
    shutil.copytree(REPOSITORY / "pycontainer", copy / "pycontainer", ignore=shutil.ignore_patterns("__pycache__"))
    run(["/usr/bin/python3", "-m", "venv", str(prefix)])
    run([str(prefix / "bin/python3"), "-m", "pip", "install", "-qq", "--use-pep517", str(copy)])
    site = next(prefix.glob("lib/python3*/site-packages"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    run([str(prefix / "bin/python3"), "-m", "compileall", "-q", str(site)], env=environment)
    for name, module in (("pycontainer", "pycontainer.cli.main"), ("pycontainer-runtime", "pycontainer.runtime.main")):
        script = prefix / "bin" / name
        script.write_text(
            f'#!{prefix}/bin/python3 -IS\nimport sys\n\nsys.path.append("{site}")\n\n'
            f"from {module} import main\n\nsys.exit(main())\n"
        )
        script.chmod(0o755)


class Docker:
    """A dockerd of our own, with its own socket and directories."""

    name = "docker"
    options: list[str] = []

    def __init__(self, directory: str) -> None:
        if not shutil.which("dockerd") or not shutil.which("docker"):
            raise Unavailable("docker is not installed")
        home = f"{directory}/docker"
        os.mkdir(home)
        socket = f"unix://{home}/docker.sock"
        self.command = ["docker", "-H", socket]
        with open(f"{home}/log", "w") as log:
            self.daemon = subprocess.Popen(
                ["dockerd", "--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "--pidfile", f"{home}/pid"]
                + ["-H", socket],
                stdout=log,
                stderr=log,
                # Because Ctrl-C is for this program, which needs the daemon to remove what it has made.
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.version = run([*self.command, "version", "--format", "{{.Server.Version}}"]).strip()
                return
            except Unavailable:
                if self.daemon.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    last = pathlib.Path(f"{home}/log").read_text().strip().splitlines()[-1:]
                    raise Unavailable(f"dockerd did not start: {''.join(last)[:200]}") from None
                time.sleep(0.2)

    def close(self) -> None:
        if self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            try:
                self.daemon.wait(30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()


class Podman:
    """podman with a store of its own; on a host with cgroup v1 with runc, because crun refuses it."""

    name = "podman"

    def __init__(self, directory: str) -> None:
        self.version = run(["podman", "--version"]).split()[-1]
        home = f"{directory}/podman"
        self.command = ["podman", "--root", f"{home}/root", "--runroot", f"{home}/run", "--cgroup-manager", "cgroupfs"]
        # What a container may have at most is what this process has: podman asks for more, and some hosts refuse.
        self.options = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
        if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            self.command += ["--runtime", "runc"]

    def close(self) -> None:
        subprocess.run([*self.command, "system", "reset", "--force"], capture_output=True)


Engine = Pycontainer | Docker | Podman
