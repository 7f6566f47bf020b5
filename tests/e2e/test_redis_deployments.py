"""Where Redis is: behind a Unix socket, TLS, sentinels, with its password in a file."""

import collections
import contextlib
import itertools
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time

import grpc
import pytest

import harness

SHORT = {"REDIS_TIMEOUT": "1s"}
SLOW_REFILL = {"REFILL_INTERVAL": "30d"}


def wait_until_serving(daemon, timeout=10.0):
    harness.wait_until(lambda: daemon.health() == "SERVING", timeout, what="SERVING")


def allowed(daemon, user="user", **fields):
    """Whether a call is allowed; None: it got UNAVAILABLE."""
    try:
        return daemon.allow(user, **fields).get("allowed", False)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        return None


def runs(redis, command) -> int:
    """How often a server ran it for clients of its own."""
    found = re.search(rf"^cmdstat_{command}:calls=(\d+)", redis.cli("INFO", "commandstats"),
                      re.MULTILINE)
    return int(found[1]) if found else 0


# --- A Unix socket ---


def test_through_a_unix_socket(tmp_path):
    path = tmp_path / "redis.sock"
    with harness.redis_server("--unixsocket", str(path)) as redis, harness.daemon(
            REDIS_URL=f"unix://{path}?db=2", LOG_FORMAT="text", **SLOW_REFILL, **SHORT) as daemon:
        assert f", store redis at {path} database 2, " in daemon.start_line
        assert daemon.allow("user")["remaining"] == 4
        assert redis.cli("-n", "2", "HGET", "rl:1:default:{user}", "tokens") == "4"
        redis.kill()
        path.unlink(missing_ok=True)
        error = harness.error_of(daemon.allow, "user")
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert re.search(f"Redis at {path} is not available: (No such file|Server closed)",
                         error.details())
        redis.start()
        wait_until_serving(daemon)
        assert daemon.allow("user")["remaining"] == 4
        assert daemon.terminate() == 0


def test_a_user_on_a_unix_socket(tmp_path):
    path = tmp_path / "redis.sock"
    with harness.redis_server("--unixsocket", str(path)) as redis:
        redis.cli("ACL", "SETUSER", "me", "on", ">p@ss/word", "~*", "+@all")
        with harness.daemon(REDIS_URL=f"unix://me:p@ss/word@{path}") as daemon:
            wait_until_serving(daemon)
            assert "user=me" in redis.cli("CLIENT", "LIST")


def test_a_path_too_long_is_refused_at_start():
    done = harness.run_to_end(REDIS_URL="unix:///" + "x" * 107)
    assert (done.returncode, done.stdout) == (78, "")
    assert "REDIS_URL" in done.stderr and "107 bytes" in done.stderr


def test_a_database_of_a_cluster_is_refused_at_start():
    done = harness.run_to_end(REDIS_URL="redis-cluster://a,b/1")
    assert (done.returncode, done.stdout) == (78, "")
    assert "a Redis Cluster has only database 0" in done.stderr


# --- TLS ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return harness.Certificates(tmp_path_factory.mktemp("certificates")).folder


@pytest.fixture
def tls(certificates):
    """A server with TLS, on `tls_port`, that asks for certificates."""
    port = harness.free_port()
    with harness.redis_server(
            "--tls-port", str(port), "--tls-ca-cert-file", str(certificates / "ca.crt"),
            "--tls-cert-file", str(certificates / "localhost.crt"),
            "--tls-key-file", str(certificates / "localhost.key")) as redis:
        redis.tls_port = port
        yield redis


def as_client(certificates) -> dict:
    return {"REDIS_TLS_CA": certificates / "ca.crt", "REDIS_TLS_CERT": certificates / "client.crt",
            "REDIS_TLS_KEY": certificates / "client.key"}


