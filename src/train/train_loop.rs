//! A training run on questions with a checker, one page: draw, roll, reward, step, swap; again; then the gate.
//!
//! The run's own policy moves with every step; what serves elsewhere is touched by nobody but `serve`. Sampling
//! and training take turns (`engine::cores`): the engine waits while the worker steps, and so does every other process
//! on the same data directory.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Mode;
use crate::engine::ModelInfo;
use crate::error::Error;
use crate::flow::solve::Flow;
use crate::store::{
    Adapter, NewAdapter, OPTIMIZER, Origin, RunStatus, Store, TrainingRun, TrainingStep, WEIGHTS, now_ms,
};
use crate::tasks::question::Question as Task;
use crate::train::client;
use crate::train::labelled::Lesson;
use crate::train::ledger;
use crate::train::material::{checked, draw, faults, lesson, probes, shuffle, step_seed};
use crate::train::presets::Settings;
use crate::train::progress::{Look, Progress, Rolled, Stepped, Validated, Watch};
use crate::train::reward::Rewards;
use crate::train::rollout::{Group, RollOptions, roll};
use crate::train::rows::{Policy, TrainTurn};
use crate::train::step::{Done, Job};
use crate::train::validation::{Marks, Validation, best};
use crate::train::watch::Behaviour;

/// What a run needs from outside.
pub struct Trainer {
    pub flow: Flow,
    pub store: Arc<Store>,
    /// This program, for its worker.
    pub exe: PathBuf,
    pub model: PathBuf,
    pub threads: usize,
    pub watch: Watch,
    /// Gives the engine's memory back, cached prefixes included; the next call starts it anew.
    pub reset: Reset,
}

/// An engine that has seen other prompts computes the last bits in another order; one that starts anew does not.
pub type Reset = Arc<dyn Fn() -> futures_util::future::BoxFuture<'static, ()> + Send + Sync>;

/// The checker's word on a group; in mode `flow` also on the turns that came to nothing. The others are kept as
/// they are published.
fn judged(group: &Group, settings: &Settings) -> Rewards {
    let turns = if settings.mode == Mode::Flow { faults(group) } else { Vec::new() };
    let mut rewards = Rewards { turns, ..checked(group) };
    rewards.charge(settings.fault_cost);
    rewards
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Id of the run; that of an earlier one goes on with it.
    pub run: String,
    pub settings: Settings,
    pub seed: u64,
    pub steps: usize,
    /// Questions drawn at a time. A step draws again until half as many groups have contrast, or until it has
    /// drawn `draws` times: a planner that is right most of the time otherwise learns from three questions.
    pub questions: usize,
    pub draws: usize,
    /// Adapter to begin with; None: the bare model.
    pub parent: Option<Adapter>,
    /// The control arm: rewards dealt out anew among a step's rollouts, so that nothing can be learned.
    pub shuffle_rewards: bool,
    /// Record the rollouts' trajectories too.
    pub keep_rollouts: bool,
    /// Rollouts at once; 0: as many as the engine has sequences. With 1, on one engine thread, a run gives
    /// the same bits every time, however often it was interrupted.
    pub parallel: usize,
    /// No step begins after this many seconds; 0: no limit.
    pub seconds: f64,
    pub validation: Validation,
    /// How often a look was asked for; 0: never. There may be too few questions to look at.
    pub validate_every: usize,
}

/// State of a run between two steps; everything else is in the store.
struct State {
    adapter: Option<Adapter>,
    frozen: Vec<TrainTurn>,
    step: usize,
    /// Questions drawn so far, over all steps.
    drawn: usize,
    /// The KL budget is used up: no further step.
    spent: bool,
    marks: Vec<Marks>,
    /// How the planner behaved in the run's first step, which alarms are raised against.
    start: Option<Behaviour>,
}

impl Trainer {
    /// Train; answers the best adapter by the run's validation (the last, without one), None if no step was
    /// kept.
    ///
    /// # Errors
    /// Engine, store or worker; the run is then marked and can be resumed from its last step.
    pub async fn train(
        &mut self,
        plan: &Plan,
        tasks: &[Task],
        cancel: &CancellationToken,
    ) -> Result<Option<Adapter>, Error> {
        let began = std::time::Instant::now();
        let model = self.flow.engine.model().await?;
        let mut state = self.begin(plan, tasks, &model)?;
        self.put(state.adapter.as_ref()).await?;
        let result = loop {
            // First thing, because an interruption may have come between a step and the look due after it.
            if let Err(error) = self.validate(plan, &mut state, false, cancel).await {
                break Err(error);
            }
            let late = plan.seconds > 0.0 && began.elapsed().as_secs_f64() >= plan.seconds;
            if state.step >= plan.steps || late || state.spent {
                break self.validate(plan, &mut state, true, cancel).await;
            }
            if let Err(error) = self.step(plan, tasks, &model, &mut state, cancel).await {
                break Err(error);
            }
        };
        let status = match &result {
            Ok(()) => RunStatus::Done,
            Err(Error::Interrupted) => RunStatus::Stopped,
            Err(_) => RunStatus::Failed,
        };
        self.store.end_run(&plan.run, status, result.as_ref().err().map(ToString::to_string).as_deref())?;
        result?;
        match best(&state.marks, plan.settings.fault_cost).and_then(|marks| marks.adapter.clone()) {
            Some(id) => Ok(Some(self.store.adapter(&id)?)),
            None => Ok(state.adapter),
        }
    }

