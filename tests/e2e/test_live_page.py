"""The page on ADMIN_PORT in a real Chromium, over a daemon with traffic. Run by itself with a
path, it writes a picture of the page there:

    /usr/bin/python3 tests/e2e/test_live_page.py docs/use/live-page.png
"""

import base64
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import threading

import grpc
import pytest

import harness

try:
    from selenium import webdriver
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.chrome.service import Service
except ImportError:
    webdriver = None

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = harness.ROOT / "build/tools/node_modules/axe-core/axe.min.js"
# On Ubuntu, which has Chromium as a snap alone; ./dev installs them elsewhere.
pytestmark = pytest.mark.skipif(None in (webdriver, BROWSER, DRIVER),
                                reason="needs Chromium, its driver and Selenium")

LIMITS = """
limits:
  - {name: login, path: /login, capacity: 5, refill: 1 per 2s}
  - {name: search, path: /api/*, attributes: {plan: free}, capacity: 20, refill: 20 per 10s}
  - {name: tenants, path: /api/*, by: [user, attributes.tenant], capacity: 40, refill: 5 per 1s}
  - {name: trial, path: /api/*, capacity: 10, refill: 1 per 1s, shadow: true}
"""
# By user id what is shown: the daemon replaces control characters, and the page shows by
# their numbers what else cannot be seen.
HOSTILE = {
    "<script>window.hacked = 1</script>": "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>": "<img src=x onerror='window.hacked = 1'>",
    "</td></table><h1>owned": "</td></table><h1>owned",
    "\"' onmouseover=window.hacked=1 \"": "\"' onmouseover=window.hacked=1 \"",
    "{{7*7}}${7*7}": "{{7*7}}${7*7}",
    "line\none\r\ntwo": "line\ufffdone\ufffd\ufffdtwo",
    "nul\0here": "nul\ufffdhere",
    "\u202egnp.exe\u2066": "\ufffdgnp.exe\ufffd",
    "zero\u200bwidth\ufeff": "zeroU+200BwidthU+FEFF",
    "\u2028para\u2029": "\ufffdpara\ufffd",
    "𝄞 😀 \U000e0041": "𝄞 😀 U+E0041",
    "é" * 128: "é" * 64,
    "__proto__": "__proto__",
    "constructor": "constructor",
}


@contextlib.contextmanager
def traffic(daemon, users=40, callers=2):
    """Calls of a few paths by users of whom some send far more than others, until the
    `with` ends: some hundred a second, so that a browser has its share of the machine."""
    chance, pause = random.Random(7), threading.Event()

    def call():
        user = f"user-{min(int(chance.paretovariate(0.7)), users)}"
        path = chance.choice(["/login", "/api/search", "/api/items", "/about"])
        attributes = {"plan": chance.choice(["free", "pro"]), "tenant": chance.choice("abc")}
        daemon.allow(user, path, attributes=attributes)
        pause.wait(0.004)

    with harness.load(call, callers) as outcomes:
        yield outcomes


def options_of(*, width=1280, height=1400):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("headless=new", "disable-gpu", "disable-dev-shm-usage", "disable-quic",
                 "no-first-run", "disable-background-networking", "disable-component-update",
                 "disable-sync", "hide-scrollbars", f"window-size={width},{height}"):
        options.add_argument(f"--{flag}")
    # Chromium does not start as root with its sandbox, which is of use to who browses
    # pages of strangers; this one sees ours alone.
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return options


@contextlib.contextmanager
def browser():
    driver = webdriver.Chrome(service=Service(DRIVER), options=options_of())
    try:
        driver.set_script_timeout(60)
        yield driver
    finally:
        driver.quit()


