//! What the deck shows of groups, training, adapters and models, and what a person can ask of them: plain
//! data that whoever wires the deck fills in. The deck knows neither the trainer nor the store.

use crate::deck::message::LabelValue;

/// What a person asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum StudyCommand {
    /// Roll `query` out `size` times. Answered by `Group` as rollouts end.
    RollGroup { query: String, size: usize, after: After },
    /// The newest groups; answered by `Groups`.
    ListGroups,
    /// Label every rollout with this answer (in its canonical form: places move while rollouts end), or take the label
    /// back.
    LabelCluster {
        group: String,
        answer: String,
        value: LabelValue,
        correction: Option<String>,
        /// How long the person took.
        seconds: f64,
    },
    /// The plan of one rollout was bad whatever its answer; `Clear` takes it back.
    LabelPlan { group: String, trajectory: String, value: LabelValue, seconds: f64 },
    /// The label on this answer holds for so long, as it was typed ("30d", "never").
    Expires { group: String, answer: String, after: String },
    /// One rollout is better than another, whether or not either is right.
    Pick { group: String, picked: Picked, seconds: f64 },
    /// Take that back.
    Unpick { group: String, picked: Picked },
    /// One step on these groups; empty: every labelled group that has not trained. Answered by `Training`.
    Train { groups: Vec<String> },
    /// Back to the adapter before.
    Rollback,
    /// Plan with this adapter from now on; None: with none.
    UseAdapter { id: Option<String> },
    /// The same question under two adapters; answered by `Difference`.
    WhatChanged { query: String, before: Option<String>, after: Option<String> },
    /// Answered by `Training`.
    ShowTraining,
    /// Answered by `Training` if anything of it has changed since.
    WatchTraining,
    /// End what of this kind is under way; what has finished is kept.
    Stop(Work),
    /// Serve this GGUF from now on; refused, what served goes on. Answered by a status line and a notice.
    UseModel { path: String },
    /// Look for models on this machine; answered by `Models`.
    FindModels,
    /// Download a model; answered by `Pulling` as it comes, at last by `Pulled`.
    PullModel(Offer),
    /// Stop the download; what came is kept.
    StopPull,
}

/// What a query that is rolled out goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// The conversation of this session, as far as it is.
    Session(String),
    /// What this trajectory went on from: it is the same question again.
    Trajectory(String),
    /// What the rollouts of this group went on from.
    Group(String),
}

/// What takes its time in this deck and can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Rollouts,
    Step,
    Comparison,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StudyEvent {
    /// So many of this kind are under way in this deck now.
    Working {
        work: Work,
        count: usize,
    },
    /// All groups, newest first.
    Groups(Vec<GroupView>),
    /// One group is new or has changed.
    Group(GroupView),
    Training(TrainingView),
    /// A person let another adapter plan; the inner None is none, the outer one that `before` is not on record.
    Moved {
        before: Option<Option<String>>,
        now: Option<String>,
    },
    Difference(Box<Difference>),
    Models(Vec<ModelLine>),
    /// So many of a model's bytes are here.
    Pulling {
        file: String,
        here: u64,
        bytes: u64,
    },
    /// A download has ended: `stopped` by the person, `done`, or neither.
    Pulled {
        file: String,
        stopped: bool,
        done: bool,
    },
    /// What was asked for could not be done.
    Failed {
        what: String,
        why: String,
    },
}

/// A choice between two rollouts, by their trajectories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picked {
    pub better: String,
    pub worse: String,
    /// The better one stood on the left.
    pub better_left: bool,
}

/// Rollouts of one query, folded by answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupView {
    pub id: String,
    pub query: String,
    pub adapter: Option<String>,
    /// Rollouts asked for, ended, and those that failed (never scored).
    pub size: usize,
    pub ended: usize,
    pub failed: usize,
    /// Biggest first.
    pub clusters: Vec<Cluster>,
    /// Choices between two of its rollouts, oldest first.
    pub picks: Vec<Picked>,
    /// A step would learn from them: labels alone tell no answers apart.
    pub picks_teach: bool,
    /// What a step on this group would do, in words, or why it would do nothing.
    pub verdict: String,
    /// It has trained.
    pub trained: bool,
}

