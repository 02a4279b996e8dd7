#!/bin/sh
# Stands before rustc (RUSTC_WRAPPER): our own crate and the fuzz targets count the edges they pass, and nothing
# else is compiled anew for it. Plain -C options, so the stable toolchain does.
crate=""
previous=""
for word in "$@"; do
  [ "$previous" = --crate-name ] && crate=$word
  previous=$word
done
case ${CARGO_PKG_NAME:-}:$crate in
  tillerman:tillerman | tillerman-fuzz:*)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
    ;;
esac
exec "$@"
