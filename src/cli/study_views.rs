//! Groups, training and adapters as the deck shows them, read from the store.

use serde_json::Value;

use crate::config::Mode;
use crate::deck::study::{
    AdapterLine, Cluster, GateOutcome, GateView, GroupView, Picked, RolloutLine, StepLine, TrainingView,
};
use crate::error::Error;
use crate::flow::trajectory::{Outcome, Trajectory};
use crate::store::{
    Adapter, LabelValue, Origin, RunStatus, Scope, Source, Store, TrainingRun, TrainingStep, now_ms, short,
};
use crate::tasks::stats::wilson;
use crate::train::advantage::{self, Rated, Scaling};
use crate::train::gate::{Opponent, Report, Verdict};
use crate::train::labelled::{GroupReport, Lesson};
use crate::train::live::Live;
use crate::train::reward::{self, Contrast, Known, Rewards, contrast, rewards};
use crate::train::rollout::Group;
use crate::train::rows::Policy;
use crate::train::watch::Alarm;

use super::library::press;
use super::sessions::when;
use super::standing::Standing;

/// Groups and steps that are read at most; older ones stay in the store.
const GROUPS: usize = 50;
const STEPS: usize = 200;

/// The newest groups that still hold a rollout.
///
/// # Errors
/// The store cannot be read.
pub fn groups(store: &Store) -> Result<Vec<GroupView>, Error> {
    let rows = store.groups(GROUPS)?;
    // A group whose rollouts were deleted has nothing to show.
    Ok(rows.iter().filter_map(|row| group(store, &row.id).ok()).collect())
}

/// One group, its answers folded, with what is known of them.
///
/// # Errors
/// The store cannot be read, or nothing of the group is left.
pub fn group(store: &Store, id: &str) -> Result<GroupView, Error> {
    let row = store.group(id)?;
    let group = Group::load(store, id)?;
    let known = Known::of(store, &group.question.id)?;
    let running = |trajectory: &Trajectory| trajectory.outcome == Outcome::Running;
    let ended = group.rollouts.iter().filter(|rollout| !running(&rollout.trajectory)).count();
    let failed = group.rollouts.iter().filter(|r| r.failed.is_some() && !running(&r.trajectory)).count();
    let clusters = reward::clusters(&group, &known).into_iter().map(|cluster| Cluster {
        answer: cluster.answers.first().cloned().unwrap_or_default(),
        canonical: cluster.canonical,
        label: cluster.label.map(|word| press(word.value)),
        said_by: cluster.label.map(said_by).unwrap_or_default(),
        until: cluster.label.map(|word| until(&known, word)).unwrap_or_default(),
        rollouts: cluster.rollouts.iter().map(|place| rollout(&group, *place, &known)).collect(),
    });
    let rewards = reward::rewards_or_picks(store, &group)?;
    let verdict = verdict(&group, &rewards);
    let here = |id: &str| group.rollouts.iter().any(|rollout| rollout.trajectory.id == id);
    let mut picks = store.picks(&group.question.id)?;
    // Those of the same question drawn at other times stand in their own groups.
    picks.retain(|pick| here(&pick.better) && here(&pick.worse));
    let picks = picks.into_iter().map(|pick| Picked {
        better: pick.better,
        worse: pick.worse,
        better_left: pick.better_left,
    });
    let trained = store.group_trained(id)?.is_some();
    Ok(GroupView {
        query: group.question.query.clone(),
        adapter: row.adapter.map(|hash| hash.chars().take(8).collect()),
        size: row.members.len(),
        ended,
        failed,
        clusters: clusters.collect(),
        picks: picks.collect(),
        picks_teach: rewards.relative,
        verdict,
        trained,
        id: group.id,
    })
}

/// What a step would learn from a group: as the step itself counts, so that what it leaves out is left out here.
fn verdict(group: &Group, rewards: &Rewards) -> String {
    let why = |words: &Rewards| match contrast(words) {
        Contrast::None(why) => why,
        Contrast::Some { right, wrong } => format!("{right} right, {wrong} wrong"),
    };
    let Some(policy) = Policy::of(group) else { return why(rewards) };
    let mut lesson = Lesson::new(policy);
    match lesson.add(group, rewards) {
        Ok(()) if rewards.relative && !lesson.groups.is_empty() => {
            let (picks, s) = (rewards.words, if rewards.words == 1 { "" } else { "s" });
            format!("a step learns from {picks} comparison{s} of two answers; nothing is said to be right")
        }
        Ok(()) => lesson.reports.first().map(GroupReport::text).unwrap_or_default(),
        // Of another planner than its siblings, say: a step would refuse it in these words.
        Err(error) => error.to_string(),
    }
}

