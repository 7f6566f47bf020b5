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


# --- Files that changed, for `./dev lint --changed` ---


class Repository:
    """A clone of a repository whose commits each add a file named like their number."""

    def __init__(self, root):
        self.origin, self.clone = root / "origin", root / "clone"
        self.origin.mkdir()
        self.git(self.origin, "init", "--quiet", "--initial-branch=main")

    def git(self, where, *arguments, days=0) -> str:
        date = f"{1_700_000_000 + 86_400 * days} +0000"
        more = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date, "HOME": where,
                "GIT_CONFIG_NOSYSTEM": "1"}
        return subprocess.run(
            ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-C", where, *arguments],
            check=True, capture_output=True, text=True, env=environment(**more)).stdout

    def commit(self, where, *names, days=0):
        for name in names:
            (where / name).write_text(name)
            self.git(where, "add", name)
            self.git(where, "commit", "--quiet", "-m", name, days=days)

    def changed(self, *clone_options) -> list:
        if not self.clone.exists():
            self.git(self.origin, "clone", "--quiet", *clone_options, self.origin.as_uri(), self.clone)
        (self.clone / "tools").mkdir(exist_ok=True)
        shutil.copy(ROOT / "tools/lib.sh", self.clone / "tools")
        (self.clone / ".git/info/exclude").write_text("tools\n")
        return subprocess.run(["bash", "-c", ". tools/lib.sh; changed_files"], cwd=self.clone, check=True,
                              capture_output=True, text=True, env=environment(HOME=self.clone)
                              ).stdout.split()


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def test_on_main_the_commits_of_the_last_day_changed(repository):
    repository.commit(repository.origin, "a", days=1)
    repository.commit(repository.origin, "b", "c", days=5)
    assert repository.changed() == ["c", "b"]


def test_on_main_at_most_twenty_commits_changed(repository):
    names = [f"{number:02}" for number in range(30)]
    repository.commit(repository.origin, *names)
    assert repository.changed() == names[:9:-1]


def test_the_first_commit_and_a_shallow_clone_changed_all(repository):
    repository.commit(repository.origin, "a", "b", days=1)
    assert sorted(repository.changed("--depth=1")) == ["a", "b"]


def test_a_branch_changed_what_main_does_not_have(repository):
    repository.commit(repository.origin, "a", "b")
    repository.changed()
    repository.git(repository.clone, "checkout", "--quiet", "-b", "branch")
    repository.commit(repository.clone, "c")
    repository.commit(repository.origin, "d")
    assert repository.changed() == ["c"]


def test_files_that_are_not_committed_changed(repository):
    repository.commit(repository.origin, "a", days=1)
    repository.commit(repository.origin, "b", days=5)
    repository.changed()
    (repository.clone / "a").write_text("other")
    (repository.clone / "new").write_text("new")
    assert repository.changed() == ["a", "new", "b"]


# --- `./dev check` ---


def check(root, *parts, **results) -> subprocess.CompletedProcess:
    """`./dev check` whose commands end with these statuses."""
    shutil.copy(DEV, root)
    shutil.copytree(ROOT / "tools", root / "tools")
    for command, status in results.items():
        (root / "tools" / command).write_text(f"#!/bin/sh\necho $0 ran\nexit {status}\n")
    return subprocess.run([root / "dev", "check", *parts], capture_output=True, text=True,
                          env=environment())


def test_check_goes_on_after_a_failure_and_fails(tmp_path):
    done = check(tmp_path, "lint", "fuzz", lint=3, fuzz=0)
    assert done.returncode == 1
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines == [["lint", "0:00", "failed:", "build/check/lint.log"], ["fuzz", "0:00", "passed"], [],
                     ["Part", "Time", "Result"], ["lint", "0:00", "failed"], ["fuzz", "0:00", "passed"]]
    assert "tools/lint ran" in (tmp_path / "build/check/lint.log").read_text()


def test_check_passes_when_its_parts_do(tmp_path):
    done = check(tmp_path, "lint", lint=0)
    assert done.returncode == 0, done.stderr


def test_check_rejects_an_unknown_part(tmp_path):
    done = check(tmp_path, "lnit")
    assert done.returncode == 1
    assert "lnit" in done.stderr and "lint" in done.stderr and done.stdout == ""


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
