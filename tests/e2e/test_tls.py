"""TLS and mTLS on PORT and ADMIN_PORT, with real clients: who is let in, who is not, and
certificates that change while the daemon runs."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request

import grpc
import pytest

import harness

# That no such version should be spoken is the point.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")

GRPCURL = harness.ROOT / "build/tools/bin/grpcurl"
TOKEN = "t0kenForNobody"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return harness.Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def own(certificates, tmp_path):
    """Settings of a daemon with files of its own, which a test may replace, and how."""
    files = {"TLS_CERT": "localhost.crt", "TLS_KEY": "localhost.key"}

    def replace(setting, file):
        """Swaps the whole file, as whoever renews certificates does."""
        new = tmp_path / f"{setting}.new"
        new.write_bytes(certificates.pem(file))
        os.replace(new, tmp_path / setting)

    for setting, file in files.items():
        replace(setting, file)
    return {"STORE": "memory"} | {setting: tmp_path / setting for setting in files}, replace


def calls_as(daemon, credentials, user="user", **fields):
    """A call on a connection of its own."""
    with grpc.secure_channel(f"localhost:{daemon.port}", credentials,
                             [("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = harness.message("AllowRequestRequest")(user_id=user, **fields).SerializeToString()
        channel.unary_unary("/limiter.RateLimiter/AllowRequest")(request, timeout=20)


def is_refused(daemon, credentials) -> bool:
    error = harness.error_of(calls_as, daemon, credentials)
    return error.code() == grpc.StatusCode.UNAVAILABLE


def speak(port, most=ssl.TLSVersion.MAXIMUM_SUPPORTED):
    """The version that a client gets, which knows none after `most`, and the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = most
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # Else OpenSSL itself would not try.
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, \
            context.wrap_socket(connection) as session:
        return session.version(), ssl.DER_cert_to_PEM_cert(session.getpeercert(True))


def logged(daemon, words) -> list:
    return [line for line in daemon.log_text().splitlines() if words in line]


# --- Who is let in ---


def test_calls_health_and_reflection_are_over_tls(certificates):
    with harness.daemon(**certificates.server(), credentials=certificates.client()) as daemon:
        assert f"gRPC on 127.0.0.1 port {daemon.port} over TLS, " in daemon.start_line
        assert daemon.allow("user")["allowed"] and daemon.health() == "SERVING"
        with grpc.insecure_channel(daemon.address) as channel:
            request = harness.message("GetUsageRequest")(user_id="user").SerializeToString()
            call = channel.unary_unary("/limiter.RateLimiter/GetUsage")
            assert harness.error_of(call, request, timeout=20).code() == grpc.StatusCode.UNAVAILABLE
        assert daemon.usage("user")["requests_used"] == 1


def test_a_client_trusts_its_own_ca_alone(certificates):
    with harness.daemon(**certificates.server()) as daemon:
        assert is_refused(daemon, certificates.client("other-ca.crt"))
        calls_as(daemon, certificates.client())


def test_an_expired_certificate_is_warned_of_and_not_trusted(certificates):
    with harness.daemon(**certificates.server("expired")) as daemon:
        (warning,) = logged(daemon, "expired on 2020-01-02T00:00:00Z")
        assert json.loads(warning)["level"] == "warning" and "TLS_CERT" in warning
        error = harness.error_of(calls_as, daemon, certificates.client())
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert re.search("certificate.verify.failed", error.details(), re.IGNORECASE), error.details()


def test_mtls_lets_in_who_has_a_certificate_of_the_ca(certificates):
    with harness.daemon(**certificates.server(client_ca="ca.crt"),
                        credentials=certificates.client(name="client")) as daemon:
        assert f"port {daemon.port} over mTLS, " in daemon.start_line
        assert daemon.allow("user")["allowed"] and daemon.health() == "SERVING"
        for name in (None, "stranger", "expired"):
            assert is_refused(daemon, certificates.client(name=name)), name
        assert daemon.usage("user")["requests_used"] == 1


