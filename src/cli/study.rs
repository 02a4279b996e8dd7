//! The deck's groups and training tabs served: rollouts drawn, answers labelled, steps taken, adapters moved.
//!
//! A step runs as `tillerman train` in a process of its own: its words are the progress, the store holds what
//! it made, and its death takes nothing of the deck with it. The served adapter is swapped without a restart.

pub(super) mod labels;
mod step;

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::config::at_home;
use crate::deck::study::{After, Difference, Side, StudyCommand, StudyEvent, Work};
use crate::deck::{DeckEvent, Level};
use crate::engine::{Engine as _, ModelInfo, Role};
use crate::error::Error;
use crate::flow::event::{Collect, Event, Sink};
use crate::flow::solve::{Ask, Flow, solve};
use crate::store::{Store, WEIGHTS, new_id};
use crate::train::rollout::{Group, Question, RollOptions, roll};

use super::deck_parts::Parts;
use super::deck_sinks::status;
use super::offers::Pulling;
use super::setup::{self, Setup};
use super::{Global, study_views as views};

#[derive(Clone)]
pub struct Study {
    pub global: Global,
    pub store: Arc<Store>,
    pub parts: Parts,
    pub events: Sender<DeckEvent>,
    /// Content hash of the adapter that plans now; the outer None: as the deck was started.
    pub adapter: Arc<Mutex<Option<Option<String>>>>,
    /// Held while the engine's adapter is changed for a comparison: no query may plan meanwhile.
    pub engine: Arc<tokio::sync::RwLock<()>>,
    training: Arc<Mutex<Told>>,
    /// What a person may stop, each with its token.
    works: Arc<Mutex<Vec<(Work, CancellationToken)>>>,
    pub(super) pulling: Pulling,
    /// What serves, for the status line.
    model: Arc<Mutex<ModelInfo>>,
}

/// Work under way, which the deck is told of while this lives.
struct Working {
    study: Study,
    work: Work,
    cancel: CancellationToken,
}

impl Drop for Working {
    fn drop(&mut self) {
        // Tokens cannot be compared: a cancelled one is how its entry is found.
        self.cancel.cancel();
        self.study.tell_work(self.work);
    }
}

/// What the deck was told of training last.
#[derive(Default)]
struct Told {
    /// The last words of the step under way.
    running: Option<String>,
    /// The store's mark at the time.
    mark: String,
}

impl Study {
    pub fn new(
        global: &Global,
        store: Arc<Store>,
        parts: Parts,
        events: Sender<DeckEvent>,
        model: Arc<Mutex<ModelInfo>>,
    ) -> Study {
        let (adapter, engine, training) = (Arc::default(), Arc::default(), Arc::default());
        let (global, pulling) = (global.clone(), Pulling::default());
        let works = Arc::default();
        Study { global, store, parts, events, adapter, engine, training, works, pulling, model }
    }

    /// The flow with the adapter that plans now.
    pub fn flow(&self, setup: &Setup) -> Flow {
        let mut flow = setup.flow.clone();
        if let Ok(Some(adapter)) = self.adapter.lock().map(|kept| (*kept).clone()) {
            flow.adapter = adapter;
        }
        flow
    }

    /// Id of the adapter that plans now: this deck may have been started with another than the store's current.
    ///
    /// # Errors
    /// It is a file the store does not hold.
    fn planning(&self, setup: &Setup) -> anyhow::Result<Option<String>> {
        let Some(hash) = self.flow(setup).adapter else { return Ok(None) };
        let kept = self.store.find_adapter(&hash).map_err(|_| {
            Error::Usage("what plans now is a file; `tillerman adapters import FILE` keeps it first".into())
        })?;
        Ok(Some(kept.id))
    }

    /// Do what was asked, and say what came of it.
    pub fn serve(&self, command: StudyCommand) {
        let study = self.clone();
        tokio::spawn(async move {
            let what = name(&command);
            if let Err(error) = study.run(command).await {
                study.send(StudyEvent::Failed { what: what.to_string(), why: format!("{error:#}") });
            }
        });
    }

    pub(super) fn send(&self, event: StudyEvent) {
        // A deck that has gone hears nothing more.
        let _ = self.events.send(DeckEvent::Study(event));
    }

