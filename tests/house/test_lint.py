"""What ./dev lint finds, and how long files may be."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLANG_TIDY = ROOT / "build/tools/venv/bin/clang-tidy"
COUNTER = """#include "ratelimiter/base/mutex.h"
namespace ratelimiter {{
class Counter {{
 public:
  int Get() {{
    {lock}
    return count_;
  }}

 private:
  Mutex mutex_;
  int count_ GUARDED_BY(mutex_) = 0;
}};
int Use() {{ return Counter().Get(); }}
}}  // namespace ratelimiter
"""


@pytest.mark.skipif(not CLANG_TIDY.exists(), reason="needs clang-tidy, which ./dev installs")
@pytest.mark.parametrize("lock, accepted", [("", False), ("const MutexLock lock(mutex_);", True)])
def test_a_guarded_member_is_not_read_without_its_lock(lock, accepted, tmp_path):
    source = tmp_path / "counter.cpp"
    source.write_text(COUNTER.format(lock=lock))
    # The configuration of ./dev lint, less the checks that a test's source need not pass. With
    # diagnostics alone clang-tidy says that no check is enabled.
    done = subprocess.run(
        [CLANG_TIDY, f"--config-file={ROOT}/.clang-tidy", "--quiet",
         "--checks=-*,clang-diagnostic-thread-safety-*,readability-qualified-auto", source,
         "--", "-std=c++20", f"-I{ROOT}/include"], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == accepted, done.stdout + done.stderr
    assert ("clang-diagnostic-thread-safety-analysis" in done.stdout) != accepted
    assert "clang-diagnostic-thread-safety-*" in (ROOT / ".clang-tidy").read_text()


SOURCES = {".cpp", ".h", ".in", ".css", ".html", ".js", ".lua", ".py", ".sh", ""}
MAX_LINES, MAX_TEST_LINES = 400, 500
# Still to be split; no file may be added.
TO_SPLIT = {
    "src/admin/admin_api.cpp", "src/redis/cluster.cpp", "tests/bench/grpc_load.cpp",
    "tests/e2e/test_admin.py", "tests/e2e/test_live_page.py", "tests/e2e/test_redis_deployments.py",
    "tests/e2e/test_rlctl.py", "tests/unit/admin/admin_server_test.cpp",
    "tests/unit/config/settings_test.cpp", "tests/unit/redis/connection_test.cpp",
    "tests/unit/redis/lane_test.cpp", "tests/unit/redis/redis_token_bucket_test.cpp",
}


def test_no_file_is_too_long():
    """A longer test says why in its first ten lines: "Long because …"."""
    too_long = set()
    for top in ("cmake", "dev", "include", "src", "tests", "tools"):
        for path in [ROOT / top, *(ROOT / top).rglob("*")]:
            where = path.relative_to(ROOT)
            if not path.is_file() or path.suffix not in SOURCES or where.parts[:2] == ("tests", "data"):
                continue
            lines = path.read_text(errors="replace").splitlines()
            most = MAX_TEST_LINES if top == "tests" else MAX_LINES
            if len(lines) > most and not (top == "tests" and
                                          re.search(r"\bLong because ", "\n".join(lines[:10]))):
                too_long.add(str(where))
    assert too_long <= TO_SPLIT