/// The day until which a word holds; empty: for good.
fn until(known: &Known, word: reward::Word) -> String {
    let label = known.labels.iter().find(|label| Some(label.id) == word.label && !word.implied);
    let expiry = label.and_then(|label| label.expiry_ms);
    expiry.map_or_else(String::new, |at| when(at).chars().take("2027-01-31".len()).collect())
}

/// Who says so, where it was not a person about this very answer.
fn said_by(word: reward::Word) -> String {
    let text = match word.source {
        Source::Checker => "by a checker",
        Source::Judge => "by a judge",
        Source::Person if word.implied => "another is right",
        Source::Person => "",
    };
    text.to_string()
}

/// What a step would make of a rollout beside its group's: likelier above 0, less likely below. None: it is of no
/// group, or nothing is learned from that.
pub fn advantage(store: &Store, trajectory: &str, mode: Mode) -> Option<f64> {
    let group = Group::load(store, &store.group_of(trajectory).ok()??).ok()?;
    let words = rewards(&group, &Known::of(store, &group.question.id).ok()?);
    let rated: Vec<Rated> = group
        .rollouts
        .iter()
        .zip(&words.rewards)
        .map(|(rollout, reward)| Rated {
            outcome: match reward {
                _ if rollout.failed.is_some() => advantage::Outcome::Failed,
                Some(reward) => advantage::Outcome::Reward(*reward as f32),
                None => advantage::Outcome::Unlabelled,
            },
            turns: rollout.trajectory.turns.len(),
        })
        .collect();
    let scaling = Scaling { mode, person: words.source == Some(Source::Person), ..Scaling::default() };
    let place = group.rollouts.iter().position(|rollout| rollout.trajectory.id == trajectory)?;
    advantage::group(&scaling, &rated).ok()?.advantages.get(place).copied().flatten().map(f64::from)
}

fn rollout(group: &Group, place: usize, known: &Known) -> RolloutLine {
    let trajectory = &group.rollouts[place].trajectory;
    let plan_bad = known.labels.iter().rev().any(|label| {
        label.trajectory.as_deref() == Some(&trajectory.id)
            && label.scope == Scope::Plan
            && label.value == LabelValue::Bad
            && label.cleared_ms.is_none()
    });
    let plans = trajectory.turns.iter().filter_map(|turn| turn.plan.as_ref());
    RolloutLine {
        trajectory: trajectory.id.clone(),
        plans: plans.map(|plan| format!("{}: {}", plan.tool, plan.sub_goal)).collect(),
        seconds: trajectory.seconds,
        plan_bad,
    }
}

/// The steps of every run, oldest first, and the adapters; `current` serves.
///
/// # Errors
/// The store cannot be read.
pub fn training(store: &Store, model: &str, current: Option<&str>) -> Result<TrainingView, Error> {
    let mut runs = store.runs()?;
    runs.sort_by_key(|run| run.created_ms);
    let mut steps = Vec::new();
    for run in &runs {
        steps.extend(store.steps(&run.id)?);
    }
    let gate = steps.iter().rev().find_map(|step| gate(store, step));
    let under_way = runs.iter().rev().find(|run| is_alive(run, &steps));
    let running = under_way.map(|run| {
        let done = steps.iter().filter(|step| step.run == run.id).count();
        format!("run {} is under way: {done} steps so far", short(&run.id))
    });
    let skip = steps.len().saturating_sub(STEPS);
    let budget = |step: &TrainingStep| {
        let run = runs.iter().find(|run| run.id == step.run);
        run.and_then(|run| run.settings["settings"]["kl_budget"].as_f64()).unwrap_or(0.0)
    };
    let line = |step| StepLine { kl_budget: budget(step), ..line(store, step) };
    let steps: Vec<StepLine> = steps.iter().skip(skip).map(line).collect();
    let steps = steps.into_iter().enumerate().map(|(n, step)| StepLine { step: n + 1 + skip, ..step });
    let mut adapters = store.adapters(None)?;
    adapters.reverse();
    Ok(TrainingView {
        alive: running.is_some(),
        own: false,
        live: live(store, model, current)?,
        running,
        steps: steps.collect(),
        gate,
        adapters: adapters
            .iter()
            .map(|adapter| adapter_line(store, adapter, current))
            .collect::<Result<_, _>>()?,
    })
}