    async fn run(&self, command: StudyCommand) -> anyhow::Result<()> {
        match command {
            StudyCommand::ListGroups => self.send(StudyEvent::Groups(views::groups(&self.store)?)),
            StudyCommand::ShowTraining => self.show_training().await?,
            StudyCommand::WatchTraining => {
                let mark = self.store.training_mark()?;
                if self.training.lock().is_ok_and(|told| told.mark != mark) {
                    self.show_training().await?;
                }
            }
            StudyCommand::UseModel { path } => self.use_model(&path).await?,
            StudyCommand::PullModel(offer) => self.pull(offer).await?,
            StudyCommand::StopPull => self.stop_pull(),
            StudyCommand::Stop(work) => self.stop(work),
            StudyCommand::RollGroup { query, size, after } => {
                let question = self.question(&query, &after)?;
                self.roll(question, size).await?;
            }
            StudyCommand::LabelCluster { group, answer, value, correction, seconds } => {
                self.label_cluster(&group, &answer, (value, correction), seconds)?;
            }
            StudyCommand::LabelPlan { group, trajectory, value, seconds } => {
                self.label_plan(&group, &trajectory, value, seconds)?;
            }
            StudyCommand::Expires { group, answer, after } => self.expires(&group, &answer, &after)?,
            StudyCommand::Pick { group, picked, seconds } => self.pick(&group, &picked, Some(seconds))?,
            StudyCommand::Unpick { group, picked } => self.pick(&group, &picked, None)?,
            StudyCommand::Train { groups } => self.train(&groups).await?,
            StudyCommand::Rollback => {
                let setup = self.ready().await?;
                let before = self.planning(&setup).ok();
                self.store.roll_back(&setup.engine.model().await?.hash)?;
                self.moved(&setup, before).await?;
            }
            StudyCommand::UseAdapter { id } => {
                let setup = self.ready().await?;
                let model = setup.engine.model().await?.hash;
                let before = self.planning(&setup).ok();
                self.store.use_adapter(&model, id.as_deref(), "deck")?;
                self.moved(&setup, before).await?;
            }
            StudyCommand::WhatChanged { query, before, after } => {
                self.what_changed(&query, before, after).await?;
            }
            StudyCommand::FindModels => {
                let (home, serving) = match self.parts.ready().await {
                    Ok(setup) => (setup.home.clone(), setup.model.clone()),
                    // Nothing serves: the more a person wants to see what could, the embedded planner first.
                    Err(_) => {
                        let home = setup::home_and_config(&self.global)?.0;
                        setup::embedded_planner(&home)?;
                        (home, std::path::PathBuf::new())
                    }
                };
                let look = move || super::found::models(&home, &serving);
                self.send(StudyEvent::Models(tokio::task::spawn_blocking(look).await?));
            }
        }
        Ok(())
    }

    async fn ready(&self) -> anyhow::Result<Arc<Setup>> {
        let setup = self.parts.ready().await.map_err(anyhow::Error::msg)?;
        setup.learns_here()?;
        Ok(setup)
    }

    /// Roll this out, and say what came of it.
    pub fn roll_out(&self, question: Question, size: usize) {
        let study = self.clone();
        tokio::spawn(async move {
            if let Err(error) = study.roll(question, size).await {
                study.send(StudyEvent::Failed { what: "rollouts".to_string(), why: format!("{error:#}") });
            }
        });
    }

    /// The question as it is asked after what it goes on from: labels of the one reach the other.
    fn question(&self, query: &str, after: &After) -> Result<Question, Error> {
        Ok(match after {
            After::Session(session) => Question {
                taint: self.store.taint(session)?,
                ..Question::new(query, self.store.conversation(session)?)
            },
            After::Trajectory(id) => Question::again(&self.store.trajectory(id)?),
            After::Group(id) => Group::load(&self.store, id)?.question,
        })
    }

    /// Work begins that `stop` can end.
    fn working(&self, work: Work) -> Working {
        let cancel = CancellationToken::new();
        if let Ok(mut works) = self.works.lock() {
            works.push((work, cancel.clone()));
        }
        self.tell_work(work);
        Working { study: self.clone(), work, cancel }
    }

    fn stop(&self, work: Work) {
        if let Ok(works) = self.works.lock() {
            works.iter().filter(|(kind, _)| *kind == work).for_each(|(_, cancel)| cancel.cancel());
        }
    }

    fn tell_work(&self, work: Work) {
        let Ok(mut works) = self.works.lock() else { return };
        works.retain(|(_, cancel)| !cancel.is_cancelled());
        let count = works.iter().filter(|(kind, _)| *kind == work).count();
        drop(works);
        self.send(StudyEvent::Working { work, count });
    }

