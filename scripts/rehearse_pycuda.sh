#!/usr/bin/env bash
# Runs the tests that use the real pycuda, on a machine without a GPU: pycuda is built from its source against
# NVIDIA's headers and runs over tests/shim, a CUDA driver in the host's memory. What only a driver shows is
# checked there: contexts in threads, forgotten synchronising, freed buffers, stream capture; with a fake TensorRT
# on top, for whole engines. The tests for a GPU run there, too, which shows that they work. Needs a C and a C++
# compiler, binutils, Python's headers and a package index; takes some minutes.
# Usage: scripts/rehearse_pycuda.sh [CUDA]   (12 is JetPack 6, 13 is JetPack 7)
set -Eeuo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
cuda=${1:-12}
case $cuda in
    12) headers=(nvidia-cuda-runtime-cu12==12.6.* nvidia-cuda-profiler-api-cu12==12.6.*) ;;
    13) headers=(nvidia-cuda-runtime==13.* nvidia-cuda-profiler-api==13.*) ;;
    *)
        printf 'Usage: scripts/rehearse_pycuda.sh [12|13]\n' >&2
        exit 2
        ;;
esac
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
driver=$work/driver
mkdir -- "$driver"

printf '==> making an environment\n'
python3 -m venv "$work/venv"
python=$work/venv/bin/python
"$python" -m pip install --quiet . pytest pytest-timeout hypothesis

printf '==> compiling the stand-in for the driver\n'
"$python" -m pip install --quiet --no-deps --target "$work/headers" "${headers[@]}"
include=()
for name in cuda.h cudaProfiler.h; do
    include+=("$(dirname -- "$(find "$work/headers" -name "$name")")")
done
compile() {
    cc -std=gnu11 -O1 -Wall -Wextra -Wno-unused-parameter -Werror -shared -fPIC -pthread \
        -isystem "${include[0]}" -Wl,-soname,libcuda.so.1 -o "$driver/libcuda.so.1" "$@"
}
compile tests/shim/*.c
ln -s -- libcuda.so.1 "$driver/libcuda.so"

printf '==> building pycuda\n'
version=$("$python" -c 'import json; print(json.load(open("tests/engines/pycuda_api.json"))["version"])')
"$python" -m pip download --quiet --no-deps --no-binary pycuda --dest "$work" "pycuda==$version"
tar -xzf "$work"/pycuda-*.tar.gz -C "$work"
cat >"$work/pycuda-$version/siteconf.py" <<SITECONF
CUDA_INC_DIR = ["${include[0]}", "${include[1]}"]
CUDADRV_LIB_DIR = ["$driver"]
CUDA_ENABLE_CURAND = False
SITECONF
"$python" -m pip install --quiet --quiet "$work/pycuda-$version"

# What pycuda links and the stand-in lacks; the loader wants all of it.
extension=$(find "$work/venv" -path '*/pycuda/_driver.*.so')
nm -D --undefined-only "$extension" | awk '$2 ~ /^cu[A-Z]/ { print $2 }' | sort >"$work/needed"
nm -D --defined-only "$driver/libcuda.so.1" | awk '{ print $3 }' | sort >"$work/present"
comm -23 "$work/needed" "$work/present" |
    awk '{ printf "int %s(void) { return 801; } /* CUDA_ERROR_NOT_SUPPORTED */\n", $1 }' >"$work/unsupported.c"
compile tests/shim/*.c "$work/unsupported.c"
printf 'of %s functions that pycuda links, %s only say that they are not supported\n' \
    "$(wc -l <"$work/needed")" "$(wc -l <"$work/unsupported.c")"

printf '==> testing\n'
export LD_LIBRARY_PATH=$driver
"$python" scripts/pycuda_names.py "$work/names.json"
diff -- tests/engines/pycuda_api.json "$work/names.json"
# One after the other: pytest fails where it runs none, so none of them can be skipped unseen.
for tests in real_pycuda engine_on_pycuda gpu; do
    "$python" -m pytest -p no:cacheprovider -q "tests/engines/test_$tests.py"
done
printf '==> pycuda over CUDA %s behaves\n' "$cuda"
