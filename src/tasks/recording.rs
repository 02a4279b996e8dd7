//! The teacher as an engine: plays every role of the real loop for one task, so that what is recorded is
//! exactly what the program says; and the recorded calls as training rows.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::engine::chat::ChatTemplate;
use crate::engine::{Completion, Engine, ModelInfo, OnPiece, Request, Role, StopReason};
use crate::error::EngineError;
use crate::flow::event::{Body, Event, Sink};
use crate::flow::memory::Memory;
use crate::flow::trajectory::{Plan, Trajectory};
use crate::flow::{planner, verifier};
use crate::tasks::teacher::{self, BASE_REPLY, Teacher};
use crate::tools::ToolResult;

/// Answers each role's call from the teacher's script. It also is the sink of its own trajectory: what the
/// real loop records (memory, results) is what the teacher goes by.
pub struct TeacherEngine {
    state: Mutex<State>,
}

struct State {
    teacher: Teacher,
    memory: Memory,
    plan: Plan,
    result: ToolResult,
    plans: usize,
    /// Plans, counted from 0, that were miswritten on purpose.
    slips: Vec<usize>,
}

impl TeacherEngine {
    pub fn new(teacher: Teacher) -> Arc<TeacherEngine> {
        let state = State {
            teacher,
            memory: Memory::default(),
            plan: Plan::default(),
            result: ToolResult::default(),
            plans: 0,
            slips: Vec::new(),
        };
        Arc::new(TeacherEngine { state: Mutex::new(state) })
    }

    /// Planner calls, counted from 0, whose plans are no demonstration.
    pub fn slips(&self) -> Vec<usize> {
        self.state.lock().map(|state| state.slips.clone()).unwrap_or_default()
    }

    fn say(&self, role: Role) -> Result<String, EngineError> {
        let mut guard = self.state.lock().map_err(|e| EngineError::Other(e.to_string()))?;
        let state = &mut *guard;
        Ok(match role {
            Role::Analyst => teacher::analysis(state.teacher.task()),
            Role::Planner => {
                state.plan = state.teacher.plan(&state.memory);
                if state.teacher.slipped() {
                    state.slips.push(state.plans);
                }
                state.plans += 1;
                planner::write(&state.plan)
            }
            Role::Executor => teacher::command(&state.plan).to_string(),
            Role::Verifier => {
                let failed = state.result.fault.is_some();
                let verdict = state.teacher.verdict(&state.plan, &state.result.text, failed);
                verifier::write(&verdict, false)
            }
            Role::Generator => state.teacher.answer(&state.memory),
            Role::Base => BASE_REPLY.to_string(),
        })
    }
}

#[async_trait]
impl Engine for TeacherEngine {
    async fn model(&self) -> Result<ModelInfo, EngineError> {
        Ok(ModelInfo { name: "teacher".into(), ..ModelInfo::default() })
    }

    async fn complete(
        &self,
        request: Request,
        _on_piece: Option<OnPiece>,
        _cancel: CancellationToken,
    ) -> Result<Completion, EngineError> {
        let text = self.say(request.role)?;
        Ok(Completion { text, stop: Some(StopReason::EndOfTurn), ..Completion::default() })
    }

    async fn set_adapter(&self, _path: Option<std::path::PathBuf>) -> Result<Option<String>, EngineError> {
        Err(EngineError::Other("the teacher takes no adapter".into()))
    }

    async fn score(&self, _ids: Vec<i32>, _adapter: bool) -> Result<Vec<f32>, EngineError> {
        Err(EngineError::Other("the teacher has no probabilities".into()))
    }
}

impl Sink for TeacherEngine {
    fn record(&self, event: Event) -> Result<(), String> {
        let mut state = self.state.lock().map_err(|e| e.to_string())?;
        match event.body {
            Body::ToolResult { result, .. } => state.result = result,
            Body::Memory { entry, .. } => state.memory.entries.push(entry),
            _ => {}
        }
        Ok(())
    }
}

/// One model call as a training row: the prompt as (text, special) segments and what to say.
#[derive(Debug, Serialize)]
pub struct TrainingRow {
    pub role: &'static str,
    pub family: &'static str,
    pub segments: Vec<(String, bool)>,
    pub completion: String,
}

/// The rows of a recorded trajectory, rendered through a chat template as the engine renders them. Planner
/// calls named in `slips` (counted from 0) are left out.
///
/// # Errors
/// The template cannot render a call.
pub fn rows(
    trajectory: &Trajectory,
    family: &'static str,
    template: &ChatTemplate,
    slips: &[usize],
) -> Result<Vec<TrainingRow>, EngineError> {
    let mut plans = 0;
    trajectory
        .calls
        .iter()
        .filter(|call| {
            let plan = call.role == Role::Planner;
            plans += usize::from(plan);
            !(plan && slips.contains(&(plans - 1)))
        })
        .map(|call| {
            let segments = template.render(&call.request.messages)?;
            Ok(TrainingRow {
                role: call.role.name(),
                family,
                segments: segments.into_iter().map(|s| (s.text, s.special)).collect(),
                completion: call.completion.text.clone(),
            })
        })
        .collect()
}
