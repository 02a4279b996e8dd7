//! Asks what the answer of a trajectory should have been.

use crossterm::event::KeyEvent;

use crate::deck::composer::Composer;
use crate::deck::keymap::Keymap;
use crate::deck::layer::{Layer, Reply, Sheet, writing, written};
use crate::deck::tab::Look;

pub struct Correct {
    trajectory: String,
    input: Composer,
}

impl Correct {
    pub fn new(trajectory: String) -> Correct {
        Correct { trajectory, input: Composer::default() }
    }
}

impl Layer for Correct {
    fn title(&self) -> String {
        "what should the answer have been?".to_string()
    }

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, _: usize) -> Reply {
        match written(&mut self.input, key, keymap) {
            Ok(text) => Reply::Correct { trajectory: self.trajectory.clone(), text },
            Err(reply) => reply,
        }
    }

    fn paste(&mut self, text: &str) -> Reply {
        self.input.paste(text);
        Reply::Stay
    }

    fn draft(&self) -> Option<(String, String)> {
        Some((self.trajectory.clone(), self.input.value()))
    }

    fn recall(&mut self, text: &str) {
        self.input.set(text);
    }

    fn sheet(&mut self, width: usize, _: usize, _: &Look) -> Sheet {
        writing(
            &self.input,
            "Enter saves it and marks the answer bad, Esc keeps what you wrote for later",
            width,
        )
    }
}
