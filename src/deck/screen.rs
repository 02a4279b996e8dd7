//! The screen: frames into a writer, each in one write inside a synchronized update.
//!
//! Two buffers, the one on the screen and the one being drawn; only cells that differ are written. It
//! never asks the terminal anything: the size comes with resize events.

use std::io::{self, Write};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::queue;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::App;
use crate::deck::cells;
use crate::deck::manners::Notify;
use crate::deck::view;
use crate::error::Error;
use crate::text::safe;

/// Cells up to which a frame is written with the cursor in sight: a word is there before anyone sees it travel.
const FEW_CELLS: usize = 64;

/// Gathers a frame and writes it at once. What was not flushed is dropped with it: after a panic in
/// the middle of a frame nothing of it may reach the restored terminal.
pub struct FrameWriter<W: Write> {
    inner: W,
    frame: Vec<u8>,
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let mut out = Vec::with_capacity(self.frame.len() + 16);
        out.extend_from_slice(b"\x1b[?2026h");
        out.append(&mut self.frame);
        out.extend_from_slice(b"\x1b[?2026l");
        self.inner.write_all(&out)?;
        self.inner.flush()
    }
}

pub struct Screen<W: Write> {
    out: FrameWriter<W>,
    /// What the terminal shows.
    front: Buffer,
    back: Buffer,
    /// Where the terminal's cursor is; None is hidden.
    cursor: Option<Position>,
    /// Nothing is known of what the terminal shows.
    stale: bool,
}

impl<W: Write> Screen<W> {
    pub fn new(writer: W, size: (u16, u16)) -> Screen<W> {
        let buffer = Buffer::empty(Rect::new(0, 0, size.0, size.1));
        let out = FrameWriter { inner: writer, frame: Vec::new() };
        Screen { out, front: buffer.clone(), back: buffer, cursor: None, stale: true }
    }

    /// Forget what is on the terminal, so that the next frame writes all of it.
    pub fn forget(&mut self) {
        self.stale = true;
    }

    /// Draw one frame at the app's size; only cells that changed are written.
    ///
    /// # Errors
    /// The writer fails: the terminal is gone.
    pub fn draw(&mut self, app: &mut App) -> Result<(), Error> {
        let area = Rect::new(0, 0, app.size.0, app.size.1);
        if self.stale || self.front.area != area {
            self.front = Buffer::empty(area);
            self.back = Buffer::empty(area);
            self.cursor = None;
            self.stale = false;
            self.out.write_all(b"\x1b[0m\x1b[?25l\x1b[2J").map_err(failed)?;
        }
        self.back.reset();
        let cursor = view::draw(&mut self.back, app);
        self.write(cursor).map_err(failed)?;
        std::mem::swap(&mut self.front, &mut self.back);
        Ok(())
    }

    fn write(&mut self, cursor: Option<Position>) -> io::Result<()> {
        let changes = self.front.diff(&self.back);
        let (few, changed) = (changes.len() <= FEW_CELLS, !changes.is_empty());
        if changed {
            if !few && self.cursor.take().is_some() {
                queue!(self.out, Hide)?;
            }
            self.out.write_all(cells::bytes(changes, &self.back).as_bytes())?;
        }
        if changed || cursor != self.cursor {
            match (self.cursor, cursor) {
                (Some(_), Some(at)) => queue!(self.out, MoveTo(at.x, at.y))?,
                (None, Some(at)) => queue!(self.out, MoveTo(at.x, at.y), Show)?,
                (Some(_), None) => queue!(self.out, Hide)?,
                (None, None) => {}
            }
            self.cursor = cursor;
        }
        self.out.flush()
    }

    /// The frame on the screen.
    pub fn buffer(&self) -> &Buffer {
        &self.front
    }

    /// Tell a person who looks elsewhere, in the way the settings name.
    ///
    /// # Errors
    /// The writer fails.
    pub fn notify(&mut self, how: Notify, text: &str) -> Result<(), Error> {
        let out = &mut self.out;
        match how {
            Notify::Off => return Ok(()),
            Notify::Bell => out.write_all(b"\x07"),
            Notify::Osc9 => write!(out, "\x1b]9;{}\x07", safe(text).replace('\n', " ")),
        }
        .and_then(|()| out.flush())
        .map_err(failed)
    }

    /// Put the text on the terminal's clipboard (OSC 52), where the terminal allows it.
    ///
    /// # Errors
    /// The writer fails.
    pub fn copy(&mut self, text: &str) -> Result<(), Error> {
        let out = &mut self.out;
        write!(out, "\x1b]52;c;{}\x07", base64(text.as_bytes())).map_err(failed)?;
        out.flush().map_err(failed)
    }
}

fn failed(error: io::Error) -> Error {
    Error::Terminal(error.to_string())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().enumerate().fold(0u32, |bits, (n, byte)| bits | u32::from(*byte) << (16 - 8 * n));
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n)) as usize & 63];
            out.push(if n <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_known_values() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn an_unfinished_frame_is_never_written() {
        let mut out = Vec::new();
        let mut writer = FrameWriter { inner: &mut out, frame: Vec::new() };
        writer.write_all(b"half a frame").unwrap();
        drop(writer);
        assert!(out.is_empty());
    }
}
