#!/usr/bin/env bash
# Everything that is worth running when a GPU is at hand: throughput first, then every row of the tables on GlaS with
# three seeds, the rows that matter most first. Run it again, in the same or in another session, and it goes on.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/gpu_backlog.sh --data DIR --out DIR [--max-minutes N] [--seeds "0 1 2"] [--rows "NAME NAME"]
                              [--set KEY=VALUE]… [--skip-throughput]
       scripts/gpu_backlog.sh --pack DIR --data DIR

  --data DIR         GlaS: Grade.csv, images, masks and folds/, or what --pack made of it
  --pack DIR         shrink the images of --data to a shorter side of 432 px into DIR (masks keep their size), and end
  --out DIR          a folder a run: models, metrics.jsonl, scores; finished ones are skipped, others continued
  --max-minutes N    begin no epoch after N minutes; what is unfinished waits for the next call
  --set KEY=VALUE    for every training, such as encoder=efficientnet-lite0 or model.encoder.weights=resnet18.safetensors

Example: scripts/gpu_backlog.sh --data glas432 --out runs --max-minutes 25 --set encoder=efficientnet-lite0
TEXT
}

rows="maxmin-sem cam-avg wildcat maxmin-fg deep-mil maxmin-eem pn u-net maxmin-fg-sem maxmin-fg-eem cam-max cam-lse erase
maxmin-sem-released maxmin-eem-released"
seeds="0 1 2" data="" out="" pack="" minutes="" throughput=yes set=()
while [ $# -gt 0 ]; do
  case $1 in
    --data) data=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --pack) pack=$2; shift 2 ;;
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
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}

if [ -n "$pack" ]; then
  exec "$python" "$here/pack_glas.py" "$data" "$pack"
fi

# Minutes that are left, rounded down; nothing where there is no limit.
left() { [ -z "$minutes" ] || echo $((minutes - SECONDS / 60)); }
is_over() { [ -n "$minutes" ] && [ "$(left)" -le 0 ]; }
is_done() { [ -f "$1/run.json" ] && grep -q '"status": "done"' "$1/run.json"; }

mkdir -p "$out"
if [ -n "$throughput" ] && [ ! -f "$out/throughput-train.txt" ]; then
  "$python" "$here/../benchmarks/train.py" | tee "$out/.throughput-train.txt"
  mv "$out/.throughput-train.txt" "$out/throughput-train.txt"
fi

failed=0
for seed in $seeds; do
  for row in $rows; do
    is_over && { echo "out of time: run the same command again"; exit "$failed"; }
    run=$out/$row-s$seed
    if ! is_done "$run"; then
      limit=()
      [ -z "$minutes" ] || limit=(--set "training.max_minutes=$(left)")
      echo "== $row, seed $seed"
      "$python" -m wsi_maxmin train "glas/$row" --data "$data" --out "$run" --resume --set "seed=$seed" \
        --set data.train=folds/train.csv --set data.valid=folds/valid.csv "${set[@]}" "${limit[@]}" ||
        { echo "failed: $row, seed $seed" >&2; failed=1; continue; }
    fi
    if is_done "$run" && [ ! -f "$run/scores/scores.json" ]; then
      "$python" -m wsi_maxmin evaluate "$run" --data "$data" --split valid --label-source true --out "$run/scores" ||
        { echo "not scored: $row, seed $seed" >&2; failed=1; }
    fi
  done
done
exit "$failed"
