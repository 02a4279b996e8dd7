//! The figures of the training tab: a chart per figure with what it means, and the steps as a table.

use crate::deck::fit::fitted;
use crate::deck::plot::{Point, curve, shares};
use crate::deck::row::Row;
use crate::deck::study::StepLine;
use crate::deck::theme::Ink;

/// Rows of a chart from which it also says what it shows.
const EXPLAINED_FROM: usize = 6;
/// Columns from which the table of steps has all its columns.
const WIDE: usize = 66;

/// Reward, drift, clipping, length of plans, tools: each a title, the curve, and what it means where there is room.
pub(super) fn charts(steps: &[StepLine], width: usize, height: usize) -> Vec<Vec<Row>> {
    let points = |of: &dyn Fn(&StepLine) -> Point| steps.iter().map(of).collect::<Vec<_>>();
    let exact = |of: fn(&StepLine) -> f64| points(&|step| Point::exact(of(step)));
    let title = |name: &str, figures: String| {
        Row::new().say(format!("{name}  "), Ink::Heading).say(figures, Ink::Text)
    };
    let last = steps.last().cloned().unwrap_or_default();
    let reward =
        format!("{:.2} [{:.2}, {:.2}], n {}", last.reward, last.reward_low, last.reward_high, last.rollouts);
    let interval = |s: &StepLine| Point { value: s.reward, low: s.reward_low, high: s.reward_high };
    let explained = height >= EXPLAINED_FROM;
    let small = height.saturating_sub(usize::from(explained)).max(3);
    let with = |words: &str, mut rows: Vec<Row>| {
        if explained {
            rows.insert(1, Row::new().say(fitted(words, width), Ink::Dim));
        }
        rows
    };
    vec![
        with(
            "share of rollouts that were right",
            curve(title("reward", reward), &points(&interval), width, small),
        ),
        with(
            "from the plans of the bare model",
            curve(title("drift", drift(&last)), &exact(|s| s.kl), width, small),
        ),
        with(
            "tokens a step held back",
            curve(
                title("clipped", format!("{:.1} % of tokens", last.clip_share * 100.0)),
                &exact(|s| s.clip_share * 100.0),
                width,
                small,
            ),
        ),
        with(
            "how long its plans are",
            curve(
                title("tokens per plan", format!("{:.1}", last.tokens_per_plan)),
                &exact(|s| s.tokens_per_plan),
                width,
                small,
            ),
        ),
        with(
            "what its plans chose",
            shares(title("tools", format!("in step {}", last.step)), &last.tools, width, small),
        ),
    ]
}

/// How far the newest step's adapter is from the bare model, and how much of the way it may go that is.
fn drift(step: &StepLine) -> String {
    match (step.kl.is_nan(), step.kl_budget > 0.0) {
        (true, _) => "not measured".to_string(),
        (false, false) => format!("{:.4} a token", step.kl),
        (false, true) => {
            format!("{:.4} a token, {:.0} % of {}", step.kl, 100.0 * step.kl / step.kl_budget, step.kl_budget)
        }
    }
}

/// Steps, newest last; in a narrow column what they learned from comes before clipping and seconds.
pub(super) fn step_rows(steps: &[StepLine], room: usize, width: usize) -> Vec<Row> {
    let wide = width >= WIDE;
    let more = if wide { "  clip      s" } else { "" };
    let head = format!("step  reward            n drift {more} learned from");
    let mut rows = vec![Row::new().say(head, Ink::Dim)];
    let skip = steps.len().saturating_sub(room.saturating_sub(1));
    for step in steps.iter().skip(skip) {
        let mut words = format!(
            "{:>4}  {:.2} [{:.2}, {:.2}] {:>3} {:<6} ",
            step.step,
            step.reward,
            step.reward_low,
            step.reward_high,
            step.rollouts,
            if step.kl.is_nan() { "-".to_string() } else { format!("{:.4}", step.kl) },
        );
        if wide {
            words.push_str(&format!("{:>4.1} % {:>5.1} ", step.clip_share * 100.0, step.seconds));
        }
        let room = width.saturating_sub(words.len());
        words.push_str(&match step.queries.first() {
            Some(first) if step.queries.len() == 1 => fitted(first, room),
            Some(first) => {
                let more = format!(" +{}", step.queries.len() - 1);
                fitted(first, room.saturating_sub(more.len())) + &more
            }
            None => groups_in(&step.groups, room),
        });
        rows.push(Row::new().say(words, Ink::Text));
    }
    rows
}

/// So many questions; a person knows none of their groups by its id, except the one there is.
fn groups_in(groups: &[String], room: usize) -> String {
    match groups {
        [] => String::new(),
        [one] => fitted(short_group(one), room),
        many => fitted(&format!("{} groups", many.len()), room),
    }
}

/// A group's id as it is shown everywhere: its end. Groups of one minute begin alike.
fn short_group(id: &str) -> &str {
    if id.len() <= 12 { id } else { id.get(id.len() - 8..).unwrap_or(id) }
}
