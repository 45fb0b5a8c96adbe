#!/usr/bin/env bash
# Runs the GPU tests from a clone, without a network:
#
#     bash scripts/gpu.sh [folder of wheels] [folder of results]
#
# It needs Python 3.11 or later with CUDA torch, pytest and, for several processes, pytest-xdist. The
# wheels are added to that Python's packages for this command only. Instead of the arguments, or in
# addition, these variables may be set:
#
#     WHEELS, OUT             the two folders; by default no wheels, and build/gpu
#     PYTHON                  the interpreter; by default python3
#     GPU_TESTS_SECONDS       the whole time; by default 450, at the end of which it stops
#     GPU_TESTS_PROCESSES     tests at a time; by default one per two cores, at most 8
#     GPU_TESTS_THREADS       threads of a test; by default 2
#     GPU_TESTS_DEVICE=cpu    tries the tests themselves on a machine without a GPU
#     GPU_TESTS_SELECT        for pytest -k
#
# The results are results.md, a line per test in results.jsonl, two JUnit files, and logs.tar.gz:
# pytest's output and the logs of all runs. Some machines return only a few files.
set -uo pipefail

WHEELS=$(realpath -m -- "${1:-${WHEELS:-/nonexistent}}")
OUT=$(realpath -m -- "${2:-${OUT:-$(dirname "$0")/../build/gpu}}")
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-python3}
limit=${GPU_TESTS_SECONDS:-450}
export GPU_TESTS_DEVICE=${GPU_TESTS_DEVICE:-cuda}
export GPU_TESTS_OUT=$OUT
export PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$OUT" "$work/packages"
rm -f "$OUT"/results.* "$OUT"/*.xml

# A wheel is an archive of packages, so a Python without pip can use it too.
has_pip=$("$PYTHON" -m pip --version > /dev/null 2>&1 && echo yes)
tag=$("$PYTHON" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
for file in "$WHEELS"/*.whl; do
    [ -e "$file" ] || continue
    if [ -n "$has_pip" ]; then
        echo "$file" >> "$work/wheels"
    elif [[ $file =~ -none-any|-$tag-|-abi3- ]]; then
        "$PYTHON" -m zipfile -e "$file" "$work/packages"
    else
        echo "left out: $file"
    fi
done
if [ -s "$work/wheels" ]; then
    pip=("$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check)
    # All at once is faster; if one does not suit this Python, the others are needed all the same.
    tr '\n' '\0' < "$work/wheels" | xargs -0 "${pip[@]}" --target "$work/packages" 2> /dev/null ||
        while read -r file; do
            "${pip[@]}" --target "$work/packages" "$file" || echo "left out: $file"
        done < "$work/wheels"
fi
# Packages that are too large for a wheel may be packed otherwise.
for file in "$WHEELS"/*.tar.xz "$WHEELS"/*.tar.gz; do
    [ -e "$file" ] && "$PYTHON" -m tarfile -e "$file" "$work/packages"
done
# Archives may have lost the permission to run the programs in them, such as Ray's.
find "$work/packages" -path '*/core/src/*' -type f -exec chmod +x {} +
export PYTHONPATH="$work/packages${PYTHONPATH:+:$PYTHONPATH}"

# A container is often made without compiled files, and then each process compiles everything again.
"$PYTHON" - << 'END'
import compileall
import importlib.util
import os

known = "torch torchvision torchmetrics pytorch_lightning lightning_fabric numpy scipy sklearn "
known += "matplotlib sympy tensorboard networkx rich onnx onnxruntime onnxscript PIL pygments"
places = [path for path in os.environ["PYTHONPATH"].split(os.pathsep) if path]
for name in known.split():
    spec = importlib.util.find_spec(name)
    # One that is compiled stands for the others.
    if spec is None or spec.origin is None or os.path.exists(spec.cached or ""):
        continue
    places += [path for path in spec.submodule_search_locations or () if os.access(path, os.W_OK)]
for place in places:
    compileall.compile_dir(place, quiet=2, workers=0)
END
echo "packages ready after $SECONDS s"

if ! "$PYTHON" - > "$OUT/machine.txt" 2> "$OUT/machine.err" << 'END'
import os
import platform
import sys

import torch

if os.environ["GPU_TESTS_DEVICE"] == "cuda" and not torch.cuda.is_available():
    sys.exit(3)
name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
memory = torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else 0
print(f"{name}, {memory:.0f} GB, {torch.cuda.device_count()} visible; {os.cpu_count()} cores;")
print(f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, Python {platform.python_version()}")
END
then
    if grep -q Traceback "$OUT/machine.err"; then
        cat "$OUT/machine.err"
        echo "GPU tests: torch cannot be used, see above"
        exit 1
    fi
    echo "GPU tests: skipped, there is no CUDA device"
    exit 0
fi
cat "$OUT/machine.txt"

processes=${GPU_TESTS_PROCESSES:-$(($(nproc) / 2 > 8 ? 8 : $(nproc) / 2))}
parallel=()
if "$PYTHON" -c 'import xdist' 2> /dev/null && [ "$processes" -gt 1 ]; then
    parallel=(-n "$processes" --dist loadgroup)
fi

# The first argument names the results, the second is the time to leave, the others are pytest's.
run() {
    local name=$1 left=$((limit - SECONDS - $2))
    shift 2
    [ "$left" -gt 10 ] || { echo "no time left for $name"; return 1; }
    timeout --signal=INT --kill-after=15 "$left" "$PYTHON" -m pytest tests/gpu \
        -p no:cacheprovider --tb=short --durations=15 --basetemp="$work/$name" \
        --junitxml="$OUT/$name.xml" -k "${GPU_TESTS_SELECT:-test}" "$@" 2>&1 |
        tee "$OUT/$name.txt" | grep -v '^$'
    local code=${PIPESTATUS[0]}
    echo "$name: exit code $code after $SECONDS s"
    # No test selected is no failure.
    [ "$code" -eq 5 ] && return 0
    return "$code"
}

failed=0
# A third of the time is for the tests that need the whole GPU.
run parallel $((limit / 3)) -m 'gpu and not serial' "${parallel[@]}" || failed=1
run serial 5 -m 'gpu and serial' || failed=1

# What the runs have written, without checkpoints.
mkdir "$work/pytest"
for file in machine.txt machine.err parallel.txt serial.txt; do
    [ -e "$OUT/$file" ] && mv "$OUT/$file" "$work/pytest"
done
(cd "$work" && find pytest parallel serial -type f \
    \( -path 'pytest/*' -o -name '*.log' -o -name run.json -o -name leaderboard.csv \
    -o -path '*/seen/*.json' \) \
    -size -200k -print0 2> /dev/null | tar --null -czf "$OUT/logs.tar.gz" -T - 2> /dev/null)
cat "$OUT/results.md"
exit "$failed"
