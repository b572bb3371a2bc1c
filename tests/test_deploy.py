"""The files in examples/deploy work: they are run, or checked by the programs that read them."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Queue
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ports import answers, free_port
from waiting import LIMIT, wait_until
from webhook import Webhook, serving

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "examples" / "deploy"
BIN = Path(sys.executable).parent

#: The highest exposure that `systemd-analyze security` may find, in tenths.
EXPOSURE = 20

#: The oldest and the newest version of Kubernetes that the examples are checked for.
KUBERNETES = ("1.28", "1.33")


# systemd

UNITS = ["shop.service", "alarm-mw-follow.service", "alarm-mw-drill.service"]


@pytest.mark.parametrize("name", UNITS)
def test_units_are_sound_and_confined(name: str, tmp_path: Path) -> None:
    """Systemd understands every line of a unit, and what it may do is confined."""
    unit = tmp_path / name
    unit.write_text(re.sub(r"/srv/\w+/venv/bin/[\w-]+", "/bin/true", (DEPLOY / "systemd" / name).read_text()))
    for timer in (DEPLOY / "systemd").glob("*.timer"):
        (tmp_path / timer.name).write_text(timer.read_text())
    subprocess.run(["systemd-analyze", "verify", *map(str, tmp_path.glob(f"{unit.stem}.*"))], check=True, timeout=LIMIT)
    threshold = f"--threshold={EXPOSURE}"
    subprocess.run(["systemd-analyze", "security", "--offline=true", threshold, str(unit)], check=True, timeout=LIMIT)


@pytest.mark.parametrize("name", UNITS)
def test_units_call_commands_that_exist(name: str) -> None:
    """What a unit starts is a command of alarm-mw, with options that it has."""
    (line,) = [line for line in (DEPLOY / "systemd" / name).read_text().splitlines() if line.startswith("ExecStart=")]
    _, verb, *words = shlex.split(line.partition("=")[2])
    has_options(verb, words)


def has_options(verb: str, words: list[str]) -> None:
    help_text = subprocess.run([BIN / "alarm-mw", verb, "--help"], capture_output=True, text=True, check=True).stdout
    ours = words[: words.index("--")] if "--" in words else words
    for word in ours:
        assert not word.startswith("--") or word in help_text, f"{verb} has no option {word}"


# Kubernetes


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", ["wrapper.yaml", "sidecar.yaml", "fleet.yaml"])
def test_kubernetes_takes_the_manifests(name: str, version: str) -> None:
    """Each object has the schema that Kubernetes publishes, without a key that it does not know."""
    objects = list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))
    assert objects
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("name", ["wrapper.yaml", "sidecar.yaml", "fleet.yaml"])
def test_the_commands_of_the_manifests_exist(name: str) -> None:
    """Probes and sidecars call commands of alarm-mw with options that they have."""
    text = (DEPLOY / "kubernetes" / name).read_text()
    commands = [json.loads(found) for found in re.findall(r"command: (\[\"alarm-mw\".*\])", text)]
    assert commands
    for _, verb, *words in commands:
        has_options(verb, words)


@pytest.mark.parametrize("name", ["sidecar.yaml", "fleet.yaml"])
def test_the_configuration_of_the_sidecar_is_right(name: str, tmp_path: Path) -> None:
    """The configuration within the manifest passes `alarm-mw check`."""
    config, *_ = yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())
    for secret, text in (("hook", "https://hooks.example.org/alarms"), ("redis", "s3cret")):
        (tmp_path / secret).write_text(text)
        (tmp_path / secret).chmod(0o400)
    text = config["data"]["alarm-mw.toml"].replace("/run/secrets/alarms", str(tmp_path))
    (tmp_path / "alarm-mw.toml").write_text(text)
    words, environ = ["check", "--strict", str(tmp_path / "alarm-mw.toml")], {**os.environ, "HOSTNAME": "shop-7d4f"}
    subprocess.run([BIN / "alarm-mw", *words], check=True, timeout=LIMIT, env=environ)


# What is run


class Hook(Webhook):
    """A webhook."""

    def __init__(self) -> None:
        self.seen: Queue[dict[str, Any]] = Queue()
        super().__init__(lambda _, body: self.seen.put(json.loads(body)))


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Serve a webhook that takes everything."""
    server = Hook()
    with serving(server):
        yield server


@contextmanager
def running(words: list[str], stop: Callable[[subprocess.Popen[bytes]], None], **options: Any) -> Iterator[None]:
    """Run a program until the context ends; it has to stop by itself when it is asked to."""
    with subprocess.Popen(words, **options) as process:
        try:
            yield
        finally:
            stop(process)
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def terminate(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)


def raises_an_alarm(port: int, hook: Hook) -> None:
    """Ask the application for an alarm, and wait until it arrives."""
    wait_until(lambda: answers(port))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/terrible", timeout=LIMIT) as answer:
        assert answer.read() == b"ok\n"
    assert hook.seen.get(timeout=LIMIT)["alerts"][0]["labels"]["alertname"] == "terrible"