@pytest.mark.parametrize("server", ["gRPC", "admin"])
def test_nothing_older_than_tls_1_2_is_spoken(certificates, server):
    with harness.daemon(**certificates.server(), ADMIN_PORT=0, ADMIN_TLS="on") as daemon:
        port = daemon.port if server == "gRPC" else daemon.admin_port
        for most, version in (("TLSv1_3", "TLSv1.3"), ("TLSv1_2", "TLSv1.2")):
            assert speak(port, ssl.TLSVersion[most])[0] == version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            speak(port, ssl.TLSVersion.TLSv1_1)
        # That it was the server who would not.
        if server == "gRPC":
            harness.wait_until(lambda: logged(daemon, "unsupported protocol"), what="gRPC's log")


def test_grpcurl(certificates):
    if not GRPCURL.exists():
        pytest.skip("needs grpcurl, which ./dev installs where there is Go")
    with harness.daemon(**certificates.server(client_ca="ca.crt")) as daemon:
        command = [str(GRPCURL), "-cacert", certificates.path("ca.crt"), "-max-time", "20"]
        client = ["-cert", certificates.path("client.crt"), "-key", certificates.path("client.key")]
        call = [f"localhost:{daemon.port}", "limiter.RateLimiter/AllowRequest"]
        answer = harness.output_of(*command, *client, "-d", '{"user_id":"user"}', *call)
        assert json.loads(answer)["allowed"] is True
        assert subprocess.run([*command, "-d", "{}", *call], capture_output=True).returncode != 0


def test_a_connection_that_says_nothing_is_closed(certificates):
    with harness.daemon(**certificates.server(), credentials=certificates.client()) as daemon, \
            socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as silent:
        assert silent.recv(1) == b""
        assert daemon.allow("user")["allowed"]


# --- Certificates that change ---


def await_served(daemon, certificates, name):
    harness.wait_until(lambda: speak(daemon.port)[1].encode() in certificates.pem(f"{name}.crt"),
                       20, f"the certificate {name}")


def test_a_certificate_is_replaced_under_load_and_no_call_fails(certificates, own):
    settings, replace = own
    settings |= {"CAPACITY": 1_000_000, "ADMIN_PORT": 0, "ADMIN_TLS": "on"}
    trusting = certificates.client()
    with harness.daemon(**settings, credentials=trusting) as daemon, \
            harness.load(lambda: calls_as(daemon, trusting), 4) as new, \
            harness.load(lambda: daemon.allow("user"), 2) as lasting:
        assert speak(daemon.port)[1].encode() in certificates.pem("localhost.crt")
        # One after the other, and the time between is up to whoever does it. At a SIGHUP they are
        # read as they are then: they do not belong together, and the old ones stay.
        for name in ("renewed", "localhost"):
            refused = len(logged(daemon, "not reloaded"))
            replace("TLS_CERT", f"{name}.crt")
            daemon.process.send_signal(signal.SIGHUP)
            harness.wait_until(lambda: len(logged(daemon, "not reloaded")) > refused, what="the line")
            begun = len(new)
            harness.wait_until(lambda: len(new) > begun + 8, 30, "calls meanwhile")
            replace("TLS_KEY", f"{name}.key")
            daemon.process.send_signal(signal.SIGHUP)
            await_served(daemon, certificates, name)
        # Nobody says anything: it is noticed.
        replace("TLS_KEY", "renewed.key")
        replace("TLS_CERT", "renewed.crt")
        await_served(daemon, certificates, "renewed")
        assert speak(daemon.admin_port)[1].encode() in certificates.pem("renewed.crt")
        begun = len(new)
        harness.wait_until(lambda: len(new) > begun + 8, 30, "calls afterwards")
    assert [outcome.error for outcome in new + lasting if outcome.error] == []


BAD = {
    "no certificate": ("TLS_CERT", "ca.key", "it holds no certificate in PEM"),
    "of another key": ("TLS_CERT", "client.crt", "it is not the key to the certificate"),
    "no key": ("TLS_KEY", "ca.crt", "it holds no key in PEM"),
    "another key": ("TLS_KEY", "client.key", "it is not the key to the certificate"),
    "locked": ("TLS_KEY", "locked.key", "it needs a passphrase"),
}


