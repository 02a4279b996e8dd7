//! `label --again N`: old labels asked again, blind, and how often the person says otherwise.
//!
//! Drawn uniformly among all words that still hold, so that the share speaks for all of them. What is said now is the
//! newer word and holds from then on.

use std::io::{BufRead, Write};
use std::time::Instant;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::store::{Label, LabelValue, Scope, Store};
use crate::tasks::stats::wilson;
use crate::text::safe;

/// What a line of the person says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Value(LabelValue),
    Skip,
    Quit,
    Unclear,
}

fn said(line: &str) -> Said {
    match line.trim() {
        "+" | "good" => Said::Value(LabelValue::Good),
        "-" | "bad" => Said::Value(LabelValue::Bad),
        "" | "s" | "skip" => Said::Skip,
        "q" | "quit" => Said::Quit,
        _ => Said::Unclear,
    }
}

/// Ask `count` old labels again and tell how often the person agrees with themselves.
///
/// # Errors
/// Nothing to ask, the store, or where it is written to.
pub fn run(
    store: &Store,
    count: usize,
    seed: u64,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut pool = store.askable()?;
    if pool.is_empty() || count == 0 {
        let told =
            "no label of yours to ask again: label answers with + and - in the deck, or `tillerman label`";
        return Err(Error::Usage(told.to_string()));
    }
    let whole = pool.len();
    pool.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    pool.truncate(count);
    let propensity = pool.len() as f64 / whole as f64;
    let closed = |e: std::io::Error| Error::Terminal(format!("cannot write the questions: {e}"));
    writeln!(
        out,
        "{} of {whole} labels, drawn at random (seed {seed}); what you said stays hidden",
        pool.len()
    )
    .map_err(closed)?;
    let (mut asked, mut agreed) = (0, 0);
    'labels: for (n, before) in pool.iter().enumerate() {
        let Some(id) = &before.trajectory else { continue };
        let row = store.row(id)?;
        let (query, answer) = (safe(&row.query), safe(row.answer.as_deref().unwrap_or_default()));
        write!(out, "\n{} of {}  {query}\n  {answer}\n", n + 1, pool.len()).map_err(closed)?;
        let began = Instant::now();
        let value = loop {
            write!(out, "+ good, - bad, s skip, q end: ").and_then(|()| out.flush()).map_err(closed)?;
            let mut line = String::new();
            if input.read_line(&mut line).unwrap_or(0) == 0 {
                break 'labels;
            }
            match said(&line) {
                Said::Value(value) => break value,
                Said::Skip => continue 'labels,
                Said::Quit => break 'labels,
                Said::Unclear => {}
            }
        };
        store.add_label(&Label {
            propensity,
            seconds: Some(began.elapsed().as_secs_f64()),
            expiry_ms: before.expiry_ms,
            audit: true,
            re_ask_of: Some(before.id),
            ..Label::on(&row, Scope::Answer, value)
        })?;
        asked += 1;
        agreed += usize::from(value == before.value);
    }
    writeln!(out, "\nthis time {agreed} of {asked} as before; where you said otherwise the newer word holds")
        .map_err(closed)?;
    let all = store.asked_again()?;
    let same = all.iter().filter(|asked| asked.agrees()).count();
    writeln!(out, "{}", agreement(same, all.len())).map_err(closed)
}

/// How often one word of a person is wrong, if two about the same agree with this chance: e of a = 1 - 2 e (1 - e).
/// None: they agree less often than coins, which no such e explains.
pub fn flip_rate(agreement: f64) -> Option<f64> {
    (agreement >= 0.5).then(|| (1.0 - (2.0 * agreement - 1.0).sqrt()) / 2.0)
}

