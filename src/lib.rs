//! Tillerman: a terminal deck for agents on your own machine that get better by use.
//!
//! AgentFlow (arXiv 2510.05592) for one person with one computer: a planner, an executor, a verifier and a
//! generator work through an evolving memory on a local GGUF model in llama.cpp.
//!
//! Two files to read first: `flow/solve.rs` (the loop, one page) and `flow/event.rs` (the log that live view,
//! replay, `--json`, tests and training all read).
//!
//! # The map, in the order data flows up
//! Imports point to earlier lines only; `tests/tidy.rs` fails on a breach.
//!
//! | layer | modules | what for |
//! |---|---|---|
//! | L0 | [`error`] [`config`] [`text`] | typed errors, settings, the only string a screen accepts |
//! | L1 | [`gguf`] [`engine`] | what a GGUF file says, before C++ sees it; completions: a worker process around llama.cpp, endpoints elsewhere, a script, all behind one trait |
//! | L2 | [`tools`] | effects on the world: calculator, search, python and shell in their sandbox, files, web, MCP servers, base generator; what a call touches, and who is asked first |
//! | L3 | [`flow`] | the agent: events, trajectory, memory, prompts, roles, solve |
//! | L4 | [`store`] | SQLite: events, model calls, labels, sessions |
//! | L5 | [`tasks`] [`train`] | questions with checkable answers, the scripted teacher, statistics; Flow-GRPO on the served model |
//! | L6 | [`deck`] | the screen; the only place that names ratatui or crossterm |
//! | L7 | [`cli`] | one file per command |
//!
//! # What must hold (mostly absences)
//! 1. `flow` knows no terminal, no file, no database: engine, tools and sink are handed in.
//! 2. An event is recorded before it is shown; folding a trajectory's events gives the trajectory.
//! 3. A failed tool, a refused plan or bad model text is a turn, not an error.
//! 4. What was sampled is kept as sampled: token ids, log-probabilities, forced marks; never re-tokenised.
//! 5. Models live in a worker process: an abort in C++ ends a query with a reason, never the terminal.
//! 6. Model-written code runs in the sandbox or not at all.
//! 7. What trained is what was sampled: rows come from recorded ids, of the adapter to be trained, or not at all.
//! 8. A training step owns one process and one folder; until its adapter is kept under its hash, nothing changed.
//!    Where the kernel can see to it, neither this process nor the engine's can change anything else.
//! 9. Adapters are immutable; "current" is a pointer. Worse is never activated, cannot tell only by a person.
//! 10. All state lives under one data directory (0700), outside every folder a tool can write.
//!
//! # Where this differs from the first picture of it, and why
//! - Streaming text is `event::Progress`, not an event: the `model_call` that follows holds every token, so
//!   recording pieces too would store everything twice.
//! - A grammar-held role first draws freely; only a draw the grammar refuses is drawn again under the mask
//!   and marked forced. Log-probabilities therefore are always those of the unconstrained policy.
//! - The verifier judges (query, memory, newest result) and its verdict enters memory with the entry, in one
//!   piece, as the paper draws it; the reference code leaves the verdict out.
//! - The trainer's CPU path is plain Rust (`train/kernels`, packed BF16 or F32 products on threads that wait
//!   without spinning) instead of ggml graphs: ggml gives types and unpacking. Devices have a path of their own, ggml
//!   graphs behind the same trait (`train::passes`), nine times slower than ours where ggml runs on the CPU.
//! - A device is held against the CPU before each step, forward and back on a few tokens: no driver is trusted unread.
//!   Vulkan's and Metal's products round to half precision, so gradients go through a device scaled near 1.
//! - Going back, layers use what they kept going forward, as many as memory allows, in the products' own words; the
//!   others round alike, so that memory decides no bit.
//! - Who samples and who trains is settled between processes, by two locks in the data directory (`engine::cores`): a
//!   deck's query and another terminal's step would crawl side by side just as those of one program.
//! - One process per training step, not one that stays: its memory goes back whole, a kill costs one step, and
//!   the state between steps is exactly what lies in the adapter's folder.
//! - The learning rate follows the step bound: each step begins with the rate at which the last one's length was
//!   right (nats per token to its parent), so nobody tunes it.
//! - Frozen roles are fitted by imitation; only the planner learns from rewards. The embedded planner comes with
//!   an adapter that `make reproduce` trained; it is kept in the store at first start and can be taken back.
//! - The embedded planner's vocabulary holds common words and numbers of three digits whole and cuts anything else
//!   into pieces of letters alone, not a token per digit: a run of zeros and a name after another sign were what
//!   five million parameters could not copy (`recipe/README.md`).
//! - Training questions are said in wordings with alternatives, none of which comes within two words of one that
//!   judges (`tasks/wordings.rs`, a test): near copies had stood on both sides.
//! - llama.cpp is built without its AMX products (`.cargo/config.toml`): GCC 12 drops the tile configuration they
//!   load, and a seed gives one answer with AMX and without.
//! - What other trainers got wrong is a list of lines to put back (`tests/traps`), each with the test that notices.
//! - Events and labels carry checksums: SQLite notices a damaged page only where its structure breaks.
//! - A run validates itself on every third gate question, goes back when a step broke the planner and hands over
//!   its best, right answers less what failed calls cost: a training reward of 123 in 128 stood before a run that was no better than before (README).
//! - Scales of a step go down to 1/1024 and its rate to at most four times the preset's: where few groups have
//!   contrast the rate doubled unhindered, and the next full batch was thrown away, five times of nine.
//! - A query that walks in circles ends: the loop compares commands, not words (`flow::solve`).
//! - The embedded planner's generator is extractive: an answer that is no passage of memory is drawn again under a
//!   grammar of its passages, and the one the free model finds likeliest as a whole is taken (`flow::quote`).
//! - An evaluation's trajectories are stored as a session that no list of questions shows (`store::evaluations`);
//!   its questions know nothing of each other, so nobody can go on in it.
//! - The KL budget is the exact divergence at each planner token: k3 of sampled tokens was decided by a few of them.
//! - In mode `flow` a turn whose plan could not be run counts as *plan bad* by the checker, and a right rollout that holds
//!   one is worth a fifth less: failed calls rose with training as long as only the answer paid.
//! - What does not fit the context is left out, oldest first, instead of failing the query, and is an event of its own
//!   (`flow::fit`). A model too small to see that a query stands alone is shown earlier ones only where words refer back
//!   to them (`flow::refers`, English; a setting of the prompt pack).
//! - A step on labels is measured on prompts of its own: read on other questions' prompts a step on one group went so far
//!   that the gate found it worse (`recipe/EXPERIMENTS.md`). Both at once is still to be built.
//! - A step on labels takes the temperature its rollouts were drawn at; the gate asks what labels know a right answer to,
//!   so that a model of one's own has a gate without a file (`train::ledger`). Groups form in four ways (`cli/train/forming`).
//! - `llama.cpp` is built without OpenMP: its own thread pool, threads = cores - 1 unless told otherwise.
//!
//! # Words
//! Query, QueryAnalysis, Plan, Command, ToolCard, ToolResult, Verdict, Memory, MemoryEntry, Answer, Turn,
//! Trajectory (one pass over one query), Rollout (a trajectory sampled for training), Group, Label (a
//! person's), Reward (what training uses), ModelCall, Adapter.

pub mod config;
pub mod error;
pub mod text;

pub mod engine;
pub mod gguf;
pub mod tools;

pub mod flow;
pub mod store;
pub mod tasks;
pub mod train;

pub mod cli;
pub mod deck;