    /// Look at the policy where a look is due, and go back to the best one where this one is clearly worse.
    async fn validate(
        &mut self,
        plan: &Plan,
        state: &mut State,
        last: bool,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let id = state.adapter.as_ref().map(|adapter| adapter.id.clone());
        let begun = plan.parent.as_ref().map(|adapter| adapter.id.clone());
        let seen = state.marks.iter().any(|marks| marks.adapter == id);
        // What the run began with is the gate's to compare with.
        if id == begun || seen || !plan.validation.due(state.step, last) {
            return Ok(());
        }
        let asking = std::time::Instant::now();
        self.may_sample(cancel).await?;
        let marks = plan.validation.ask(&self.flow, id, plan.seed, plan.parallel, cancel).await?;
        let cost = plan.settings.fault_cost;
        let back = best(&state.marks, cost).filter(|best| marks.worse_than(best)).cloned();
        state.marks.push(marks.clone());
        let is_best = best(&state.marks, cost) == Some(&marks);
        let back_to = back.and_then(|best| best.adapter);
        let validated = Validated::of(state.step, &marks, is_best, back_to.clone(), asking.elapsed());
        let look = Look { validated: validated.clone(), marks };
        self.store.add_look(&plan.run, state.step, &json!(look))?;
        (self.watch)(&Progress::Validated(validated));
        if let Some(id) = back_to {
            let adapter = self.store.adapter(&id)?;
            self.put(Some(&adapter)).await?;
            state.adapter = Some(adapter);
        }
        Ok(())
    }

