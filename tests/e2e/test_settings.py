"""Settings: where they come from, what is said of a bad one, what they may not tell;
and docs/use/settings.md, compared with the program."""

import contextlib
import re
import socket

import pytest

import harness

PAGE = harness.ROOT / "docs" / "use" / "settings.md"

# Values that no setting of that name takes. What it does accept is --help's to tell.
BAD = {
    "PORT": ["65536", "-1", "http", "50051x", "+1", "0x10"],
    "BIND": ["everywhere", "localhost", "256.0.0.1", "[::1]"],
    "TLS_CERT": [],
    "TLS_KEY": [],
    "TLS_CLIENT_CA": [],
    "METRICS_PORT": ["65536", "-1", "http"],
    "METRICS_BIND": ["everywhere", "127.0.0.1:2112"],
    "METRICS_MAX_USERS": ["1000001", "-1", "many"],
    "METRICS_TOP_USERS": ["1001", "-1", "all"],
    "METRICS_USER_LABEL": ["Plain", "sha256", "on"],
    "STORE": ["disk", "Redis"],
    "REDIS_URL": ["127.0.0.1:6379", "http://127.0.0.1", "redis://", "redis://h:0",
                  "redis://h:65536", "redis://h/x", "unix://h", "unix:///", "redis-sentinel://h"],
    # Any path, password or name may be one.
    "REDIS_PASSWORD_FILE": [],
    "REDIS_SENTINEL_PASSWORD": [],
    "REDIS_TLS_CA": [],
    "REDIS_TLS_CERT": [],
    "REDIS_TLS_KEY": [],
    "REDIS_TLS_SERVER_NAME": [],
    "REDIS_TIMEOUT": ["0", "100", "1.5s", "61s", "999us", "-1s", "1 s"],
    "REDIS_POOL_SIZE": ["0", "65", "few"],
    "REDIS_MAX_CONNECTION_AGE": ["999ms", "25h", "5"],
    "DENY_CACHE_MAX_AGE": ["100", "61s", "-1s"],
    "DENY_CACHE_SIZE": ["0", "10000001", "few"],
    "KEY_PREFIX": ["a b", "a{b", "}", "é", "x" * 65],
    "FAIL_MODE": ["Open", "deny"],
    "LOCAL_SHARE": ["0", "0.0", "0.0000001", "1.5", "1.0", "-0.5", "25%"],
    "CAPACITY": ["0", "-1", "5.5", "9223372036854775808"],
    "REFILL_TOKENS": ["0", "-1", "one"],
    "REFILL_INTERVAL": ["0", "2", "999us", "367d", "2 weeks"],
    # Whether there is such a file is not the setting's to tell.
    "LIMITS_FILE": [],
    "RATELIMIT_HEADERS": ["true", "ON"],
    "ADMIN_PORT": ["65536", "-1", "on"],
    "ADMIN_BIND": ["localhost", "[::1]"],
    "ADMIN_HOSTS": ["a,", ",a", "a b", "a:80", "http://a", "é"],
    "ADMIN_TOKEN_FILE": [],
    "ADMIN_TLS": ["true", "ON"],
    "MEMORY_MAX_BUCKETS": ["0", "1000000001"],
    "MAX_IN_FLIGHT": ["0", "10001"],
    "MAX_CONNECTION_AGE": ["999ms", "25h", "30"],
    "MAX_CONNECTION_AGE_GRACE": ["0", "999ms", "61m", "30"],
    "MAX_CONCURRENT_STREAMS": ["0", "100001", "many"],
    "MAX_METADATA_SIZE": ["1023", "1048577", "8K"],
    "KEEPALIVE_TIME": ["999ms", "25h", "60"],
    "KEEPALIVE_MIN_TIME": ["61m", "10", "-1s"],
    "DRAIN_TIME": ["5", "61m", "1us", "soon"],
    "LOG_LEVEL": ["verbose", "INFO"],
    "LOG_FORMAT": ["xml", "JSON"],
    "ACCESS_LOG": ["off", "0.0", "0.0000001", "1.5", "-1", "10%"],
}


def flag_of(name: str) -> str:
    return "--" + name.lower().replace("_", "-")


# --- The command line ---


