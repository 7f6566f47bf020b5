"""Faults of Redis itself."""

import signal
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

FAULTS = [
    Fault("killed, and started again without persistence", with_loss(kill), start, 1),
    Fault("killed, and started again with `appendonly yes`", kill, start, 1,
          redis=("--appendonly", "yes")),
    Fault("stopped for 2 s (SIGSTOP, SIGCONT)", send(signal.SIGSTOP), send(signal.SIGCONT), 2),
    Fault("`SCRIPT FLUSH`, ten times a second", again_and_again(cli("SCRIPT FLUSH")), fails=False),
    Fault("`FLUSHALL`, three times", again_and_again(with_loss(cli("FLUSHALL")), 3, 0.5), fails=False),
    Fault("`CLIENT KILL TYPE normal`, ten times a second",
          again_and_again(cli("CLIENT KILL TYPE normal")), fails=False),
    Fault("`CLIENT PAUSE … ALL` for 1.5 s", cli("CLIENT PAUSE 1500 ALL"), cli("PING")),
    Fault("`CLIENT PAUSE … WRITE` for 1.5 s", cli("CLIENT PAUSE 60000 WRITE"), cli("CLIENT UNPAUSE"), 1.5),
    Fault("`DEBUG SLEEP 1.5`", in_background("DEBUG", "SLEEP", "1.5"), end_of_command,
          redis=("--enable-debug-command", "yes")),
    Fault("somebody's script that does not end, for 1.5 s, then `SCRIPT KILL`",
          in_background("EVAL", "while true do end", "0"), kill_script, 1.5,
          redis=("--busy-reply-threshold", "100")),
    Fault("full: `maxmemory` reached with `noeviction`", cli("CONFIG SET maxmemory 1"),
          cli("CONFIG SET maxmemory 0"), 1),
    Fault("made a replica (`REPLICAOF`), then a master again", cli("REPLICAOF 127.0.0.1 1"),
          cli("REPLICAOF NO ONE"), 1),
    Fault("its password changed, then changed back", change_password("", "other"),
          change_password("other", ""), 1),
    Fault("a wrong password from the start, then the right one",
          change_password("", "other"), change_password("other", ""), 1, from_start=True),
]

@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault, tmp_path, record_property):
    record_property("row", try_fault(fault, tmp_path))
