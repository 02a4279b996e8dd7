# Two commands matter: `make run` and `make test`. Both install what is missing first.
.PHONY: setup run test fmt lint bench drill fuzz reproduce clean

# One optimised profile for everything: llama.cpp compiles once.
CARGO ?= cargo
PROFILE := --release --locked

setup:
	@sh scripts/setup.sh

# The deck; without a terminal it answers one sample question in plain text instead.
run: setup
	@. scripts/env.sh && $(CARGO) run $(PROFILE) --quiet --

test: setup
	@. scripts/env.sh && $(CARGO) fmt --check
	@. scripts/env.sh && $(CARGO) clippy $(PROFILE) --all-targets --quiet -- -D warnings
	@. scripts/env.sh && $(CARGO) test $(PROFILE) --quiet --no-fail-fast 2>&1 | sh scripts/summary.sh

lint:
	@. scripts/env.sh && $(CARGO) clippy $(PROFILE) --all-targets -- -D warnings

fmt:
	@. scripts/env.sh && $(CARGO) fmt

# Longer than a test: kill -9 loops, faults at every writing call, power cuts, damaged pages, killed engines; prints
# figures.
# TILLERMAN_ROUNDS, TILLERMAN_KILLS and TILLERMAN_DECKS set how long.
drill: setup
	@. scripts/env.sh && nice -n 5 $(CARGO) test $(PROFILE) --test store --test drill -- --ignored --nocapture --test-threads=1 drill_

# libFuzzer on every reader of foreign bytes, FUZZ_SECONDS (60) each; goes on from what earlier runs found.
fuzz: setup
	@sh scripts/fuzz.sh

bench: setup
	@. scripts/env.sh && $(CARGO) run $(PROFILE) --quiet -- bench

# The training comparison on the embedded planner: five arms, three seeds, a quarter of an hour each. Goes on where it
# was interrupted; the report and its pictures are in reproduce/.
reproduce: setup
	@. scripts/env.sh && $(CARGO) build $(PROFILE) --quiet
	@sh scripts/reproduce.sh reproduce

clean:
	@. scripts/env.sh && $(CARGO) clean