def test_bad_files_change_nothing_and_are_told_once(certificates, own):
    settings, replace = own
    with harness.daemon(**settings) as daemon:
        for number, (setting, file, reason) in enumerate(BAD.values(), 1):
            refused = len(logged(daemon, "not reloaded"))
            replace(setting, file)
            # The first two are seen without a word, after two looks, and stay for as many: once.
            if number > 2:
                daemon.process.send_signal(signal.SIGHUP)
            else:
                assert refused == number - 1
            harness.wait_until(lambda: len(logged(daemon, "not reloaded")) > refused, 20, reason)
            line = json.loads(logged(daemon, "not reloaded")[-1])
            assert line["level"] == "error" and line["kind"] == "reload"
            assert reason in line["message"] and "accepted: a PEM file" in line["message"]
            calls_as(daemon, certificates.client())
            if number > 1:
                good = len(logged(daemon, "reloaded: certificate"))
                replace(setting, {"TLS_CERT": "localhost.crt", "TLS_KEY": "localhost.key"}[setting])
                daemon.process.send_signal(signal.SIGHUP)
                harness.wait_until(lambda: len(logged(daemon, "reloaded: certificate")) > good, what="it")
        assert daemon.total("rate_limiter_tls_last_reload_successful") == 1
        os.remove(settings["TLS_KEY"])
        harness.wait_until(lambda: logged(daemon, "TLS_KEY: cannot read"), 20, "the line")
        calls_as(daemon, certificates.client())
        assert daemon.total("rate_limiter_tls_last_reload_successful") == 0


def test_the_ca_of_clients_may_change(certificates, tmp_path):
    ca = tmp_path / "client_ca"
    shutil.copy(certificates.path("other-ca.crt"), ca)
    with harness.daemon(**certificates.server() | {"TLS_CLIENT_CA": ca}) as daemon:
        stranger, client = (certificates.client(name=name) for name in ("stranger", "client"))
        calls_as(daemon, stranger)
        assert is_refused(daemon, client)
        shutil.copy(certificates.path("ca.crt"), ca)
        daemon.process.send_signal(signal.SIGHUP)
        harness.wait_until(lambda: logged(daemon, "reloaded: certificate"), what="the line")
        calls_as(daemon, client)
        assert is_refused(daemon, stranger)


# --- A start that fails ---


@pytest.mark.parametrize("setting, file, says", [
    *((setting, file, f"{setting if 'not the key' not in reason else 'TLS_KEY'}: .*{reason}")
      for setting, file, reason in BAD.values()),
    ("TLS_CERT", "none", "TLS_CERT: cannot read .*/none: No such file or directory"),
    ("TLS_KEY", ".", "TLS_KEY: cannot read .*: it is not a regular file"),
    ("TLS_CLIENT_CA", "ca.key", "TLS_CLIENT_CA: .*/ca.key: it holds no certificate in PEM"),
    ("TLS_CLIENT_CA", "none", "TLS_CLIENT_CA: cannot read .*/none: No such file or directory"),
])
def test_a_start_with_bad_files_says_which_and_what_is_accepted(certificates, setting, file, says):
    done = harness.run_to_end(**certificates.server() | {setting: certificates.path(file)},
                              PORT=0, METRICS_PORT=0)
    assert (done.returncode, done.stdout) == (78, "")
    (error,) = [line for line in done.stderr.splitlines() if "TLS_" in line]
    assert re.search(says, error) and "accepted: a PEM file" in error


# --- The admin server ---


