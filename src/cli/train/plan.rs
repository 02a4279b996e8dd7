//! What a run on a file of questions is to do: from flags and settings, or, gone on with, from its own record.

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::Error;
use crate::store::{Adapter, Store, StoreError, TrainingRun, short};
use crate::tasks::question::Question;
use crate::train::ledger;
use crate::train::presets::Settings;
use crate::train::train_loop::Plan;
use crate::train::validation::Validation;

use super::super::{Global, setup};
use super::TrainArgs;

/// What `train` does unless told otherwise.
const STEPS: usize = 20;
const QUESTIONS: usize = 16;
const DRAWS: usize = 3;
const VALIDATE_EVERY: usize = 5;

/// The settings file's numbers with the flags' in their place.
pub fn settings(config: &Config, args: &TrainArgs, parameters: u64) -> Settings {
    let mut train = config.train.clone();
    if let Some(mode) = args.mode {
        train.mode = mode;
    }
    let mut settings = Settings::of(&train);
    settings.start_rate(&train, parameters);
    if let Some(size) = args.size {
        settings.group = size;
    }
    settings
}

/// A run on record that is to be gone on with.
pub struct Begun {
    run: TrainingRun,
    pub settings: Settings,
}

impl Begun {
    /// The run whose id is, begins or ends with `piece`, with what computes now in the place of what computed then.
    ///
    /// # Errors
    /// There is none, several fit, or it took one step on labels: there is nothing to go on with.
    pub fn find(store: &Store, piece: &str, device: &str) -> Result<Begun, Error> {
        let fits =
            |run: &TrainingRun| !piece.is_empty() && (run.id.starts_with(piece) || run.id.ends_with(piece));
        let mut found: Vec<TrainingRun> = store.runs()?.into_iter().filter(fits).collect();
        let run = match (found.pop(), found.len()) {
            (None, _) => return Err(StoreError::NoRun(piece.to_string()).into()),
            (Some(run), 0) => run,
            (Some(run), more) => {
                let (prefix, count) = (piece.to_string(), more + 1);
                return Err(StoreError::Ambiguous { prefix, count, example: run.id }.into());
            }
        };
        if !run.settings["questions"].is_u64() {
            let told = format!(
                "run {} took one step on labels; only a run on --tasks can be gone on with",
                short(&run.id)
            );
            return Err(Error::Usage(told));
        }
        let kept: Settings = serde_json::from_value(run.settings["settings"].clone())
            .map_err(|e| Error::Usage(format!("run {}: its settings cannot be read: {e}", short(&run.id))))?;
        let settings = Settings { device: device.to_string(), ..kept };
        Ok(Begun { run, settings })
    }

    fn count(&self, name: &str) -> Option<usize> {
        self.run.settings[name].as_u64().and_then(|n| usize::try_from(n).ok())
    }

    /// What it began with; None: the bare model.
    ///
    /// # Errors
    /// That adapter is gone.
    pub fn parent(&self, store: &Store) -> Result<Option<Adapter>, Error> {
        Ok(self.run.parent.as_deref().map(|id| store.adapter(id)).transpose()?)
    }

    /// Refuse what was asked for now and is another than then.
    ///
    /// # Errors
    /// Names the first field that differs, with both values.
    pub fn agrees(&self, args: &TrainArgs, global: &Global, model: &str) -> Result<(), Error> {
        let settings = &self.settings;
        let same = |name: &str, then: &dyn std::fmt::Display, now: Option<String>| match now {
            Some(now) if now != then.to_string() => Err(self.differs(name, &then.to_string(), &now)),
            _ => Ok(()),
        };
        let text = |n: Option<usize>| n.map(|n| n.to_string());
        same("model", &self.run.model_hash, Some(model.to_string()))?;
        same("--seed", &self.run.seed, global.seed.map(|seed| seed.to_string()))?;
        same("--mode", &settings.mode.name(), args.mode.map(|mode| mode.name().to_string()))?;
        same("--size", &settings.group, text(args.size))?;
        for (flag, name, now) in [
            ("--questions", "questions", args.questions),
            ("--draws", "draws", args.draws),
            ("--validate-every", "validate_every", args.validate_every),
        ] {
            if let Some(then) = self.count(name) {
                same(flag, &then, text(now))?;
            }
        }
        let shuffled = self.run.settings["shuffle_rewards"] == Value::Bool(true);
        let now = args.shuffle_rewards.then(|| "on".to_string());
        same("--shuffle-rewards", &if shuffled { "on" } else { "off" }, now)
    }

