//! What does not fit the context: earlier queries are left out, oldest first, before a query fails; a turn that no
//! longer fits ends the loop as any limit does, and the generator answers from as much of memory as it can read.

use crate::engine::{Completion, Constraint, Message, Role};
use crate::error::EngineError;
use crate::flow::event::Body;
use crate::flow::memory::{Memory, cut};
use crate::flow::run::{Halt, Run};

/// A result is not cut below so many characters: less would answer nothing.
const LEAST_RESULT: usize = 200;

impl<'a> Run<'a> {
    /// Earlier (query, answer) pairs of the session that prompts still show.
    pub fn earlier(&self) -> &'a [(String, String)] {
        let all = &self.ask.conversation;
        &all[self.left_out.min(all.len())..]
    }

    /// A role's call with the messages that `build` makes of the earlier pairs; where they do not fit, the older half
    /// of these is left out, for this query, until they do.
    pub async fn fitting(
        &mut self,
        role: Role,
        constraint: Option<Constraint>,
        build: impl Fn(&'a [(String, String)]) -> Vec<Message>,
    ) -> Result<(Completion, Vec<Message>), Halt> {
        loop {
            let earlier = self.earlier();
            let messages = build(earlier);
            match self.call(role, messages.clone(), constraint.clone()).await {
                Err(Halt::Engine(EngineError::ContextOverflow { .. })) if !earlier.is_empty() => {
                    self.left_out += earlier.len().div_ceil(2);
                    self.record(Body::EarlierLeftOut { count: self.left_out })?;
                }
                Err(Halt::Engine(EngineError::ContextOverflow { available, .. }))
                    if self.turn > 0 && !self.trajectory.memory.entries.is_empty() =>
                {
                    return Err(Halt::Limit(format!("context ({available} tokens)")));
                }
                completion => return Ok((completion?, messages)),
            }
        }
    }
}

/// Less of memory, for a prompt that did not hold all of it: without its oldest entry, at last with a shorter result.
/// False: nothing is left to leave out.
pub fn shorten(memory: &mut Memory) -> bool {
    if memory.entries.len() > 1 {
        memory.entries.remove(0);
        return true;
    }
    let Some(entry) = memory.entries.first_mut() else { return false };
    let chars = entry.result.chars().count();
    if chars <= LEAST_RESULT {
        return false;
    }
    let (text, gone) = cut(&entry.result, (chars / 2).max(LEAST_RESULT));
    entry.cut_chars += gone;
    entry.result = text;
    true
}
