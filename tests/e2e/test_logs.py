"""The log: its lines, the access log, ids of calls and traces, and what is dropped."""

import contextlib
import fcntl
import json
import os
import re
import signal
import time

import grpc
import pytest

import harness
import stalls
from test_bad_input import HOSTILE

PAGE = harness.ROOT / "docs" / "use" / "logs.md"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
OURS = re.compile(r"[0-9a-f]{32}")


def call(daemon, method="AllowRequest", metadata=(), **fields):
    """A call, whatever comes of it: the answer or None, and its initial metadata."""
    request = harness.message(f"{method}Request")(**fields).SerializeToString()
    stub = daemon.channel.unary_unary(f"/limiter.RateLimiter/{method}")
    try:
        answer, ended = stub.with_call(request, metadata=metadata, timeout=10)
    except grpc.RpcError as error:
        return None, dict(error.initial_metadata())
    return harness.message(f"{method}Response").FromString(answer), dict(ended.initial_metadata())


def fields_of_text(line: str) -> dict:
    """The fields of a line of text, by docs/use/logs.md."""
    time_, level, rest = line.split(" ", 2)
    message, _, tail = rest.removeprefix(" ").partition("\t")
    pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "=\\]+)(?: |$)', tail)
    assert " ".join(f"{key}={value}" for key, value in pairs) == tail, line

    def value_of(text):
        if re.fullmatch(r'".*"|\d+|true|false', text):
            with contextlib.suppress(json.JSONDecodeError):  # 007
                return json.loads(text)
        return text
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), line
    return {"time": time_, "level": level, "message": message} | {
        key: value_of(value) for key, value in pairs}


def fields_of_json(line: str) -> dict:
    def once(pairs):
        assert len(dict(pairs)) == len(pairs), line
        return dict(pairs)
    return json.loads(line, object_pairs_hook=once)


READ = {"text": fields_of_text, "json": fields_of_json}


def lines_of(daemon, form="json") -> list:
    text = daemon.log_text()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]", text)
    # Whatever a reader takes for the end of a line is one.
    assert text.splitlines() == text.split("\n")[:-1]
    lines = [READ[form](line) for line in text.splitlines()]
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
        assert line["level"] in ("debug", "info", "warning", "error")
    return lines


def of_kind(kind, daemon, form="json") -> list:
    return [line for line in lines_of(daemon, form) if line.get("kind") == kind]


def await_lines(kind, count, daemon, form="json") -> list:
    """Lines are written soon, not at once."""
    harness.wait_until(lambda: daemon.log_text().endswith("\n") and
                       len(of_kind(kind, daemon, form)) >= count, what=f"{count} lines of {kind}")
    lines = of_kind(kind, daemon, form)
    assert len(lines) == count
    return lines


def dropped(daemon) -> dict:
    return {sample.labels["kind"]: sample.value
            for sample in daemon.samples("rate_limiter_log_dropped_total")}


@contextlib.contextmanager
def in_memory(**settings):
    with harness.daemon(**{"STORE": "memory", "REFILL_INTERVAL": "30d"} | settings) as daemon:
        yield daemon


# --- The access log ---


def documented() -> dict:
    """Field to type, from the page's table."""
    section = PAGE.read_text().split("\n## Access log\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (string|number|bool) \|", section, re.MULTILINE))


def type_of(value) -> str:
    return {bool: "bool", int: "number", str: "string"}[type(value)]


