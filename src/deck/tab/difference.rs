//! What a step changed: one question under two adapters, plan beside plan, token by token.
//!
//! Drawn over the training tab; asking both sides is `cli::study`'s affair.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::deck::inside::tokens::chance_ink;
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::row::{Prose, Row};
use crate::deck::study::{Difference, Side};
use crate::deck::tab::Look;
use crate::deck::tab::training::short;
use crate::deck::theme::Ink;

/// A difference and how far down it has been read.
pub struct Shown {
    difference: Difference,
    scroll: usize,
}

impl Shown {
    pub fn new(difference: Difference) -> Shown {
        Shown { difference, scroll: 0 }
    }

    /// One row; the end is held where the rows are drawn.
    pub fn scroll(&mut self, down: bool) {
        self.scroll = if down { self.scroll + 1 } else { self.scroll.saturating_sub(1) };
    }

    pub fn draw(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) {
        let theme = &look.theme;
        frame_block(buffer, area, Ink::BorderFocus, theme);
        draw_title(buffer, area, &Row::new().say(" what did this change? ", Ink::TitleFocus), theme);
        let inside = inner(area);
        let rows = difference_rows(&self.difference, usize::from(inside.width));
        self.scroll = self.scroll.min(rows.len().saturating_sub(usize::from(inside.height)));
        draw_rows(buffer, inside, rows.iter().skip(self.scroll), theme);
        let below = rows.len().saturating_sub(self.scroll + usize::from(inside.height));
        if below > 0 {
            draw_corner(buffer, area, &Row::new().say(format!(" {below} below "), Ink::Dim), theme);
        }
    }
}

/// Where two plans part: the tokens both begin with.
fn common(before: &Side, after: &Side) -> usize {
    before.tokens.iter().zip(&after.tokens).take_while(|(a, b)| a.0 == b.0).count()
}

/// Both plans token by token. Up to where they part the tokens are the same and only their chances differ;
/// from there each goes its own way, which is marked.
fn difference_rows(difference: &Difference, width: usize) -> Vec<Row> {
    let mut rows = Prose::of(difference.query.as_str(), Ink::Strong).wrap(width, &Row::new(), &Row::new());
    rows.push(Row::new());
    let shared = common(&difference.before, &difference.after);
    let two = width >= 72;
    let column = if two { (width - 3) / 2 } else { width };
    let sides = [&difference.before, &difference.after].map(|side| side_rows(side, shared, column));
    if two {
        let blank = Row::new();
        for n in 0..sides[0].len().max(sides[1].len()) {
            let left = sides[0].get(n).unwrap_or(&blank).clone();
            let pad = column.saturating_sub(left.width());
            let row = left.say(" ".repeat(pad), Ink::Text).say(" | ", Ink::Border);
            rows.push(row.join(sides[1].get(n).unwrap_or(&blank).clone()));
        }
    } else {
        sides.into_iter().for_each(|side| rows.extend(side));
    }
    rows.push(Row::new());
    let moved: Vec<String> = difference
        .before
        .tokens
        .iter()
        .zip(&difference.after.tokens)
        .take(shared)
        .map(|(before, after)| (before, after, f64::from(after.1).exp() - f64::from(before.1).exp()))
        .filter(|(.., change)| change.abs() >= 0.02)
        .map(|(before, after, _)| {
            format!("{:?} {:.2} -> {:.2}", before.0, f64::from(before.1).exp(), f64::from(after.1).exp())
        })
        .collect();
    let words = match (
        shared == difference.before.tokens.len() && shared == difference.after.tokens.len(),
        moved.is_empty(),
    ) {
        (true, true) => "the first plan is the same, with the same chances".to_string(),
        (true, false) => format!("the same first plan; chances that moved: {}", moved.join(", ")),
        (false, true) => format!("the first plans part after token {shared}"),
        (false, false) => {
            format!("the first plans part after token {shared}; chances before that: {}", moved.join(", "))
        }
    };
    rows.extend(Prose::of(words, Ink::Text).wrap(width, &Row::new(), &Row::new()));
    rows
}

fn side_rows(side: &Side, shared: usize, width: usize) -> Vec<Row> {
    let mut rows = vec![Row::new().say(format!("adapter {}", short(&side.adapter)), Ink::Heading)];
    let mut prose = Prose::new();
    for (n, (text, logprob)) in side.tokens.iter().enumerate() {
        if n == shared {
            prose = prose.say(" ~> ", Ink::Warning);
        }
        prose = prose.say(text.as_str(), chance_ink(*logprob));
    }
    rows.extend(prose.wrap(width, &Row::new(), &Row::new()));
    rows.push(Row::new().say("answer", Ink::Heading));
    rows.extend(Prose::of(side.answer.as_str(), Ink::Text).wrap(width, &Row::new(), &Row::new()));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_part_where_their_tokens_differ() {
        let side = |words: &[(&str, f32)]| Side {
            adapter: "none".to_string(),
            tokens: words.iter().map(|(text, p)| (text.to_string(), p.ln())).collect(),
            answer: "1".to_string(),
        };
        let difference = Difference {
            query: "q".to_string(),
            before: side(&[("tool: ", 0.9), ("search", 0.6)]),
            after: side(&[("tool: ", 0.5), ("calculator", 0.7)]),
        };
        let text: String = difference_rows(&difference, 100).iter().map(|row| row.text() + "\n").collect();
        assert!(text.contains("part after token 1") && text.contains("0.90 -> 0.50"), "{text}");
        assert!(text.contains("~> search") && text.contains("~> calculator"), "{text}");
    }
}