/// Rollouts that ended in the same answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// As the first rollout of it wrote it.
    pub answer: String,
    /// What all of them come to; tells clusters apart.
    pub canonical: String,
    pub rollouts: Vec<RolloutLine>,
    pub label: Option<LabelValue>,
    /// Who said so, where it was not this person now ("earlier label", "checker").
    pub said_by: String,
    /// The day until which that holds ("2027-01-31"); empty: for good.
    pub until: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutLine {
    pub trajectory: String,
    /// "tool: sub-goal" per turn.
    pub plans: Vec<String>,
    pub seconds: f64,
    pub plan_bad: bool,
}

impl GroupView {
    /// Rollouts whose answers are labelled (good, bad).
    pub fn counts(&self) -> (usize, usize) {
        let of = |value| {
            let labelled = self.clusters.iter().filter(|cluster| cluster.label == Some(value));
            labelled.map(|cluster| cluster.rollouts.len()).sum()
        };
        (of(LabelValue::Good), of(LabelValue::Bad))
    }

    /// Some answers are good and some are bad, or one is better than another: there is something to learn from.
    pub fn has_contrast(&self) -> bool {
        let (good, bad) = self.counts();
        (good > 0 && bad > 0) || self.picks_teach
    }
}

/// Everything the training tab shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingView {
    /// What is going on now ("forward 3 of 8"); None: nothing runs.
    pub running: Option<String>,
    /// A run is under way, in this program or another, and writes its steps as it goes.
    pub alive: bool,
    /// It is this deck's own step, and ends with it.
    pub own: bool,
    /// What plans now does worse by a person's labels than what planned before, in words.
    pub live: Option<String>,
    /// Oldest first.
    pub steps: Vec<StepLine>,
    pub gate: Option<GateView>,
    pub adapters: Vec<AdapterLine>,
}

/// One optimiser step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepLine {
    pub step: usize,
    /// Mean reward of its groups with its interval, and over how many rollouts.
    pub reward: f64,
    pub reward_low: f64,
    pub reward_high: f64,
    pub rollouts: usize,
    /// How far its adapter is from the bare model, nats per planner token on frozen prompts; NaN: not measured.
    pub kl: f64,
    /// How far it may go; 0: not on record.
    pub kl_budget: f64,
    /// Share of tokens whose ratio was clipped, 0 to 1.
    pub clip_share: f64,
    pub tokens_per_plan: f64,
    /// (tool, share of plans), biggest first.
    pub tools: Vec<(String, f64)>,
    pub seconds: f64,
    pub groups: Vec<String>,
    /// What was asked in them, where these are few enough to be read; else empty.
    pub queries: Vec<String>,
    /// The adapter it made.
    pub adapter: Option<String>,
    /// What moved since its run began, in words.
    pub alarms: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateOutcome {
    Champion,
    Worse,
    #[default]
    CannotTell,
}

/// The gate on the newest adapter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateView {
    pub adapter: String,
    pub outcome: GateOutcome,
    /// Held-out questions on which only the new, only the old was right, and all that were asked.
    pub only_new: usize,
    pub only_old: usize,
    pub asked: usize,
    /// The verdict in words.
    pub words: String,
}

/// One adapter of the tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdapterLine {
    pub id: String,
    pub parent: Option<String>,
    /// What it learned from, in words.
    pub words: String,
    /// "2026-11-22 14:05"
    pub when: String,
    /// The planner plans with it now.
    pub current: bool,
    /// "plans now", "better", "cannot tell", "worse", "not judged" ...
    pub status: String,
    /// Whom the gate found it worse than, with the figures: it plans only if asked for twice.
    pub worse: Option<String>,
}

/// One question under two adapters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    pub query: String,
    pub before: Side,
    pub after: Side,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// "none" or the short id.
    pub adapter: String,
    /// The first plan, token by token: text and log-probability.
    pub tokens: Vec<(String, f32)>,
    pub answer: String,
}

/// A file on Hugging Face.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub repo: String,
    pub file: String,
}

/// A GGUF on this machine, or one that could be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelLine {
    pub name: String,
    pub path: String,
    /// Whose folder it lies in ("Hugging Face", "Ollama" ...).
    pub place: String,
    pub bytes: u64,
    pub parameters: u64,
    pub file_type: String,
    /// Serves now.
    pub current: bool,
    /// It fits this machine's memory; the reason stands in `words` where it does not.
    pub fits: bool,
    /// The trainer can train it.
    pub trainable: bool,
    pub words: String,
    /// It is not here yet and can be downloaded.
    pub offer: Option<Offer>,
}
