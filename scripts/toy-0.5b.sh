#!/bin/sh
# A random-weight Q8_0 model of Qwen2.5-0.5B's shape, for `tillerman bench --big`: scripts/toy-0.5b.sh OUT.gguf
set -eu
exec "${TILLERMAN:-target/release/tillerman}" __toy-gguf "${1:?OUT.gguf}" --shape 0.5b --type q8_0 --arch qwen2
