//! Letters typed where no input is: keys of the place, or a sentence begun in the wrong one? State and decision;
//! `app_keys` acts on it.
//!
//! What only shows something happens at once. A letter that changes something waits [`HOLD_MS`]: whoever types a
//! sentence has pressed the next letter by then. What costs time is asked about. Letters of a sentence go to the
//! chat's input, the first ones with them, so that nothing typed is lost and nothing happened that nobody meant.

use crossterm::event::KeyEvent;

use crate::deck::command::Action;

/// How long a letter that changes something waits for another: longer than hands that write need for the next
/// letter (on average a quarter of a second), too short to be waited for.
pub const HOLD_MS: u64 = 250;
/// Letters further apart do not belong to one word.
const WORD_MS: u64 = 700;
/// How long the word about a sentence stands while it is written on.
const TOLD_MS: u64 = 4_000;

/// What a letter would do where it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Moves the selection by a line: fingers do that between other keys, fast.
    Moves,
    Looks,
    Changes,
    /// Costs time: it is asked about first.
    Costs,
    Nothing,
}

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Act,
    /// Wait whether more letters follow.
    Hold,
    Ask,
    /// Say that nothing takes it.
    Astray,
    /// A sentence, as far as it was typed.
    Sentence(String),
}

/// A question in the bottom line.
pub struct Asked {
    pub action: Action,
    /// Pressed again it says yes.
    pub key: KeyEvent,
    pub words: String,
}

#[derive(Default)]
pub struct Astray {
    /// Letters since the last pause.
    text: String,
    last_ms: u64,
    /// Whether one of them meant nothing, waits, or was asked about: the next may make it a sentence.
    open: bool,
    /// Whether one of them meant nothing.
    strays: bool,
    held: Option<KeyEvent>,
    asked: Option<Asked>,
    /// Letters of `text` that changed something, with what they did.
    did: Vec<(char, &'static str)>,
    told_ms: Option<u64>,
}

impl Astray {
    /// What becomes of a letter. The caller lets a held one act first wherever this one is no sentence.
    pub fn letter(&mut self, c: char, kind: Kind, now_ms: u64) -> Verdict {
        let gap = now_ms.saturating_sub(self.last_ms);
        if gap > WORD_MS {
            self.forget();
        }
        // A key held down, or pressed twice, is no word.
        let other = self.text.chars().any(|earlier| earlier != c);
        let doubted = self.open && other;
        let sentence = doubted
            && match kind {
                Kind::Nothing => true,
                Kind::Moves => false,
                Kind::Looks | Kind::Changes | Kind::Costs => gap <= HOLD_MS,
            };
        self.text.push(c);
        self.last_ms = now_ms;
        if sentence {
            return Verdict::Sentence(std::mem::take(&mut self.text));
        }
        match kind {
            Kind::Moves | Kind::Looks => Verdict::Act,
            Kind::Changes if doubted => Verdict::Ask,
            Kind::Changes => Verdict::Hold,
            Kind::Costs => Verdict::Ask,
            Kind::Nothing => {
                (self.open, self.strays) = (true, true);
                Verdict::Astray
            }
        }
    }

    /// Whether a sign belongs to what is being written; then it is kept with it. Behind a letter that meant nothing
    /// every sign does ("2+2"), behind a key only what stands between and within words.
    pub fn goes_on(&mut self, c: char, now_ms: u64) -> bool {
        let quick = now_ms.saturating_sub(self.last_ms) <= HOLD_MS;
        let belongs = quick && ((self.strays && c != '?') || (self.open && matches!(c, ' ' | '\'')));
        if belongs {
            self.text.push(c);
            self.last_ms = now_ms;
        }
        belongs
    }

    pub fn hold(&mut self, key: KeyEvent) {
        self.held = Some(key);
        self.open = true;
    }

    pub fn ask(&mut self, asked: Asked) {
        self.asked = Some(asked);
        self.open = true;
    }

    /// What was asked about; the next key answers.
    pub fn asked(&mut self) -> Option<Asked> {
        self.asked.take()
    }

    /// The letter that waits, to act now.
    pub fn release(&mut self) -> Option<KeyEvent> {
        self.open &= self.held.is_none();
        self.held.take()
    }

    /// The letter that has waited long enough.
    pub fn overdue(&mut self, now_ms: u64) -> Option<KeyEvent> {
        if self.wait(now_ms)? > 0 {
            return None;
        }
        self.release()
    }

    /// Milliseconds until a letter has waited long enough; None: none waits.
    pub fn wait(&self, now_ms: u64) -> Option<u64> {
        self.held.map(|_| (self.last_ms + HOLD_MS).saturating_sub(now_ms))
    }

    /// The newest letter did this.
    pub fn acted(&mut self, words: &'static str) {
        if let Some(c) = self.text.chars().last() {
            self.did.push((c, words));
        }
    }

    /// What letters of the sentence did before it was one. The sentence is over here.
    pub fn sentence(&mut self, now_ms: u64) -> Vec<(char, &'static str)> {
        let did = std::mem::take(&mut self.did);
        self.forget();
        self.told_ms = Some(now_ms);
        did
    }

    /// Whether the word about a sentence still stands while it is written on.
    pub fn is_told(&self, now_ms: u64) -> bool {
        self.told_ms.is_some_and(|told| now_ms.saturating_sub(told) < TOLD_MS)
    }

