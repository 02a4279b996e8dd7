//! Flow-GRPO on the GGUF that serves: rollouts in, adapter out, on this machine.
//!
//! The order data flows: `rollout` draws groups with the flow, `reward` takes the ledger's or a checker's
//! word, `rows` and `labelled` make of them what a step learns from, `tree` turns groups into one prefix
//! tree, `advantage` and `objective` say what each sampled token is worth, `model` computes log-probabilities
//! and LoRA gradients on the CPU and `device` on what llama.cpp finds besides, `adamw` steps, `step` puts these together inside the training worker, `gate` judges the
//! candidate, `validation` picks a run's best, `train_loop` is the whole run.
//! It never draws and never names the deck.

pub mod adamw;
pub mod adapter_file;
pub mod advantage;
pub mod batch;
pub mod client;
pub mod contrast;
pub mod device;
pub mod error;
pub mod gate;
pub mod judge;
pub mod kernels;
pub mod kl_budget;
pub mod labelled;
pub mod ledger;
pub mod live;
pub mod lora;
pub mod material;
pub mod memory;
pub mod merge;
pub mod model;
pub mod objective;
pub mod passes;
pub mod peft;
pub mod presets;
pub mod progress;
pub mod recorded;
pub mod reference;
pub mod reward;
pub mod rollout;
pub mod rows;
pub mod safetensors;
pub mod step;
pub mod step_size;
pub mod train_loop;
pub mod tree;
pub mod validation;
pub mod watch;
pub mod worker;
