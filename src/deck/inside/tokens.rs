//! A model call token by token: how sure the model was of each, which were forced, which train.

use unicode_width::UnicodeWidthStr;

use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;
use crate::engine::Role;
use crate::flow::event::ModelCall;

/// What a token's probability is called, and drawn in. Weight as well as colour tells them apart.
const STEPS: [(f64, &str, Ink); 4] = [
    (0.9, "p >= 0.9", Ink::Dim),
    (0.5, "0.5 to 0.9", Ink::Text),
    (0.1, "0.1 to 0.5", Ink::Warning),
    (0.0, "below 0.1", Ink::Bad),
];

/// One sampled token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub text: String,
    pub id: i32,
    /// Natural log of its chance under the unconstrained policy.
    pub logprob: f32,
    /// Drawn under the grammar's mask because the free draw was refused.
    pub forced: bool,
    /// Part of the loss when the trajectory trains.
    pub trains: bool,
}

pub fn tokens(call: &ModelCall, texts: Vec<String>) -> Vec<Token> {
    let completion = &call.completion;
    let at = |n: usize| completion.forced.get(n).copied().unwrap_or(false);
    let one = |(n, (id, text)): (usize, (&i32, String))| Token {
        text,
        id: *id,
        logprob: completion.logprobs.get(n).copied().unwrap_or(f32::NAN),
        forced: at(n),
        trains: call.role == Role::Planner && !at(n),
    };
    completion.completion_ids.iter().zip(texts).enumerate().map(one).collect()
}

/// What a chance is drawn in.
pub fn chance_ink(logprob: f32) -> Ink {
    let p = f64::from(logprob).exp();
    STEPS.iter().find(|(least, ..)| p >= *least).map_or(Ink::Text, |(_, _, ink)| *ink)
}

/// The tokens as running text, and the row the selected one stands in.
pub fn text_rows(tokens: &[Token], selected: usize, width: usize) -> (Vec<Row>, usize) {
    let (mut rows, mut row, mut here) = (Vec::new(), Row::new(), 0);
    for (n, token) in tokens.iter().enumerate() {
        // Line ends are part of what was sampled, so they show as what they are.
        let shown = token.text.replace('\n', "\\n").replace('\t', "\\t");
        let shown = if shown.is_empty() { "\u{b7}".to_string() } else { shown };
        let shown = if token.forced { format!("[{shown}]") } else { shown };
        if row.width() + shown.width() > width && row.width() > 0 {
            rows.push(std::mem::take(&mut row));
        }
        if n == selected {
            here = rows.len();
        }
        row = row.say(shown, if n == selected { Ink::Selected } else { chance_ink(token.logprob) });
        if token.text.ends_with('\n') {
            rows.push(std::mem::take(&mut row));
        }
    }
    if row.width() > 0 {
        rows.push(row);
    }
    (rows, here)
}

/// The legend, the selected token in figures, and the whole in figures.
/// `advantage`: what a step would make of the plan.
pub fn figure_rows(tokens: &[Token], selected: usize, advantage: Option<f64>, width: usize) -> Vec<Row> {
    let mut legend = Row::new().say("chance ", Ink::Dim);
    for (_, words, ink) in STEPS {
        legend = legend.say(words, ink).say("  ", Ink::Dim);
    }
    let mut rows = vec![legend.say("[forced]", Ink::Text)];
    if width < 70 {
        rows[0] = Row::new();
        for (_, words, ink) in STEPS {
            rows[0] = std::mem::take(&mut rows[0]).say(words, ink).say(" ", Ink::Dim);
        }
        rows[0] = std::mem::take(&mut rows[0]).say("[forced]", Ink::Text);
    }
    let Some(token) = tokens.get(selected) else {
        rows.push(Row::new().say("this call sampled no token that is on record", Ink::Dim));
        return rows;
    };
    let drawn = if token.forced { "forced by the grammar" } else { "drawn freely" };
    let mask = if token.trains { "a step learns from it" } else { "no step learns from it" };
    let mut words = Prose::of(format!("token {} of {}  ", selected + 1, tokens.len()), Ink::Text)
        .say(format!("{:?}", token.text), Ink::Strong)
        .say(format!("  id {}  ", token.id), Ink::Dim);
    words = if token.logprob.is_nan() {
        words.say("no log-probability on record", Ink::Dim)
    } else {
        let p = f64::from(token.logprob).exp();
        words.say(format!("logprob {:.4} (p {p:.3})", token.logprob), Ink::Accent)
    };
    let words = words.say(format!("  {drawn}, {mask}"), Ink::Text);
    rows.extend(words.wrap(width, &Row::new(), &Row::new()));
    let known: Vec<f64> =
        tokens.iter().filter(|t| !t.logprob.is_nan()).map(|t| f64::from(t.logprob)).collect();
    let sum: f64 = known.iter().sum();
    let forced = tokens.iter().filter(|token| token.forced).count();
    let mean = if known.is_empty() { 0.0 } else { sum / known.len() as f64 };
    let words = format!(
        "all {} tokens: logprob {sum:.2}, {mean:.3} a token; {forced} forced, {} to learn from",
        tokens.len(),
        tokens.iter().filter(|token| token.trains).count()
    );
    rows.extend(Prose::of(words, Ink::Dim).wrap(width, &Row::new(), &Row::new()));
    if let Some(advantage) = advantage {
        let (ink, what) = match advantage {
            a if a > 0.0 => (Ink::Good, "a step makes these tokens likelier"),
            a if a < 0.0 => (Ink::Bad, "a step makes these tokens less likely"),
            _ => (Ink::Dim, "a step leaves these tokens as they are"),
        };
        rows.push(Row::new().say(format!("advantage {advantage:+.2} "), ink).say(what, Ink::Text));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_likely_the_louder() {
        let inks: Vec<Ink> = [0.0, -0.5, -1.5, -6.0, f32::NAN].into_iter().map(chance_ink).collect();
        assert_eq!(inks, [Ink::Dim, Ink::Text, Ink::Warning, Ink::Bad, Ink::Text]);
    }

    #[test]
    fn forced_tokens_are_bracketed_and_do_not_train() {
        let mut call = crate::deck::demo::planner_call();
        call.completion.forced[1] = true;
        let texts = (0..call.completion.completion_ids.len()).map(|n| format!("t{n}\n")).collect();
        let tokens = tokens(&call, texts);
        assert!(tokens[0].trains && tokens[1].forced && !tokens[1].trains);
        let (rows, here) = text_rows(&tokens, 2, 40);
        assert_eq!((rows[1].text().as_str(), here), ("[t1\\n]", 2));
    }
}