/// Agreement and flip rate with their 95 % intervals, over all labels ever asked again.
fn agreement(same: usize, all: usize) -> String {
    if all == 0 {
        return "no label was asked again yet".to_string();
    }
    let share = same as f64 / all as f64;
    let (low, high) = wilson(same, all);
    // Who agrees more often flips less: the ends change places.
    let flips =
        |agreement: f64| flip_rate(agreement).map_or("50".to_string(), |e| format!("{:.1}", 100.0 * e));
    let flip = match flip_rate(share) {
        Some(e) => format!("{:.1} %", 100.0 * e),
        None => "not to be told: less than half agree".to_string(),
    };
    format!(
        "over all {all} asked again so far: {same} as before ({:.1} %, 95 % {:.1}..{:.1}); a single label of yours is \
         wrong with a chance of {flip} (95 % {}..{}), e = (1 - sqrt(2a - 1)) / 2",
        100.0 * share,
        100.0 * low,
        100.0 * high,
        flips(high),
        flips(low)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Home;
    use crate::deck::demo;
    use crate::flow::event::{Body, Event};

    #[test]
    fn the_flip_rate_is_that_of_the_formula() {
        assert_eq!(flip_rate(1.0), Some(0.0));
        assert_eq!(flip_rate(0.5), Some(0.5));
        // e = .1: a = 1 - 2 * .1 * .9 = .82
        assert!((flip_rate(0.82).unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(flip_rate(0.4), None);
        let told = agreement(9, 10);
        assert!(told.contains("9 as before (90.0 %, 95 % 59.6..98.2)") && told.contains("5.3 %"), "{told}");
        assert!(agreement(1, 10).contains("not to be told") && agreement(0, 0).contains("yet"));
    }

    fn store_with(labels: usize) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::open(Some(dir.path())).unwrap()).unwrap();
        for n in 0..labels {
            for mut event in demo::events(&format!("t-{n}"), &format!("What is {n}*7?")) {
                if let Body::Started { session, conversation, .. } = &mut event.body {
                    (*session, *conversation) = (format!("s-{n}"), Vec::new());
                }
                store.record(&Event { trajectory: format!("t-{n}"), ..event }).unwrap();
            }
            let row = store.row(&format!("t-{n}")).unwrap();
            store.add_label(&Label::on(&row, Scope::Answer, LabelValue::Good)).unwrap();
        }
        (dir, store)
    }

    fn ask(store: &Store, count: usize, seed: u64, typed: &str) -> String {
        let mut out = Vec::new();
        run(store, count, seed, &mut typed.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn old_labels_are_asked_again_without_what_was_said_and_kept_as_such() {
        let (_dir, store) = store_with(5);
        let told = ask(&store, 4, 7, "+\n-\nwhat?\ns\n+\n");
        assert!(told.contains("4 of 5 labels") && !told.contains("(good)"), "{told}");
        assert!(told.contains("this time 2 of 3 as before"), "{told}");
        assert!(told.contains("over all 3 asked again so far: 2 as before"), "{told}");
        let again = store.asked_again().unwrap();
        assert_eq!(again.iter().map(|asked| asked.agrees()).collect::<Vec<_>>(), [true, false, true]);
        for asked in &again {
            let label = &asked.again;
            assert!(label.audit && label.re_ask_of == Some(asked.before.id) && label.seconds.is_some());
            assert_eq!(
                (label.propensity, label.question_id.as_str()),
                (0.8, asked.before.question_id.as_str())
            );
        }
        // The newer word holds, and what was asked again is no word of its own to be asked again.
        let changed = &again[1].before.question_id;
        assert_eq!(store.ledger(changed).unwrap()[0].value, LabelValue::Bad);
        assert_eq!(store.askable().unwrap().len(), 5);
        // The same seed draws the same ones.
        let shown = |told: &str| {
            told.lines().filter(|line| line.contains("What is")).map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(shown(&ask(&store, 4, 7, "s\ns\ns\ns\n")), shown(&told));
        assert_ne!(shown(&ask(&store, 4, 8, "s\ns\ns\ns\n")), shown(&told));
        // Nor does it count as a further word on what plans.
        assert_eq!(store.recent_values(64).unwrap().len(), 5);
    }

    #[test]
    fn without_labels_it_says_how_to_give_one() {
        let (_dir, store) = store_with(0);
        let told = run(&store, 3, 1, &mut "".as_bytes(), &mut Vec::new()).unwrap_err().to_string();
        assert!(told.contains("tillerman label"), "{told}");
    }
}
