"""The Debian package: made of the programs that were built, looked at by lintian, and
installed, run as its unit says, and purged, on a copy of this machine."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

import roots
from roots import harness

UNIT = "/usr/lib/systemd/system/ratelimiterd.service"
SOURCE = harness.ROOT / "deploy/systemd/ratelimiterd.service"
ENVIRONMENT = "/etc/ratelimiter/ratelimiterd.env"
LIMITS = "/etc/ratelimiter/limits.yaml"
# Some user that nobody is, as DynamicUser= has it.
USER = 64321


def needs(*tools):
    return pytest.mark.skipif(not all(map(shutil.which, tools)), reason=f"needs {' and '.join(tools)}")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    for tool in ("cpack", "dpkg-deb", "dpkg-shlibdeps", "help2man", "file"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool}")
    directory = tmp_path_factory.mktemp("package")
    harness.output_of("cpack", "--config", harness.BUILD / "CPackConfig.cmake", "-B", directory)
    (made,) = directory.glob("*.deb")
    return made


@pytest.fixture
def machine(package, tmp_path):
    """A copy of this machine without the package, which lies there as /ratelimiter.deb."""
    if subprocess.run(["dpkg", "--status", "ratelimiter"], capture_output=True).returncode == 0:
        pytest.skip("the package is installed on this machine")
    with roots.root(tmp_path, roots.OVERLAY) as root:
        shutil.copy(package, root.path("ratelimiter.deb"))
        # Or each change of the package has the index of all manuals made anew.
        root.path("var/lib/man-db/auto-update").unlink(missing_ok=True)
        yield root


def unit() -> dict:
    """The unit's settings; of one given twice, both."""
    settings = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", SOURCE.read_text(), re.MULTILINE):
        settings[name] = f"{settings[name]} {value}" if name in settings else value
    return settings


def seconds(text) -> int:
    return int(re.fullmatch(r"(\d+)s", text)[1])


def environment(root) -> dict:
    """What EnvironmentFile= gives."""
    lines = root.path(ENVIRONMENT).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


class Systemd:
    """The socket at which systemd would listen."""

    def __init__(self):
        self.address = f"@ratelimiter-test-{os.getpid()}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.address[1:])
        self.socket.settimeout(20)

    def next(self, word) -> dict:
        """The next message that says `word`=1."""
        while True:
            said = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())
            if said.get(word) == "1":
                return said


@contextlib.contextmanager
def service(root, systemd, **settings):
    """The daemon as the unit starts it."""
    program, *command = root.command(*shlex.split(unit()["ExecStart"]), user=USER)
    with harness.daemon(*command, program=program, NOTIFY_SOCKET=systemd.address,
                        **environment(root), **settings) as daemon:
        yield daemon


# --- The package ---


@needs("lintian")
def test_lintian_finds_nothing(package):
    told = harness.output_of("lintian", "--fail-on", "error,warning", package)
    assert told == ""
    # What only informs it does not tell by itself.
    hardening = ",".join(f"hardening-no-{what}" for what in ("bindnow", "fortify-functions", "pie", "relro"))
    told = harness.output_of("lintian", "--display-info", "--fail-on", "info", "--tags", hardening, package)
    assert told == ""


def test_it_depends_on_what_it_calls_and_asks_before_it_replaces_settings(package):
    depends = harness.output_of("dpkg-deb", "--field", package, "Depends")
    for library in ("libgrpc++", "libprotobuf", "libhiredis", "libprometheus-cpp-pull", "libsystemd0"):
        assert re.search(rf"(^|, ){re.escape(library)}", depends), depends
    conffiles = harness.output_of("dpkg-deb", "--info", package, "conffiles").splitlines()
    assert sorted(conffiles) == [LIMITS, ENVIRONMENT]
    version = harness.output_of("dpkg-deb", "--field", package, "Version").strip()
    assert harness.output_of(harness.DAEMON, "--version") == f"ratelimiterd {version.split('-')[0]}\n"
    changelog = (harness.ROOT / "deploy/debian/changelog").read_text()
    assert changelog.startswith(f"ratelimiter ({version}) ")


def test_the_manual_has_all_that_help_has(package, tmp_path):
    harness.output_of("dpkg-deb", "--extract", package, tmp_path)
    for program in (harness.DAEMON, harness.RLCTL):
        page = harness.output_of("zcat", tmp_path / f"usr/share/man/man1/{program.name}.1.gz")
        page = re.sub(r"\\f.|\\,|\\/", "", page).replace("\\-", "-")
        for flag in re.findall(r"^  (--[a-z-]+)", harness.output_of(program, "--help"), re.MULTILINE):
            assert flag in page
    for command in ("check", "limits validate", "completion bash"):
        assert f"\n.SS {command}\n" in page
    completion = tmp_path / "usr/share/bash-completion/completions/rlctl"
    assert completion.read_text() == harness.output_of(harness.RLCTL, "completion", "bash")


