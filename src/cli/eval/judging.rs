//! `eval --judge`: which engine judges, and putting the answers before it that it has not judged yet.
//!
//! Runs after the answering, on the rows as they are; what a judgement is stands in `tasks::judge`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::LOCAL;
use crate::engine::Engine;
use crate::engine::remote::RemoteEngine;
use crate::error::Error;
use crate::tasks::eval::Asked;
use crate::tasks::judge::{Case, Identity, Judge, Judged, Judgement};

use super::rows::{Opinion, Rows, Side};
use crate::cli::plain;
use crate::cli::setup::Setup;

/// The judge of that name, found to answer.
///
/// # Errors
/// No engine has that name, the network is off for one elsewhere, or it cannot load or be reached.
pub async fn chosen(setup: &Setup, name: &str) -> anyhow::Result<Judge> {
    let engine = engine(setup, name)?;
    if name == LOCAL && setup.embedded {
        eprintln!("tillerman: the embedded planner was not made to judge: its opinion says next to nothing");
    }
    Ok(Judge::new(name, engine, setup.flow.pack.clone()).await?)
}

fn engine(setup: &Setup, name: &str) -> Result<Arc<dyn Engine>, Error> {
    if name == LOCAL {
        if setup.model.as_os_str().is_empty() {
            let told = "--judge local: every role is served elsewhere and no local model is set; name one with \
                        --model, or judge with one of [engine.remote]";
            return Err(Error::Usage(told.into()));
        }
        return Ok(setup.engine.clone());
    }
    let Some(settings) = setup.config.engine.remote.get(name) else {
        let mut known = vec![LOCAL];
        known.extend(setup.config.engine.remote.keys().map(String::as_str));
        return Err(Error::Usage(format!(
            "--judge {name}: no engine has that name; there are {}; others are set up in [engine.remote.NAME] of \
             the settings",
            known.join(", ")
        )));
    };
    if setup.config.network.offline {
        return Err(Error::Usage(format!(
            "--judge {name}: that engine is at {}, and the network is off; leave out --offline and \
             network.offline, or judge with --judge local",
            settings.host()
        )));
    }
    Ok(Arc::new(RemoteEngine::new(name, settings.clone())))
}

/// Judge every answer of these sides under `limit` that the rows hold no opinion of this judge on.
///
/// # Errors
/// The rows cannot be written, or it was interrupted; what was judged until then is kept.
pub async fn judge(
    judge: &Judge,
    asked: &[Asked],
    (sides, limit): (&[Side], usize),
    (parallel, json): (usize, bool),
    rows: &mut Rows,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let mut places = Vec::new();
    let mut cases = Vec::new();
    for &side in sides {
        for asked in asked {
            let answer = rows.get(side, limit, asked).and_then(|row| row.answer.clone());
            let known = rows.opinion(side, limit, asked, &judge.identity);
            let (Some(answer), false) = (answer, known.is_some_and(|said| said.equivalent.is_some())) else {
                continue;
            };
            let question = &asked.question;
            places.push((side, asked));
            cases.push(Case { query: question.query.clone(), reference: question.answer.clone(), answer });
        }
    }
    let all = cases.len();
    if all > 0 {
        eprintln!("tillerman: {all} answers go to the judge, {}", named(&judge.identity));
    }
    let (mut done, mut tenths) = (0, 0);
    let mut written = Ok(());
    let stop = cancel.clone();
    judge
        .judge_all(cases, parallel, cancel, |at, Judgement { equivalent, reason }| {
            let (side, asked) = places[at];
            let opinion = Opinion {
                side,
                turn_limit: limit,
                id: asked.question.id.clone(),
                seed: asked.seed,
                judge: judge.identity.clone(),
                equivalent,
                reason,
            };
            if json {
                println!("{}", plain::json(&opinion.json()));
            }
            if let Err(error) = rows.add_opinion(opinion) {
                written = Err(error);
                stop.cancel();
            }
            done += 1;
            if 10 * done / all > tenths {
                tenths = 10 * done / all;
                eprintln!("{done} of {all} judged");
            }
        })
        .await;
    written?;
    if cancel.is_cancelled() {
        return Err(Error::Interrupted.into());
    }
    Ok(())
}

/// What this judge's opinions on one side come to, with the first reason why there was none.
pub fn figures(
    identity: &Identity,
    asked: &[Asked],
    side: Side,
    limit: usize,
    rows: &Rows,
) -> (Judged, Option<String>) {
    let (mut judged, mut why) = (Judged::default(), None);
    for asked in asked {
        let Some(row) = rows.get(side, limit, asked) else { continue };
        if row.answer.is_none() {
            judged.add_unanswered();
            continue;
        }
        let opinion = rows.opinion(side, limit, asked, identity);
        let equivalent = opinion.and_then(|said| said.equivalent);
        if equivalent.is_none() && why.is_none() {
            why = opinion.map(|said| format!("{}: {}", said.id, said.reason));
        }
        judged.add(row.right, equivalent);
    }
    (judged, why)
}

/// The judge as reports name it.
pub fn named(identity: &Identity) -> String {
    format!("{} ({})", identity.engine, identity.model)
}
