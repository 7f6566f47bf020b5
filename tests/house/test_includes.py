"""Who may include whom: the table of modules in docs/internals/architecture.md, held against the code."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What only those named may use. Generated code and gRPC are the module `proto`.
RESERVED = {
    "hiredis": (re.compile(r"#include <hiredis/"), ["redis"]),
    "httplib": (re.compile(r"#include <httplib\.h>"), ["admin", "rlctl"]),
    "prometheus-cpp": (re.compile(r"#include <prometheus/"), ["metrics"]),
    # rlctl is a program of its own, with flags and variables of its own.
    "the environment": (re.compile(r"\b(secure_)?getenv\b|\benviron\b|#include <CLI/"),
                        ["config", "rlctl"]),
}
INCLUDE = re.compile(r'^\s*#include ([<"])([^>"]+)', re.MULTILINE)
PROTO = re.compile(r"^(grpc|grpcpp|google/protobuf)/|\.pb\.h$")


def modules(page: pathlib.Path) -> dict:
    """What each module may use, from the table below the heading Modules."""
    section = page.read_text().split("\n## Modules\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:3]]
            for line in section.splitlines() if line.startswith("| ")]
    assert rows[0] == ["module", "may use"], f"{page} has no table of modules"
    return {name: set(uses.replace("–", "").replace(",", " ").split()) for name, uses in rows[1:]}


def used_module(quote: str, included: str, directory: pathlib.Path):
    """The module that an include belongs to; None for a system's or library's header."""
    if PROTO.search(included):
        return "proto"
    if included.startswith("ratelimiter/"):
        return included.split("/")[1]
    if quote == '"':
        return directory.name if (directory / included).is_file() else included
    return None


def violations(root: pathlib.Path, may_use: dict) -> list:
    found = []
    patterns = ("include/ratelimiter/*", "include/ratelimiter/*/*", "src/*", "src/*/*")
    for path in sorted(path for pattern in patterns for path in root.glob(pattern)):
        if path.suffix not in (".h", ".cpp", ".in"):
            continue
        text, where = path.read_text(), path.relative_to(root)
        module = "src" if path.parent == root / "src" else path.parent.name
        if module not in may_use:
            found.append(f"{where}: the table has no module {module}")
            continue
        for quote, included in INCLUDE.findall(text):
            used = used_module(quote, included, path.parent)
            if used not in {None, module} | may_use[module]:
                found.append(f"{where}: {module} may not use {used} ({included})")
        for what, (pattern, owners) in RESERVED.items():
            if pattern.search(text) and module not in owners:
                found.append(f"{where}: only {' and '.join(owners)} may use {what}")
    return found


def test_modules_use_only_what_the_table_allows():
    assert violations(ROOT, modules(ROOT / "docs" / "internals" / "architecture.md")) == []


def test_no_two_headers_define_a_class_of_one_name():
    """The linker would take one's functions for the other's, and say nothing."""
    headers = [*ROOT.glob("include/ratelimiter/*/*.h"), *ROOT.glob("src/*/*.h")]
    defined = [name for header in headers for name in re.findall(
        r"^(?:class|struct) (\w+)(?: final)?(?: : [^;{]+)? \{", header.read_text(), re.MULTILINE)]
    assert len(defined) > 50
    assert sorted(defined) == sorted(set(defined))


def test_every_module_of_the_table_exists():
    for name in modules(ROOT / "docs" / "internals" / "architecture.md"):
        assert (ROOT / "src" / name).is_dir(), f"docs/internals/architecture.md names {name}; src/ has no such module"


@pytest.mark.parametrize("path, line, complaint", [
    ("include/ratelimiter/limiter/a.h", '#include "ratelimiter/redis/a.h"', "limiter may not use redis"),
    ("src/limiter/a.cpp", '#include "../redis/a.h"', "limiter may not use ../redis/a.h"),
    ("src/limiter/a.cpp", '#include "limiter/limiter.pb.h"', "limiter may not use proto"),
    ("src/limiter/a.cpp", "#include <grpcpp/server.h>", "limiter may not use proto"),
    ("src/limiter/a.cpp", "#include <hiredis/hiredis.h>", "only redis may use hiredis"),
    ("src/limiter/a.cpp", "#include <httplib.h>", "only admin and rlctl may use httplib"),
    ("src/limiter/a.cpp", "#include <prometheus/counter.h>", "only metrics may use prometheus-cpp"),
    ("src/limiter/a.cpp", 'auto home = std::getenv("HOME");',
     "only config and rlctl may use the environment"),
    ("src/limiter/a.cpp", '#include "surprise/a.h"', "limiter may not use surprise/a.h"),
    ("src/a.cpp", "", "the table has no module src"),
    ("include/ratelimiter/a.h", "", "the table has no module ratelimiter"),
    ("src/surprise/a.cpp", "", "the table has no module surprise"),
])
def test_tells_what_the_table_does_not_allow(tmp_path, path, line, complaint):
    bad = tmp_path / path
    bad.parent.mkdir(parents=True)
    bad.write_text('#include <string>\n#include "ratelimiter/base/a.h"\n' + line)
    [told] = violations(tmp_path, {"base": set(), "limiter": {"base"}})
    assert told.startswith(f"{path}: {complaint}")