    /// The same of the questions that train, of those that validate, and of the adapter named by hand.
    ///
    /// # Errors
    /// Names what differs.
    pub fn asks_the_same(
        &self,
        tasks: &[Question],
        validation: &Validation,
        named: Option<Option<&str>>,
    ) -> Result<(), Error> {
        let asks: Vec<String> = tasks.iter().map(ledger::id_of).collect();
        let then = &self.run.settings["asks"];
        if then.is_array() && *then != json!(asks) {
            let count = then.as_array().map_or(0, Vec::len);
            return Err(self.differs("--tasks", &format!("{count} questions"), "other ones"));
        }
        let then = &self.run.settings["validates"];
        if then.is_string() && *then != json!(validation.print()) {
            return Err(self.differs("--gate", "other questions to validate on", "these"));
        }
        if let Some(named) = named.filter(|named| *named != self.run.parent.as_deref()) {
            let name = |id: Option<&str>| id.unwrap_or("none").to_string();
            return Err(self.differs("--adapter", &name(self.run.parent.as_deref()), &name(named)));
        }
        Ok(())
    }

    fn differs(&self, name: &str, then: &str, now: &str) -> Error {
        Error::Usage(format!(
            "{name}: run {} was begun with {then}, not {now}; leave it out to go on as it was begun, or begin a new \
             run without --resume",
            short(&self.run.id)
        ))
    }

    /// What the settings file says otherwise by now, in a line; the run goes on with its own. None: nothing.
    pub fn moved(&self, now: &Settings) -> Option<String> {
        let (then, now) = (json!(self.settings), json!(now));
        let fields = then.as_object().into_iter().flatten();
        let moved: Vec<String> = fields
            .filter(|(name, value)| now[name.as_str()] != **value)
            .map(|(name, value)| format!("train.{name} {value} (now {})", now[name.as_str()]))
            .collect();
        (!moved.is_empty())
            .then(|| format!("goes on with the settings it was begun with: {}", moved.join(", ")))
    }
}

/// A new run's plan, or that of the one gone on with. `parent` is what plans now.
///
/// # Errors
/// What the run began with is gone.
pub fn plan(
    args: &TrainArgs,
    global: &Global,
    settings: Settings,
    parent: Option<Adapter>,
    validation: Validation,
    begun: Option<(&Begun, &Store)>,
) -> Result<Plan, Error> {
    let kept = |name: &str| begun.and_then(|(begun, _)| begun.count(name));
    let or = |flag: Option<usize>, name: &str, usual: usize| flag.or(kept(name)).unwrap_or(usual);
    Ok(Plan {
        run: begun.map_or_else(crate::store::new_id, |(begun, _)| begun.run.id.clone()),
        seed: match begun {
            Some((begun, _)) => begun.run.seed,
            None => global.seed.unwrap_or_else(setup::fresh_seed),
        },
        steps: or(args.steps, "steps", STEPS),
        questions: or(args.questions, "questions", QUESTIONS),
        draws: or(args.draws, "draws", DRAWS),
        parent: match begun {
            Some((begun, store)) => begun.parent(store)?,
            None => parent,
        },
        shuffle_rewards: begun.map_or(args.shuffle_rewards, |(begun, _)| {
            begun.run.settings["shuffle_rewards"] == Value::Bool(true)
        }),
        keep_rollouts: args.keep,
        parallel: or(args.parallel, "parallel", 0),
        seconds: args.minutes * 60.0,
        validate_every: validate_every(args, begun.map(|(begun, _)| begun)),
        validation,
        settings,
    })
}

/// How often a run looks at itself.
pub fn validate_every(args: &TrainArgs, begun: Option<&Begun>) -> usize {
    let kept = begun.and_then(|begun| begun.count("validate_every"));
    args.validate_every.or(kept).unwrap_or(VALIDATE_EVERY)
}
