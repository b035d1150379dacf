#!/usr/bin/env bash
# Everything that is worth running when a GPU is at hand: throughput first, then the runs of a plan with each seed, those
# that matter most first. Run it again, in the same or in another session, and it goes on.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

usage() {
  cat <<'TEXT'
Usage: scripts/gpu_backlog.sh --data DIR --out DIR [--plan FILE] [--jobs N] [--max-minutes N] [--seeds "0 1 2"]
                              [--rows "NAME NAME"] [--set KEY=VALUE]… [--skip-throughput]
       scripts/gpu_backlog.sh --pack DIR --data DIR

  --data DIR         GlaS: Grade.csv, images, masks and folds/, or what --pack made of it
  --pack DIR         shrink the images of --data to a shorter side of 432 px into DIR (masks keep their size), and end
  --out DIR          a folder a run: models, metrics.jsonl, scores; finished ones are skipped, others continued
  --plan FILE        a run a line, its name, its config and what it changes [scripts/glas_backlog.txt]
  --jobs N           runs at once, each with its log in --out: a small training leaves most of a large GPU idle [1]
  --max-minutes N    begin no epoch after N minutes; what is unfinished waits for the next call
  --rows "NAME NAME" only these runs of the plan
  --set KEY=VALUE    for every training, such as encoder=efficientnet-lite0 or model.encoder.weights=resnet18.safetensors

Example: scripts/gpu_backlog.sh --data glas432 --out runs --jobs 12 --max-minutes 25 --set encoder=efficientnet-lite0
TEXT
}

seeds="0 1 2" data="" out="" pack="" minutes="" throughput=yes set=() jobs=1 rows="" plan=$here/glas_backlog.txt
while [ $# -gt 0 ]; do
  case $1 in
    --data) data=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --pack) pack=$2; shift 2 ;;
    --plan) plan=$2; shift 2 ;;
    --jobs) jobs=$2; shift 2 ;;
    --max-minutes) minutes=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    --rows) rows=$2; shift 2 ;;
    --set) set+=(--set "$2"); shift 2 ;;
    --skip-throughput) throughput=; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "unknown option: $1" >&2; usage >&2; exit 2 ;;
  esac
done
[ -n "$data" ] && [ -n "$out$pack" ] || { echo "--data and one of --out and --pack are needed" >&2; usage >&2; exit 2; }
[[ $jobs =~ ^[1-9][0-9]*$ ]] || { echo "--jobs: got $jobs; expected a whole number from 1" >&2; exit 2; }
[ -f "$plan" ] || { echo "no such plan: $plan" >&2; exit 2; }
for row in $rows; do
  grep -q "^$row[[:space:]]" "$plan" || { echo "no such run in $plan: $row" >&2; exit 2; }
done
python=${PYTHON:-python}

if [ -n "$pack" ]; then
  exec "$python" "$here/pack_glas.py" "$data" "$pack"
fi

# Minutes that are left, to a hundredth; nothing where there is no limit.
left() { [ -z "$minutes" ] || awk -v all="$minutes" -v gone="$SECONDS" 'BEGIN { printf "%.2f", all - gone / 60 }'; }
is_over() { [ -n "$minutes" ] && awk -v left="$(left)" 'BEGIN { exit !(left <= 0) }'; }
is_done() { [ -f "$1/run.json" ] && grep -q '"status": "done"' "$1/run.json"; }

# run NAME CONFIG SEED [KEY=VALUE]…: train or go on, and score what is finished.
run() {
  local name=$1-s$3 config=$2 folder=$out/$1-s$3 own=(--set "seed=$3") key
  for key in "${@:4}"; do own+=(--set "$key"); done
  [ -z "$minutes" ] || own+=(--set "training.max_minutes=$(left)")
  if ! is_done "$folder"; then
    echo "== $name"
    "$python" -m wsi_maxmin train "$config" --data "$data" --out "$folder" --resume --set data.train=folds/train.csv \
      --set data.valid=folds/valid.csv "${set[@]}" "${own[@]}" || { echo "failed: $name" >&2; return 1; }
  fi
  if is_done "$folder" && [ ! -f "$folder/scores/scores.json" ]; then
    "$python" -m wsi_maxmin evaluate "$folder" --data "$data" --split valid --label-source true --pictures none \
      --out "$folder/scores" || { echo "not scored: $name" >&2; return 1; }
  fi
}

mkdir -p "$out"
for what in train engines; do
  measured=$out/throughput-$what.txt
  if [ -n "$throughput" ] && [ ! -f "$measured" ]; then
    "$python" "$here/../benchmarks/$what.py" | tee "$measured.partial"
    mv "$measured.partial" "$measured"
  fi
done

failed=0 running=0
# Count a run that has ended, as soon as there is one.
reap() { wait -n || failed=1; running=$((running - 1)); }
for seed in $seeds; do
  while read -r name config changes; do
    [[ -z $name || $name == \#* ]] && continue
    [ -z "$rows" ] || [[ " $rows " == *" $name "* ]] || continue
    [ "$running" -lt "$jobs" ] || reap
    is_over && { echo "out of time: run the same command again"; break 2; }
    # shellcheck disable=SC2086  # the changes are words
    if [ "$jobs" -gt 1 ]; then
      run "$name" "$config" "$seed" $changes </dev/null >"$out/$name-s$seed.log" 2>&1 &
    else
      run "$name" "$config" "$seed" $changes </dev/null &
    fi
    running=$((running + 1))
  done <"$plan"
done
while [ "$running" -gt 0 ]; do reap; done
exit "$failed"