def test_help_lists_every_setting():
    assert list(harness.settings_in_help()) == list(BAD)
    for name, setting in harness.settings_in_help().items():
        assert setting.flag == flag_of(name)
    for flag in ("-h", "--help"):
        done = harness.run_to_end(flag)
        assert (done.returncode, done.stderr) == (0, "")


def test_version():
    (version,) = re.findall(r"project\(\s*\w+\s+VERSION\s+([\d.]+)",
                            (harness.ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    done = harness.run_to_end("--version")
    assert (done.returncode, done.stdout) == (0, f"ratelimiterd {version}\n")


@pytest.mark.parametrize("argument, says", [
    ("--no-such", "unknown flag --no-such;"), ("--no-such=1", "unknown flag --no-such;"),
    ("word", "unexpected positional argument"), ("--port", "--port")])
def test_a_wrong_flag_is_a_usage_error(argument, says):
    done = harness.run_to_end(argument)
    assert done.returncode == 2
    assert says in done.stderr and "--help" in done.stderr
    assert done.stdout == ""


# --- Bad values ---


def as_flags(values: dict) -> list:
    return [f"{flag_of(name)}={value}" for name, value in values.items()]


@pytest.mark.parametrize("turn", range(max(map(len, BAD.values()))))
def test_all_bad_values_are_told_with_what_is_accepted(turn):
    values = {name: choices[turn % len(choices)] for name, choices in BAD.items()
              if choices}
    told = [f'{name}: "{values[name]}" is not accepted; accepted: {setting.accepted} '
            f"(environment {name}, flag {flag_of(name)})"
            for name, setting in harness.settings_in_help().items() if name in values]
    for done in (harness.run_to_end(**values), harness.run_to_end(*as_flags(values))):
        assert (done.returncode, done.stdout) == (78, "")
        assert done.stderr.splitlines() == told


@pytest.mark.parametrize("limit, says", [
    ({"CAPACITY": 2**52}, "4503599627370496 times refill tokens 1"),
    ({"CAPACITY": 2**40, "REFILL_TOKENS": 2**12}, "times refill tokens 4096"),
    ({"CAPACITY": 2**52 - 1}, "1 per 2s takes"),
], ids=["capacity", "product", "time to full"])
def test_a_limit_beyond_exact_arithmetic_is_refused(limit, says):
    done = harness.run_to_end(**limit)
    assert done.returncode == 78
    assert "CAPACITY, REFILL_TOKENS, REFILL_INTERVAL" in done.stderr
    assert says in done.stderr and "2^52" in done.stderr and "accepted" in done.stderr


def test_values_are_shown_without_their_control_characters():
    done = harness.run_to_end(STORE="a\nforged\x1b[31m" + "x" * 10_000)
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1 and "\x1b" not in done.stderr
    assert len(done.stderr) < 500


# --- Precedence ---


def test_flags_go_before_the_environment():
    environment = {name: values[0] for name, values in BAD.items() if values}
    # Without a default, anything.
    defaults = {name: setting.default or "anything"
                for name, setting in harness.settings_in_help().items() if name in environment}
    for name in environment:
        good = {other: value for other, value in defaults.items() if other != name}
        done = harness.run_to_end(*as_flags(good), **environment)
        assert done.returncode == 78
        assert [line.split(":")[0] for line in done.stderr.splitlines()] == [name]


@pytest.mark.parametrize("flags, environment, capacity", [
    ([], {}, 5), ([], {"CAPACITY": 7}, 7), (["--capacity", "9"], {"CAPACITY": 7}, 9),
], ids=["default", "environment", "flag"])
def test_the_value_in_force(flags, environment, capacity):
    with harness.daemon(*flags, STORE="memory", LOG_FORMAT="text", **environment) as daemon:
        assert daemon.usage("user")["requests_allowed"] == capacity
        assert f'limit "default", {capacity} tokens' in daemon.start_line


# --- Ports and the start line ---


def start_message(daemon) -> str:
    return daemon.start_line.split("  ", 1)[1]


def test_the_start_line_is_complete():
    version = harness.run_to_end("--version").stdout.strip()
    with harness.redis_server() as redis, harness.daemon(
            REDIS_URL=f"redis://127.0.0.1:{redis.port}/3", LOG_FORMAT="text", CAPACITY=100,
            REFILL_TOKENS=7, REFILL_INTERVAL="1500ms") as daemon:
        assert start_message(daemon) == (
            f"{version}: gRPC on 127.0.0.1 port {daemon.port}, metrics on 127.0.0.1 port "
            f"{daemon.metrics_port}, store redis at 127.0.0.1:{redis.port}/3, "
            'limit "default", 100 tokens, 7 back every 1500ms')
        assert 0 not in (daemon.port, daemon.metrics_port)
        assert daemon.health() == "SERVING" and daemon.metrics()


def test_memory_is_said_not_to_be_shared():
    with harness.daemon(STORE="memory", LOG_FORMAT="text") as daemon:
        assert "store memory, " in daemon.start_line
        assert re.search("warning  STORE=memory: .* not shared", daemon.log_text())


def test_an_ipv6_address_of_redis_stands_in_brackets():
    port = harness.free_port()
    with harness.daemon(REDIS_URL=f"redis://[::1]:{port}/2", LOG_FORMAT="text") as daemon:
        assert f"store redis at [::1]:{port}/2, " in daemon.start_line


@pytest.mark.parametrize("level", ["warn", "error"])
def test_the_start_line_is_told_at_every_level(level):
    with harness.daemon(STORE="memory", LOG_FORMAT="text", LOG_LEVEL=level) as daemon:
        assert re.search("Z info  ratelimiterd .* gRPC on", daemon.start_line)
        assert daemon.terminate() == 0
        assert "draining" not in daemon.log_text()


def check_taken(done, name, port):
    """A start that failed for that port, and a line that says so and nothing else."""
    assert (done.returncode, done.stdout) == (1, "")
    (error,) = done.stderr.splitlines()
    assert "Z error  " in error and f"port {port} " in error and "already in use" in error
    assert re.search(rf"\b{name}\b", error)


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0", "::"])
@pytest.mark.parametrize("name", ["PORT", "METRICS_PORT"])
def test_a_taken_port_is_an_error(name, bind):
    binds = {"BIND": bind, "METRICS_BIND": bind}
    with harness.daemon(STORE="memory", **binds) as first:
        taken = first.port if name == "PORT" else first.metrics_port
        ports = {"PORT": 0, "METRICS_PORT": 0} | {name: taken}
        check_taken(harness.run_to_end(STORE="memory", **binds, **ports), name, taken)


@contextlib.contextmanager
def taken_on_ipv6(address):
    """A port that is taken at that address and on IPv4 is not."""
    try:
        holder = socket.create_server((address, 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with holder:
        yield holder.getsockname()[1]


@pytest.mark.parametrize("address", ["::", "::1"])
@pytest.mark.parametrize("name", ["PORT", "METRICS_PORT"])
def test_a_port_taken_on_ipv6_alone_is_an_error(name, address):
    with taken_on_ipv6(address) as taken:
        ports = {"PORT": 0, "METRICS_PORT": 0} | {name: taken}
        check_taken(harness.run_to_end(STORE="memory", BIND="::", METRICS_BIND="::", **ports),
                    name, taken)


@pytest.mark.parametrize("name", ["PORT", "METRICS_PORT"])
def test_why_a_start_failed_is_told_with_the_log_off(name):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        ports = {"PORT": 0, "METRICS_PORT": 0} | {name: taken}
        check_taken(harness.run_to_end(STORE="memory", LOG_LEVEL="off", **ports), name, taken)


def test_the_log_is_empty_when_it_is_off(tmp_path):
    ports = {"PORT": harness.free_port(), "METRICS_PORT": harness.free_port()}
    with open(tmp_path / "log", "wb") as log:
        process = harness.start([harness.DAEMON], log, harness.clean_environment(
            STORE="memory", LOG_LEVEL="off", DRAIN_TIME="0", BIND="127.0.0.1",
            METRICS_BIND="127.0.0.1", **ports))
        try:
            harness.wait_until(lambda: socket.socket().connect_ex(
                ("127.0.0.1", ports["METRICS_PORT"])) == 0, what="the daemon")
            process.terminate()
            assert process.wait(timeout=20) == 0
        finally:
            harness.end(process)
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize("bind, metrics_bind", [
    ("127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "::"), ("0.0.0.0", "127.0.0.1")])
def test_one_port_for_both_servers_is_refused(bind, metrics_bind):
    done = harness.run_to_end(PORT=50051, METRICS_PORT=50051, BIND=bind, METRICS_BIND=metrics_bind)
    assert (done.returncode, done.stdout) == (78, "")
    (error,) = done.stderr.splitlines()
    assert error.startswith("PORT, METRICS_PORT: both are 50051") and "accepted" in error


# --- Secrets ---

SECRET = "s3cretW0rd"
URL = f"redis://user:{SECRET}@host"


@pytest.mark.parametrize("url", [
    f"redis://user:{SECRET}@host:port", f"redis://user:{SECRET}@", f"redis://{SECRET}@host:port",
    f"redis://user:{SECRET}", f"http://user:{SECRET}@host", f"redis://user:a@{SECRET}@host:port",
    f"redis://user:{SECRET}%@host", f"redis://user:{SECRET}/@host:port",
    f"unix://user:{SECRET}@path", f"unix://user:{SECRET}", f"redis-sentinel://user:{SECRET}@host",
    f"redis-sentinel://user:{SECRET}/m", f"rediss://user:{SECRET}@host:port",
    f"redis-cluster://user:{SECRET}@a,b/1",
])
def test_no_secret_is_printed_of_a_bad_url(url):
    for done in (harness.run_to_end(REDIS_URL=url), harness.run_to_end(f"--redis-url={url}")):
        assert done.returncode == 78
        assert "REDIS_URL" in done.stderr and SECRET not in done.stderr


@pytest.mark.parametrize("flags, code", [
    (["--help"], 0), (["--port=x"], 78), (["--no-such"], 2), ([f"--redis_url={URL}"], 2),
    ([URL], 2), (["--redis-url", URL, URL], 2), ([f"--redis-url={URL}"] * 2, 2),
], ids=["help", "bad value", "unknown flag", "misspelt flag", "no flag", "one too many", "twice"])
def test_no_secret_is_printed_of_a_good_url(flags, code):
    done = harness.run_to_end(*flags, REDIS_URL=URL, REDIS_SENTINEL_PASSWORD=SECRET)
    assert done.returncode == code
    assert done.stdout + done.stderr and SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("password", [SECRET, "another"], ids=["right", "wrong"])
def test_no_secret_is_logged_or_published(password):
    with harness.redis_server("--requirepass", password) as redis, harness.daemon(
            REDIS_URL=f"redis://:{SECRET}@127.0.0.1:{redis.port}", LOG_LEVEL="debug") as daemon:
        if password == SECRET:
            said = str(daemon.allow("user"))
        else:
            said = harness.error_of(daemon.allow, "user").details()
        assert SECRET not in said + daemon.log_text() + daemon.metrics()


@pytest.mark.parametrize("settings, says", [
    ({"TLS_CERT": "a"}, "TLS_CERT, TLS_KEY: one is set without the other"),
    ({"TLS_KEY": "a"}, "TLS_CERT, TLS_KEY: one is set without the other"),
    ({"TLS_CLIENT_CA": "a"}, "TLS_CLIENT_CA: is set without TLS_CERT"),
    ({"ADMIN_TLS": "on"}, "ADMIN_TLS: is on without TLS_CERT")])
def test_half_of_tls_is_refused(settings, says):
    done = harness.run_to_end(**settings)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(says) and "; accepted: " in done.stderr


# --- docs/use/settings.md ---


def test_the_page_lists_the_settings():
    """Every row of the page's tables, in the order of --help."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    header = "| Setting | Default | Accepted | Meaning |"
    tables = [number for number, line in enumerate(lines) if line == header]
    assert tables and all(lines[number + 1] == "|---|---|---|---|" for number in tables)
    written = [tuple(" ".join(cell.replace("`", "").split()) for cell in line.strip("|").split("|"))
               for line in lines if line.startswith("| `")]
    assert written == [(name, default, accepted, meaning) for
                       name, (_, default, accepted, meaning) in harness.settings_in_help().items()]


def test_the_readme_has_the_defaults():
    """The README's short table: names and defaults, several of them in a row."""
    readme = (harness.ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("\n## Settings\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    settings = harness.settings_in_help()
    for names, defaults, _ in rows:
        names = re.findall(r"`(\w+)`", names)
        shown = [default.strip(" `").replace("none", "") for default in defaults.split(",")]
        assert [settings[name][1] for name in names] == (shown if len(shown) > 1 else shown * len(names))
