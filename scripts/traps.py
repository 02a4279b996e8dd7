#!/usr/bin/env python3
"""Puts each trap of tests/traps/traps.json back into the source, one at a time, and expects the test named there to fail.

    git worktree add ../traps && python3 scripts/traps.py ../traps [NAME PART]

Works in another checkout than its own (the first argument), whose changes it undoes. A trap is one line of source as
it was got wrong elsewhere; the list says which test is to notice. Exit 1 if any goes unnoticed. Needs no package.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

here = Path(__file__).resolve().parent.parent
tree = Path(sys.argv[1]).resolve()
if tree == here:
    sys.exit("traps.py: work in another checkout: git worktree add ../traps")
wanted = sys.argv[2] if len(sys.argv) > 2 else ""
traps = [t for t in json.loads((here / "tests/traps/traps.json").read_text()) if wanted in t["trap"]]

unnoticed = 0
for trap in traps:
    path = tree / trap["file"]
    source = path.read_text()
    if source.count(trap["from"]) != 1:
        print(f"GONE       {trap['trap']}: {trap['file']} no longer holds the line once")
        unnoticed += 1
        continue
    path.write_text(source.replace(trap["from"], trap["to"]))
    try:
        where = ["--test", trap["binary"]] if "binary" in trap else ["--lib"]
        command = ["cargo", "test", "--release", *where, trap["test"]]
        run = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    finally:
        path.write_text(source)
    if re.search(rf"test \S*{trap['test']} \.\.\. FAILED", run.stdout):
        print(f"noticed    {trap['trap']}  ({trap['test']})", flush=True)
    else:
        unnoticed += 1
        why = "the test passes" if "test result: ok" in run.stdout else run.stderr[-400:]
        print(f"UNNOTICED  {trap['trap']}  ({trap['test']}): {why}", flush=True)
print(f"{len(traps) - unnoticed} of {len(traps)} traps noticed")
sys.exit(unnoticed > 0)
