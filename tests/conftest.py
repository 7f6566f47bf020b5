"""The fast tier of the tests from outside: `pytest --fast FOLDER` runs one of each kind.

These are the first test of each file, and those marked `fast`. Of the parameters of a first
test it takes the first. A Fault is marked by its field `fast`.
"""

import pytest

# These need programs that the fast tier does not install (a browser, Envoy, npm's packages), or
# half a minute.
EXCEPT = {"test_live_page", "test_balancers_tls", "test_lost_instances", "test_connection_age"}


def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true", help="one test of each kind")


def pytest_configure(config):
    config.addinivalue_line("markers", "fast: runs in the fast tier")


def is_marked(item) -> bool:
    fault = getattr(item, "callspec", None) and item.callspec.params.get("fault")
    return item.get_closest_marker("fast") is not None or getattr(fault, "fast", False)


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--fast"):
        return
    first = {}
    for item in items:
        first.setdefault(item.path, item)
    kept = [item for item in items if item.path.stem not in EXCEPT and
            (item is first[item.path] or is_marked(item))]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
