//! Changed cells as bytes for a terminal, few of them: what streams a word must not write half a kilobyte.
//!
//! Every call begins and ends in the terminal's plain style. Beside ratatui's own way of writing: styles are said
//! once per change and short, the cursor moves forward instead of being placed anew, and a short gap is written
//! over. After a character whose width terminals disagree about the next cell is placed, never reached by moving.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;

/// Unchanged cells that are written over rather than skipped.
const GAP_MAX: u16 = 3;

type Look = (Color, Color, Modifier);

const PLAIN: Look = (Color::Reset, Color::Reset, Modifier::empty());

fn look(cell: &Cell) -> Look {
    (cell.fg, cell.bg, cell.modifier)
}

/// `changes` (column, row, cell) in reading order; `whole` is the buffer they are of.
pub fn bytes<'a>(changes: impl IntoIterator<Item = (u16, u16, &'a Cell)>, whole: &Buffer) -> String {
    let mut out = String::new();
    let mut now = PLAIN;
    // Where the next character would land; false: only if all before it were as wide as is thought here.
    let mut at: Option<(u16, u16, bool)> = None;
    for (x, y, cell) in changes {
        at = Some(match at {
            Some((column, row, sure)) if (column, row) == (x, y) => (x, y, sure),
            Some((column, row, true)) if row == y && column < x => {
                forward(&mut out, whole, (column, x, y), now);
                (x, y, true)
            }
            _ => {
                let _ = write!(out, "\x1b[{};{}H", y + 1, x + 1);
                (x, y, true)
            }
        });
        if look(cell) != now {
            style(&mut out, now, look(cell));
            now = look(cell);
        }
        out.push_str(cell.symbol());
        let next = at.map(|(.., sure)| (x + 1, y, sure && cell.symbol().is_ascii()));
        at = next.filter(|_| cell.symbol().width() == 1);
    }
    if now != PLAIN {
        style(&mut out, now, PLAIN);
    }
    out
}

/// From column to column of a row: over what stands there if that is short and of the same style.
fn forward(out: &mut String, whole: &Buffer, (from, to, y): (u16, u16, u16), now: Look) {
    let gap = || (from..to).filter_map(|x| whole.cell((x, y)));
    let plain = |cell: &Cell| look(cell) == now && cell.symbol().len() == 1;
    if to - from <= GAP_MAX && gap().all(plain) {
        gap().for_each(|cell| out.push_str(cell.symbol()));
    } else if to - from == 1 {
        out.push_str("\x1b[C");
    } else {
        let _ = write!(out, "\x1b[{}C", to - from);
    }
}

/// Change the style; from plain only what is added is said.
fn style(out: &mut String, from: Look, to: Look) {
    let mut codes: Vec<String> = Vec::new();
    let modifiers_stay = from.2 == to.2;
    if to == PLAIN {
        return out.push_str("\x1b[m");
    }
    if !modifiers_stay && !from.2.is_empty() {
        codes.push("0".to_string());
    }
    let anew = !codes.is_empty();
    if anew || !modifiers_stay {
        let all = [
            (Modifier::BOLD, "1"),
            (Modifier::DIM, "2"),
            (Modifier::ITALIC, "3"),
            (Modifier::UNDERLINED, "4"),
            (Modifier::SLOW_BLINK, "5"),
            (Modifier::RAPID_BLINK, "6"),
            (Modifier::REVERSED, "7"),
            (Modifier::HIDDEN, "8"),
            (Modifier::CROSSED_OUT, "9"),
        ];
        codes.extend(all.iter().filter(|(one, _)| to.2.contains(*one)).map(|(_, code)| code.to_string()));
    }
    let (fg, bg) = if anew { (Color::Reset, Color::Reset) } else { (from.0, from.1) };
    if to.0 != fg {
        codes.push(color(to.0, 30));
    }
    if to.1 != bg {
        codes.push(color(to.1, 40));
    }
    let _ = write!(out, "\x1b[{}m", codes.join(";"));
}