    /// Another key came between: what was typed so far was no sentence.
    pub fn forget(&mut self) {
        *self = Astray { told_ms: self.told_ms.take(), ..Astray::default() };
    }

    /// The word about a sentence has been seen.
    pub fn seen(&mut self) {
        self.told_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Kind = Kind::Costs;
    use Kind::{Changes, Looks, Moves, Nothing};
    use Verdict::{Act, Ask, Hold};

    /// Letters with their kinds, `gap` ms apart, a held one acting as soon as it is due; what became of each.
    fn typed(letters: &[(char, Kind)], gap: u64) -> Vec<Verdict> {
        let (mut astray, mut now) = (Astray::default(), 10_000);
        let mut verdicts = Vec::new();
        for (c, kind) in letters {
            now += gap;
            astray.overdue(now);
            let verdict = astray.letter(*c, *kind, now);
            let key = KeyEvent::from(crossterm::event::KeyCode::Char(*c));
            match &verdict {
                Hold => astray.hold(key),
                Ask => astray.ask(Asked { action: Action::Step, key, words: String::new() }),
                _ => {}
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    fn sentence(text: &str) -> Verdict {
        Verdict::Sentence(text.to_string())
    }

    #[test]
    fn a_fast_sentence_does_nothing_whatever_its_letters_are() {
        for gap in [0, 120, 249] {
            assert_eq!(typed(&[('t', COST), ('h', Nothing)], gap), [Ask, sentence("th")]);
            assert_eq!(typed(&[('t', COST), ('r', COST)], gap), [Ask, sentence("tr")]);
            assert_eq!(typed(&[('u', Changes), ('p', Changes)], gap), [Hold, sentence("up")]);
            assert_eq!(typed(&[('w', Nothing), ('x', Changes)], gap), [Verdict::Astray, sentence("wx")]);
            let just = [('j', Moves), ('u', Changes), ('s', Looks)];
            assert_eq!(typed(&just, gap), [Act, Hold, sentence("jus")]);
        }
    }

    #[test]
    fn a_slow_sentence_starts_nothing_that_costs_time() {
        let what = [('w', Nothing), ('h', Nothing)];
        assert_eq!(typed(&what, 600), [Verdict::Astray, sentence("wh")]);
        let ox = [('o', Nothing), ('x', Changes)];
        assert_eq!(
            typed(&ox, 400),
            [Verdict::Astray, Ask],
            "after a letter that meant nothing it is asked about"
        );
        for gap in [400, 900, 5_000] {
            assert_eq!(typed(&[('t', COST), ('r', COST)], gap), [Ask, Ask]);
        }
        // What a waiting letter did stays part of the word.
        assert_eq!(
            typed(&[('b', Changes), ('a', Nothing), ('c', Changes)], 251)[1..],
            [Verdict::Astray, Ask]
        );
        let back = [('b', Changes), ('a', Nothing), ('n', Nothing)];
        assert_eq!(typed(&back, 300), [Hold, Verdict::Astray, sentence("ban")]);
    }

    #[test]
    fn keys_are_keys() {
        let down_and_delete = [('j', Moves), ('j', Moves), ('x', Changes)];
        assert_eq!(typed(&down_and_delete, 90), [Act, Act, Hold]);
        let twice = [('u', Changes), ('u', Changes)];
        assert_eq!(typed(&twice, 90), [Hold, Hold], "pressed twice, it is meant twice");
        let apart = [('u', Changes), ('x', Changes), ('t', COST)];
        assert_eq!(typed(&apart, 400), [Hold, Hold, Ask]);
        assert_eq!(typed(&[('x', Changes), ('j', Moves)], 90), [Hold, Act]);
        assert_eq!(typed(&[('g', Nothing), ('g', Nothing)], 90), [Verdict::Astray, Verdict::Astray]);
        assert_eq!(typed(&[('g', Nothing), ('h', Nothing)], 900), [Verdict::Astray, Verdict::Astray]);
    }

    #[test]
    fn a_letter_waits_a_quarter_of_a_second_and_no_longer() {
        let mut astray = Astray::default();
        let key = KeyEvent::from(crossterm::event::KeyCode::Char('u'));
        assert_eq!((astray.letter('u', Changes, 1_000), astray.wait(1_000)), (Hold, None));
        astray.hold(key);
        assert_eq!((astray.wait(1_100), astray.overdue(1_249)), (Some(150), None));
        assert_eq!((astray.overdue(1_250), astray.wait(1_250)), (Some(key), None));
    }

    #[test]
    fn a_space_belongs_to_a_word_only() {
        let mut astray = Astray::default();
        assert!(!astray.goes_on(' ', 1_000), "alone it is a key");
        astray.letter('i', Nothing, 1_000);
        assert!(!astray.goes_on(' ', 1_400) && astray.goes_on(' ', 1_200));
        assert_eq!(astray.letter('w', Nothing, 1_500), sentence("i w"));
        let mut sum = Astray::default();
        sum.letter('2', Nothing, 1_000);
        assert!(sum.goes_on('+', 1_100) && !sum.goes_on('?', 1_100), "help is always near");
        assert_eq!(sum.letter('2', Nothing, 1_200), sentence("2+2"));
        let mut key = Astray::default();
        key.letter('p', Changes, 1_000);
        key.hold(KeyEvent::from(crossterm::event::KeyCode::Char('p')));
        assert!(!key.goes_on('+', 1_100), "two keys that judge");
    }
}
