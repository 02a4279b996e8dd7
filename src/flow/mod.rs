//! AgentFlow: query analysis, planner, executor, verifier, generator through an evolving memory.
//!
//! Flow knows no terminal, no file and no database: an engine, a toolbox, a prompt pack and an event
//! sink are handed in. The same `solve` runs live, headless, in tests and in rollouts.
//!
//! ```text
//! query -> analyst -> [ planner -> executor -> tool -> verifier -> memory ]* -> generator -> answer
//! ```

pub mod analyst;
pub mod circles;
pub mod event;
pub mod executor;
pub mod fit;
pub mod fork;
pub mod generator;
pub mod memory;
pub mod planner;
pub mod prompt;
pub mod quote;
pub mod refers;
pub mod run;
pub mod solve;
pub mod trajectory;
pub mod verifier;
