//! From a labelled group to the adapter that serves: step in its worker, kept, first look of the gate, swapped in.
//!
//! The clock starts when the group's last label is there and stops when the engine has the adapter. The group
//! is drawn beforehand, on the first bundled training question whose eight rollouts differ.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::Figure;
use crate::cli::{Global, setup, train};
use crate::store::{Store, WEIGHTS};
use crate::tasks::{Split, files};
use crate::train::gate::{Gate, Opponent};
use crate::train::judge::{self, Patience};
use crate::train::labelled::Lesson;
use crate::train::material::{checked, probes};
use crate::train::presets::Settings;
use crate::train::reward::{Contrast, Rewards, contrast};
use crate::train::rollout::{Group, Question, RollOptions, roll};
use crate::train::rows::Policy;
use crate::train::train_loop::{Lessons, Trainer};

/// Rollouts of the group, and paired rollouts of the gate's first look.
const SIZE: usize = 8;
const PAIRS: u64 = 8;

/// Seconds from label to live adapter, one value per run, on the embedded planner.
///
/// # Errors
/// Engine, store or worker; or no question with contrast among the first hundred.
pub(super) async fn label_to_live(runs: usize) -> anyhow::Result<Figure> {
    let folder = tempfile::tempdir()?;
    let global = Global {
        home: Some(folder.path().to_path_buf()),
        adapter: Some("none".to_string()),
        ..Global::default()
    };
    let setup = setup::open(&global, SIZE)?;
    let store = Arc::new(Store::open(&setup.home)?);
    let model = setup.flow.engine.model().await?;
    let mut settings = Settings::of(&setup.config.train);
    settings.start_rate(&setup.config.train, model.parameters);
    let mut trainer = train::trainer(&setup, store, Arc::new(|_| ()));
    let (group, rewards) = group(&trainer, &settings).await?;
    let gate: Vec<_> = files::bundled(Split::Gate).into_iter().map(Into::into).collect();
    let policy = Policy { model: model.hash.clone(), adapter: None, temperature: settings.temperature };
    let cancel = CancellationToken::new();
    let mut seconds = Vec::new();
    for run in 0..runs {
        trainer.put(None).await?;
        let started = Instant::now();
        let mut lesson = Lesson::new(policy.clone());
        lesson.add(&group, &rewards)?;
        lesson.ready()?;
        let probes = probes(std::slice::from_ref(&group), &lesson)?;
        let lessons = Lessons { groups: lesson.groups, frozen: probes.clone(), probes };
        let made = serde_json::json!({ "bench": run });
        let (_, adapter) = trainer.take(&settings, run as u64, &model, None, lessons, made, &cancel).await?;
        let adapter = adapter.context("the step was discarded")?;
        let weights = trainer.store.adapter_dir(&adapter)?.join(WEIGHTS);
        let patience = Patience { pairs: PAIRS, block: PAIRS, parallel: SIZE };
        let mut trial = Gate::new(Opponent::Champion, None);
        let looks = (Some(weights), None);
        judge::judge(
            &trainer.flow,
            &mut trial,
            &gate,
            run as u64,
            looks.0,
            looks.1,
            patience,
            &mut |_, _| Ok(()),
            &cancel,
        )
        .await?;
        trainer.put(Some(&adapter)).await?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(Figure { name: "train.label_to_live_s.embedded".to_string(), unit: "s", values: seconds })
}

async fn group(trainer: &Trainer, settings: &Settings) -> anyhow::Result<(Group, Rewards)> {
    let options =
        RollOptions { size: SIZE, temperature: Some(settings.temperature), ..RollOptions::default() };
    for task in files::bundled(Split::Train).iter().take(100) {
        let questions = [Question::of_task(&task.clone().into())];
        let groups = roll(&trainer.flow, &questions, &options, None, None, CancellationToken::new()).await?;
        for group in groups {
            let rewards = checked(&group);
            if matches!(contrast(&rewards), Contrast::Some { .. }) {
                return Ok((group, rewards));
            }
        }
    }
    anyhow::bail!("none of 100 questions gave rollouts that differ")
}