# --- The unit ---


def test_the_unit_does_not_bound_threads():
    assert unit()["TasksMax"] == unit()["LimitNPROC"] == "infinity"


def test_the_unit_leaves_time_to_drain():
    drain = seconds(harness.settings_in_help()["DRAIN_TIME"].default)
    grace = 5  # What calls in flight get at least.
    assert seconds(unit()["TimeoutStopSec"]) > drain + grace


def test_it_is_started_again_for_ever_but_with_settings_that_are_not_accepted():
    assert (unit()["Restart"], unit()["StartLimitIntervalSec"]) == ("on-failure", "0")
    assert unit()["RestartPreventExitStatus"] == str(harness.run_to_end(PORT="x").returncode)


@needs("systemd-analyze")
def test_systemd_takes_the_unit_and_finds_it_safe(machine):
    machine.output_of("dpkg-deb", "--extract", "/ratelimiter.deb", "/")
    done = machine.run("systemd-analyze", "verify", "--man=no", UNIT)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    # 1.3, on a scale to 10, by systemd 252.
    machine.output_of("systemd-analyze", "security", "--offline=true", "--threshold=15", UNIT)


def allowed_system_calls() -> set:
    """What SystemCallFilter= lets through."""
    sets, name = {}, None
    for line in harness.output_of("systemd-analyze", "syscall-filter").splitlines():
        if line.startswith("@"):
            name = line.split()[0]
            sets[name] = set()
        elif name and line.startswith("    ") and not line.strip().startswith("#"):
            sets[name].add(line.strip())

    def calls(name) -> set:
        return set().union(*map(calls, sets[name])) if name in sets else {name}

    allow, deny = unit()["SystemCallFilter"].split("~")
    return (set().union(*map(calls, allow.split())) - set().union(*map(calls, deny.split())))


@needs("strace", "systemd-analyze")
def test_the_unit_allows_all_that_the_daemon_asks_of_the_kernel(tmp_path):
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine allows no tracing")
    trace, limits = tmp_path / "trace", tmp_path / "limits.yaml"
    limits.write_text("limits: [{name: a, capacity: 9, refill: 1 per 1s}]\n")
    with harness.redis_server() as redis, harness.daemon(
            "-D", "-f", "-qq", "-o", trace, harness.DAEMON, program="strace", LIMITS_FILE=limits,
            REDIS_URL=f"redis://localhost:{redis.port}", ADMIN_PORT=0) as daemon:
        assert daemon.allow("user")["allowed"]
        assert "rate_limiter_requests_total" in daemon.metrics()
        with urllib.request.urlopen(f"http://127.0.0.1:{daemon.admin_port}/", timeout=20) as page:
            assert page.status == 200
        daemon.process.send_signal(signal.SIGHUP)
        harness.wait_until(lambda: daemon.total("rate_limiter_config_reloads_total", result="success") == 1,
                           what="the reload")
        assert daemon.terminate() == 0
    traced = trace.read_text()
    asked = set(re.findall(r"^\d+ +(\w+)\(", traced, re.MULTILINE))
    assert {"execve", "accept4", "sendmsg", "exit_group"} <= asked
    assert asked - allowed_system_calls() == set()
    families = set(re.findall(r"socket\((AF_\w+)", traced))
    assert "AF_INET" in families and families <= set(unit()["RestrictAddressFamilies"].split())
    # MemoryDenyWriteExecute=
    assert not re.search(r"PROT_WRITE\|PROT_EXEC|mprotect\([^)]*PROT_EXEC", traced)


# --- Installed, run, purged ---


