#!/usr/bin/env bash
# Everything that wants an accelerator, in a few minutes: tests and figures of loading.
# Usage: tools/gpu_check.sh OUT [DEVICE] [GB]   (cpu instead of cuda:0 tries the script itself)
# Runs on the python of PYTHON with torch, transformers, accelerate and pytest; each step leaves a log in OUT.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "$1" && cd "$1" && pwd) device=${2:-cuda:0} gb=${3:-3} failed=0
python=${PYTHON:-python3} zoo='from internlm_zoo.cli import main; main()'
export PYTHONPATH=$PWD:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH} INTERNLM_ZOO_HOME=$out/home HF_HUB_OFFLINE=1
scratch=$(mktemp -d) && trap 'rm -rf "$scratch" "$out/home"' EXIT

step() { # NAME COMMAND...: goes on after a failure, which the end tells
  local name=$1
  shift
  "$@" >"$out/$name.log" 2>&1 || { failed=1 && echo "$name FAILED" && tail -25 "$out/$name.log"; }
  echo "$name: $(tail -1 "$out/$name.log")"
}

[ "$device" = cpu ] && export INTERNLM_ZOO_TEST_DEVICE=cpu
step machine "$python" -c 'import torch, transformers, platform
print(platform.python_version(), torch.__version__, transformers.__version__, torch.cuda.is_available() and torch.cuda.get_device_name(0))'
step load "$python" benchmarks/load.py --gb "$gb" --runs 3 --device "$device" --directory "$scratch"
cp benchmarks/results/load-"${device%%:*}".md docs/loading.md "$out"/
step model "$python" -c "
from fixtures import checkpoints
from pathlib import Path
checkpoints.llama(Path('$scratch/llama'), checkpoints.INTERNLM2.filling($gb))"
step bench "$python" -c "$zoo" load "$scratch/llama" --devices "$device" --bench 3
step float32 "$python" -c "$zoo" load "$scratch/llama" --devices "$device" --bench 1 --dtype float32
step tests "$python" -m pytest -q -m gpu tests/loading -p no:cacheprovider
tail -q -n 12 "$out"/load.log && tail -q -n 4 "$out"/{bench,float32}.log
exit "$failed"
