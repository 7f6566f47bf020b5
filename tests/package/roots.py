"""Another root than the machine's, for a package or an image to be tried in: its mounts
are in a namespace that ends with the `with`, and nothing of the machine is changed."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import harness

# The machine as it is, over which all that is written comes to lie in the memory.
OVERLAY = """
    mount -t tmpfs tmpfs "$1"
    mkdir "$1/written" "$1/work" "$1/root"
    mount -t overlay -o "lowerdir=/,upperdir=$1/written,workdir=$1/work" overlay "$1/root"
    mount -t proc proc "$1/root/proc"
    mount --bind /dev "$1/root/dev"
"""
# A folder, nothing of which can be written to.
READ_ONLY = """
    mkdir "$1/root"
    mount --bind "$2" "$1/root"
    mount -o remount,bind,ro "$1/root"
    mount -t proc proc "$1/root/proc"
    mount --bind /dev "$1/root/dev"
"""


class Root:
    def __init__(self, directory, holder):
        self.directory = directory
        self.holder = holder

    def command(self, *words, user=0) -> list:
        """What runs `words` there, as a user without any name or right."""
        enter = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "chroot",
                 self.directory / "root"]
        become = [] if user == 0 else [
            "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs",
            "--bounding-set=-all", "--inh-caps=-all", "--pdeathsig=KILL"]
        return [str(word) for word in (*enter, *become, *words)]

    def run(self, *words, user=0, env=None) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*words, user=user), capture_output=True, text=True,
                              env=env, timeout=120)

    def output_of(self, *words, **options) -> str:
        done = self.run(*words, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def path(self, name) -> pathlib.Path:
        return self._inside("root") / str(name).lstrip("/")

    def written(self) -> set:
        """The files that an overlay does not have from the machine."""
        top = self._inside("written")
        return {str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir()}

    def _inside(self, name):
        # What the holder of the mounts sees, without being in its namespace.
        return pathlib.Path(f"/proc/{self.holder.pid}/root{self.directory}/{name}")


@contextlib.contextmanager
def root(directory, mounts, *arguments):
    """`mounts` is one of the scripts above; skips where the machine allows no mounts, but not
    where an image was built to be tried."""
    skip = pytest.fail if "RATELIMITER_IMAGE" in os.environ else pytest.skip
    if os.geteuid() != 0:
        skip("needs root, for mounts and another root")
    missing = [tool for tool in ("unshare", "nsenter", "chroot", "setpriv") if not shutil.which(tool)]
    if missing:
        skip(f"needs {' and '.join(missing)}")
    told = directory / "told"
    script = f"{mounts}\necho mounted\nexec sleep infinity"
    with open(told, "w") as log:
        holder = harness.start(["unshare", "--mount", "sh", "-ec", script, "sh", directory, *arguments],
                               log)
    try:
        harness.wait_until(lambda: holder.poll() is not None or told.read_text() == "mounted\n",
                           what="the mounts")
        if holder.poll() is not None:
            skip(f"this machine allows no such mounts: {told.read_text()}")
        yield Root(directory, holder)
    finally:
        harness.end(holder)
