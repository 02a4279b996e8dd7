#!/bin/sh
# The paper's training comparison in miniature, on the embedded planner: frozen, imitation of its own right
# rollouts, Flow-GRPO (ours), Flow-GRPO with the released code's row statistics, and shuffled rewards as the
# control that must not learn; each over several seeds, all judged on the held-out questions.
#
#   scripts/reproduce.sh [FOLDER]      SEEDS="1 2 3" STEPS=30 JOBS=1 TILLERMAN=target/release/tillerman
#                                      ARMS="flow shuffled imitation reference" SETTINGS='kl_budget = 0.2'
#
# SETTINGS are lines of the settings file's [train], with \n between them, for every arm; without them a failed
# call costs a right rollout 0.4 in our own mode alone, as the others know no such price. A seed is that of a
# run's training and of its judging, and what it is paired with is the frozen planner under the same seed.
# What is finished is not done again: interrupted, it goes on. The report is FOLDER/report.md and its pictures.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
bin=${TILLERMAN:-$here/target/release/tillerman}
seeds=${SEEDS:-1 2 3}
steps=${STEPS:-30}

settings() {
    case $1 in
        flow | shuffled) own='kl_budget = 0.4\nfault_cost = 0.4' ;;
        *) own='kl_budget = 0.4' ;;
    esac
    printf '%b\n' "${SETTINGS:-$own}"
}

# A run of one arm with one seed: train, then the held-out questions with what came of it.
one() {
    folder=$1 arm=$2 seed=$3
    home=$folder/$arm-$seed
    mkdir -p "$home" && chmod 700 "$home"
    # One engine thread: two runs side by side then share two cores without fighting over them. Every arm begins
    # with the bare planner.
    {
        printf '[engine]\nthreads = 1\nshipped_adapter = false\n[train]\n'
        settings "$arm"
    } >"$home/config.toml"
    adapter=none
    if [ "$arm" != frozen ]; then
        more="--mode $arm"
        # The control hands over its last adapter, unjudged: picking its best look would be picking luck.
        [ "$arm" = shuffled ] && more="--shuffle-rewards --validate-every 0 --pairs 0"
        if [ ! -f "$home.trained" ]; then
            rm -f "$home"/tillerman.db*
            # shellcheck disable=SC2086
            "$bin" --home "$home" --seed "$seed" train --tasks "$here/assets/tasks/train.jsonl" --steps "$steps" \
                --draws 2 --json $more >"$home.train.jsonl" 2>"$home.train.log"
            touch "$home.trained"
        fi
        adapter=$(sed -n 's/^{"kind":"trained","adapter":"\([^"]*\)".*/\1/p' "$home.train.jsonl" | tail -1)
    fi
    [ -f "$home.done" ] && return
    rm -f "$home.eval.jsonl"
    "$bin" --home "$home" --seed "$seed" eval --tasks "$here/assets/tasks/held_out.jsonl" \
        --adapter "${adapter:-none}" --parallel 16 --json >"$home.eval.jsonl" 2>"$home.eval.log"
    touch "$home.done"
    echo "$arm, seed $seed: $(tail -1 "$home.eval.jsonl" | sed 's/.*"n":\([0-9]*\),"accuracy":\([0-9.]*\).*/\2 of \1/')"
}

if [ "${1:-}" = --one ]; then
    shift
    one "$@"
    exit
fi
folder=${1:-reproduce}
mkdir -p "$folder"
for arm in frozen ${ARMS:-flow shuffled imitation reference}; do
    for seed in $seeds; do echo "$arm $seed"; done
done | xargs -P "${JOBS:-1}" -L 1 sh "$0" --one "$folder"
"$bin" __reproduce-report "$folder"