def application(folder: Path) -> None:
    """Put the application of the container there."""
    for name in ("app.py", "alarm-mw.toml"):
        (folder / name).write_text((DEPLOY / "container" / name).read_text())


def test_supervisord_runs_the_server(hook: Hook, tmp_path: Path) -> None:
    """Under supervisord the server raises alarms, and stops in time when supervisord does."""
    application(tmp_path)
    port = free_port()
    program = (DEPLOY / "supervisor" / "shop.conf").read_text()
    for name, place in (
        ("/srv/shop/venv/bin", str(BIN)),
        ("/etc/shop", str(tmp_path)),
        ("/var/lib/shop", str(tmp_path / "state")),
        ("/var/log/shop.log", str(tmp_path / "shop.log")),
        ("/srv/shop", str(tmp_path)),
        ("127.0.0.1:8000", f"127.0.0.1:{port}"),
    ):
        program = program.replace(name, place)
    head = f"[supervisord]\nnodaemon=true\nuser=root\npidfile={tmp_path}/pid\nlogfile={tmp_path}/log\n"
    (tmp_path / "supervisord.conf").write_text(head + program)
    words = [str(BIN / "supervisord"), "-c", str(tmp_path / "supervisord.conf")]
    with running(words, terminate, env={**os.environ, "ALARM_HOOK": hook.url}, stdout=subprocess.DEVNULL):
        raises_an_alarm(port, hook)
    assert "stopped: shop (exit status 0)" in (tmp_path / "log").read_text()


def test_the_procfile_runs_the_server(hook: Hook, tmp_path: Path) -> None:
    """The web process listens on $PORT and raises alarms; the worker's command has options that exist."""
    application(tmp_path)
    processes = dict(line.split(": ", 1) for line in (DEPLOY / "heroku" / "Procfile").read_text().splitlines())
    _, verb, *words = shlex.split(processes["worker"])
    has_options(verb, words)
    port = free_port()
    environ = {**os.environ, "PORT": str(port), "ALARM_HOOK": hook.url, "PATH": f"{BIN}:{os.environ['PATH']}"}
    environ["XDG_RUNTIME_DIR"] = environ["HOME"] = str(tmp_path)
    words = ["sh", "-c", f"exec {processes['web']}"]
    with running(words, terminate, cwd=tmp_path, env=environ):
        raises_an_alarm(port, hook)


def test_the_composition_builds_what_is_there() -> None:
    """compose.yaml names files that exist, mounts volumes that it declares, and stops later than alarm-mw does."""
    compose = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())
    shop = compose["services"]["shop"]
    assert (DEPLOY / "container" / shop["build"]["dockerfile"]).is_file()
    assert {volume.partition(":")[0] for volume in shop["volumes"]} == compose["volumes"].keys()
    assert int(shop["stop_grace_period"].removesuffix("s")) > 10


def test_the_replicas_of_a_fleet_share_a_redis(hook: Hook, tmp_path: Path) -> None:
    """With the users of the example, a server joins the fleet of its composition, and raises alarms."""
    compose = yaml.safe_load((DEPLOY / "fleet" / "compose.yaml").read_text())
    shop, redis = compose["services"]["shop"], compose["services"]["redis"]
    assert {*shop["environment"]} == {*re.findall(r"\$\{(\w+)", (DEPLOY / "fleet" / "alarm-mw.toml").read_text())} - {
        "HOSTNAME"
    }
    assert (DEPLOY / "fleet" / shop["build"]["context"] / shop["build"]["dockerfile"]).is_file()
    for volume in (*shop["volumes"], *redis["volumes"]):
        assert (DEPLOY / "fleet" / volume.partition(":")[0]).is_file()
    application(tmp_path)
    port, ours = free_port(), free_port()
    users = DEPLOY / "fleet" / "users.acl"
    command = [word.replace("/etc/redis/users.acl", str(users)) for word in redis["command"]]
    quiet = {"stdout": subprocess.DEVNULL, "cwd": tmp_path}
    environ = {
        **os.environ,
        "ALARM_HOOK": hook.url,
        "HOSTNAME": "shop-1",
        "REDIS": f"127.0.0.1:{port}",
        "REDIS_PASSWORD": shop["environment"]["REDIS_PASSWORD"],
        "XDG_STATE_HOME": str(tmp_path / "xdg"),
    }
    words = [str(BIN / "alarm-mw"), "run", "--config", str(DEPLOY / "fleet" / "alarm-mw.toml"), "--state-dir", "state"]
    server = ["--", str(BIN / "gunicorn"), f"--bind=127.0.0.1:{ours}", "app:app"]
    with (
        running([*command, "--port", str(port), "--bind", "127.0.0.1"], terminate, **quiet),
        running([*words, *server], terminate, cwd=tmp_path, env=environ),
    ):
        fleet = [str(BIN / "alarm-mw"), "fleet", "--state-dir", "state", "--json"]

        def joined() -> bool:
            done = subprocess.run(fleet, capture_output=True, cwd=tmp_path, check=False, timeout=LIMIT)
            return done.returncode == 0 and bool(json.loads(done.stdout)["members"])

        wait_until(joined)
        raises_an_alarm(ours, hook)


