#!/bin/sh
# The README's stills, drawn from real runs of the embedded planner: a question asked, looked into, replayed; eight
# rollouts of another, labelled; a trajectory compared with its fork. Needs tmux and a python3 with pillow and pyte
# (PYTHON names another).
set -eu
cd "$(dirname "$0")/.."
p=assets/pictures
"${PYTHON:-python3}" scripts/screenshot.py "$p/replay.png" --size 120x36 \
    --command "target/release/tillerman --home {home} --seed ${SEED:-2}" -- \
    "until:Tools:" "What is the population of Peru divided by that of Chile?" Enter "until:tokens" wait:0.5 \
    "[" "shot:$p/chat.png" \
    M-t wait:1 Right Right "shot:$p/tokens.png" Escape \
    F2 "until:sessions " wait:1 Down Enter wait:1 Left Left Left Left Left wait:0.3
# Without its adapter the planner's answers differ more, and a fork may take another way. With this seed the third
# answer is the right one, which is labelled: look at the picture after a change to the planner.
"${PYTHON:-python3}" scripts/screenshot.py "$p/compare.png" --size 120x36 \
    --command "target/release/tillerman --home {home} --adapter none --seed ${SEED_GROUP:-4}" -- \
    "until:Tools:" "What is 2+3*4+5*6?" Enter "until:tokens" wait:0.5 M-g "until:8 of 8 rollouts ended" wait:0.5 \
    Right wait:0.5 Right wait:0.5 "+" wait:1 "shot:$p/groups.png" \
    F2 "until:sessions " wait:1 Down Enter wait:1 Left "[" "[" "[" "]" f wait:0.5 Enter wait:5 \
    "/compare" Enter wait:1
