//! One step on recorded groups: which of them, at which temperature, whether the budget has room for it, and what
//! is kept of it.

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::store::{Adapter, RunStatus, TrainingRun, TrainingStep, new_id, now_ms, short};
use crate::train::kl_budget::Drift;
use crate::train::labelled::{Baseline, Lesson};
use crate::train::material::probes;
use crate::train::presets::Settings;
use crate::train::progress::{Progress, Stepped};
use crate::train::rollout::Group;
use crate::train::train_loop::{Lessons, Trainer};

use super::forming::{Formed, Lone, chosen};
use super::{TrainArgs, say};

/// One step on recorded groups; the adapter and its run, None where none was kept.
///
/// # Errors
/// Nothing to learn from, with the reasons; the KL budget is used up; or engine, store or worker.
pub async fn step(
    trainer: &Trainer,
    args: &TrainArgs,
    mut settings: Settings,
    seed: u64,
    champion: Option<&Adapter>,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<(Adapter, String)>> {
    let store = &trainer.store;
    if let Some(drift) = champion.and_then(drift_of)
        && drift.mean >= settings.kl_budget
    {
        return Err(used_up(&Drift { budget: settings.kl_budget, ..drift }).into());
    }
    let model = trainer.flow.engine.model().await?;
    let chosen = chosen(trainer, args, &settings, seed, cancel).await?;
    let passed = chosen.passed.words();
    if !passed.is_empty() && !chosen.groups.is_empty() {
        say(args.json, &json!({"kind": "passed_over", "words": passed}), &format!("passed over: {passed}"));
    }
    settings.temperature = chosen.policy.temperature;
    let mut lesson = Lesson::new(chosen.policy);
    for (group, rewards, _) in &chosen.groups {
        lesson.add(group, rewards)?;
    }
    for (report, (_, _, formed)) in lesson.reports.iter().zip(&chosen.groups) {
        say(
            args.json,
            &json!({"kind": "group", "mode": formed, "report": report}),
            &format!(
                "group {}: {}: {} rollouts, {} rewarded by {} words; {}",
                short(&report.group),
                formed.words(),
                report.rollouts,
                report.reached,
                report.words,
                report.text()
            ),
        );
    }
    for one in &chosen.lone {
        let baseline = Baseline::of_store(store)?;
        lesson.add_lone(&one.trajectory, &one.question_id, one.value, baseline)?;
        say(
            args.json,
            &json!({"kind": "group", "mode": Formed::Lone, "trajectory": one.trajectory.id, "value": one.value,
                "baseline": baseline.mean, "labels": baseline.n}),
            &format!(
                "{}: {}: {}, beside {:.2}, the mean of {} labels, at a quarter of a group's weight",
                short(&one.trajectory.id),
                Formed::Lone.words(),
                one.value.name(),
                baseline.mean,
                baseline.n
            ),
        );
    }
    if lesson.reports.is_empty() && !passed.is_empty() {
        return Err(Error::Train(format!("nothing to learn from: {passed}")).into());
    }
    lesson.ready()?;
    let drawn: Vec<Group> = chosen.groups.into_iter().map(|(group, ..)| group).collect();
    let alone: Vec<Group> = chosen.lone.iter().map(Lone::group).collect();
    let probes = probes(&[drawn.as_slice(), &alone].concat(), &lesson)?;
    let frozen = match champion {
        None => probes.clone(),
        Some(champion) => trainer.frozen_of(champion)?,
    };
    let ids: Vec<&String> = drawn.iter().map(|group| &group.id).collect();
    let lone: Vec<_> =
        alone.iter().map(|group| json!({"trajectory": group.id, "question_id": group.question.id})).collect();
    let made_from = json!({ "groups": ids, "labels": lesson.reports, "lone": lone });
    let lessons = Lessons { groups: lesson.groups.clone(), probes, frozen };
    let (done, adapter) = trainer.take(&settings, 0, &model, champion, lessons, made_from, cancel).await?;
    // A step that overdraws the budget stays on the shelf: it is neither judged nor does it ever serve by itself.
    let over = done.drift.clone().filter(|drift| drift.mean >= settings.kl_budget);
    let adapter = adapter.filter(|_| over.is_none());
    let mut stepped = Stepped::of(1, &done, adapter.as_ref());
    if let Some(drift) = &over {
        stepped.skipped = Some(format!("the KL budget is used up: {}", drift.text()));
    }
    let run = new_id();
    store.begin_run(&TrainingRun {
        id: run.clone(),
        created_ms: now_ms(),
        model_hash: model.hash.clone(),
        parent: champion.map(|adapter| adapter.id.clone()),
        seed,
        settings: json!({ "settings": settings }),
        status: RunStatus::Running,
        note: None,
    })?;
    store.add_step(&TrainingStep {
        run: run.clone(),
        step: 1,
        groups: drawn.into_iter().map(|group| group.id).collect(),
        stats: json!({ "stepped": stepped }),
        candidate: stepped.adapter.clone(),
        verdict: None,
        created_ms: now_ms(),
    })?;
    store.end_run(&run, RunStatus::Done, None)?;
    (trainer.watch)(&Progress::Stepped(stepped));
    match over {
        Some(drift) => Err(used_up(&drift).into()),
        None => Ok(adapter.map(|adapter| (adapter, run))),
    }
}

/// How far an adapter was from the bare model when it was made, if that was measured.
pub fn drift_of(adapter: &Adapter) -> Option<Drift> {
    serde_json::from_value(adapter.manifest["step"]["drift"].clone()).ok()
}

fn used_up(drift: &Drift) -> Error {
    Error::Train(format!(
        "the KL budget is used up: {}. To train anew: `tillerman adapters use none`, then `tillerman train \
         --past 0`, which rolls every labelled question out again (the labels still hold); or allow more with \
         train.kl_budget",
        drift.text()
    ))
}