def test_over_tls(tls, certificates):
    user = ("ACL", "SETUSER", "me", "on", ">p@ss", "~*", "+@all")
    tls.cli(*user)
    with harness.daemon(REDIS_URL=f"rediss://me:p@ss@localhost:{tls.tls_port}/2", LOG_FORMAT="text",
                        LOG_LEVEL="debug", **as_client(certificates), **SLOW_REFILL) as daemon:
        assert f", store redis at localhost:{tls.tls_port}/2 over TLS, " in daemon.start_line
        wait_until_serving(daemon)
        answers = [daemon.allow("user").get("allowed", False) for _ in range(6)]
        assert answers == [True] * 5 + [False]
        assert tls.cli("-n", "2", "HGET", "rl:1:default:{user}", "tokens") == "0"
        (client,) = [line for line in tls.cli("CLIENT", "LIST").split("\n") if "user=me" in line]
        assert f":{tls.tls_port} " in client
        # Each closed connection is replaced before anything is sent on it.
        for number in range(20):
            tls.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert daemon.allow(f"user-{number}")["allowed"]
        tls.kill()
        error = harness.error_of(daemon.allow, "other")
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        tls.start()
        tls.cli(*user)
        harness.wait_until(lambda: allowed(daemon, "user"), what="a call that is allowed")
        assert daemon.terminate() == 0
        key = (certificates / "client.key").read_text(encoding="ascii").split("\n")[1]
        assert not any(secret in daemon.log_text() for secret in ("p@ss", key))


@pytest.mark.parametrize("host, settings, says", [
    ("localhost", {"REDIS_TLS_CERT": "", "REDIS_TLS_KEY": ""}, "REDIS_TLS_CERT and REDIS_TLS_KEY"),
    ("localhost", {"REDIS_TLS_CA": ""}, "its CA is not trusted; REDIS_TLS_CA"),
    ("127.0.0.2", {}, "it is for another name; REDIS_TLS_SERVER_NAME"),
    ("localhost", {"REDIS_TLS_SERVER_NAME": "elsewhere.test"}, "it is for another name"),
], ids=["no certificate", "unknown CA", "another host", "another name"])
def test_what_tls_lacks_is_told_with_the_setting(host, settings, says, tls, certificates):
    if host == "127.0.0.2":
        tls.cli("CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2")
    with harness.daemon(REDIS_URL=f"rediss://{host}:{tls.tls_port}",
                        **as_client(certificates) | settings) as daemon:
        error = harness.error_of(daemon.allow, "user")
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert f"Redis at {host}:{tls.tls_port} is not available: " in error.details()
        assert says in error.details()
        assert daemon.terminate() == 0


def test_one_side_without_tls_is_told(tls, certificates):
    with harness.daemon(REDIS_URL=f"redis://localhost:{tls.tls_port}", **SHORT) as daemon:
        assert "must begin with rediss://" in harness.error_of(daemon.allow, "user").details()
    with harness.daemon(REDIS_URL=f"rediss://localhost:{tls.port}", **as_client(certificates),
                        **SHORT) as daemon:
        assert "REDIS_URL begins with redis://" in harness.error_of(daemon.allow, "user").details()


def test_a_certificate_of_ours_that_is_renewed(tls, certificates, tmp_path):
    ours = {"REDIS_TLS_CERT": tmp_path / "our.crt", "REDIS_TLS_KEY": tmp_path / "our.key"}

    def become(name):
        for file in ours.values():
            shutil.copy(certificates / f"{name}{file.suffix}", file)

    become("client")
    with harness.daemon(REDIS_URL=f"rediss://localhost:{tls.tls_port}",
                        **as_client(certificates) | ours, **SHORT) as daemon:
        wait_until_serving(daemon)
        become("expired")
        assert daemon.allow("user")["allowed"]  # What is connected stays so.
        tls.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        error = harness.error_of(daemon.allow, "user")
        assert "the server refuses the certificate of REDIS_TLS_CERT" in error.details()
        become("client")
        harness.wait_until(lambda: allowed(daemon), what="its return")


@pytest.mark.parametrize("name, sent", [("", "localhost"), ("cache.test", "cache.test"),
                                        ("127.0.0.1", None)])
