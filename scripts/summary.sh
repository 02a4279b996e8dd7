#!/bin/sh
# Pass test output through, then close with one plain line: N passed, N failed, N skipped.
# Exits as the tests did: non-zero when a test failed, when a test binary did not finish, or when none ran.
awk '
  { print; fflush() }
  /^test result: / {
    for (i = 1; i <= NF; i++) {
      if ($i ~ /^passed/) passed += $(i-1)
      if ($i ~ /^failed/) failed += $(i-1)
      if ($i ~ /^ignored/) ignored += $(i-1)
    }
    binaries++
  }
  /^error(\[|:)/ { broken = 1 }
  END {
    if (broken && !failed) { print "a test binary did not build or did not finish"; failed = 1 }
    if (!passed) { print "no test ran"; if (!failed) failed = 1 }
    printf "%d passed, %d failed, %d skipped\n", passed, failed, ignored
    exit failed ? 1 : 0
  }'
