//! What the groups tab says: a group's contrast and chances, an answer with its label and its rollouts. Words and rows
//! only; nothing is chosen here.

use crate::deck::fit::fitted;
use crate::deck::message::LabelValue;
use crate::deck::row::{Prose, Row};
use crate::deck::study::{Cluster, GroupView};
use crate::deck::theme::Ink;
use crate::tasks::stats::contrast_chance;

/// What a small screen says of a group: its query, and whether there is something to learn from.
pub fn small_rows(group: &GroupView, width: usize) -> Vec<Row> {
    let (good, bad) = group.counts();
    let mut rows = vec![Row::new().say(fitted(&group.query, width), Ink::Strong)];
    rows.extend(meter(group, good, bad).wrap(width, &Row::new(), &Row::new()));
    rows
}

/// `(good)` in words, so that colour is never the only sign.
fn label_of(cluster: &Cluster) -> Prose {
    let mut by = if cluster.said_by.is_empty() { String::new() } else { format!(", {}", cluster.said_by) };
    if !cluster.until.is_empty() {
        by.push_str(&format!(", until {}", cluster.until));
    }
    match cluster.label {
        Some(LabelValue::Good) => Prose::of(format!("(good{by})"), Ink::Good),
        Some(LabelValue::Bad) => Prose::of(format!("(bad{by})"), Ink::Bad),
        _ => Prose::of("(not judged)", Ink::Dim),
    }
}

/// The rows of an answer, and in which of them the chosen rollout stands.
pub fn cluster_rows(
    cluster: &Cluster,
    compared: &[String],
    chosen: Option<usize>,
    width: usize,
) -> (Vec<Row>, usize) {
    let mut chosen_row = 0;
    let answer = if cluster.answer.trim().is_empty() { "(no answer)" } else { &cluster.answer };
    let mut rows = Prose::of(answer, Ink::Text).wrap(width, &Row::new(), &Row::new());
    rows.truncate(6);
    rows.extend(label_of(cluster).wrap(width, &Row::new(), &Row::new()));
    for words in compared {
        rows.extend(Prose::of(words.as_str(), Ink::Accent).wrap(width, &Row::new(), &Row::new()));
    }
    rows.push(Row::new());
    let mut first = 0;
    for way in cluster.rollouts.chunk_by(|a, b| a.plans == b.plans) {
        let turns = way[0].plans.len();
        let words = format!(
            "{} {}, {turns} {}:",
            way.len(),
            if way.len() == 1 { "rollout" } else { "rollouts" },
            if turns == 1 { "turn" } else { "turns" }
        );
        rows.push(Row::new().say(words, Ink::Text));
        for plan in &way[0].plans {
            rows.push(Row::new().say("  ", Ink::Dim).say(fitted(plan, width.saturating_sub(2)), Ink::Dim));
        }
        let margin = Row::new().say("  ", Ink::Text);
        let mut times = Prose::new();
        for (n, rollout) in way.iter().enumerate() {
            let here = chosen == Some(first + n);
            // A space within would let one rollout's words be torn apart at the end of a line.
            let digits = if rollout.seconds < 1.0 { 2 } else { 1 };
            let time = format!("{:.digits$}\u{a0}s", rollout.seconds);
            times = times.say(time, if here { Ink::Selected } else { Ink::Text });
            times = times
                .say(if rollout.plan_bad { "\u{a0}plan\u{a0}bad" } else { "" }, Ink::Bad)
                .say("  ", Ink::Text);
        }
        rows.extend(times.wrap(width, &margin, &margin));
        if chosen.is_some_and(|chosen| (first..first + way.len()).contains(&chosen)) {
            chosen_row = rows.len() - 1;
        }
        first += way.len();
    }
    (rows, chosen_row)
}

/// Rollouts that took the same way side by side, the ways in the order in which they first came.
pub fn by_way(group: &mut GroupView) {
    for cluster in &mut group.clusters {
        let ways: Vec<Vec<String>> = cluster.rollouts.iter().map(|rollout| rollout.plans.clone()).collect();
        cluster.rollouts.sort_by_key(|rollout| ways.iter().position(|way| *way == rollout.plans));
    }
}

pub fn adapter_words(adapter: Option<&str>) -> String {
    adapter.map_or_else(|| "no adapter".to_string(), |id| format!("adapter {id}"))
}

/// Why a step would find nothing to learn in this group, and what helps.
pub fn no_contrast(group: &GroupView) -> Option<&'static str> {
    let open = group.clusters.iter().any(|cluster| cluster.label.is_none());
    match (group.has_contrast(), group.clusters.len(), open) {
        (true, ..) => None,
        (_, 0, _) => Some("no contrast: no rollout has ended yet"),
        (_, 1, _) => Some(
            "no contrast: every rollout gave the same answer, so nothing can be learned; r rolls it again, F1 asks another",
        ),
        (.., true) => {
            Some("no contrast: label one answer good and another bad first, or pick the better one with b")
        }
        (.., false) => {
            Some("no contrast: all its answers got the same label; r rolls it again, F1 asks another")
        }
    }
}

/// `contrast |++++----....|  4 good, 4 bad, 0 not judged`
pub fn meter(group: &GroupView, good: usize, bad: usize) -> Prose {
    let all: usize = group.clusters.iter().map(|cluster| cluster.rollouts.len()).sum();
    let open = all.saturating_sub(good + bad);
    let words = if !group.verdict.is_empty() {
        // Says it already, on the next line.
        ""
    } else if group.has_contrast() {
        ": there is something to learn from"
    } else if good + bad == 0 {
        ": nothing is judged yet"
    } else {
        ": no contrast, a step would learn nothing"
    };
    let picks = match group.picks.len() {
        0 => String::new(),
        1 => ", 1 comparison".to_string(),
        n => format!(", {n} comparisons"),
    };
    Prose::of("contrast |", Ink::Dim)
        .say("+".repeat(good.min(64)), Ink::Good)
        .say("-".repeat(bad.min(64)), Ink::Bad)
        .say(".".repeat(open.min(64)), Ink::Dim)
        .say("|  ", Ink::Dim)
        .say(format!("{good} good, {bad} bad, {open} not judged{picks}{words}"), Ink::Text)
}

/// The chance that the query, rolled out again, gives both kinds of answer, by what is known: the labels, else how
/// many rollouts agree.
pub fn chances(group: &GroupView, good: usize, bad: usize) -> Prose {
    let judged = good + bad;
    let all: usize = group.clusters.iter().map(|cluster| cluster.rollouts.len()).sum();
    let biggest = group.clusters.first().map_or(0, |cluster| cluster.rollouts.len());
    // Laplace's rule: nothing seen is not "never".
    let rate = |hits: usize, of: usize| (hits as f64 + 1.0) / (of as f64 + 2.0);
    let (rate, whence) = match judged {
        0 => (rate(biggest, all), format!("{biggest} of {all} agree")),
        _ => (rate(good, judged), format!("{good} of {judged} are good")),
    };
    let mut prose = Prose::of("rolled out again, the chance of different answers: ", Ink::Dim);
    for (n, size) in [4, 8, 16].into_iter().enumerate() {
        // Chances are never certain; a space within would let a figure be torn from its sign.
        let chance = (contrast_chance(rate, size) * 100.0).min(99.0);
        let words = format!("{chance:.0}\u{a0}%\u{a0}with\u{a0}{size}");
        prose = prose.say(if n == 0 { "" } else { ", " }, Ink::Dim);
        prose = prose.say(words, if size == group.size { Ink::Strong } else { Ink::Dim });
    }
    prose.say(format!(" (now {whence})"), Ink::Dim)
}