def test_the_admin_server_speaks_https_if_it_is_asked_to(certificates):
    context = ssl.create_default_context(cafile=certificates.path("ca.crt"))
    with harness.daemon(**certificates.server(client_ca="ca.crt"), ADMIN_PORT=0,
                        ADMIN_TLS="on") as daemon:
        assert f", admin on 127.0.0.1 port {daemon.admin_port} over TLS, " in daemon.start_line
        base = f"localhost:{daemon.admin_port}"
        # It asks for no certificate, for browsers and probes have none.
        for path in ("/readyz", "/", "/api/v1/settings"):
            with urllib.request.urlopen(f"https://{base}{path}", timeout=20, context=context) as answer:
                assert answer.status == 200 and answer.read()
        body = json.dumps({"user_id": "u" * 256, "attributes": {"k" * 60: "v" * 250}}).encode()
        request = urllib.request.Request(f"https://{base}/api/v1/explain", body,
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            assert answer.status == 200
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(f"http://{base}/readyz", timeout=20)


def test_the_admin_server_speaks_http_otherwise(certificates):
    with harness.daemon(**certificates.server(), ADMIN_PORT=0) as daemon:
        url = f"http://127.0.0.1:{daemon.admin_port}/readyz"
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert answer.status == 200


# --- rlctl ---


def rlctl(*words, **environment) -> subprocess.CompletedProcess:
    return subprocess.run([harness.RLCTL, *words], env=harness.clean_environment(**environment),
                          capture_output=True, text=True, timeout=60)


def test_rlctl_calls_over_tls_and_mtls(certificates):
    ca = ["--tls-ca", certificates.path("ca.crt")]
    client = ["--tls-cert", certificates.path("client.crt"), "--tls-key",
              certificates.path("client.key")]
    variables = {"RLCTL_TLS_CA": ca[1], "RLCTL_TLS_CERT": client[1], "RLCTL_TLS_KEY": client[3]}
    with harness.daemon(**certificates.server(client_ca="ca.crt")) as daemon:
        for words in (["healthcheck"], ["check", "user", "/"], ["usage", "user"],
                      ["bench", "--rate", "50", "--duration", "200ms", "--warmup", "1ms"]):
            done = rlctl(*words, *ca, *client, PORT=daemon.port)
            assert done.returncode == 0, done.stderr
        assert rlctl("healthcheck", PORT=daemon.port, **variables).returncode == 0
        for words, says in {
            (): "is it without TLS (--tls)?",
            tuple(ca): "is it over TLS (--tls), and without asking for a certificate (--tls-cert)?",
            ("--tls", *client): "certificate verify failed",
            ("--tls-ca", certificates.path("other-ca.crt"), *client): "certificate verify failed",
            (*ca, *client, "--tls-server-name", "other.test"): "other.test is not in peer certif",
            (*ca, *client[:2]): "one is given without the other",
            ("--tls-ca", "/none"): "--tls-ca: cannot read /none: No such file",
        }.items():
            done = rlctl("healthcheck", *words, PORT=daemon.port)
            assert done.returncode == 1 and says in done.stderr, done.stderr
    # Known by another name than it is called by.
    with harness.daemon(**certificates.server("elsewhere")) as daemon:
        assert rlctl("healthcheck", *ca, PORT=daemon.port).returncode == 1
        done = rlctl("healthcheck", *ca, "--tls-server-name", "elsewhere.test", PORT=daemon.port)
        assert done.returncode == 0, done.stderr


def test_rlctl_asks_the_admin_server_over_tls(certificates, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    ca = ["--tls-ca", certificates.path("ca.crt")]
    with harness.daemon(**certificates.server("elsewhere"), ADMIN_PORT=0, ADMIN_TLS="on",
                        ADMIN_TOKEN_FILE=tmp_path / "token") as daemon:
        here = {"ADMIN_PORT": daemon.admin_port}
        name = [*ca, "--tls-server-name", "elsewhere.test"]
        done = rlctl("limits", "list", *name, "--token-file", tmp_path / "token", **here)
        assert done.returncode == 0 and "default" in done.stdout, done.stderr
        done = rlctl("reset", "user", *name, ADMIN_TLS="on", ADMIN_TOKEN_FILE=tmp_path / "token", **here)
        assert done.returncode == 0, done.stderr
        for words, environment, says in (
                (ca, {}, "hostname mismatch"),
                (name, {}, "answers UNAUTHENTICATED: there is no token"),
                ([], {"ADMIN_TLS": "on"}, "its certificate is not trusted"),
                ([], {}, "does not answer"),
                ([*name, "--token-file", "/none"], {}, "cannot read /none"),
                (["--tls-ca", "/none"], {}, "--tls-ca: /none"),
                (["--tls-ca", certificates.path("other-ca.crt")], {}, "its certificate is not trusted")):
            done = rlctl("limits", "list", *words, **here, **environment)
            assert done.returncode == 1 and says in done.stderr, done.stderr
    # To whom it says that it does not speak TLS.
    with harness.daemon(STORE="memory", ADMIN_PORT=0) as daemon:
        done = rlctl("limits", "list", "--tls", ADMIN_PORT=daemon.admin_port)
        assert done.returncode == 1 and "it does not speak TLS" in done.stderr


# --- Secrets ---


def test_no_key_and_no_token_is_told(certificates, own, tmp_path):
    settings, replace = own
    (tmp_path / "token").write_text(TOKEN)
    settings |= {"ADMIN_PORT": 0, "ADMIN_TOKEN_FILE": tmp_path / "token", "LOG_LEVEL": "debug"}
    with harness.daemon(**settings, credentials=certificates.client()) as daemon:
        assert daemon.allow("user")["allowed"]
        url = f"http://127.0.0.1:{daemon.admin_port}/api/v1/settings"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            shown = answer.read().decode()
        assert str(settings["TLS_KEY"]) in shown
        # A key where the certificate is looked for, and the other way round.
        replace("TLS_CERT", "localhost.key")
        daemon.process.send_signal(signal.SIGHUP)
        harness.wait_until(lambda: logged(daemon, "not reloaded"), what="the line")
        done = harness.run_to_end("--help", **settings)
        said = shown + daemon.log_text() + daemon.metrics() + done.stdout + done.stderr
        secrets = certificates.pem("localhost.key").decode().splitlines()[1:-1] + [TOKEN]
        assert len(secrets) > 2 and [secret for secret in secrets if secret in said] == []


# --- docs/operate/operations.md ---


def blocks(heading, kind) -> list:
    page = (harness.ROOT / "docs/operate/operations.md").read_text(encoding="utf-8")
    section = page.split(f"\n### {heading}\n")[1].split("\n### ")[0]
    return re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL)


def test_the_trial_does_as_the_page_says(tmp_path):
    make, calls = blocks("A trial", "sh")
    harness.output_of("sh", "-ec", make, cwd=tmp_path)
    files = {"TLS_CERT": "server.crt", "TLS_KEY": "server.key", "TLS_CLIENT_CA": "ca.crt",
             "ADMIN_TOKEN_FILE": "token"}
    with harness.daemon(STORE="memory", ADMIN_PORT=0, ADMIN_TLS="on",
                        **{name: tmp_path / file for name, file in files.items()}) as daemon:
        path = f"{harness.RLCTL.parent}:{GRPCURL.parent}:{os.environ['PATH']}"
        environment = harness.clean_environment(PORT=daemon.port, PATH=path)
        commands = calls.splitlines()
        assert len(commands) == 4
        for command in commands:
            if command.startswith("grpcurl") and not GRPCURL.exists():
                continue
            command = command.replace(":50051", f":{daemon.port}").replace(":8081", f":{daemon.admin_port}")
            printed = harness.output_of("sh", "-c", command, cwd=tmp_path, env=environment)
            assert "allowed" in printed or "default" in printed, command


@pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx")
def test_nginx_serves_metrics_over_tls_as_the_page_says(certificates, tmp_path):
    (server,) = blocks("Metrics", "nginx")
    port = harness.free_port()
    with harness.daemon(STORE="memory") as daemon:
        for written, here in {"listen 9443": f"listen 127.0.0.1:{port}", ":2112": f":{daemon.metrics_port}",
                              "/etc/ratelimiter/server": certificates.path("localhost"),
                              "/etc/ratelimiter/ca.crt": certificates.path("ca.crt")}.items():
            assert written in server
            server = server.replace(written, here)
        paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
            f"events {{}}\nhttp {{ access_log off;\n{paths}{server}}}\n")
        with open(tmp_path / "nginx.log", "wb") as log:
            nginx = harness.start(["nginx", "-p", tmp_path, "-c", tmp_path / "nginx.conf"], log)
            try:
                curl = ["curl", "-s", "--cacert", certificates.path("ca.crt"), "--max-time", "20",
                        f"https://localhost:{port}/metrics"]
                client = ["--cert", certificates.path("client.crt"), "--key", certificates.path("client.key")]
                answer = harness.wait_until(
                    lambda: subprocess.run([*curl, *client], capture_output=True, text=True).stdout,
                    what="nginx")
                assert "rate_limiter_ready 1" in answer
                refused = subprocess.run(curl, capture_output=True, text=True).stdout
                assert "rate_limiter" not in refused and "400" in refused
            finally:
                nginx.terminate()
                nginx.wait(20)
