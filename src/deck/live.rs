//! One trajectory as the deck follows it: the fold of its events, the text on its way, and where it is.
//!
//! Model calls are counted, not kept: their token ids live in the store and would fill the memory here.

use crate::engine::Role;
use crate::flow::event::{Body, Event, Progress, ProgressSource};
use crate::flow::trajectory::{Decision, Outcome, Trajectory, Turn};

/// Who is at work.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Stage {
    #[default]
    Starting,
    Role(Role),
    Tool(String),
    /// A call waits for a person's word.
    Person,
    Done,
}

/// What the last model calls say about the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Tokens of the planner's last prompt and completion.
    pub context_used: usize,
    pub tokens_per_s: f64,
}

#[derive(Clone, Debug, Default)]
pub struct Live {
    pub trajectory: Trajectory,
    pub stage: Stage,
    pub figures: Figures,
    /// How the loop ended, in the flow's words ("verifier", a limit).
    pub stopped_by: String,
    /// Only the outcome is known so far; the turns are numbers.
    pub outline: bool,
    /// Text under way: who, in which turn, what. Gone when the event that holds it arrives.
    streams: Vec<(ProgressSource, usize, String)>,
}

impl Live {
    pub fn of(mut trajectory: Trajectory) -> Live {
        trajectory.calls = Vec::new();
        Live { trajectory, stage: Stage::Done, ..Live::default() }
    }

    /// A finished query of an earlier run, in outline or whole.
    pub fn past(trajectory: Trajectory, outline: bool) -> Live {
        let mut live = Live::of(trajectory);
        live.outline = outline;
        live
    }

    /// Fold one event in.
    pub fn apply(&mut self, event: &Event) {
        match &event.body {
            // Folding it would clone every token id only to drop them again.
            Body::ModelCall(call) => {
                self.trajectory.seconds = event.t_ms / 1e3;
                self.trajectory.tokens += call.completion.sampled();
                self.measure(call.role, &call.completion);
                self.end_stream(ProgressSource::Role(call.role));
            }
            _ => self.trajectory.apply(event),
        }
        match &event.body {
            Body::Started { .. } => self.stage = Stage::Role(Role::Analyst),
            Body::TurnStarted { .. } => self.stage = Stage::Role(Role::Planner),
            Body::Plan { .. } => self.stage = Stage::Role(Role::Executor),
            Body::Command { command, .. } => self.stage = Stage::Tool(command.tool.clone()),
            Body::ApprovalAsked { .. } => self.stage = Stage::Person,
            Body::ApprovalAnswered { turn, .. } => {
                let turn = self.trajectory.turns.iter().rfind(|found| found.turn == *turn);
                let command = turn.and_then(|turn| turn.command.as_ref());
                self.stage = Stage::Tool(command.map_or_else(String::new, |command| command.tool.clone()));
            }
            Body::ToolResult { .. } => {
                self.end_stream(ProgressSource::Tool);
                self.stage = Stage::Role(Role::Verifier);
            }
            Body::Verdict { verdict, .. } if verdict.decision == Decision::Stop => {
                self.stage = Stage::Role(Role::Generator);
            }
            Body::LimitReached { .. } => self.stage = Stage::Role(Role::Generator),
            Body::Answered { seconds, tokens, stopped_by, .. } => {
                self.trajectory.seconds = *seconds;
                self.trajectory.tokens = *tokens;
                self.stopped_by.clone_from(stopped_by);
            }
            _ => {}
        }
        if event.body.is_last() {
            self.streams.clear();
            self.stage = Stage::Done;
        }
    }

    pub fn progress(&mut self, progress: &Progress) {
        if self.stage == Stage::Done {
            return;
        }
        let found = self.streams.iter_mut().find(|(source, ..)| *source == progress.source);
        match found {
            Some((_, turn, text)) if *turn == progress.turn => text.push_str(&progress.text),
            Some(stream) => *stream = (progress.source, progress.turn, progress.text.clone()),
            None => self.streams.push((progress.source, progress.turn, progress.text.clone())),
        }
    }

    /// What `source` has written so far in `turn`, while it writes.
    pub fn stream(&self, source: ProgressSource, turn: usize) -> Option<&str> {
        let found = self.streams.iter().find(|(s, t, _)| *s == source && *t == turn);
        found.map(|(.., text)| text.as_str())
    }

    /// The same for a role outside turns, whatever turn number it came with.
    pub fn stream_of(&self, role: Role) -> Option<&str> {
        let found = self.streams.iter().find(|(source, ..)| *source == ProgressSource::Role(role));
        found.map(|(.., text)| text.as_str())
    }

    pub fn is_running(&self) -> bool {
        self.trajectory.outcome == Outcome::Running && self.stage != Stage::Done
    }

    /// Turn by position (0 is the first), if there is one.
    pub fn turn(&self, position: usize) -> Option<&Turn> {
        self.trajectory.turns.get(position)
    }

    /// What is being done, in words.
    pub fn stage_words(&self) -> String {
        match &self.stage {
            Stage::Starting => "starting".to_string(),
            Stage::Role(Role::Analyst) => "analyst reads the query".to_string(),
            Stage::Role(Role::Planner) => "planner chooses the next step".to_string(),
            Stage::Role(Role::Executor) => "executor writes the call".to_string(),
            Stage::Role(Role::Verifier) => "verifier judges the result".to_string(),
            Stage::Role(Role::Generator) => "generator writes the answer".to_string(),
            Stage::Role(Role::Base) => "model answers the sub-goal".to_string(),
            Stage::Tool(name) => format!("{name} runs"),
            Stage::Person => "a call waits for your word".to_string(),
            Stage::Done => "done".to_string(),
        }
    }

    fn measure(&mut self, role: Role, completion: &crate::engine::Completion) {
        if role == Role::Planner {
            self.figures.context_used = completion.context_used();
        }
        if completion.timings.decode_ms > 0.0 && completion.sampled() > 4 {
            let tokens = completion.sampled() as f64;
            self.figures.tokens_per_s = tokens / completion.timings.decode_ms * 1e3;
        }
    }

    fn end_stream(&mut self, source: ProgressSource) {
        self.streams.retain(|(s, ..)| *s != source);
    }
}