@pytest.mark.parametrize("form", READ)
def test_the_fields_are_those_of_the_page(form):
    ids = [("x-request-id", "call-1"), ("traceparent", TRACEPARENT)]
    gone = f"redis://127.0.0.1:{harness.free_port()}"
    seen = {}
    with in_memory(ACCESS_LOG=1, LOG_FORMAT=form) as daemon, harness.daemon(
            ACCESS_LOG=1, LOG_FORMAT=form, REDIS_URL=gone, FAIL_MODE="open") as astray:
        call(daemon, metadata=ids, user_id="user", path="/login", cost=5)
        call(daemon, user_id="user", path="/login", dry_run=True)
        call(daemon, user_id="user", path="/login", cost=6)
        call(daemon, "GetUsage", user_id="user", path="/login")
        call(daemon, "AllowRequests", requests=[{"user_id": "user"}])
        call(astray, user_id="user", path="/login")
        for line in await_lines("access", 5, daemon, form) + await_lines("access", 1, astray, form):
            assert (line["level"], line["message"]) == ("info", "call")
            for key in line.keys() - {"time", "level", "message", "kind"}:
                seen.setdefault(key, set()).add(type_of(line[key]))
    assert seen == {key: {kind} for key, kind in documented().items()}


def test_a_line_tells_what_came_of_the_call():
    with in_memory(ACCESS_LOG=1, CAPACITY=1) as daemon:
        call(daemon, user_id="user", path="/login")
        answer, _ = call(daemon, user_id="user", path="/login")
        call(daemon, user_id="", path="/login")
        allowed, denied, invalid = await_lines("access", 3, daemon)
    assert (allowed["status"], allowed["code"], allowed["remaining"]) == ("allowed", "OK", 0)
    assert allowed["method"] == "AllowRequest" and allowed["limit"] == "default"
    assert "retry_after_us" not in allowed and "trace_id" not in allowed
    assert (denied["status"], denied["code"]) == ("denied", "OK")
    assert denied["retry_after_us"] == answer.retry_after.ToMicroseconds()
    assert (invalid["status"], invalid["code"]) == ("error", "INVALID_ARGUMENT")
    assert invalid["error"] == "user_id is empty; accepted: 1 to 256 bytes"
    assert 0 < allowed["duration_us"] < 10_000_000
    assert re.fullmatch(r"ipv4:127\.0\.0\.1:\d+", allowed["peer"])


@pytest.mark.parametrize("level, start_line, lines", [("info", 1, 1), ("error", 1, 1)])
def test_the_level_does_not_matter(level, start_line, lines):
    with in_memory(ACCESS_LOG=1, LOG_LEVEL=level) as daemon:
        call(daemon, user_id="user")
        await_lines("access", lines, daemon)
        assert sum("gRPC on" in line["message"] for line in lines_of(daemon)) == start_line


@pytest.mark.parametrize("share", [None, "0"])
def test_off_is_the_default(share):
    with in_memory(ACCESS_LOG=share, LOG_LEVEL="debug") as daemon:
        call(daemon, user_id="user", metadata=[("x-request-id", "call-1"), ("traceparent", TRACEPARENT)])
        assert daemon.terminate() == 0
        assert of_kind("access", daemon) == []


def test_all_calls_of_a_trace_are_logged_or_none():
    with in_memory(ACCESS_LOG="0.5") as one, in_memory(ACCESS_LOG="0.5") as other:
        for number in range(60):
            trace = f"{number * 7919 + 1:032x}"
            for daemon in (one, other, other):
                call(daemon, user_id="user", metadata=[("traceparent", f"00-{trace}-{SPAN}-01")])
        assert one.terminate() == other.terminate() == 0
        traces = [line["trace_id"] for line in of_kind("access", one)]
        assert 10 < len(traces) < 50
        assert [line["trace_id"] for line in of_kind("access", other)] == [
            trace for trace in traces for _ in range(2)]


# --- Ids ---


def test_a_request_id_is_given_back():
    with in_memory() as daemon:
        for name in ("AllowRequest", "GetUsage"):
            for user in ("user", ""):  # An error has it, too.
                _, given = call(daemon, name, [("x-request-id", "a.B:c/d+e=f@g_h-1")], user_id=user)
                assert given["x-request-id"] == "a.B:c/d+e=f@g_h-1"
        _, given = call(daemon, "AllowRequests", [("x-request-id", "1")], requests=[{"user_id": "u"}])
        assert given["x-request-id"] == "1"
        _, given = call(daemon, user_id="user")
        assert "x-request-id" not in given