/// The alarm of a person's labels on what plans now (`model`: its hash, `current`: an adapter's id), if it is on.
pub fn live(store: &Store, model: &str, current: Option<&str>) -> Result<Option<String>, Error> {
    let hash = current.map(|id| store.adapter(id)).transpose()?.map(|adapter| adapter.hash);
    Ok(Live::of(store, model, hash.as_deref())?.and_then(|live| live.words()))
}

/// It says that it runs and has lately done something: what was killed cannot say so.
fn is_alive(run: &TrainingRun, steps: &[TrainingStep]) -> bool {
    const SILENT_MS: i64 = 60 * 60 * 1_000;
    let own = steps.iter().filter(|step| step.run == run.id);
    let last = own.map(|step| step.created_ms).max().unwrap_or(0).max(run.created_ms);
    run.status == RunStatus::Running && now_ms() - last < SILENT_MS
}

/// The gate's word on a step's adapter, with what it rests on: figures against the champion, and everybody it
/// turned out to be worse than.
fn gate(store: &Store, step: &TrainingStep) -> Option<GateView> {
    let (adapter, verdict) = (step.candidate.clone()?, step.verdict.as_deref()?);
    let looks = store.gate_looks(&adapter).unwrap_or_default();
    // The newest last, each with everything that came before it against the same opponent.
    let reports: Vec<Report> =
        looks.into_iter().filter_map(|look| serde_json::from_value(look.report).ok()).collect();
    let worse = reports.iter().rev().find(|report| report.verdict == Verdict::Worse);
    let (outcome, words) = match (verdict, worse) {
        ("better", _) => (GateOutcome::Champion, "it plans from now on".to_string()),
        ("worse", Some(report)) => {
            (GateOutcome::Worse, format!("worse than {}: it does not plan", report.opponent.words()))
        }
        ("worse", None) => {
            (GateOutcome::Worse, "worse than what planned before: it does not plan".to_string())
        }
        _ => (GateOutcome::CannotTell, "what planned goes on; Enter below lets it plan anyway".to_string()),
    };
    let view = GateView { adapter, outcome, words, ..GateView::default() };
    let Some(met) = reports.iter().rev().find(|report| report.opponent == Opponent::Champion) else {
        return Some(view);
    };
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Some(GateView { only_new: count(met.wins), only_old: count(met.losses), asked: count(met.n), ..view })
}

fn adapter_line(store: &Store, adapter: &Adapter, current: Option<&str>) -> Result<AdapterLine, Error> {
    let made = &adapter.manifest["made_from"];
    let words = match (made["step"].as_u64(), made["groups"].as_array()) {
        _ if adapter.origin == Origin::Shipped => "came with the program".to_string(),
        (Some(step), _) => format!("step {step} of a run"),
        (None, Some(groups)) if groups.len() == 1 => "1 labelled group".to_string(),
        (None, Some(groups)) => format!("{} labelled groups", groups.len()),
        _ => format!("rank {}", adapter.rank),
    };
    let serves = current == Some(adapter.id.as_str());
    let standing = Standing::of(store, adapter)?;
    Ok(AdapterLine {
        id: adapter.id.clone(),
        parent: adapter.parent.clone(),
        words,
        when: when(adapter.created_ms),
        current: serves,
        status: if serves { format!("plans now, {}", standing.word) } else { standing.word },
        worse: standing.worse.filter(|_| !serves),
    })
}

