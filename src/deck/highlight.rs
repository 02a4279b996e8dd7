//! Code, JSON and diffs as inked lines, by syntect, off the frame path.
//!
//! `lines` answers at once: inked where that is known already, else plain, and then the text goes to a thread
//! of its own, which says when it is done so that the frame is drawn again. Inks, not syntect's themes, so
//! that code follows the deck's theme. Without that thread (tests, tools) the work is done on the spot.
//!
//! The cache is one for the process: the same code shows in the conversation, in panes and in a replay.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use syntect::easy::ScopeRegionIterator;
use syntect::parsing::{ParseState, Scope, ScopeStack, SyntaxReference, SyntaxSet};

use crate::deck::row::Prose;
use crate::deck::theme::Ink;
use crate::error::Error;

/// Longer texts stay plain: in bytes, lines, bytes of one line.
const TEXT_MAX: usize = 262_144;
const LINES_MAX: usize = 5_000;
const LINE_MAX: usize = 4_096;
/// Source bytes the cache holds; over that it begins anew.
const CACHE_BYTES: usize = 4 << 20;
/// Texts that may wait for the thread; the newest count.
const WAITING_MAX: usize = 32;

type Lines = Arc<Vec<Prose>>;

#[derive(Default)]
struct State {
    cache: HashMap<u64, Lines>,
    bytes: usize,
    /// On their way to the thread or in its hands.
    asked: HashSet<u64>,
    jobs: Option<Sender<Job>>,
}

struct Job {
    key: u64,
    code: String,
    language: String,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);
/// Parsed from its dump at the first use, some 20 ms.
static SYNTAXES: LazyLock<SyntaxSet> = LazyLock::new(SyntaxSet::load_defaults_newlines);
static RULES: LazyLock<Vec<(Scope, Ink)>> = LazyLock::new(rules);

fn state() -> MutexGuard<'static, State> {
    // A panic elsewhere leaves a cache, nothing that could be half done.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Start the thread; `done` is called whenever more text is inked.
///
/// # Errors
/// The thread cannot be started.
pub fn start(done: impl Fn() + Send + 'static) -> Result<(), Error> {
    let (jobs, waiting) = channel();
    let work = move || serve(&waiting, &done);
    std::thread::Builder::new()
        .name("highlight".to_string())
        .spawn(work)
        .map_err(|e| Error::Terminal(e.to_string()))?;
    state().jobs = Some(jobs);
    Ok(())
}

fn serve(waiting: &Receiver<Job>, done: &dyn Fn()) {
    while let Ok(first) = waiting.recv() {
        let mut jobs = vec![first];
        jobs.extend(waiting.try_iter());
        let late = jobs.len().saturating_sub(WAITING_MAX);
        for job in jobs.drain(..late) {
            state().asked.remove(&job.key);
        }
        for job in jobs {
            let lines = Arc::new(inked(&job.code, &job.language));
            let mut state = state();
            state.asked.remove(&job.key);
            state.keep(job.key, job.code.len(), lines);
        }
        done();
    }
}

impl State {
    fn keep(&mut self, key: u64, bytes: usize, lines: Lines) {
        if self.bytes + bytes > CACHE_BYTES {
            self.cache.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.cache.insert(key, lines);
    }
}

/// One prose per line of `code`; plain until it is inked.
pub fn lines(code: &str, language: &str) -> Vec<Prose> {
    let code = code.trim_end_matches('\n');
    let too_long = code.len() > TEXT_MAX
        || code.bytes().filter(|b| *b == b'\n').count() > LINES_MAX
        || code.lines().any(|line| line.len() > LINE_MAX);
    if language.is_empty() || too_long || syntax(language).is_none() {
        return plain(code);
    }
    let mut hasher = DefaultHasher::new();
    (code, language).hash(&mut hasher);
    let key = hasher.finish();
    let mut state = state();
    if let Some(lines) = state.cache.get(&key) {
        return lines.as_ref().clone();
    }
    match state.jobs.clone() {
        Some(jobs) => {
            if state.asked.insert(key) {
                // A thread that has gone leaves everything plain.
                let _ = jobs.send(Job { key, code: code.to_string(), language: language.to_string() });
            }
            plain(code)
        }
        None => {
            drop(state);
            inked(code, language)
        }
    }
}

/// One prose per line, in one ink.
pub fn plain(code: &str) -> Vec<Prose> {
    code.trim_end_matches('\n').split('\n').map(|line| Prose::of(line, Ink::Code)).collect()
}

/// What a text seems to be, where it says so itself: "json", "diff" or nothing.
pub fn guess(text: &str) -> &'static str {
    let text = text.trim();
    let framed = |open, close| text.starts_with(open) && text.ends_with(close);
    if text.starts_with("diff --git ") || (text.starts_with("--- ") && text.contains("\n+++ ")) {
        "diff"
    } else if (framed('{', '}') || framed('[', ']'))
        && text.len() <= TEXT_MAX
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    {
        "json"
    } else {
        ""
    }
}