def test_the_server_is_told_the_name(name, sent, certificates):
    told = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "localhost.crt", certificates / "localhost.key")
    context.sni_callback = lambda _, server_name, __: told.append(server_name)

    def speak(connection):
        with contextlib.suppress(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    with harness.fake_server(speak) as port, harness.daemon(
            REDIS_URL=f"rediss://localhost:{port}", REDIS_TLS_CA=certificates / "ca.crt",
            REDIS_TLS_SERVER_NAME=name):
        harness.wait_until(lambda: told, what="a handshake")
        assert set(told) == {sent}


def test_what_cannot_be_used_for_tls_is_told_at_start(certificates, tmp_path):
    files = as_client(certificates)
    for settings, says in (
            ({"REDIS_TLS_CA": tmp_path / "no"}, f"REDIS_TLS_CA: {tmp_path / 'no'}: No such file"),
            ({"REDIS_TLS_CERT": files["REDIS_TLS_KEY"]}, "REDIS_TLS_CERT: "),
            ({"REDIS_TLS_KEY": certificates / "localhost.key"}, "key values mismatch; accepted: "),
            ({"REDIS_TLS_KEY": ""}, "REDIS_TLS_CERT, REDIS_TLS_KEY: one is set without the other"),
            ({"REDIS_URL": "redis://localhost"}, "REDIS_TLS_CA: is set, but REDIS_URL is without")):
        done = harness.run_to_end(**{"REDIS_URL": "rediss://localhost"} | files | settings)
        assert (done.returncode, done.stdout) == (78, "")
        assert says in done.stderr and "accepted: " in done.stderr


# --- The password in a file ---

OLD, NEW = "0ldS3cret", "n3wS3cret"


def as_owner(redis, password, *command):
    return redis.cli("--no-auth-warning", "-a", password, *command)


def test_a_password_that_is_rotated(tmp_path):
    file = tmp_path / "password"
    file.write_text(OLD + "\n")
    said = []
    with harness.redis_server("--requirepass", OLD) as redis, harness.daemon(
            REDIS_URL=redis.url, REDIS_PASSWORD_FILE=file, LOG_LEVEL="debug", **SLOW_REFILL,
            **SHORT) as daemon:
        assert daemon.allow("user")["remaining"] == 4
        # What is connected stays so, whatever the password is by now.
        as_owner(redis, OLD, "CONFIG", "SET", "requirepass", NEW)
        assert daemon.allow("user")["remaining"] == 3
        file.unlink()
        as_owner(redis, NEW, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        said.append(harness.error_of(daemon.allow, "user").details())
        assert f"cannot read {file}: No such file or directory (REDIS_PASSWORD_FILE)" in said[-1]
        file.write_text(OLD)

        def says_wrong_password():
            said.append(harness.error_of(daemon.allow, "user").details())
            return "WRONGPASS" in said[-1]

        harness.wait_until(says_wrong_password, what="WRONGPASS")
        file.write_text(NEW)
        harness.wait_until(lambda: allowed(daemon, cost=0), what="its return")
        assert daemon.allow("user")["remaining"] == 2
        said += [daemon.log_text(), daemon.metrics()]
        assert daemon.terminate() == 0
    assert not any(secret in text for secret in (OLD, NEW) for text in said)


def rights() -> list:
    """What docs/operate/failures.md says that a user needs."""
    page = (harness.ROOT / "docs" / "operate" / "failures.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"^`(~rl:.+)`\.$", page, re.MULTILINE)
    return found.split()


def test_each_right_that_is_missing_is_told_and_takes_nothing():
    with harness.redis_server() as redis, contextlib.ExitStack() as stack:
        daemons = {}
        for number, missing in enumerate(rights()):
            user = f"user-{number}"
            redis.cli("ACL", "SETUSER", user, "on", f">{OLD}",
                      *(right for right in rights() if right != missing))
            daemons[missing] = user, stack.enter_context(harness.daemon(
                REDIS_URL=f"redis://{user}:{OLD}@127.0.0.1:{redis.port}/1", **SHORT))
        for missing, (user, daemon) in daemons.items():
            error = harness.error_of(daemon.allow, "user")
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            told = "~rl:1:*" if missing.startswith("~") else missing
            assert (f'Redis user "{user}" of REDIS_URL lacks rights; grant with ACL SETUSER: {told}'
                    in error.details()), missing
            assert daemon.health() == "NOT_SERVING", missing
        # Not one has looked at a bucket, let alone taken from it.
        assert runs(redis, "hmget") == runs(redis, "hset") == 0
        for missing, (user, _) in daemons.items():
            redis.cli("ACL", "SETUSER", user, missing)
        for missing, (_, daemon) in daemons.items():
            wait_until_serving(daemon)
            assert daemon.allow(missing)["remaining"] == 4
            assert daemon.terminate() == 0


def test_a_right_taken_away_costs_one_call_its_tokens_at_most():
    with harness.redis_server() as redis:
        redis.cli("ACL", "SETUSER", "me", "on", f">{OLD}", *rights())
        with harness.daemon(REDIS_URL=f"redis://me:{OLD}@127.0.0.1:{redis.port}", **SLOW_REFILL,
                            **SHORT) as daemon:
            wait_until_serving(daemon)
            assert daemon.allow("user")["remaining"] == 4
            redis.cli("ACL", "SETUSER", "me", "-pexpireat")
            for _ in range(10):
                assert harness.error_of(daemon.allow, "user").code() == grpc.StatusCode.UNAVAILABLE
            assert int(redis.cli("HGET", "rl:1:default:{user}", "tokens")) >= 3
            harness.wait_until(lambda: daemon.health() == "NOT_SERVING", what="NOT_SERVING")
            redis.cli("ACL", "SETUSER", "me", "+pexpireat")
            wait_until_serving(daemon)
            assert daemon.allow("user")["allowed"]


def test_a_redis_that_may_evict_buckets_is_warned_of_where_that_can_be_known():
    with harness.redis_server("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru") as redis:
        redis.cli("ACL", "SETUSER", "me", "on", f">{OLD}", *rights())
        with harness.daemon(REDIS_URL=redis.url) as daemon, harness.daemon(
                REDIS_URL=f"redis://me:{OLD}@127.0.0.1:{redis.port}") as unaware:
            for _ in range(3):
                for one in (daemon, unaware):
                    harness.wait_until(lambda: allowed(one) is not None, what="an answer")
                redis.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            warning = (f"Redis at 127.0.0.1:{redis.port} may evict buckets (an evicted bucket resets to full): "
                       "maxmemory-policy is allkeys-lru; set noeviction")
            assert daemon.log_text().count(warning) == 1
            assert "evict" not in unaware.log_text()
            assert redis.cli("ACL", "LOG") == ""


def test_a_user_whose_password_is_in_a_file(tmp_path):
    file = tmp_path / "password"
    file.write_text(OLD)
    with harness.redis_server() as redis:
        redis.cli("ACL", "SETUSER", "me", "on", f">{OLD}", *rights())
        with harness.daemon(REDIS_URL=f"redis://me@127.0.0.1:{redis.port}/1",
                            REDIS_PASSWORD_FILE=file) as daemon:
            wait_until_serving(daemon)
            assert daemon.allow("user")["allowed"]
            assert "user=me" in redis.cli("CLIENT", "LIST")


def test_a_user_without_a_password():
    with harness.redis_server() as redis:
        redis.cli("ACL", "SETUSER", "me", "on", "nopass", *rights())
        with harness.daemon(REDIS_URL=f"redis://me@127.0.0.1:{redis.port}") as daemon:
            wait_until_serving(daemon)
            assert daemon.allow("user")["allowed"]
            assert "user=me" in redis.cli("CLIENT", "LIST")


def test_a_password_file_with_a_byte_order_mark_is_told_at_start(tmp_path):
    file = tmp_path / "password"
    file.write_bytes(b"\xef\xbb\xbf" + OLD.encode())
    done = harness.run_to_end(REDIS_PASSWORD_FILE=file)
    assert done.returncode == 78 and OLD not in done.stderr
    assert "it begins with a byte order mark of UTF-8" in done.stderr


def test_a_password_file_that_is_not_there_is_told_at_start(tmp_path):
    missing = tmp_path / "missing"
    done = harness.run_to_end(REDIS_PASSWORD_FILE=missing)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"REDIS_PASSWORD_FILE: cannot read {missing}: No such file")
    empty = tmp_path / "empty"
    empty.touch()
    done = harness.run_to_end(REDIS_PASSWORD_FILE=empty)
    assert done.returncode == 78 and "its first line is empty" in done.stderr


def test_two_passwords_are_one_too_many(tmp_path):
    file = tmp_path / "password"
    file.write_text(OLD)
    done = harness.run_to_end(REDIS_URL=f"redis://:{NEW}@localhost", REDIS_PASSWORD_FILE=file)
    assert done.returncode == 78
    assert "REDIS_PASSWORD_FILE" in done.stderr and "REDIS_URL" in done.stderr
    assert OLD not in done.stderr and NEW not in done.stderr


# --- Sentinels that are told what to say ---


class FakeSentinel:
    """Says that the master is where it is told."""

    def __init__(self, redis):
        self.redis = redis

    def speak(self, connection):
        while asked := connection.recv(65536):
            answer = (["server", "redis", "version", "7.0.0"] if b"HELLO" in asked
                      else ["127.0.0.1", str(self.redis.port)])
            words = "".join(f"${len(word)}\r\n{word}\r\n" for word in answer)
            connection.sendall(f"*{len(answer)}\r\n{words}".encode())


def test_a_master_that_was_replaced_is_left_though_it_works():
    with harness.redis_server() as old, harness.redis_server() as new:
        sentinel = FakeSentinel(old)
        with harness.fake_server(sentinel.speak) as port, harness.daemon(
                REDIS_URL=f"redis-sentinel://127.0.0.1:{port}/mymaster/1", LOG_FORMAT="text") as daemon:
            assert (f", store redis at mymaster (sentinels 127.0.0.1:{port}) database 1, "
                    in daemon.start_line)
            wait_until_serving(daemon)
            assert daemon.allow("user")["allowed"]
            sentinel.redis = new
            harness.wait_until(lambda: daemon.allow("user") and runs(new, "hmget"),
                               what="calls to the new master")
            before = runs(old, "hmget")
            for number in range(100):
                assert daemon.allow(f"user-{number}")["allowed"]
            assert runs(old, "hmget") == before
            assert new.cli("-n", "1", "DBSIZE") != "0"


def test_a_replica_that_is_announced_gets_nothing(tmp_path):
    with harness.replicating(tmp_path / "master") as master, harness.replicating(
            tmp_path / "replica", "--replicaof", "127.0.0.1", str(master.port)) as replica:
        sentinel = FakeSentinel(replica)
        with harness.fake_server(sentinel.speak) as port, harness.daemon(
                REDIS_URL=f"redis-sentinel://127.0.0.1:{port}/mymaster", **SHORT) as daemon:
            error = harness.error_of(daemon.allow, "user")
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            assert (f"at 127.0.0.1:{replica.port}, as sentinel 127.0.0.1:{port} says: the server "
                    'is no master but "replica"' in error.details())
            assert runs(replica, "hmget") == 0  # No bucket was looked at.
            sentinel.redis = master
            wait_until_serving(daemon)
            assert daemon.allow("user")["allowed"]


def test_sentinels_that_are_away():
    ports = [harness.free_port(), harness.free_port()]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    with harness.daemon(REDIS_URL=f"redis-sentinel://{hosts}/mymaster", **SHORT) as daemon:
        error = harness.error_of(daemon.allow, "user")
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert f"Redis at mymaster (sentinels {hosts}) is not available: " in error.details()
        for port in ports:
            assert f"; 127.0.0.1:{port}: Connection refused" in error.details()
        assert daemon.terminate() == 0


def test_sentinels_that_go_while_a_master_serves_are_not_missed():
    with harness.redis_server() as redis, contextlib.ExitStack() as stack:
        sentinel = FakeSentinel(redis)
        port = stack.enter_context(harness.fake_server(sentinel.speak))
        with harness.daemon(REDIS_URL=f"redis-sentinel://127.0.0.1:{port}/mymaster") as daemon:
            wait_until_serving(daemon)
            stack.close()
            end = time.monotonic() + 2.5  # Two questions that nobody answers.
            while time.monotonic() < end:
                assert daemon.allow("user")
            assert daemon.health() == "SERVING"


# --- Real sentinels ---

CAPACITY = 5


@pytest.fixture
def sentinels(tmp_path):
    with contextlib.ExitStack() as stack:
        yield harness.Sentinels(stack, tmp_path)


class Callers:
    """Calls on threads, again and again while a `with` lasts: a few more for each user
    than it has tokens, then for the next one."""

    def __init__(self, daemons, each=4):
        self.answers = collections.Counter()  # True: allowed; False: refused; None: failed.
        self.admitted = collections.Counter()  # By user.
        self._numbers, self._lock, self._over = itertools.count(), threading.Lock(), False
        self._threads = [threading.Thread(target=self._run, args=(daemon,))
                         for daemon in daemons for _ in range(each)]

    def _run(self, daemon):
        while not self._over:
            with self._lock:
                user = f"user-{next(self._numbers) // (2 * CAPACITY)}"
            answer = allowed(daemon, user)
            with self._lock:
                self.answers[answer] += 1
                self.admitted[user] += answer is True
            time.sleep(0.002)

    def wait_for(self, answer, least=100):
        """Until there are so many more such answers."""
        before = self.answers[answer]
        harness.wait_until(lambda: self.answers[answer] >= before + least, 20,
                           what=f"{least} more of {answer}")

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over = True
        for thread in self._threads:
            thread.join()


def test_a_failover_heals_and_the_old_master_gets_nothing(sentinels):
    old, new = sentinels.master, sentinels.replica
    settings = {"REDIS_URL": sentinels.url, "CAPACITY": CAPACITY, **SLOW_REFILL, **SHORT}
    with harness.daemon(**settings) as one, harness.daemon(**settings) as other:
        for daemon in (one, other):
            wait_until_serving(daemon)
        with Callers([one, other]) as calls:
            calls.wait_for(True)
            old.kill()
            killed = time.monotonic()
            calls.wait_for(None)
            sentinels.await_failover()
            calls.wait_for(True)
            print(f"allowed again {time.monotonic() - killed:.1f} s after the master's death")
            assert runs(new, "hmget") > 0

            # Until a sentinel makes it a replica it takes itself for the master.
            old.start()
            assert old.role() == "master"
            with harness.daemon(**settings) as late:
                wait_until_serving(late)
                assert late.allow("late")["allowed"]
                harness.wait_until(lambda: old.role() == "slave", 90, what="its demotion")
                calls.wait_for(True)
                assert late.terminate() == 0
        # Nobody has as much as greeted it.
        assert (runs(old, "evalsha"), runs(old, "hello")) == (0, 0)
        # What the new master had not been told is admitted once more at most.
        assert CAPACITY <= max(calls.admitted.values()) <= 2 * CAPACITY
        print(f"{sum(calls.admitted.values())} admitted, {calls.answers[None]} failed, users with "
              f"more than they have: {sum(n > CAPACITY for n in calls.admitted.values())}")
        for daemon in (one, other):
            wait_until_serving(daemon)
            assert daemon.terminate() == 0


def test_a_master_that_wakes_up_replaced_gets_nothing(sentinels):
    old, new = sentinels.master, sentinels.replica
    with harness.daemon(REDIS_URL=sentinels.url, CAPACITY=CAPACITY, **SLOW_REFILL,
                        **SHORT) as daemon:
        wait_until_serving(daemon)
        with Callers([daemon]) as calls:
            calls.wait_for(True)
            old.process.send_signal(signal.SIGSTOP)
            sentinels.await_failover()
            calls.wait_for(True)
            old.process.send_signal(signal.SIGCONT)
            # What it had been sent before it stood still it does now.
            carried_out = runs(old, "hmget")
            calls.wait_for(True, least=500)
        assert runs(old, "hmget") == carried_out
        assert runs(new, "hmget") > 0
        assert max(calls.admitted.values()) <= 2 * CAPACITY
        assert daemon.terminate() == 0