/// A step as recorded. What its rollouts were worth stands in its own figures, or follows from the labels of
/// the groups it learned from.
fn line(store: &Store, step: &TrainingStep) -> StepLine {
    let (rolled, stepped) = (&step.stats["rolled"], &step.stats["stepped"]);
    let stats = if stepped["stats"].is_object() { &stepped["stats"] } else { &step.stats };
    let count = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let figure = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let mut right = count(&rolled["right"]);
    let mut known = count(&rolled["rollouts"]).saturating_sub(count(&rolled["failed"]));
    let mut tools: Vec<(String, usize)> = rolled["tools"].as_object().map_or_else(Vec::new, |tools| {
        tools.iter().map(|(tool, plans)| (tool.clone(), count(plans))).collect()
    });
    let (mut turns, mut tokens) = (count(&rolled["turns"]), count(&rolled["planner_tokens"]));
    if !rolled.is_object() {
        for group in step.groups.iter().filter_map(|id| Group::load(store, id).ok()) {
            let words = Known::of(store, &group.question.id).map(|known| rewards(&group, &known));
            let Rewards { rewards, .. } = words.unwrap_or_default();
            right += rewards.iter().flatten().filter(|reward| **reward > 0.5).count();
            known += rewards.iter().flatten().count();
            for rollout in &group.rollouts {
                turns += rollout.trajectory.turns.len();
                let planned = rollout.trajectory.calls.iter().filter(|call| call.role.uses_adapter());
                tokens += planned.map(|call| call.completion.completion_ids.len()).sum::<usize>();
                for plan in rollout.trajectory.turns.iter().filter_map(|turn| turn.plan.as_ref()) {
                    match tools.iter_mut().find(|(tool, _)| *tool == plan.tool) {
                        Some((_, plans)) => *plans += 1,
                        None => tools.push((plan.tool.clone(), 1)),
                    }
                }
            }
        }
    }
    let (low, high) = wilson(right, known);
    let plans = tools.iter().map(|(_, plans)| plans).sum::<usize>().max(1) as f64;
    tools.sort_by_key(|(_, plans)| std::cmp::Reverse(*plans));
    StepLine {
        step: step.step,
        reward: if known > 0 { right as f64 / known as f64 } else { f64::NAN },
        reward_low: low,
        reward_high: high,
        rollouts: known,
        kl: figure(&stepped["drift"]),
        kl_budget: 0.0,
        clip_share: figure(&stats["clip_share"]),
        tokens_per_plan: tokens as f64 / turns.max(1) as f64,
        tools: tools.into_iter().map(|(tool, count)| (tool, count as f64 / plans)).collect(),
        seconds: figure(&stepped["seconds"]),
        groups: step.groups.clone(),
        queries: queries(store, &step.groups),
        adapter: step.candidate.clone(),
        alarms: serde_json::from_value::<Vec<Alarm>>(rolled["alarms"].clone())
            .unwrap_or_default()
            .iter()
            .map(Alarm::words)
            .collect(),
    }
}

