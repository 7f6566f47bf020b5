"""The door for people, where it does not build."""

import os
import pathlib
import re
import shutil
import subprocess

DEV = pathlib.Path(__file__).resolve().parents[2] / "dev"


def dev(*arguments, path=os.environ["PATH"]) -> subprocess.CompletedProcess:
    return subprocess.run([DEV, *arguments], capture_output=True, text=True, env={"PATH": str(path)})


def test_alone_it_lists_every_door():
    doors = re.findall(r"^  ([a-z-]+)\)", DEV.read_text(), re.MULTILINE)
    done = dev()
    assert done.returncode == 0
    assert doors == re.findall(r"^\./dev (\S+) +\S", done.stdout, re.MULTILINE)
    assert {"run", "build", "test", "lint", "format", "bench"} <= set(doors)


def test_a_door_that_is_not_there_is_told():
    done = dev("tset")
    assert done.returncode == 2
    assert "tset" in done.stderr and "./dev test" in done.stdout


def test_an_option_that_is_not_there_is_told():
    done = dev("test", "--in", "trixie")
    assert done.returncode == 1
    assert "--in" in done.stderr and "--on" in done.stderr


def test_without_apt_it_lists_what_to_install(tmp_path):
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = dev("build", path=tmp_path)
    assert done.returncode == 1
    assert "please install" in done.stderr and "libhiredis-dev" in done.stderr