class Page:
    """The page in a browser."""

    def __init__(self, driver, daemon):
        self.driver, self.origin = driver, f"http://127.0.0.1:{daemon.admin_port}"

    def open(self):
        # The page that was there before asks a daemon that may be gone, until it is gone too.
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(f"{self.origin}/")
        self.wait(lambda: self.text("uptime") != "–", "the first answer")
        return self

    def wait(self, predicate, what):
        return harness.wait_until(predicate, 30, what)

    def find(self, identity):
        return self.driver.find_element("id", identity)

    def text(self, identity) -> str:
        return self.driver.execute_script(
            "return document.getElementById(arguments[0]).textContent", identity)

    def number(self, identity) -> float:
        found = re.match(r"[\d,.]+", self.text(identity))
        return float(found[0].replace(",", "")) if found else 0.0

    def rows(self, identity) -> list:
        """The cells' texts of a table's body."""
        return self.driver.execute_script(
            "return [...document.getElementById(arguments[0]).tBodies[0].rows].map("
            "row => [...row.cells].map(cell => cell.textContent))", identity)

    def answer(self) -> str:
        return self.text("answer")

    def submit(self, user, **fields):
        for name, value in ({"user": user} | fields).items():
            field = self.find(name)
            field.clear()
            field.send_keys(value)
        self.send()

    def send(self):
        # Where it still sends, another click does nothing.
        self.wait(lambda: not self.sends(), "the answer before")
        self.find("send").click()

    def sends(self) -> bool:
        return self.driver.execute_script("return sending")

    def focused(self) -> str:
        return self.driver.execute_script("return document.activeElement.id")

    def press(self, *keys):
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def console(self) -> list:
        return self.driver.get_log("browser")

    def requests(self) -> list:
        """The addresses that the page has asked for since this was asked last."""
        events = [json.loads(entry["message"])["message"]
                  for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events
                if event["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def redis():
    with harness.redis_server() as server:
        yield server


@pytest.fixture
def daemon(redis, tmp_path):
    limits = tmp_path / "limits.yaml"
    limits.write_text(LIMITS)
    with harness.daemon(REDIS_URL=redis.url, LIMITS_FILE=limits, ADMIN_PORT=0) as running:
        yield running


@pytest.fixture(scope="module")
def driver():
    with browser() as running:
        yield running


@pytest.fixture
def page(driver, daemon):
    """Whatever is done with it, it asks nobody but its daemon, and has nothing to complain of."""
    opened = Page(driver, daemon).open()
    yield opened
    assert opened.console() == []
    asked = opened.requests()
    assert f"{opened.origin}/" in asked and f"{opened.origin}/api/v1/stats" in asked
    assert {url for url in asked if not url.startswith((opened.origin + "/", "data:"))} == set()


# --- What it shows ---


def test_numbers_move_under_traffic(page, daemon):
    with traffic(daemon):
        for shown in ("allowed", "denied", "share", "trips"):
            page.wait(lambda: page.number(shown) > 0, shown)
        for shown in ("p50", "p95", "p99"):
            page.wait(lambda: re.fullmatch(r"[\d.,]+ (µs|ms|s)", page.text(shown)), shown)
        before = page.text("allowed"), page.text("trips"), page.text("uptime")
        for shown, old in zip(("allowed", "trips", "uptime"), before):
            page.wait(lambda: page.text(shown) != old, f"another {shown}")
        page.wait(lambda: page.driver.execute_script(
            "return document.querySelector('#allowed-spark .line').getAttribute('d')"), "a line")


def test_numbers_are_the_daemons(page, daemon):
    def scraped() -> dict:
        return {status: daemon.total("rate_limiter_requests_total", status=status)
                for status in ("allowed", "denied", "error")}

    def answered() -> list:
        return page.driver.execute_script("return past.map(one => [one.t, one.stats.requests])")

    with traffic(daemon) as outcomes:
        page.wait(lambda: page.number("allowed") > 0 and len(outcomes) > 500, "traffic")
        # What is shown, and the answers that it is of.
        shown, times = page.driver.execute_script(
            "return [allowed.textContent, past.map(one => [one.t, one.stats.requests.allowed])]")
    end, last = times[-1]
    begin, first = next(point for point in times if point[0] >= end - 5.5)
    assert abs(float(shown.replace(",", "")) - (last - first) / (end - begin)) <= 0.5
    page.wait(lambda: answered()[-1][1] == scraped(), "all that was counted")


def test_limits_are_shown_with_their_state(page, daemon):
    with traffic(daemon):
        page.wait(lambda: any(row[3] not in ("–", "0") for row in page.rows("limits")),
                  "shadow refusals")
        page.wait(lambda: any(row[2] not in ("–", "0") for row in page.rows("limits")), "refusals")
    login, search, _, trial = page.rows("limits")
    assert login[0] == "login5 tokens, 1 back every 2s · /login"
    assert search[0] == "search20 tokens, 20 back every 10s · /api/*, plan=free"
    assert trial[0] == "trialshadow10 tokens, 1 back every 1s · /api/*"
    assert trial[2] == "–" and login[3] == "–"
    assert "/limits.yaml, loaded " in page.text("limits-hint")


def test_the_heaviest_users_come_first(page, daemon):
    denied = 0
    for _ in range(400):
        daemon.allow("heavy", "/about")
        denied += not daemon.allow("greedy", "/login")["allowed"]
    page.wait(lambda: page.rows("top-allowed") and page.rows("top-allowed")[0][0] == "heavy", "heavy")
    page.wait(lambda: page.rows("top-denied") and page.rows("top-denied")[0][0] == "greedy", "greedy")
    # Counts fade, slowly.
    page.wait(lambda: 0.9 * denied <= int(page.rows("top-denied")[0][2].removeprefix("≤ ")) <= denied,
              "what was denied")


def test_settings_are_shown_those_that_are_set_first(page, redis):
    def shown() -> dict:
        rows = page.driver.execute_script(
            "return [...document.querySelectorAll('#settings tbody tr')].filter("
            "row => row.checkVisibility()).map(row => [...row.cells].map(cell => cell.innerText))")
        return {head.split("\n")[0]: value.split("\n") for head, value in rows}

    values = shown()
    assert values["REDIS_URL"] == [redis.url, "set in the environment; default: redis://127.0.0.1:6379"]
    assert "CAPACITY" not in values
    page.find("set-only").click()
    values = shown()
    assert values["CAPACITY"] == ["5", "default"]
    help_text = harness.run_to_end("--help").stdout
    assert list(values) == re.findall(r"\(Env:(\w+)\)", help_text)


def test_hostile_ids_are_text(page, daemon):
    for _ in range(450):
        for user in HOSTILE:
            daemon.allow(user, "/login")
    expected = set(HOSTILE.values())

    def shown() -> set:
        return {row[0] for row in page.rows("top-denied")}

    # More than are shown: those that are, are as they should be.
    page.wait(lambda: len(shown() & expected) >= 9, "the hostile users")
    for identity in ("top-allowed", "top-denied"):
        tags = page.driver.execute_script(
            "return [...document.querySelectorAll('#' + arguments[0] + ' tbody *')].map("
            "one => one.localName)", identity)
        assert set(tags) <= {"tr", "th", "td", "span", "bdi"}
    for user in ("<img src=x onerror='window.hacked = 1'>", "\u202e<b>", "'\"><script>hacked = 1"):
        page.submit(user, path="/<script>window.hacked = 1</script>", attributes="<b>=<i>")
        page.wait(lambda: not page.sends() and "No limit applies" in page.answer(), "the answer")
    page.submit("u", attributes="\u202egnp\u2028<b>")
    page.wait(lambda: "“U+202EgnpU+2028<b>” is not key=value" in page.answer(), "the error")
    assert page.driver.execute_script("return window.hacked === undefined")
    assert page.driver.execute_script(
        "return document.querySelectorAll('img, b:not(.trio b), i, h1, script').length") == 2


# --- The form ---


def test_a_dry_run_takes_nothing_and_a_real_one_does(page, daemon):
    left = lambda: daemon.allow("tried", "/login", cost=0)["remaining"]
    page.submit("tried", path="/login", cost="4")
    page.wait(lambda: "Allowed" in page.answer(), "the answer")
    assert "dry run: no tokens taken" in page.answer() and left() == 5
    page.find("dry").click()
    assert page.text("send") == "Send, and take tokens"
    page.send()
    page.wait(lambda: "· tokens taken" in page.answer(), "the answer")
    assert left() in (1, 2)
    page.send()
    page.wait(lambda: "Denied" in page.answer(), "the refusal")
    assert 'Limit "login" exceeded: cost 4, ' in page.answer() and "no tokens taken" in page.answer()
    assert left() in (1, 2, 3)
    (row,) = page.driver.execute_script(
        "return [...document.querySelectorAll('#answer tbody tr')].map("
        "row => [...row.cells].map(cell => cell.textContent))")
    assert row[:2] == ["login", "denied"] and row[3].endswith(" s")


def test_what_is_wrong_with_a_request_is_told(page):
    page.submit("u", path="/login", cost="9")
    page.wait(lambda: "INVALID_ARGUMENT" in page.answer(), "the error")
    assert "login" in page.answer()
    # The browser tells of the answer's status by itself.
    assert all("400" in entry["message"] for entry in page.console())
    page.submit("u", cost="1", attributes="plan")
    page.wait(lambda: "Not sent" in page.answer(), "the error")
    page.submit("u", path="/api/x", attributes="plan=free\ntenant = a=b\n__proto__=x\n")
    page.wait(lambda: "tenants" in page.answer() and "search" in page.answer(), "the answer")


def test_the_keyboard_reaches_all(page):
    page.press(Keys.TAB)
    link = page.driver.switch_to.active_element
    assert link.text == "Skip to the form" and link.rect["y"] >= 0
    page.press(Keys.ENTER)
    page.wait(lambda: page.focused() == "user", "the form")
    page.press("by keyboard")
    for field in ("path", "cost", "attributes", "dry", "send", "set-only"):
        page.press(Keys.TAB)
        assert page.focused() == field
        ring = page.driver.execute_script(
            "return getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", f"the focus on {field} is not seen"
    page.find("user").send_keys(Keys.ENTER)
    page.wait(lambda: "Allowed" in page.answer() or "No limit" in page.answer(), "the answer")
    assert page.focused() == "user"
    ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    assert page.focused() == "pause"
    page.press(Keys.SPACE)
    assert page.find("pause").get_attribute("aria-pressed") == "true"
    assert page.text("state") == "Paused"
    page.press(Keys.SPACE)
    page.wait(lambda: page.text("state") == "Ready", "that it goes on")


def test_what_was_taken_is_told_as_it_was(driver):
    with harness.redis_server() as server, harness.daemon(
            REDIS_URL=server.url, ADMIN_PORT=0, FAIL_MODE="local") as daemon:
        page = Page(driver, daemon).open()
        server.kill()
        page.find("dry").click()
        page.submit("u", path="/x")
        page.wait(lambda: "· tokens taken" in page.answer(), "the answer of this instance alone")
    driver.get("about:blank")


def test_a_second_click_is_not_a_second_request(page, daemon):
    page.find("dry").click()
    page.find("user").send_keys("once")
    page.find("path").send_keys("/login")
    daemon.process.send_signal(signal.SIGSTOP)
    page.find("send").click()
    page.find("send").click()
    daemon.process.send_signal(signal.SIGCONT)
    page.wait(lambda: "· tokens taken" in page.answer(), "the answer")
    asked = page.requests()
    assert asked.count(f"{page.origin}/api/v1/check") == 1
    page.open()  # For the fixture, which looks at what is asked first.


# --- When it asks, and when nobody answers ---


def requests_in(page, milliseconds) -> list:
    page.requests()
    page.driver.execute_async_script("setTimeout(arguments[1], arguments[0])", milliseconds)
    return page.requests()


def test_it_asks_about_once_a_second_and_not_while_nobody_looks(page):
    asked = requests_in(page, 4200)
    assert 1 <= asked.count(f"{page.origin}/api/v1/stats") <= 5
    hide = ("Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))")
    page.driver.execute_script(hide, True)
    page.wait(lambda: not page.driver.execute_script("return asking"), "the answers on their way")
    assert requests_in(page, 3000) == []
    page.driver.execute_script(hide, False)
    page.wait(lambda: f"{page.origin}/api/v1/stats" in page.requests(), "that it asks again")
    page.open()  # For the fixture, which looks at what is asked first.


def test_it_says_when_the_daemon_does_not_answer(driver):
    port = harness.free_port()
    with harness.daemon(STORE="memory", ADMIN_PORT=port) as daemon:
        page = Page(driver, daemon).open()
        assert page.text("state") == "Ready" and page.find("memory").is_displayed()
        assert not page.find("notice").is_displayed()
    page.wait(lambda: page.text("state") == "No response", "that it is said")
    assert page.find("notice").is_displayed() and "has not responded since" in page.text("notice")
    assert page.find("alert").get_attribute("role") == "alert"
    assert page.text("alert") == page.text("notice")
    assert driver.title == "No response – Rate limiter"
    with harness.daemon(STORE="memory", ADMIN_PORT=port):
        page.wait(lambda: page.text("state") == "Ready", "the daemon's return")
        assert not page.find("notice").is_displayed() and driver.title == "Rate limiter"
    driver.get("about:blank")


def test_it_says_when_redis_is_the_cause(driver):
    with harness.redis_server() as server, harness.daemon(
            REDIS_URL=server.url, ADMIN_PORT=0, FAIL_MODE="open") as daemon:
        page = Page(driver, daemon).open()
        page.wait(lambda: page.text("state") == "Ready", "readiness")
        assert page.text("breaker") == "closed" and page.text("mode") == "open"
        server.kill()
        page.wait(lambda: page.text("state") == "Degraded", "that it is degraded")
        assert "FAIL_MODE=open decides" in page.text("notice")
        with harness.load(lambda: daemon.allow("u"), 1):
            page.wait(lambda: page.text("breaker").startswith("open"), "the breaker")
            page.wait(lambda: page.number("degraded") > 0, "what FAIL_MODE decides")
        # Its times go on, and are not read out each second.
        page.wait(lambda: re.search(r"for \d+m?s", page.text("alert")), "how long it is away")
        driver.execute_script("""
            window.read = 0;
            new MutationObserver(() => ++window.read).observe(
                document.getElementById("alert"), {childList: true, characterData: true, subtree: true});""")
        before = page.text("notice")
        page.wait(lambda: page.text("notice") != before, "another time")
        assert driver.execute_script("return window.read") == 0
    driver.get("about:blank")


# --- The token ---


@pytest.fixture
def guarded(tmp_path):
    (tmp_path / "token").write_text("t0ken\n")
    with harness.daemon(STORE="memory", ADMIN_PORT=0,
                        ADMIN_TOKEN_FILE=tmp_path / "token") as running:
        running.token_file = tmp_path / "token"
        yield running


def locked(driver, daemon):
    """The page of a daemon that asks for a token, in a tab that knows none."""
    page = Page(driver, daemon)
    driver.get(f"{page.origin}/healthz")
    driver.execute_script("sessionStorage.clear()")
    driver.get(f"{page.origin}/")
    page.wait(lambda: page.find("sign-in").is_displayed(), "the form")
    return page


def test_it_asks_for_the_token_and_keeps_it(driver, guarded):
    page = locked(driver, guarded)
    assert page.text("state") == "Locked" and page.focused() == "token"
    hidden = ("limits", "settings", "try", "json", "pause", "notice")
    assert not any(page.find(one).is_displayed() for one in hidden)
    assert requests_in(page, 2500) == []
    page.find("token").send_keys("wrong", Keys.ENTER)
    page.wait(lambda: page.text("notice") == "Invalid token.", "that it is told")
    page.find("token").send_keys("t0ken", Keys.ENTER)
    page.wait(lambda: page.text("state") == "Ready", "the first answer")
    assert page.find("limits").is_displayed() and not page.find("sign-in").is_displayed()
    page.submit("user", path="/")
    page.wait(lambda: "Allowed" in page.answer(), "an answer")
    assert "t0ken" not in driver.page_source and "t0ken" not in driver.current_url
    # It is asked for once, as long as it is the one.
    driver.refresh()
    page.wait(lambda: page.text("state") == "Ready", "the first answer")
    assert not page.find("sign-in").is_displayed() and not page.find("json").is_displayed()
    guarded.token_file.write_text("another\n")
    page.wait(lambda: page.find("sign-in").is_displayed(), "the form")
    assert page.text("notice") == "Invalid token."
    assert driver.execute_script("return sessionStorage.length") == 0
    driver.get("about:blank")


# --- For everybody ---


@contextlib.contextmanager
def emulated(driver, **parameters):
    """`parameters`: those of the DevTools' setEmulatedMedia or setDeviceMetricsOverride."""
    method = "setEmulatedMedia" if "features" in parameters else "setDeviceMetricsOverride"
    driver.execute_cdp_cmd(f"Emulation.{method}", parameters)
    try:
        yield
    finally:
        if "features" in parameters:
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        else:
            driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def scheme(value) -> dict:
    return {"features": [{"name": "prefers-color-scheme", "value": value}]}


@pytest.mark.skipif(not AXE.exists(), reason="needs npm, for axe-core")
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing(colours, width, driver, daemon):
    # Axe is no script of the page's, which would not let it in.
    driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    try:
        with emulated(driver, **scheme(colours)), emulated(
                driver, width=width, height=900, deviceScaleFactor=1, mobile=False):
            page = Page(driver, daemon).open()

            def is_refused() -> bool:
                # However long the page takes to ask: by then its tokens may be back.
                daemon.allow("refused", "/login", cost=5)
                daemon.allow("refused", "/login", cost=5)
                page.submit("refused", path="/login", cost="5")
                return "Denied" in page.wait(page.answer, "an answer")

            page.wait(is_refused, "a refusal")
            page.wait(lambda: page.rows("top-denied"), "the users")
            page.find("set-only").click()
            background = driver.execute_script(
                "return getComputedStyle(document.body).backgroundColor")
            assert background == ("rgb(246, 246, 243)" if colours == "light" else "rgb(15, 18, 21)")
            result = axe(driver)
    finally:
        driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
    assert len(result["passes"]) > 25
    assert violations(result) == []


def axe(driver) -> dict:
    driver.execute_script(AXE.read_text(encoding="utf-8"))
    return driver.execute_async_script("axe.run().then(arguments[0])")


def violations(result) -> list:
    return [(one["id"], one["impact"], [node["html"] for node in one["nodes"]])
            for one in result["violations"]]


@pytest.mark.skipif(not AXE.exists(), reason="needs npm, for axe-core")
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_in_the_form_for_the_token(colours, driver, guarded):
    driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    try:
        with emulated(driver, **scheme(colours)):
            page = locked(driver, guarded)
            page.find("token").send_keys("wrong", Keys.ENTER)
            page.wait(lambda: page.find("notice").is_displayed(), "that it is told")
            result = axe(driver)
    finally:
        driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
    assert len(result["passes"]) > 15
    assert violations(result) == []
    driver.get("about:blank")


@pytest.mark.skipif(not AXE.exists(), reason="needs npm, for axe-core")
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_while_redis_is_away(colours, driver):
    driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    try:
        # Where nobody listens.
        with emulated(driver, **scheme(colours)), harness.daemon(
                REDIS_URL=f"redis://127.0.0.1:{harness.free_port()}", ADMIN_PORT=0) as daemon:
            page = Page(driver, daemon).open()
            page.wait(lambda: page.text("state") == "Not ready", "that it is not ready")
            result = axe(driver)
    finally:
        driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
        driver.get("about:blank")
    assert violations(result) == []


def test_a_narrow_window_shows_all_of_it(page, driver, daemon):
    daemon.allow("w" * 256, "/login", cost=5)
    daemon.allow("w" * 256, "/login", cost=5)
    page.find("set-only").click()
    with emulated(driver, width=360, height=740, deviceScaleFactor=1, mobile=False):
        page.submit("w" * 256, path="/login")
        page.wait(lambda: "login" in page.answer(), "the answer")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 360
        wide = driver.execute_script(
            "return [...document.querySelectorAll('main *:not(svg, svg *, .unseen)')]"
            ".filter(one => one.getBoundingClientRect().right > 360.5).map(one => one.outerHTML)")
        assert wide == []


# --- The picture in the README ---


def take_picture(path: pathlib.Path):
    """Of the page under traffic, after its lines have grown."""
    with tempfile.TemporaryDirectory(prefix="ratelimiter-") as directory, contextlib.ExitStack() as stack:
        limits = pathlib.Path(directory) / "limits.yaml"
        limits.write_text(LIMITS)
        redis = stack.enter_context(harness.redis_server())
        daemon = stack.enter_context(harness.daemon(
            REDIS_URL=redis.url, LIMITS_FILE=limits, ADMIN_PORT=8081))
        driver = stack.enter_context(browser())
        driver.set_script_timeout(200)
        Page(driver, daemon).open()
        stack.enter_context(traffic(daemon))
        driver.execute_async_script("setTimeout(arguments[0], 125000)")
        with emulated(driver, width=1120, height=1000, deviceScaleFactor=1, mobile=False):
            picture = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    path.write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    take_picture(pathlib.Path(sys.argv[1]).resolve())