    async fn roll(&self, question: Question, size: usize) -> anyhow::Result<()> {
        let setup = self.ready().await?;
        let working = self.working(Work::Rollouts);
        let cancel = working.cancel.clone();
        let _planning = tokio::select! {
            () = cancel.cancelled() => anyhow::bail!("stopped before one began"),
            planning = async {
                // Waited for here, so that none is on record before it can run.
                self.may_sample(&setup, "the rollouts wait for the training step to end; s in F3 stops them").await;
                self.engine.read().await
            } => planning,
        };
        let options = RollOptions {
            size,
            seed: self.global.seed.unwrap_or_else(setup::fresh_seed),
            ..RollOptions::default()
        };
        let watch = Arc::new(Rolling { study: self.clone() });
        let questions = [question];
        let flow = self.flow(&setup);
        roll(&flow, &questions, &options, Some(&self.store), Some(watch), cancel).await?;
        Ok(())
    }

    /// Wait until no training step computes, in this deck or beside it; `words` are said if that takes time.
    async fn may_sample(&self, setup: &Setup, words: &str) {
        let told = || {
            let text = words.to_string();
            let _ = self.events.send(DeckEvent::Notice { level: Level::Info, text });
        };
        drop(setup.flow.engine.cores(&told).await);
    }

    async fn show_training(&self) -> anyhow::Result<()> {
        let setup = self.ready().await?;
        let mark = self.store.training_mark()?;
        let current = self.planning(&setup).ok().flatten();
        let model = setup.engine.model().await?.hash;
        let mut view = views::training(&self.store, &model, current.as_deref())?;
        if let Ok(mut told) = self.training.lock() {
            told.mark = mark;
            if told.running.is_some() {
                (view.running, view.alive, view.own) = (told.running.clone(), true, true);
            }
        }
        self.send(StudyEvent::Training(view));
        Ok(())
    }

    /// A step begins, unless one is under way.
    fn begins(&self, words: &str) -> bool {
        let Ok(mut told) = self.training.lock() else { return false };
        let free = told.running.is_none();
        told.running.get_or_insert_with(|| words.to_string());
        free
    }

    /// The step under way says this; None: it has ended.
    fn says(&self, words: Option<String>) {
        if let Ok(mut told) = self.training.lock() {
            told.running = words;
        }
    }

    /// Serve another GGUF. Its header is read before anything is given up; should it not load either, the one
    /// that served comes back with the next query.
    async fn use_model(&self, path: &str) -> anyhow::Result<()> {
        let Ok(_planning) = self.engine.try_write() else {
            anyhow::bail!("a query is using it; let it end, or cancel it with Esc, and ask again");
        };
        // A step computes with the file it began with, and two models beside it may be more than the memory holds.
        if self.training.lock().is_ok_and(|told| told.running.is_some()) {
            anyhow::bail!("a step is under way; let it end, or stop it with s in F4, and ask again");
        }
        if !self.store.cores().is_free() {
            anyhow::bail!("another process trains on this data directory; let its step end, and ask again");
        }
        let path = at_home(path);
        let global = Global { model: Some(path), adapter: None, ..self.global.clone() };
        let made = Arc::new(tokio::task::spawn_blocking(move || setup::open(&global, 2)).await??);
        if let Ok(before) = self.parts.ready().await {
            // Two models at once may be more than the memory holds.
            before.engine.shutdown().await;
        }
        let info = match made.engine.model().await {
            Ok(info) => info,
            Err(error) => {
                made.engine.shutdown().await;
                return Err(error.into());
            }
        };
        let hash = made.flow.adapter.clone();
        if let Ok(mut kept) = self.adapter.lock() {
            *kept = Some(hash.clone());
        }
        if let Ok(mut kept) = self.model.lock() {
            kept.clone_from(&info);
        }
        self.parts.replace(made);
        let _ = self.events.send(DeckEvent::Status(status(&info, hash.as_deref(), 0, 0.0)));
        let text = format!(
            "{} serves until you leave; `tillerman model use {}` keeps it",
            info.name,
            info.path.display()
        );
        let _ = self.events.send(DeckEvent::Notice { level: Level::Info, text });
        Ok(())
    }

    /// The person moved the adapter: let it plan, and say what planned before.
    async fn moved(&self, setup: &Setup, before: Option<Option<String>>) -> anyhow::Result<()> {
        self.swap(setup).await?;
        let now = self.planning(setup)?;
        self.send(StudyEvent::Moved { before, now });
        Ok(())
    }

    /// Let the store's current adapter plan from now on, and show it.
    async fn swap(&self, setup: &Setup) -> anyhow::Result<()> {
        let _planning = self.engine.write().await;
        let current = self.store.current_adapter(&setup.engine.model().await?.hash)?;
        let hash = self.put(setup, current.as_deref()).await?;
        let info = setup.engine.model().await?;
        let _ = self.events.send(DeckEvent::Status(status(&info, hash.as_deref(), 0, 0.0)));
        if let Ok(mut kept) = self.adapter.lock() {
            *kept = Some(hash);
        }
        self.show_training().await
    }