def test_installed_it_runs_as_the_unit_says_and_purged_it_is_gone(machine):
    root = machine
    before = root.written()
    root.output_of("dpkg", "--install", "/ratelimiter.deb")
    links = {path for path in root.written() if path.endswith("wants/ratelimiterd.service")}
    assert links == set(), "nobody has enabled it"
    # As an administrator does.
    root.output_of("systemctl", "enable", "ratelimiterd")
    assert root.path(ENVIRONMENT).stat().st_mode & 0o777 == 0o600
    with harness.redis_server() as redis:
        root.path(ENVIRONMENT).write_text(f"# Ours\nREDIS_URL={redis.url}\nLIMITS_FILE={LIMITS}\n")
        systemd = Systemd()
        with service(root, systemd, WATCHDOG_USEC=400_000) as daemon:
            assert systemd.next("READY")["STATUS"] == "Serving; limits: 1"
            assert daemon.allow("user")["limit_name"] == "default"
            asked = root.run("rlctl", "healthcheck", "--timeout", "20s", "--port", daemon.port, user=USER)
            assert asked.returncode == 0, asked.stderr
            for _ in range(3):
                systemd.next("WATCHDOG")
            tells_when_redis_is_away(systemd, redis)
            reloads_and_tells(root, systemd, daemon)
            daemon.process.send_signal(signal.SIGTERM)
            told = systemd.next("STOPPING")
            assert told["STATUS"] == "Draining for 0s"
            assert int(told["EXTEND_TIMEOUT_USEC"]) > 5_000_000  # What calls in flight get.
            assert daemon.process.wait(timeout=20) == 0
    root.output_of("dpkg", "--purge", "ratelimiter")
    left = {path for path in root.written() - before
            if not path.startswith(("var/lib/dpkg/", "var/cache/man/", "var/log/"))}
    assert left == set() and not root.path("etc/ratelimiter").exists()
    assert "ratelimiter" not in root.path("var/lib/dpkg/status").read_text()


def test_an_upgrade_keeps_settings_and_restarts_what_runs(machine):
    root = machine
    # A machine on which systemd runs, and what it is asked to do.
    root.path("run/systemd/system").mkdir(parents=True, exist_ok=True)
    for program in ("systemctl", "deb-systemd-invoke"):
        path = root.path(f"usr/bin/{program}")
        path.unlink()
        path.write_text(f'#!/bin/sh\necho "{program} $*" >>/asked\n')
        path.chmod(0o755)

    def asked() -> str:
        """Since the last time."""
        told = root.path("asked").read_text()
        root.path("asked").unlink()
        return told

    root.output_of("dpkg", "--install", "/ratelimiter.deb")
    assert asked() == "systemctl --system daemon-reload\n"
    kept = {ENVIRONMENT: "REDIS_URL=redis://elsewhere:6379\n", LIMITS: "limits: []\n"}
    for name, text in kept.items():
        root.path(name).write_text(text)
    root.output_of("dpkg-deb", "--raw-extract", "/ratelimiter.deb", "/newer")
    control = root.path("newer/DEBIAN/control")
    control.write_text(re.sub(r"^(Version: .*)$", r"\1.1", control.read_text(), flags=re.MULTILINE))
    # Another default, of which dpkg would ask.
    with root.path(f"newer{LIMITS}").open("a") as limits:
        limits.write("# As it comes now.\n")
    root.output_of("dpkg-deb", "--build", "/newer", "/newer.deb")
    root.output_of("dpkg", "--force-confold", "--install", "/newer.deb")
    assert asked() == ("systemctl --system daemon-reload\n"
                       "deb-systemd-invoke try-restart ratelimiterd.service\n")
    assert {name: root.path(name).read_text() for name in kept} == kept
    root.output_of("dpkg", "--purge", "ratelimiter")
    assert asked() == ("deb-systemd-invoke stop ratelimiterd.service\n"
                       "systemctl --system daemon-reload\n")
    assert not root.path("etc/ratelimiter").exists()


def tells_when_redis_is_away(systemd, redis):
    redis.kill()
    harness.wait_until(lambda: "Not serving: " in systemd.next("WATCHDOG")["STATUS"], what="its status")
    redis.start()
    harness.wait_until(lambda: systemd.next("WATCHDOG")["STATUS"].startswith("Serving; "),
                       what="its status")


def reloads_and_tells(root, systemd, daemon):
    """What ExecReload= does, with a good file and a bad one."""
    good = "limits: [{name: a, capacity: 1, refill: 1 per 1s}, {name: b, capacity: 1, refill: 1 per 1s}]"
    for text, status in ((good, "Serving; limits: 2"),
                         ("limits: nonsense", "Serving; limits: 2 (last reload rejected, previous limits active)")):
        root.path(LIMITS).write_text(text + "\n")
        begun = time.monotonic()
        root.output_of(*unit()["ExecReload"].replace("$MAINPID", str(daemon.process.pid)).split())
        told = int(systemd.next("RELOADING")["MONOTONIC_USEC"])
        assert begun * 1e6 <= told <= time.monotonic() * 1e6
        assert systemd.next("READY")["STATUS"] == status
