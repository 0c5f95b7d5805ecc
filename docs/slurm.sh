#!/usr/bin/env bash
# One run on a Slurm cluster: planned here, computed by an array of jobs, its tables written when the last of them has ended.
#
#   export XBENCH_CACHE=/shared/cache
#   SHARES=16 docs/slurm.sh suite=mnist explainer='cam/*' limit=none out=/shared/runs/mnist device=cuda -- --gpus-per-task=1
#
# What stands after -- goes to sbatch. The same command again goes on: only what is missing is computed.
set -euo pipefail
settings=() how=() out="" options=()
while [ $# -gt 0 ]; do
    case $1 in
        --) shift; options=("$@"); break ;;
        out=*) out=${1#out=} ;;
        device=* | workers=* | threads=* | batch=* | budget=* | silence=*) how+=("$1") ;;
        *) settings+=("$1") ;;
    esac
    shift
done
: "${out:?say where the run goes, on storage that all nodes see: out=DIR}"
: "${XBENCH_CACHE:?export the folder of trained networks, on storage that all nodes see}"
export XBENCH_CACHE SHARES="${SHARES:-8}" XBENCH="${XBENCH:-$PWD/.venv/bin/xbench}"

if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then # a job of the array
    exec "$XBENCH" work "$out" -q --shard "$SLURM_ARRAY_TASK_ID/$SHARES" "${how[@]}"
elif [ -n "${XBENCH_LAST:-}" ]; then # the job after it: whatever a lost one left, and the tables
    exec "$XBENCH" run "${settings[@]}" "${how[@]}" "out=$out"
fi
"$XBENCH" run "${settings[@]}" "out=$out" --plan
again=("$0" "${settings[@]}" "${how[@]}" "out=$out")
array=$(sbatch --parsable --requeue "--array=1-$SHARES" "--output=$out/slurm-%a.log" "${options[@]}" "${again[@]}")
XBENCH_LAST=1 sbatch "--dependency=afterany:${array%%;*}" "--output=$out/slurm-last.log" "${options[@]}" "${again[@]}"