/// Looked up by name first, so that a wrong name does not load the syntaxes on the frame path.
fn syntax(language: &str) -> Option<&'static str> {
    const KNOWN: &[(&str, &str)] = &[
        ("python", "py"),
        ("python3", "py"),
        ("py", "py"),
        ("json", "json"),
        ("jsonl", "json"),
        ("diff", "diff"),
        ("patch", "diff"),
        ("rust", "rs"),
        ("rs", "rs"),
        ("sh", "sh"),
        ("bash", "sh"),
        ("shell", "sh"),
        ("c", "c"),
        ("cpp", "cpp"),
        ("c++", "cpp"),
        ("javascript", "js"),
        ("js", "js"),
        ("html", "html"),
        ("css", "css"),
        ("sql", "sql"),
        ("yaml", "yaml"),
        ("go", "go"),
        ("java", "java"),
        ("markdown", "md"),
        ("md", "md"),
        ("lua", "lua"),
        ("ruby", "rb"),
        ("r", "r"),
        ("xml", "xml"),
        ("make", "Makefile"),
    ];
    let language = language.to_ascii_lowercase();
    KNOWN.iter().find(|(name, _)| *name == language).map(|(_, extension)| *extension)
}

fn inked(code: &str, language: &str) -> Vec<Prose> {
    let extension = syntax(language).unwrap_or_default();
    let Some(syntax) = SYNTAXES.find_syntax_by_extension(extension) else { return plain(code) };
    inked_as(code, syntax).unwrap_or_else(|| plain(code))
}

/// None where the syntax cannot go on.
fn inked_as(code: &str, syntax: &SyntaxReference) -> Option<Vec<Prose>> {
    let mut parser = ParseState::new(syntax);
    let mut stack = ScopeStack::new();
    let mut lines = Vec::new();
    for line in code.split('\n') {
        let whole = format!("{line}\n");
        let ops = parser.parse_line(&whole, &SYNTAXES).ok()?;
        let mut prose = Prose::new();
        for (text, op) in ScopeRegionIterator::new(&ops, &whole) {
            stack.apply(op).ok()?;
            let text = text.trim_end_matches('\n');
            if !text.is_empty() {
                prose = prose.say(text, ink(&stack));
            }
        }
        lines.push(prose);
    }
    Some(lines)
}

/// Scope prefixes and their inks, the more telling first.
fn rules() -> Vec<(Scope, Ink)> {
    let rules = [
        ("comment", Ink::CodeComment),
        ("string", Ink::CodeString),
        ("constant", Ink::CodeNumber),
        ("keyword.operator", Ink::Code),
        ("keyword", Ink::CodeKeyword),
        ("storage", Ink::CodeKeyword),
        ("markup.inserted", Ink::Added),
        ("markup.deleted", Ink::Bad),
        ("meta.diff", Ink::CodeKeyword),
        ("markup.heading", Ink::Heading),
    ];
    rules.iter().filter_map(|(scope, ink)| Some((Scope::new(scope).ok()?, *ink))).collect()
}

fn ink(stack: &ScopeStack) -> Ink {
    let is_key = |scope: &Scope| {
        let name = scope.build_string();
        name.starts_with("meta.mapping.key") || name.starts_with("meta.structure.dictionary.key")
    };
    if stack.scopes.iter().any(is_key) {
        return Ink::CodeKeyword;
    }
    stack
        .scopes
        .iter()
        .rev()
        .find_map(|scope| RULES.iter().find(|(prefix, _)| prefix.is_prefix_of(*scope)).map(|(_, ink)| *ink))
        .unwrap_or(Ink::Code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::deck::row::Row;

    /// Line `n` as a row.
    fn row(code: &str, language: &str, n: usize) -> Row {
        inked(code, language)[n].wrap(200, &Row::new(), &Row::new()).remove(0)
    }

    #[test]
    fn python_json_and_diffs_have_inks() {
        let code = "def f(x):  # twice\n    return 2 * x + len(\"a\")";
        let first = row(code, "python", 0);
        assert_eq!(first.text(), "def f(x):  # twice");
        assert_ne!(first, Row::new().say(first.text(), Ink::Code));
        let expected = Row::new().say("-a", Ink::Bad);
        assert_eq!(row("--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b", "diff", 3), expected);
        assert_eq!(row("--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b", "diff", 4), Row::new().say("+b", Ink::Added));
        let json = row("{\"key\": 12}", "json", 0);
        assert!(format!("{json:?}").contains("CodeNumber"), "{json:?}");
    }

    #[test]
    fn a_string_that_goes_on_is_a_string_on_the_next_line() {
        let code = "a = '''one\ntwo'''";
        assert!(format!("{:?}", row(code, "python", 1)).contains("CodeString"));
    }

    #[test]
    fn texts_say_what_they_are() {
        for (text, expected) in [
            ("{\"a\": 1}", "json"),
            ("[1, 2]\n", "json"),
            ("[1, 2", ""),
            ("{not json}", ""),
            ("--- a\n+++ b\n", "diff"),
            ("plain", ""),
        ] {
            assert_eq!(guess(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_too_long_or_unknown_stays_plain() {
        let long = "x = 1\n".repeat(LINES_MAX + 2);
        assert_eq!(lines(&long, "python").len(), LINES_MAX + 2);
        assert_eq!(lines("x = 1", "klingon").len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn nothing_is_added_or_lost(code in "[a-z0-9 \"'#{}\\[\\]:,+@\\n-]{0,120}", language in prop::sample::select(vec!["python", "json", "diff", "rust"])) {
            let texts: Vec<String> = inked(&code, language)
                .iter()
                .flat_map(|prose| prose.wrap(400, &Row::new(), &Row::new()))
                .map(|row| row.text())
                .collect();
            prop_assert_eq!(texts.join("\n"), code);
        }
    }
}