    /// Put an adapter (None: none) under the engine's planner; answers its hash.
    async fn put(&self, setup: &Setup, id: Option<&str>) -> anyhow::Result<Option<String>> {
        let path = match id {
            Some(id) => Some(self.store.adapter_dir(&self.store.adapter(id)?)?.join(WEIGHTS)),
            None => None,
        };
        Ok(setup.engine.set_adapter(path).await?)
    }

    /// The same question, greedily, under two adapters; afterwards plans what planned before.
    async fn what_changed(
        &self,
        query: &str,
        before: Option<String>,
        after: Option<String>,
    ) -> anyhow::Result<()> {
        let setup = self.ready().await?;
        let working = self.working(Work::Comparison);
        let _planning = tokio::select! {
            () = working.cancel.cancelled() => anyhow::bail!("stopped"),
            planning = async {
                self.may_sample(&setup, "the comparison waits for the training step to end; s in F4 stops it").await;
                self.engine.write().await
            } => planning,
        };
        let current = self.planning(&setup)?;
        let sides = [before, after];
        let mut shown = Vec::new();
        let mut failed = None;
        for side in &sides {
            if working.cancel.is_cancelled() {
                break;
            }
            match self.side(&setup, query, side.as_deref(), &working.cancel).await {
                Ok(side) => shown.push(side),
                Err(error) => failed = Some(error),
            }
        }
        self.put(&setup, current.as_deref()).await?;
        if let Some(error) = failed {
            return Err(error);
        }
        if working.cancel.is_cancelled() {
            anyhow::bail!("stopped");
        }
        if let Ok([before, after]) = <[Side; 2]>::try_from(shown) {
            let query = query.to_string();
            self.send(StudyEvent::Difference(Box::new(Difference { query, before, after })));
        }
        Ok(())
    }

    async fn side(
        &self,
        setup: &Setup,
        query: &str,
        id: Option<&str>,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Side> {
        let adapter = self.put(setup, id).await?;
        // Greedy: what differs is the adapter's doing, not the dice's.
        let flow = Flow { adapter, planner_temperature: Some(0.0), ..setup.flow.clone() };
        let ask = Ask { id: new_id(), query: query.to_string(), ..Ask::default() };
        let trajectory = solve(&flow, &ask, Arc::new(Collect::default()), cancel.clone()).await;
        let model = setup.engine.model().await?;
        let planned = trajectory.calls.iter().find(|call| call.role == Role::Planner);
        let tokens = planned.map(|call| {
            let ids = &call.completion.completion_ids;
            let texts = match crate::gguf::pieces::Pieces::of_file(&model.path) {
                Ok(pieces) => pieces.texts(ids),
                Err(_) => ids.iter().map(|id| format!("{id} ")).collect(),
            };
            texts.into_iter().zip(call.completion.logprobs.iter().copied()).collect()
        });
        Ok(Side {
            adapter: id.unwrap_or("none").to_string(),
            tokens: tokens.unwrap_or_default(),
            answer: trajectory.answer.unwrap_or_else(|| "(no answer)".to_string()),
        })
    }
}

fn name(command: &StudyCommand) -> &'static str {
    match command {
        StudyCommand::RollGroup { .. } => "rollouts",
        StudyCommand::ListGroups => "groups",
        StudyCommand::LabelCluster { .. } | StudyCommand::LabelPlan { .. } => "label not kept",
        StudyCommand::Expires { .. } => "the label holds as before",
        StudyCommand::Pick { .. } | StudyCommand::Unpick { .. } => "comparison not kept",
        StudyCommand::Train { .. } => "the step",
        StudyCommand::Rollback => "roll back",
        StudyCommand::UseAdapter { .. } => "adapter",
        StudyCommand::WhatChanged { .. } => "comparison",
        StudyCommand::ShowTraining | StudyCommand::WatchTraining => "training",
        StudyCommand::Stop(_) => "stopping",
        StudyCommand::UseModel { .. } => "the model stays as it was",
        StudyCommand::FindModels => "models",
        StudyCommand::PullModel(_) | StudyCommand::StopPull => "the download",
    }
}

/// Shows a group whenever one of its rollouts begins or ends.
struct Rolling {
    study: Study,
}

impl Sink for Rolling {
    fn record(&self, event: Event) -> Result<(), String> {
        let begins = event.seq == 0;
        if begins || event.body.is_last() {
            let store = &self.study.store;
            if let Ok(Some(id)) = store.group_of(&event.trajectory)
                && let Ok(group) = views::group(store, &id)
            {
                self.study.send(StudyEvent::Group(group));
            }
        }
        Ok(())
    }
}