/// What was asked in the groups of a step, unless they are more than a line can name.
fn queries(store: &Store, groups: &[String]) -> Vec<String> {
    const NAMED: usize = 3;
    let named = groups.iter().filter(|_| groups.len() <= NAMED);
    named.filter_map(|id| Group::load(store, id).ok()).map(|group| group.question.query).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Home;
    use crate::deck::demo;
    use crate::flow::event::{Body, Event};
    use crate::store::{Label, Row, Scope};
    use crate::train::gate::Gate;

    #[test]
    fn what_a_step_leaves_out_the_deck_does_not_promise() {
        let mut group = crate::train::reward::tests::group(&["42", "42", "7", "7"]);
        let entry = |answer: &str, value, label| crate::store::LedgerEntry {
            canonical_answer: crate::store::canonical(answer),
            value,
            source: Source::Person,
            label,
            typed: false,
        };
        let ledger = vec![entry("42", LabelValue::Good, 1), entry("7", LabelValue::Bad, 2)];
        let known = Known { ledger, labels: Vec::new() };
        let told = |group: &Group| verdict(group, &rewards(group, &known));
        assert_eq!(told(&group), "a step learns from 2 right and 2 wrong rollouts of this question");
        let outside = crate::tools::Taint { outside: true, private: false };
        group.rollouts[0].trajectory.inherited = outside;
        let one = told(&group);
        assert!(one.starts_with("a step learns from 1 right and 2 wrong rollouts"), "{one}");
        assert!(one.contains("left out: 1 rollout met text from outside"), "{one}");
        group.rollouts[1].trajectory.inherited = outside;
        let none = told(&group);
        assert!(none.starts_with("no contrast") && none.contains("2 rollouts met text"), "{none}");
    }

    #[test]
    fn the_gates_word_names_whom_it_is_worse_than_and_counts_the_pairs_with_the_champion() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::open(Some(dir.path())).unwrap()).unwrap();
        let step = |verdict: Option<&str>| TrainingStep {
            run: "r".into(),
            step: 1,
            groups: Vec::new(),
            stats: json!({}),
            candidate: Some("c".into()),
            verdict: verdict.map(String::from),
            created_ms: 0,
        };
        let look = |opponent, against: Option<&str>, won: u64, lost: u64| {
            let mut gate = Gate::new(opponent, against.map(String::from));
            for n in 0..won + lost {
                gate.add(n < won, n >= won);
            }
            store.add_gate_look("c", against, &[], &json!(gate.report())).unwrap();
        };
        assert_eq!(gate(&store, &step(None)), None);
        let told = gate(&store, &step(Some("cannot_tell"))).unwrap();
        assert_eq!((told.outcome, told.asked), (GateOutcome::CannotTell, 0), "{told:?}");
        look(Opponent::Champion, Some("b"), 3, 1);
        look(Opponent::Champion, Some("b"), 12, 1);
        look(Opponent::Base, None, 0, 12);
        let told = gate(&store, &step(Some("worse"))).unwrap();
        assert_eq!((told.only_new, told.only_old, told.asked), (12, 1, 13));
        assert_eq!(told.outcome, GateOutcome::Worse);
        assert_eq!(told.words, "worse than base without an adapter: it does not plan");
    }

    /// A query that `model` answered with `adapter`.
    fn answered(store: &Store, id: &str, session: &str, model: &str, adapter: Option<&str>) -> Row {
        for mut event in demo::events(id, "What is 6*7?") {
            if let Body::Started { session: own, conversation, model: by, adapter: with, .. } =
                &mut event.body
            {
                (*own, *conversation) = (session.to_string(), Vec::new());
                by.hash = model.to_string();
                *with = adapter.map(String::from);
            }
            store.record(&Event { trajectory: id.to_string(), ..event }).unwrap();
        }
        store.row(id).unwrap()
    }

    fn say(store: &Store, row: &Row, values: &[LabelValue]) {
        for value in values {
            store.add_label(&Label::on(row, Scope::Answer, *value)).unwrap();
        }
    }

    #[test]
    fn an_adapter_whose_answers_are_called_bad_more_often_than_usual_sets_the_alarm_off() {
        use LabelValue::{Bad, Good};
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::open(Some(dir.path())).unwrap()).unwrap();
        let run = store.new_evaluation("eval", &serde_json::json!({})).unwrap();
        let bare = answered(&store, "t-bare", "s", "m", None);
        let new = answered(&store, "t-new", "s", "m", Some("new"));
        let fine = answered(&store, "t-fine", "s", "m", Some("fine"));
        let usual = [Good, Good, Good, Good, Bad];
        say(&store, &bare, &usual.repeat(5));
        say(&store, &new, &[Bad; 9]);
        assert_eq!(Live::of(&store, "m", Some("new")).unwrap(), None, "25 labels do not say what is usual");
        // Neither another model's answers do, nor those of an evaluation, of which one looks at the wrong ones.
        say(&store, &answered(&store, "t-other", "s", "other", None), &usual.repeat(9));
        say(&store, &answered(&store, "t-eval", &run, "m", None), &usual.repeat(9));
        assert_eq!(Live::of(&store, "m", Some("new")).unwrap(), None);
        say(&store, &bare, &usual.repeat(4));
        let live = Live::of(&store, "m", Some("new")).unwrap().unwrap();
        let words = live.words().unwrap();
        assert!(
            words.contains("9 of 9") && words.contains("(45 labels)") && words.contains("roll back"),
            "{words}"
        );
        // One that does as well as usual sets nothing off, however long it goes on.
        say(&store, &fine, &usual.repeat(12));
        let live = Live::of(&store, "m", Some("fine")).unwrap().unwrap();
        assert!(live.words().is_none() && live.labels == 60, "{live:?}");
        assert_eq!(Live::of(&store, "m", Some("unheard of")).unwrap(), None);
    }
}
