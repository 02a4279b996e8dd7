//! Tillerman: a terminal deck for agents on your own machine that get better by use.

pub mod config;
pub mod error;
pub mod text;

pub mod engine;
pub mod gguf;
pub mod tools;

pub mod flow;
pub mod store;
pub mod tasks;

pub mod cli;
pub mod deck;
