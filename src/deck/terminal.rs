//! The terminal's own state: entered once, restored on every way out.
//!
//! `restore` is the exact inverse of `enter` and may be called any number of times from anywhere: the
//! guard's Drop, the panic hook, a signal. It writes to standard output itself and asks nothing back.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, DisableMouseCapture, EnableBracketedPaste, EnableFocusChange,
    EnableMouseCapture, KeyboardEnhancementFlags, PopKeyboardEnhancementFlags, PushKeyboardEnhancementFlags,
};
use crossterm::style::ResetColor;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, queue};

use crate::error::Error;

/// The terminal is in the deck's hands.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Mouse events are wanted; the terminal's own selection then needs Shift.
static MOUSE: AtomicBool = AtomicBool::new(false);

/// Restores the terminal when dropped.
pub struct Guard(());

impl Guard {
    /// # Errors
    /// Standard input or output is no terminal, or it refuses raw mode.
    pub fn enter() -> Result<Guard, Error> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(Error::Terminal(
                "standard input or output is not a terminal; use `tillerman ask QUERY` instead".to_string(),
            ));
        }
        if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
            return Err(Error::Terminal(
                "TERM=dumb cannot show a screen; use `tillerman ask QUERY`, or set TERM".to_string(),
            ));
        }
        enter()?;
        Ok(Guard(()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

/// Raw mode, alternate screen, bracketed paste, focus changes, keys told apart where the terminal can.
///
/// # Errors
/// The terminal refuses raw mode or cannot be written to.
pub fn enter() -> Result<(), Error> {
    if ENTERED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let result = enable_raw_mode().and_then(|()| write_enter(&mut io::stdout()));
    result.map_err(|e| {
        restore();
        Error::Terminal(e.to_string())
    })
}

/// Take mouse events, or leave the mouse to the terminal; now where the deck holds it, and from now on.
///
/// # Errors
/// The terminal cannot be written to.
pub fn set_mouse(on: bool) -> Result<(), Error> {
    MOUSE.store(on, Ordering::SeqCst);
    if !is_entered() {
        return Ok(());
    }
    let mut out = io::stdout();
    let result = if on { queue!(out, EnableMouseCapture) } else { queue!(out, DisableMouseCapture) };
    result.and_then(|()| out.flush()).map_err(|e| Error::Terminal(e.to_string()))
}

/// Whether the deck holds the terminal.
pub fn is_entered() -> bool {
    ENTERED.load(Ordering::SeqCst)
}

/// Undo `enter`. Does nothing when there is nothing to undo.
pub fn restore() {
    if !ENTERED.swap(false, Ordering::SeqCst) {
        return;
    }
    // Both are tried, and nothing can be done about a terminal that is gone.
    let _ = write_restore(&mut io::stdout());
    let _ = disable_raw_mode();
}

fn write_enter(out: &mut impl Write) -> io::Result<()> {
    queue!(
        out,
        EnterAlternateScreen,
        EnableBracketedPaste,
        EnableFocusChange,
        PushKeyboardEnhancementFlags(KeyboardEnhancementFlags::DISAMBIGUATE_ESCAPE_CODES),
    )?;
    if MOUSE.load(Ordering::SeqCst) {
        queue!(out, EnableMouseCapture)?;
    }
    out.flush()
}

fn write_restore(out: &mut impl Write) -> io::Result<()> {
    // A frame may have been cut short inside a synchronized update.
    out.write_all(b"\x1b[?2026l")?;
    queue!(
        out,
        PopKeyboardEnhancementFlags,
        DisableMouseCapture,
        DisableFocusChange,
        DisableBracketedPaste,
        ResetColor,
        crossterm::style::SetAttribute(crossterm::style::Attribute::Reset),
        LeaveAlternateScreen,
        cursor::Show,
    )?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emulator() -> vt100::Parser {
        vt100::Parser::new(24.try_into().unwrap(), 80.try_into().unwrap(), 0)
    }

    /// Every mode switched on is switched off, in a terminal that keeps count.
    #[test]
    fn restore_is_the_inverse_of_enter() {
        let mut bytes = Vec::new();
        write_enter(&mut bytes).unwrap();
        let mut screen = emulator();
        screen.process(&bytes);
        assert!(screen.screen().alternate_screen() && screen.screen().bracketed_paste());
        write_restore(&mut bytes).unwrap();
        let mut screen = emulator();
        screen.process(&bytes);
        let screen = screen.screen();
        assert!(!screen.alternate_screen() && !screen.bracketed_paste() && !screen.hide_cursor());
        let text = String::from_utf8(bytes).unwrap();
        for mode in ["1000", "1002", "1003", "1004", "1006", "1015"] {
            let (on, off) = (format!("\u{1b}[?{mode}h"), format!("\u{1b}[?{mode}l"));
            assert!(text.rfind(&on) <= text.rfind(&off), "mode {mode} is left on");
        }
        assert_eq!(text.matches("\u{1b}[>1u").count(), text.matches("\u{1b}[<1u").count());
    }
}