NOT_IDS = ["", "a b", "<script>alert(1)</script>", '"},{"message":"forged"', "\\", "{}", "a,b", "x" * 129,
           "x" * 4_000]


@pytest.mark.parametrize("sent", [[value] for value in NOT_IDS] + [["one", "two"]])
def test_a_request_id_that_is_not_acceptable_is_replaced(sent):
    with in_memory(ACCESS_LOG=1) as daemon:
        _, given = call(daemon, metadata=[("x-request-id", value) for value in sent], user_id="user")
        (line,) = await_lines("access", 1, daemon)
        assert OURS.fullmatch(given["x-request-id"])
        assert line["request_id"] == given["x-request-id"]


def test_a_call_that_is_logged_gets_an_id():
    with in_memory(ACCESS_LOG=1) as daemon:
        given = [call(daemon, user_id="user")[1]["x-request-id"] for _ in range(10)]
        assert [line["request_id"] for line in await_lines("access", 10, daemon)] == given
        assert len(set(given)) == 10 and len({value[:16] for value in given}) == 1


@pytest.mark.parametrize("sent, read", [
    (TRACEPARENT, True), (f"cc-{TRACE}-{SPAN}-01-more", True), (TRACEPARENT.upper(), False),
    (TRACEPARENT + "-more", False), (f"00-{'0' * 32}-{SPAN}-01", False), (f"ff-{TRACE}-{SPAN}-01", False),
    (f'00-{TRACE}-{SPAN}-01","x":"', False), ("<script>", False), ("0" * 4_000, False),
])
def test_a_traceparent_is_read_strictly(sent, read):
    with in_memory(ACCESS_LOG=1) as daemon:
        call(daemon, metadata=[("traceparent", sent)], user_id="user")
        (line,) = await_lines("access", 1, daemon)
        assert (line.get("trace_id"), line.get("span_id")) == ((TRACE, SPAN) if read else (None, None))


def test_a_warning_has_the_ids_of_its_call():
    gone = f"redis://127.0.0.1:{harness.free_port()}"
    with harness.daemon(REDIS_URL=gone) as daemon:
        for number in range(5):
            _, given = call(daemon, metadata=[("x-request-id", f"call-{number}"),
                                              ("traceparent", TRACEPARENT)], user_id="user")
            assert given["x-request-id"] == f"call-{number}"
        (line,) = await_lines("store", 1, daemon)
        assert line["level"] == "warning" and "store failed" in line["message"]
        assert (line["request_id"], line["trace_id"], line["span_id"]) == ("call-0", TRACE, SPAN)
        assert dropped(daemon)["store"] == 4
        degraded = daemon.samples("rate_limiter_degraded_total")
        assert sum(sample.value for sample in degraded) == 5


# --- Nothing can be forged ---


def harmless(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]", "\ufffd", text)


FORGERIES = [*HOSTILE, "<script>alert(1)</script>", "\u2066a\u2069", 'x" status="allowed', "a\tkind=grpc",
             "user kind=store dropped=9", '","status":"allowed","x":"', "𝄞\n" * 51, "true", "42", "007"]


@pytest.mark.parametrize("form", READ)
def test_no_request_can_forge_a_line_or_a_field(form):
    with in_memory(ACCESS_LOG=1, LOG_FORMAT=form, LOG_LEVEL="debug") as daemon:
        for text in FORGERIES:
            call(daemon, user_id=text, path=text, attributes={text[:16]: text[:64]},
                 metadata=[("x-request-id", "call-1")])
        lines = await_lines("access", len(FORGERIES), daemon, form)
        for text, line in zip(FORGERIES, lines):
            for key in ("user_id", "path"):
                # In text, a number looks as one.
                assert str(line[key]).lower() == harmless(text).lower() or text == "007"
            assert line["status"] == "allowed" and line["request_id"] == "call-1"
            assert line.keys() <= documented().keys() | {"time", "level", "message", "kind"}