    /// Keep what a run is, so that it can be gone on with; of a run that is on record nothing changes.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn record(&self, plan: &Plan, tasks: &[Task], model: &ModelInfo) -> Result<(), Error> {
        let asks: Vec<String> = tasks.iter().map(ledger::id_of).collect();
        self.store.begin_run(&TrainingRun {
            id: plan.run.clone(),
            created_ms: now_ms(),
            model_hash: model.hash.clone(),
            parent: plan.parent.as_ref().map(|adapter| adapter.id.clone()),
            seed: plan.seed,
            settings: json!({
                "settings": plan.settings, "questions": plan.questions, "draws": plan.draws,
                "shuffle_rewards": plan.shuffle_rewards, "validate_every": plan.validate_every, "steps": plan.steps,
                "parallel": plan.parallel, "asks": asks, "validates": plan.validation.print(),
            }),
            status: RunStatus::Running,
            note: None,
        })?;
        Ok(())
    }

    fn begin(&self, plan: &Plan, tasks: &[Task], model: &ModelInfo) -> Result<State, Error> {
        let done = self.store.steps(&plan.run)?;
        self.record(plan, tasks, model)?;
        let mut last = None;
        let mut marks = Vec::new();
        let mut drawn = 0;
        for step in &done {
            last = step.candidate.clone().or(last);
            drawn += step.stats["rolled"]["groups"].as_u64().unwrap_or(0) as usize;
            let look = step.stats.get("look").cloned().unwrap_or_default();
            if let Ok(look) = serde_json::from_value::<Look>(look) {
                last = look.validated.back_to.or(last);
                marks.push(look.marks);
            }
        }
        let adapter = match last {
            Some(id) => Some(self.store.adapter(&id)?),
            None => plan.parent.clone(),
        };
        let frozen = done.iter().find_map(|step| {
            let kept = step.stats.get("frozen").filter(|kept| !kept.is_null())?;
            serde_json::from_value(kept.clone()).ok()
        });
        let frozen = match (frozen, &plan.parent) {
            (Some(frozen), _) => frozen,
            (None, Some(parent)) => self.frozen_of(parent)?,
            (None, None) => Vec::new(),
        };
        let step = done.last().map_or(0, |step| step.step);
        let start = done
            .first()
            .and_then(|step| serde_json::from_value(step.stats["rolled"]["behaviour"].clone()).ok());
        let spent = done.last().is_some_and(|step| {
            step.stats["stepped"]["drift"].as_f64().is_some_and(|drift| drift >= plan.settings.kl_budget)
        });
        Ok(State { adapter, frozen, step, drawn, spent, marks, start })
    }

    /// Let an adapter answer for the planner from now on.
    pub async fn put(&mut self, adapter: Option<&Adapter>) -> Result<(), Error> {
        let path = match adapter {
            Some(adapter) => Some(self.store.adapter_dir(adapter)?.join(WEIGHTS)),
            None => None,
        };
        self.flow.adapter = self.flow.engine.set_adapter(path).await?;
        Ok(())
    }

    async fn step(
        &mut self,
        plan: &Plan,
        tasks: &[Task],
        model: &ModelInfo,
        state: &mut State,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let number = state.step + 1;
        let seed = step_seed(plan.seed, number);
        let options = RollOptions {
            size: plan.settings.group,
            seed,
            temperature: Some(plan.settings.temperature),
            turns: plan.settings.turns,
            parallel: plan.parallel,
        };
        if plan.parallel == 1 {
            (self.reset)().await;
        }
        self.may_sample(cancel).await?;
        let rolling = std::time::Instant::now();
        let kept = plan.keep_rollouts.then_some(&self.store);
        let (mut groups, mut rewards) = (Vec::new(), Vec::new());
        (self.watch)(&Progress::Phase { phase: "rolling out".to_string() });
        for again in 0..plan.draws.max(1) {
            let drawn = draw(tasks, plan.questions, plan.seed, state.drawn);
            let questions = drawn.iter().map(|task| ledger::asked(task)).collect::<Result<Vec<_>, _>>()?;
            let options = RollOptions { seed: step_seed(seed, again), ..options.clone() };
            let more = roll(&self.flow, &questions, &options, kept, None, cancel.clone()).await?;
            if cancel.is_cancelled() {
                return Err(Error::Interrupted);
            }
            state.drawn += drawn.len();
            rewards.extend(more.iter().map(|group| judged(group, &plan.settings)));
            groups.extend(more);
            if rewards.iter().filter(|rewards: &&Rewards| rewards.contrast()).count() * 2 >= plan.questions {
                break;
            }
        }
        let mut rolled = Rolled::of(number, &groups, &rewards, rolling.elapsed().as_secs_f64());
        rolled.watched(state.start.get_or_insert_with(|| rolled.behaviour.clone()), &rewards);
        (self.watch)(&Progress::Rolled(rolled.clone()));
        if plan.shuffle_rewards {
            shuffle(&mut rewards, seed);
        }
        let policy = Policy {
            model: model.hash.clone(),
            adapter: self.flow.adapter.clone(),
            temperature: plan.settings.temperature,
        };
        let imitates = plan.settings.mode == Mode::Imitation;
        let lesson = lesson(&groups, &rewards, policy, imitates)?;
        let probes = probes(&groups, &lesson)?;
        let first = state.frozen.is_empty() && state.adapter.is_none();
        if first {
            state.frozen.clone_from(&probes);
        }
        let stepped = match lesson.ready() {
            Ok(()) => self.learn(plan, model, state, &lesson, probes, cancel).await?,
            Err(why) => Stepped::skipped(number, &why.to_string()),
        };
        self.store.add_step(&TrainingStep {
            run: plan.run.clone(),
            step: number,
            groups: groups.iter().filter(|_| plan.keep_rollouts).map(|group| group.id.clone()).collect(),
            stats: json!({ "rolled": rolled, "stepped": stepped, "frozen": first.then_some(&state.frozen) }),
            candidate: stepped.adapter.clone(),
            verdict: None,
            created_ms: now_ms(),
        })?;
        state.step = number;
        state.spent = stepped.drift.is_some_and(|drift| drift >= plan.settings.kl_budget);
        (self.watch)(&Progress::Stepped(stepped));
        Ok(())
    }

    /// The step itself, and the swap if an adapter came of it.
    async fn learn(
        &mut self,
        plan: &Plan,
        model: &ModelInfo,
        state: &mut State,
        lesson: &Lesson,
        probes: Vec<TrainTurn>,
        cancel: &CancellationToken,
    ) -> Result<Stepped, Error> {
        let number = state.step + 1;
        // Few groups are a loud estimate of the gradient, and the optimizer makes every step equally long: a
        // step may go as far as its share of the groups it asked for.
        let asked = plan.questions.div_ceil(2) as f64;
        let step_kl = plan.settings.step_kl * (lesson.groups.len() as f64 / asked).min(1.0);
        let settings = Settings { step_kl, ..plan.settings.clone() };
        let lesson = Lessons { groups: lesson.groups.clone(), probes, frozen: state.frozen.clone() };
        let (done, adapter) = self
            .take(
                &settings,
                plan.seed,
                model,
                state.adapter.as_ref(),
                lesson,
                json!({
                    "run": plan.run, "step": number, "seed": plan.seed, "shuffled": plan.shuffle_rewards,
                }),
                cancel,
            )
            .await?;
        // The step that overdraws the budget is kept on the shelf and does not become the run's policy.
        if let Some(drift) = done.drift.as_ref().filter(|drift| drift.mean >= plan.settings.kl_budget) {
            let why = format!("the KL budget is used up: {}", drift.text());
            return Ok(Stepped { skipped: Some(why), ..Stepped::of(number, &done, None) });
        }
        if let Some(adapter) = adapter {
            self.put(Some(&adapter)).await?;
            state.adapter = Some(adapter);
        }
        Ok(Stepped::of(number, &done, state.adapter.as_ref().filter(|_| done.kept)))
    }

    /// The frozen prompts an adapter's line began with: the first of a line keeps them in its manifest, so that
    /// every later step, of whatever run, measures its drift on the same ones. None kept: none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn frozen_of(&self, adapter: &Adapter) -> Result<Vec<TrainTurn>, Error> {
        let mut at = adapter.clone();
        loop {
            if let Some(kept) = at.manifest.get("frozen").filter(|kept| !kept.is_null()) {
                return Ok(serde_json::from_value(kept.clone()).unwrap_or_default());
            }
            match &at.parent {
                // A parent that was taken away ends the search: the fuel bar then says unknown.
                Some(parent) => match self.store.adapter(parent) {
                    Ok(found) => at = found,
                    Err(_) => return Ok(Vec::new()),
                },
                None => return Ok(Vec::new()),
            }
        }
    }

    /// Wait until no other process's step computes, so that whoever watches hears why nothing is rolled out.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when cancelled.
    pub async fn may_sample(&self, cancel: &CancellationToken) -> Result<(), Error> {
        let what = "waits for another training step on this data directory to end";
        let waits = || (self.watch)(&Progress::Waits { what: what.to_string() });
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::Interrupted),
            _share = self.flow.engine.cores(&waits) => Ok(()),
        }
    }

    /// One step in a worker: the candidate is kept under its hash, or nothing is.
    ///
    /// # Errors
    /// As the step's, or the store cannot keep the adapter.
    #[expect(clippy::too_many_arguments, reason = "a step's whole input, each of another kind")]
    pub async fn take(
        &self,
        settings: &Settings,
        seed: u64,
        model: &ModelInfo,
        parent: Option<&Adapter>,
        lessons: Lessons,
        made_from: serde_json::Value,
        cancel: &CancellationToken,
    ) -> Result<(Done, Option<Adapter>), Error> {
        let draft = self.store.draft_adapter()?;
        let folder = draft.path(OPTIMIZER).parent().map(std::path::Path::to_path_buf).unwrap_or_default();
        let job = Job {
            model: self.model.clone(),
            parent: parent.map(|adapter| self.store.adapter_dir(adapter)).transpose()?,
            out: folder,
            groups: lessons.groups,
            settings: settings.clone(),
            seed,
            threads: self.threads,
            probes: lessons.probes,
            frozen: lessons.frozen,
        };
        let first = parent.is_none().then(|| job.frozen.clone());
        let watch = &self.watch;
        let mut on_phase = |text: &str| watch(&Progress::Phase { phase: text.to_string() });
        let what = "waits for queries, rollouts or another step on this data directory to end";
        let waits = || watch(&Progress::Waits { what: what.to_string() });
        let cores = self.store.cores();
        let _alone = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::Interrupted),
            alone = cores.alone(&waits) => alone,
        };
        let done = client::take(&self.exe, &job, &mut on_phase, cancel).await?;
        if !done.kept {
            return Ok((done, None));
        }
        let adapter = self.store.keep_adapter(
            draft,
            &NewAdapter {
                parent: parent.map(|adapter| adapter.id.clone()),
                model,
                rank: settings.rank,
                alpha: settings.alpha,
                origin: Origin::Trained,
                manifest: json!({ "made_from": made_from, "settings": settings, "step": &done, "frozen": first }),
            },
        )?;
        Ok((done, Some(adapter)))
    }
}

/// What a step learns from and what it is measured on.
#[derive(Clone, Debug, Default)]
pub struct Lessons {
    pub groups: Vec<crate::train::rows::TrainGroup>,
    pub probes: Vec<TrainTurn>,
    pub frozen: Vec<TrainTurn>,
}
