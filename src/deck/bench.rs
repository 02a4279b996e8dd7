//! Figures of the screen, measured in process: no terminal, frames into a sink that counts bytes.

use std::io::sink;
use std::time::Instant;

use crossterm::event::KeyCode;

use crate::deck::app::{Input, press};
use crate::deck::demo;
use crate::deck::highlight;
use crate::deck::screen::Screen;
use crate::error::Error;

/// Key to frame, in milliseconds: every key is typed into a deck of `cells` finished queries while a
/// query streams, and drawn at once. One value per key, unsorted.
///
/// # Errors
/// The theme does not load.
pub fn key_to_frame(cells: usize, keys: usize, size: (u16, u16)) -> Result<Vec<f64>, Error> {
    highlight::start(|| ())?;
    let mut app = demo::app(cells, size)?;
    let mut screen = Screen::new(sink(), size);
    demo::begin(&mut app, "What is the population of Peru divided by that of Chile?");
    screen.draw(&mut app)?;
    let mut out = Vec::with_capacity(keys);
    for n in 0..keys {
        app.update(demo::token(n), 0);
        let started = Instant::now();
        let letter = char::from(b'a' + u8::try_from(n % 26).unwrap_or(0));
        app.update(press(KeyCode::Char(letter)), 0);
        screen.draw(&mut app)?;
        out.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(out)
}

/// Bytes written to the terminal per streamed token, each drawn by itself: the mean of one answer of `tokens`.
///
/// # Errors
/// The theme does not load.
pub fn bytes_per_token(cells: usize, tokens: usize, size: (u16, u16)) -> Result<f64, Error> {
    let mut app = demo::app(cells, size)?;
    let mut bytes = Vec::new();
    let mut screen = Screen::new(&mut bytes, size);
    demo::begin(&mut app, "What is the population of Peru divided by that of Chile?");
    screen.draw(&mut app)?;
    drop(screen);
    let before = bytes.len();
    let mut screen = Screen::new(&mut bytes, size);
    // The second screen begins with a whole frame of its own, which is not the tokens'.
    screen.draw(&mut app)?;
    for n in 0..tokens {
        app.update(demo::token(n), 0);
        screen.draw(&mut app)?;
    }
    drop(screen);
    let whole = bytes.len() - before - before;
    Ok(whole as f64 / tokens.max(1) as f64)
}

/// From nothing to the first frame of a deck with `cells` finished queries, in milliseconds.
///
/// # Errors
/// The theme does not load.
pub fn first_frame(cells: usize, size: (u16, u16)) -> Result<f64, Error> {
    highlight::start(|| ())?;
    let past = demo::past(cells);
    let started = Instant::now();
    let mut app = demo::app_with(past, size)?;
    let mut screen = Screen::new(sink(), size);
    screen.draw(&mut app)?;
    app.update(Input::Resize(size.0, size.1), 0);
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a word costs a slow line: half a kilobyte when every new line moved the whole block.
    #[test]
    fn a_streamed_word_writes_little() {
        for size in [(80, 24), (120, 40), (200, 50)] {
            let bytes = bytes_per_token(10, 500, size).unwrap();
            assert!(bytes < 150.0, "{bytes} bytes a token at {size:?}");
        }
    }

    /// Prints the figures of this machine: `cargo test --release deck::bench -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn figures() {
        for cells in [0, 10_000] {
            let mut ms = key_to_frame(cells, 1_000, (200, 50)).unwrap();
            ms.sort_by(f64::total_cmp);
            println!("{cells} queries: key to frame p50 {:.2} ms, p99 {:.2} ms", ms[500], ms[990]);
            println!("{cells} queries: first frame {:.1} ms", first_frame(cells, (200, 50)).unwrap());
        }
    }
}
