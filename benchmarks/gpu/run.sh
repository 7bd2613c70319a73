#!/usr/bin/env bash
# The campaign on a GPU machine without a network: bash benchmarks/gpu/run.sh DIR OUT [--minutes 9] [--device cpu] [--quick]
# DIR is what `python -m benchmarks.gpu pack DIR` wrote; results go to OUT, at most eight files.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 2,3p "$0"; exit 2; }
pack=$(realpath "$1"); mkdir -p "$2"; out=$(realpath "$2"); shift 2
root=$(realpath "$(dirname "$0")/../.."); python=${PYTHON:-python3}
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT

# A wheel is an archive of what is imported: nothing has to be installed.
for wheel in "$pack"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$scratch/site"; done
mkdir "$scratch/work"; tar -xJf "$pack/work.tar.xz" -C "$scratch/work"
cp "$pack/contents.json" "$scratch/work/"

export PYTHONPATH="$root:$scratch/site" PYTHONUNBUFFERED=1 MLCL_OFFLINE=1 HF_HUB_OFFLINE=1
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1
cd "$root"
"$python" -m benchmarks.gpu run "$scratch/work" "$out" "$@"
