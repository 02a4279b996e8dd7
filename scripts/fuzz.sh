#!/bin/sh
# libFuzzer on every target, one after the other, guided by coverage; needs neither cargo-fuzz nor nightly.
# FUZZ_SECONDS per target (default 60), FUZZ_TARGETS a choice of them. What it learns stays in target/fuzz, so the
# next run goes on from there. Ends with the executions and hours of all runs so far; an input that fails is named.
set -eu
cd "$(dirname "$0")/.."
. scripts/env.sh
seconds=${FUZZ_SECONDS:-60}
targets=${FUZZ_TARGETS:-gguf safe_text plan command frames import address page reply mcp_tool tasks score adapter settings template calculator screen peft quote}
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
kept=$target_dir/fuzz
mkdir -p "$kept"

# The same versions as the program's, so that what is built already serves.
cp Cargo.lock fuzz/Cargo.lock
RUSTC_WRAPPER=$PWD/scripts/fuzz-rustc.sh CARGO_TARGET_DIR=$target_dir \
  cargo build --release --quiet --manifest-path fuzz/Cargo.toml

failed=0
for target in $targets; do
  mkdir -p "$kept/$target"
  log=$kept/$target.log
  # Words that mutation would take hours to spell.
  dict=""
  [ -f "fuzz/dict/$target" ] && dict="-dict=fuzz/dict/$target"
  began=$(date +%s)
  "$target_dir/release/$target" -max_total_time="$seconds" -print_final_stats=1 -timeout=20 \
    -rss_limit_mb=2048 -max_len=65536 -artifact_prefix="$kept/$target-" \
    $dict \
    "$kept/$target" "fuzz/corpus/$target" >"$log" 2>&1 || failed=1
  took=$(($(date +%s) - began))
  count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
  echo "$target $took ${count:-0}" >>"$kept/runs"
  echo "$target: ${count:-0} executions in $took s, ${edges:-0} edges, $(ls "$kept/$target" | wc -l) inputs kept"
  if grep -q 'Test unit written to' "$log"; then
    grep -m1 'panicked at' -A2 "$log" || true
    grep 'Test unit written to' "$log"
    failed=1
  fi
done
echo "all runs so far:"
awk '{ seconds[$1] += $2; count[$1] += $3 } END { for (t in count) printf "  %-10s %12d executions  %6.2f h\n", t, count[t], seconds[t] / 3600 }' "$kept/runs" | sort
exit $failed