@pytest.mark.parametrize("form", READ)
def test_what_is_too_long_is_cut(form):
    with in_memory(ACCESS_LOG=1, LOG_FORMAT=form) as daemon:
        for text in ("x" * 8_192, "\n" * 8_192, "𝄞" * 2_048, '"' * 8_192, "\0" * 8_192):
            call(daemon, user_id=text, path=text, attributes={text: text})
            line = await_lines("access", 1, daemon, form)[0] if text[0] == "x" else None
            if line:
                assert line["user_id"] == line["path"] == "x" * 1_024
        for line in await_lines("access", 5, daemon, form):
            assert (line["status"], line["code"]) == ("error", "INVALID_ARGUMENT")
            for key in ("user_id", "path"):
                assert 1_020 <= len(line[key].encode()) <= 1_024
                assert not line[key].strip('x\ufffd𝄞"')


def test_no_limits_file_can_forge_a_line(tmp_path):
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{name: a, capacity: 5, refill: 1 per 1s}]")
    with in_memory(LIMITS_FILE=limits, REFILL_INTERVAL=None) as daemon:
        names = ", ".join(f"{{name: {json.dumps(text, ensure_ascii=False)}, capacity: 5, refill: 1 per 1s}}"
                          for text in FORGERIES[-10:-3])
        (tmp_path / "new").write_text(f"limits: [{names}]")
        (tmp_path / "new").rename(limits)
        daemon.await_log("not reloaded")
        assert daemon.terminate() == 0
        lines = of_kind("reload", daemon)
        assert len(lines) == 8 and all(line.keys() == {"time", "level", "message", "kind"}
                                        for line in lines)


# --- A log that nobody reads ---


class Unread(harness.Daemon):
    """A daemon whose stderr is a small pipe, read only by log_text()."""

    def _open_log(self):
        self.read_end, write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4_096)
        self.read = b""
        return os.fdopen(write_end, "wb")

    def log_text(self) -> str:
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.read_end, 65_536):
                self.read += part
        return self.read.decode()


@contextlib.contextmanager
def unread(**settings):
    daemon = Unread(STORE="memory", CAPACITY=1_000_000, ACCESS_LOG=1, **settings)
    try:
        yield daemon
    finally:
        daemon.channel.close()
        harness.end(daemon.process)
        daemon.log.close()
        os.close(daemon.read_end)


def fill(daemon) -> int:
    """Calls until lines are dropped, and then some more. Gives their number."""
    times, begun = [], time.monotonic()

    def some(_):
        for _ in range(50):
            begun = time.monotonic()
            answer, _ = call(daemon, user_id="user", path="/" * 1_000)
            times.append(time.monotonic() - begun)
            assert answer.allowed
    while True:
        last = dropped(daemon)["access"] > 0
        harness.at_once(some, 4)
        assert max(times) < 1 + stalls.allowance(begun), "calls are held up"
        if last:
            return len(times)


def test_a_log_that_nobody_reads_holds_up_no_call():
    with unread() as daemon:
        calls = fill(daemon)
        daemon.process.send_signal(signal.SIGHUP)  # Its line has room all the same.
        lost = dropped(daemon)
        assert 0 < lost.pop("access") < calls and set(lost.values()) == {0}

        daemon.await_log("SIGHUP")
        call(daemon, user_id="last")
        daemon.await_log('"last"')
        lines = of_kind("access", daemon)
        assert len(lines) + dropped(daemon)["access"] == calls + 1
        assert sum(line.get("dropped", 0) for line in lines) == dropped(daemon)["access"]
        assert lines[-1]["dropped"] == dropped(daemon)["access"]


def test_a_log_that_nobody_reads_holds_up_no_end():
    with unread() as daemon:
        fill(daemon)
        assert daemon.terminate() == 0