# The container


class Builder:
    """Buildah with a store of its own, and the programs of this machine in the place of the base image's."""

    def __init__(self, folder: Path) -> None:
        self._words = ["buildah", f"--root={folder / 'root'}", f"--runroot={folder / 'run'}", "--storage-driver=vfs"]
        prefix = str(Path(os.path.realpath(sys.executable)).parents[1])
        places = ["/usr", "/lib", "/bin", *([] if prefix == "/usr" else [prefix]), *map(str, Path("/").glob("lib64"))]
        self.mounts = [f"--volume={place}:{place}:ro" for place in places]

    def __call__(self, *words: str) -> str:
        """Run it; return what it printed."""
        done = subprocess.run([*self._words, *words], capture_output=True, text=True, timeout=20 * LIMIT, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip()

    def command(self, *words: str) -> list[str]:
        """Return the words that run it."""
        return [*self._words, *words]


@pytest.mark.slow
def test_the_container_builds_and_raises_alarms(hook: Hook, tmp_path: Path) -> None:
    """Built by its own recipe, it runs as nobody in particular, is healthy, raises alarms, and stops when asked to."""
    context = tmp_path / "context"
    (context / "wheels").mkdir(parents=True)
    application(context)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", context / "wheels", str(ROOT)], check=True)
    (wheel,) = (context / "wheels").iterdir()
    subprocess.run([*pip, "download", "--dest", context / "wheels", *constraints, str(wheel), "gunicorn"], check=True)
    (tmp_path / "pip.conf").write_text("[global]\nno-index = true\n")
    builder = Builder(tmp_path)
    base = builder("from", "scratch")
    builder("config", f"--env=PATH={Path(os.path.realpath(sys.executable)).parent}:/usr/bin:/bin", base)
    builder("commit", base, "base")
    port = free_port()
    builder(
        *("bud", "--isolation=chroot", "--build-arg=BASE=localhost/base", "--tag=shop", *builder.mounts),
        *(f"--volume={tmp_path}/pip.conf:/etc/pip.conf:ro", f"--file={DEPLOY}/container/Containerfile", str(context)),
    )
    config = json.loads(builder("inspect", "--type=image", "shop"))["OCIv1"]["config"]
    assert (config["User"], config["WorkingDir"]) == ("10001:10001", "/app")
    entry = [*config["Entrypoint"], *(word.replace("8000", str(port)) for word in config["Cmd"])]
    shop = builder("from", "localhost/shop")
    run = builder.command("run", "--isolation=chroot", *builder.mounts, f"--env=ALARM_HOOK={hook.url}", shop, "--")
    with subprocess.Popen([*run, *entry]) as process:
        try:
            raises_an_alarm(port, hook)
            first = first_process(process.pid)
            as_nobody = [
                "nsenter",
                f"--target={first}",
                "--mount",
                "--root",
                "--wd",
                "--setuid=10001",
                "--setgid=10001",
            ]
            health = subprocess.run(
                [*as_nobody, "env", "-i", "PATH=/venv/bin", *health_check()], capture_output=True, text=True, check=True
            )
            assert json.loads(health.stdout)["sources"]
            os.kill(first, signal.SIGTERM)
            assert process.wait(LIMIT) == 0
        finally:
            for left in [*descendants(process.pid), process.pid]:
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)


def health_check() -> list[str]:
    """Return the command of HEALTHCHECK, which the image format of OCI has no place for."""
    (line,) = re.findall(
        r"^HEALTHCHECK .* CMD (\[.*\])$", (DEPLOY / "container" / "Containerfile").read_text(), re.MULTILINE
    )
    found: list[str] = json.loads(line)
    return found


def first_process(pid: int) -> int:
    """Return the first process of the container that Buildah runs."""
    return next(child for child in descendants(pid) if b"supervisor/__main__.py" in command_line(child))


def command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes below one, whichever of its threads started them."""
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in thread.read_text().split():
                yield int(child)
                yield from descendants(int(child))


def test_the_configuration_of_the_container_is_right() -> None:
    """It passes `alarm-mw check`, without a warning."""
    config = DEPLOY / "container" / "alarm-mw.toml"
    assert tomllib.loads(config.read_text())["rules"]
    subprocess.run([BIN / "alarm-mw", "check", "--strict", str(config)], check=True, timeout=LIMIT)
