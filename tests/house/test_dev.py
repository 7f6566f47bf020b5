"""./dev and its commands, without building."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEV = ROOT / "dev"


def environment(**more) -> dict:
    return {"PATH": os.environ["PATH"]} | {name: str(value) for name, value in more.items()}


def dev(*arguments, **more) -> subprocess.CompletedProcess:
    return subprocess.run([DEV, *arguments], capture_output=True, text=True,
                          env=environment(**more))


def test_alone_it_lists_every_command():
    commands = sorted(path.name for path in (ROOT / "tools").iterdir() if not path.suffix)
    done = dev()
    assert done.returncode == 0
    assert commands == re.findall(r"^\./dev (\S+) +\S", done.stdout, re.MULTILINE)
    assert {"run", "build", "test", "lint", "format", "bench"} <= set(commands)


@pytest.mark.parametrize("command", ["tset", "lib.sh", "../dev", "", "-h"])
def test_an_unknown_command_is_rejected(command):
    done = dev(command)
    assert done.returncode == 2
    assert f"no command {command}\n" in done.stderr and "./dev test" in done.stdout


def test_an_unknown_option_is_rejected():
    done = dev("test", "--in", "trixie")
    assert done.returncode == 1
    assert "--in" in done.stderr and "--on" in done.stderr


def test_a_missing_release_is_rejected():
    done = dev("test", "--on")
    assert done.returncode == 1
    assert "Debian release" in done.stderr


# --- On a system of files that the test lays out, with commands that only record ---


class System:
    """What DEV_SYSTEM and PATH make `./dev` see."""

    def __init__(self, root):
        self.root = root
        self.told = root / "told"
        self.policy = root / "usr/sbin/policy-rc.d"
        self.preset = root / "run/systemd/system-preset/00-ratelimiter.preset"
        (root / "etc/rc2.d").mkdir(parents=True)
        (root / "etc/rc2.d/S01ssh").symlink_to("../init.d/ssh")
        self.release("debian", "12")
        self.command("id", "echo 0")
        self.command("dpkg-query", "exit 1")
        self.command("update-rc.d", f'echo "$@" >> {self.told}')
        self.command("apt-get", f"""
            [ "$1" = update ] && exit
            cat {self.policy} {self.preset} > {self.told}
            ln -s ../init.d/redis-server {root}/etc/rc2.d/S01redis-server""")

    def command(self, name, script):
        path = self.root / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def release(self, name, version):
        (self.root / "etc/os-release").write_text(f'ID={name}\nVERSION_ID="{version}"\n')

    def environment(self, **more):
        return environment(DEV_SYSTEM=self.root, **more) | {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}"}

    def install(self, **options) -> subprocess.Popen:
        """A command that needs packages and then does nothing, since cmake does nothing."""
        self.command("cmake", "")
        # With signals as a terminal gives them: bash does not hear one ignored from its start.
        return subprocess.Popen(["env", "--default-signal", DEV, "build"], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, env=self.environment(),
                                **options)


@pytest.fixture
def system(tmp_path):
    return System(tmp_path)


def test_services_of_packages_are_neither_started_nor_enabled(system):
    process = system.install()
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert system.told.read_text().splitlines() == [
        "#!/bin/sh", "exit 101", "disable *", "redis-server disable"]
    assert not system.policy.exists() and not system.preset.exists()


def test_a_policy_of_the_machine_stays(system):
    system.policy.parent.mkdir(parents=True)
    system.policy.write_text("its own\n")
    process = system.install()
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert system.policy.read_text() == "its own\n"
    assert not system.preset.exists()


def test_an_install_that_fails_leaves_nothing_behind(system):
    system.command("apt-get", '[ "$1" = update ] || exit 100')
    process = system.install()
    output, _ = process.communicate()
    assert process.returncode == 100, output
    assert not system.policy.exists() and not system.preset.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_install_that_is_interrupted_leaves_nothing_behind(number, system):
    system.command("apt-get", f'[ "$1" = update ] && exit; touch {system.told}; exec sleep 60')
    process = system.install(start_new_session=True)
    while not system.told.exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    assert system.policy.exists() and system.preset.exists()
    os.killpg(process.pid, number)  # As a terminal does.
    output, _ = process.communicate(timeout=20)  # Until nobody holds its end.
    assert process.returncode != 0, output
    assert not system.policy.exists() and not system.preset.exists()


@pytest.mark.parametrize("name, version", [("debian", "11"), ("debian", ""), ("ubuntu", "22.04"),
                                           ("fedora", "41")])
def test_elsewhere_it_lists_what_to_install(name, version, system):
    system.release(name, version)
    process = system.install()
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "please install" in output and "libhiredis-dev" in output
    assert not system.told.exists()


@pytest.mark.parametrize("name, version", [("debian", "12"), ("debian", "13"), ("ubuntu", "24.04")])
def test_on_what_it_knows_it_installs(name, version, system):
    system.release(name, version)
    process = system.install()
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert system.told.exists()


# --- The store that `./dev run` chooses ---


@pytest.mark.parametrize("flags, settings, store", [
    ([], {}, "memory"),
    (["--port", "0"], {}, "memory"),
    ([], {"STORE": "redis"}, "redis"),
    ([], {"REDIS_URL": "redis://a"}, ""),
    (["--redis-url", "redis://a"], {}, ""),
    (["--port=0", "--redis-url=redis://a"], {}, ""),
    (["--store", "redis"], {}, ""),
    (["--store=redis"], {}, ""),
])
def test_run_is_in_memory_unless_told(flags, settings, store, system):
    system.command("dpkg-query", "echo install ok installed")
    system.command("cmake", "")
    shutil.copy(DEV, system.root)
    shutil.copytree(ROOT / "tools", system.root / "tools")
    daemon = system.root / "build/release/bin/ratelimiterd"
    daemon.parent.mkdir(parents=True)
    daemon.write_text('#!/bin/sh\necho "$STORE" "$@"\n')
    daemon.chmod(0o755)
    done = subprocess.run([system.root / "dev", "run", *flags], capture_output=True, text=True,
                          env=system.environment(**settings))
    assert done.stdout == " ".join([store, *flags]) + "\n", done.stderr