/// SGR code of a colour; `base` is 30 in front and 40 behind.
fn color(color: Color, base: u8) -> String {
    let named = match color {
        Color::Reset => return (base + 9).to_string(),
        Color::Rgb(r, g, b) => return format!("{};2;{r};{g};{b}", base + 8),
        Color::Indexed(n) => return format!("{};5;{n}", base + 8),
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 60,
        Color::LightRed => 61,
        Color::LightGreen => 62,
        Color::LightYellow => 63,
        Color::LightBlue => 64,
        Color::LightMagenta => 65,
        Color::LightCyan => 66,
        Color::White => 67,
    };
    (base + named).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    const SIZE: (u16, u16) = (24, 5);

    fn buffer(words: &[(u16, u16, &str, usize)]) -> Buffer {
        let styles = [
            Style::new(),
            Style::new().fg(Color::Cyan),
            Style::new().fg(Color::Rgb(1, 2, 3)).bg(Color::LightRed).add_modifier(Modifier::BOLD),
            Style::new().add_modifier(Modifier::REVERSED | Modifier::UNDERLINED),
            Style::new().fg(Color::Indexed(200)).add_modifier(Modifier::ITALIC | Modifier::DIM),
        ];
        let mut buffer = Buffer::empty(Rect::new(0, 0, SIZE.0, SIZE.1));
        for (x, y, word, style) in words {
            buffer.set_string(x % SIZE.0, y % SIZE.1, word, styles[style % styles.len()]);
        }
        buffer
    }

    fn emulator() -> vt100::Parser {
        vt100::Parser::new(SIZE.1.try_into().unwrap(), SIZE.0.try_into().unwrap(), 0)
    }

    /// A cell as a person sees it.
    fn seen(screen: &vt100::Parser, row: u16, column: u16) -> String {
        let cell = screen.screen().cell(row, column).unwrap();
        let (text, lines) = (cell.contents().trim(), [cell.underline(), cell.inverse()]);
        if text.is_empty() && lines == [false, false] {
            // Of a blank only what lies behind it shows.
            return format!("{:?}", cell.bgcolor());
        }
        let weight = [cell.bold(), cell.dim(), cell.italic()];
        format!("{text:?} {:?} {:?} {lines:?} {weight:?}", cell.fgcolor(), cell.bgcolor())
    }

    proptest! {
        /// Frame after frame in few bytes, or every changed cell placed by itself: the same screen. Without wide
        /// characters: in which style a terminal leaves the half of one that is overwritten is its own affair.
        #[test]
        fn what_is_shown_is_what_was_drawn(frames in prop::collection::vec(prop::collection::vec(
            (0u16..24, 0u16..5, prop::sample::select(vec!["a word", "x", "  ", "ünï", "é", "─│", "12 34"]),
            0usize..5), 0..12), 1..6)) {
            let (mut screen, mut placed) = (emulator(), emulator());
            let mut front = buffer(&[]);
            for words in frames {
                let back = buffer(&words);
                let written = bytes(front.diff(&back), &back);
                screen.process(written.as_bytes());
                for change in front.diff(&back) {
                    placed.process(bytes([change], &back).as_bytes());
                }
                for (row, column) in (0..SIZE.1).flat_map(|row| (0..SIZE.0).map(move |column| (row, column))) {
                    prop_assert_eq!(seen(&screen, row, column), seen(&placed, row, column));
                }
                front = back;
            }
        }
    }

    #[test]
    fn what_follows_a_wide_character_is_placed() {
        let (front, back) = (buffer(&[]), buffer(&[(0, 0, "世x", 2)]));
        let style = "\x1b[1;38;2;1;2;3;101m";
        assert_eq!(bytes(front.diff(&back), &back), format!("\x1b[1;1H{style}世\x1b[1;3Hx\x1b[m"));
    }

    #[test]
    fn a_word_costs_its_letters() {
        let (front, back) = (buffer(&[(0, 0, "one", 0)]), buffer(&[(0, 0, "one two", 0)]));
        assert_eq!(bytes(front.diff(&back), &back), "\x1b[1;5Htwo");
        let back = buffer(&[(0, 0, "onE two", 1)]);
        assert_eq!(bytes(front.diff(&back), &back), "\x1b[1;1H\x1b[36monE two\x1b[m");
        let (front, back) = (buffer(&[(0, 0, "a cd fghijk m", 0)]), buffer(&[(0, 0, "a CD fghijk M", 0)]));
        assert_eq!(bytes(front.diff(&back), &back), "\x1b[1;3HCD\x1b[8CM");
    }
}
