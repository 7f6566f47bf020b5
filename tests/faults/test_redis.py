"""Faults of Redis itself."""

import contextlib
import pathlib
import signal
import struct
import subprocess
import tempfile
import time

import pytest

from rig import Fault, harness, try_fault


def cli(*commands):
    def run(rig):
        for command in commands:
            rig.redis.cli(*command.split())
    return run

def again_and_again(command, times=10, pause=0.1):
    def run(rig):
        for _ in range(times):
            command(rig)
            time.sleep(pause)
    return run

def with_loss(action):
    def run(rig):
        with rig.lost():
            action(rig)
    return run

def kill(rig):
    rig.redis.kill()

def start(rig):
    rig.redis.start()

def send(number):
    return lambda rig: rig.redis.process.send_signal(number)

def in_background(*words):
    """A redis-cli that runs until the fault is undone."""
    def run(rig):
        rig.command = harness.start(["redis-cli", "-p", rig.redis.port, *words], rig.stack.enter_context(
            open("/dev/null", "wb")))
        rig.stack.callback(harness.end, rig.command)
    return run

def end_of_command(rig):
    rig.command.wait(timeout=20)

def run_script(rig):
    in_background("EVAL", "while true do end", "0")(rig)
    harness.wait_until(lambda: "BUSY" in rig.redis.cli("PING", check=False), what="the script")

def kill_script(rig):
    rig.redis.cli("SCRIPT", "KILL")
    end_of_command(rig)

def change_password(old, new):
    def run(rig):
        owner = ["-a", old, "--no-auth-warning"] if old else []
        rig.redis.cli(*owner, "CONFIG", "SET", "requirepass", new)
        owner = ["-a", new, "--no-auth-warning"] if new else []
        rig.redis.cli(*owner, "CLIENT", "KILL", "TYPE", "normal")
    return run

# --- A disk that is full: a small one that is Redis's alone ---

ON_SMALL_DISK = ("unshare", "--mount", "sh", "-c",
                 'mount -t tmpfs -o size=1m small /mnt && exec "$@" --dir /mnt', "sh")


def fill_disk(rig):
    rig.filler = pathlib.Path(f"/proc/{rig.redis.process.pid}/root/mnt/filler")
    with contextlib.suppress(OSError), rig.filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def empty_disk(rig):
    rig.filler.unlink()


# --- A clock that steps ---

CLOCK = tempfile.TemporaryDirectory(prefix="clock-")
CLOCK_LIBRARY, CLOCK_FILE = (pathlib.Path(CLOCK.name) / name for name in ("clock.so", "moved"))
ON_OTHER_CLOCK = ("env", f"LD_PRELOAD={CLOCK_LIBRARY}", f"REDIS_CLOCK_FILE={CLOCK_FILE}")
HOUR_US = 3_600_000_000


def step(microseconds):
    """A step forward brings what its time brings, but a full bucket at most: no more than
    one that was lost."""
    def run(rig):
        with rig.lost() if microseconds > 0 else contextlib.nullcontext():
            move_clock(struct.unpack("q", CLOCK_FILE.read_bytes())[0] + microseconds)
    return run


def move_clock(microseconds):
    with CLOCK_FILE.open("r+b" if CLOCK_FILE.exists() else "wb") as file:
        file.write(struct.pack("q", microseconds))  # In one write, over what Redis has mapped.


@pytest.fixture(autouse=True)
def clock(fault):
    """Compiles it where a fault needs it."""
    if fault.wrapper == ON_OTHER_CLOCK:
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", CLOCK_LIBRARY,
                        pathlib.Path(__file__).parent / "clock.c"], check=True)
        move_clock(0)


# So slow a refill that what is lost with the data is not back before Redis is.
SLOW = {"interval_us": 200_000}

FAULTS = [
    Fault("Redis killed and restarted without persistence", with_loss(kill), start, 1, **SLOW),
    Fault("Redis killed and restarted with `appendonly yes` and `appendfsync always`", kill, start, 1, **SLOW,
          redis=("--appendonly", "yes", "--appendfsync", "always")),
    Fault("Redis frozen for 5 s (SIGSTOP, SIGCONT)", send(signal.SIGSTOP), send(signal.SIGCONT), 5, fast=True),
    Fault("`SCRIPT FLUSH`, ten times a second", again_and_again(cli("SCRIPT FLUSH")), fails=False),
    Fault("`FLUSHALL`, three times", again_and_again(with_loss(cli("FLUSHALL")), 3, 0.5), fails=False),
    Fault("`CLIENT KILL TYPE normal`, ten times a second",
          again_and_again(cli("CLIENT KILL TYPE normal")), fails=False),
    Fault("`CLIENT PAUSE … ALL` for 1.5 s", cli("CLIENT PAUSE 1500 ALL"), cli("PING")),
    Fault("`CLIENT PAUSE … WRITE` for 1.5 s", cli("CLIENT PAUSE 60000 WRITE"), cli("CLIENT UNPAUSE"), 1.5),
    Fault("`DEBUG SLEEP 1.5`", in_background("DEBUG", "SLEEP", "1.5"), end_of_command,
          redis=("--enable-debug-command", "yes")),
    Fault("an endless script for 1.5 s, then `SCRIPT KILL`",
          run_script, kill_script, 1.5,
          redis=("--busy-reply-threshold", "100")),
    Fault("Redis full: `maxmemory` reached with `noeviction`", cli("CONFIG SET maxmemory 1"),
          cli("CONFIG SET maxmemory 0"), 1),
    Fault("Redis's disk full, with `appendonly yes`", fill_disk, empty_disk, 2,
          redis=("--appendonly", "yes", "--aof-use-rdb-preamble", "no"), wrapper=ON_SMALL_DISK),
    Fault("Redis's clock steps an hour forward, then back", step(HOUR_US), step(-HOUR_US), 1,
          errors=(), fails=False, wrapper=ON_OTHER_CLOCK),
    Fault("Redis's clock steps an hour back, then forward", step(-HOUR_US), step(HOUR_US), 1,
          errors=(), fails=False, wrapper=ON_OTHER_CLOCK),
    Fault("Redis made a replica (`REPLICAOF`), then a master again", cli("REPLICAOF 127.0.0.1 1"),
          cli("REPLICAOF NO ONE"), 1),
    Fault("Redis's password changed, then changed back", change_password("", "other"),
          change_password("other", ""), 1),
    Fault("wrong password from the start, then the right one",
          change_password("", "other"), change_password("other", ""), 1, from_start=True),
]

@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault, tmp_path, record_property):
    if fault.wrapper == ON_SMALL_DISK and subprocess.run([*ON_SMALL_DISK[:4], "mount -t tmpfs small /mnt"],
                                                         check=False).returncode != 0:
        pytest.skip("only root may mount a disk for the test")
    record_property("row", try_fault(fault, tmp_path))
