//! Every command of the deck in one table: its name, what it does, where it belongs on the help page.
//!
//! Keys (`keymap`), slash commands, the palette, the help page and keymap files all read this table. What
//! a command does is the business of the tab or layer that is handed its [`Action`].

use crate::deck::composer::Edit;
use crate::deck::inside::Face;
use crate::deck::tab::TabName;

/// What a key or a name asks for. Where it ends up is the screen's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Send,
    Newline,
    Edit(Edit),
    /// Close what is open, else cancel the running query, else back to the newest.
    Escape,
    /// The Ctrl+C ladder: close, clear, cancel, quit.
    Interrupt,
    QuitIfEmpty,
    Quit,
    Suspend,
    Redraw,
    Help,
    Tab(TabName),
    NextTab,
    PreviousTab,
    NextPane,
    PreviousPane,
    Pane(usize),
    TurnBack,
    TurnForward,
    QueryBack,
    QueryForward,
    ScrollUp,
    ScrollDown,
    PageUp,
    PageDown,
    First,
    Newest,
    Open,
    Good,
    Bad,
    PlanBad,
    /// Better than another answer, which is marked with the same key.
    Better,
    /// How long the label holds: the answer changes over time.
    Expires,
    Correct,
    ClearLabel,
    /// Copy a part of the query that is shown; without an argument its answer.
    Copy,
    /// Choose what to copy.
    CopyPart,
    NewConversation,
    /// A pane, by itself, on the whole screen.
    Zoom,
    /// A view inside the trajectory, on the whole screen.
    Face(Face),
    CallBack,
    CallForward,
    /// In what is walked sideways: token, event, answer.
    Back,
    Forward,
    Fork,
    Rewind,
    Pause,
    Slower,
    Faster,
    Resume,
    Rename,
    Remove,
    Undo,
    Search,
    OnlyWrong,
    Mark,
    Compare,
    Roll,
    Step,
    /// End rollouts, a step or a comparison under way.
    Stop,
    Rollback,
    /// The groups tab, at a group this adapter learned from.
    ItsGroup,
    NoAdapter,
    /// Serve the GGUF of this name; without one, the models tab.
    Model,
    /// What works here, checked by doing it.
    Doctor,
    /// Look at an MCP server and allow its tools.
    Approve,
    Palette,
    /// Choose an earlier query.
    History,
    /// Put the argument into the input.
    Recall,
    /// Choose among the queued queries.
    Queue,
    /// A queued query, by its place: back into the input.
    TakeBack,
    /// The same, removed.
    DropQueued,
    Editor,
    /// Take the selected completion.
    Complete,
    /// The same, and send where it is whole.
    CompleteSend,
    Find,
    FindBack,
    FindForward,
    FindEnd,
    Export,
    /// Label by name: good, bad, plan-bad, clear.
    Label,
    Theme,
    Mouse,
}

impl Action {
    /// Moves a selection or a page by a line: what fingers do between other keys.
    pub fn moves(self) -> bool {
        matches!(self, Action::ScrollUp | Action::ScrollDown)
    }

    /// Changes what is kept, starts work or leads to another conversation; the others only show something.
    pub fn changes(self) -> bool {
        use Action::{
            Better, Compare, Fork, Mark, Model, NewConversation, NoAdapter, Open, Quit, Remove, Rename,
            Resume, Rewind, Roll, Rollback, Step, Stop, Undo,
        };
        let works =
            matches!(self, Compare | Fork | Mark | Model | NoAdapter | Open | Roll | Rollback | Step | Stop);
        let keeps =
            matches!(self, Better | NewConversation | Quit | Remove | Rename | Resume | Rewind | Undo);
        works || keeps || self.judges() || self == Action::Label
    }

    /// Says what an answer or a plan is worth: only of one that shows.
    pub fn judges(self) -> bool {
        use Action::{Bad, ClearLabel, Correct, Expires, Good, PlanBad};
        matches!(self, Good | Bad | PlanBad | Correct | ClearLabel | Expires)
    }
}

/// Headings of the help page, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heading {
    Ask,
    Label,
    Look,
    Replaying,
    Learning,
    Edit,
    Program,
}

impl Heading {
    pub const ALL: [Heading; 7] = [
        Heading::Ask,
        Heading::Label,
        Heading::Look,
        Heading::Replaying,
        Heading::Learning,
        Heading::Edit,
        Heading::Program,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Heading::Ask => "asking",
            Heading::Label => "labelling",
            Heading::Look => "looking around",
            Heading::Replaying => "sessions and replay",
            Heading::Learning => "learning",
            Heading::Edit => "editing the input",
            Heading::Program => "the program",
        }
    }
}

pub struct Command {
    pub action: Action,
    /// What `/name`, the palette and keymap files call it.
    pub name: &'static str,
    /// Other names it is found by.
    pub aliases: &'static [&'static str],
    /// What may stand after the name, e.g. "FILE"; empty: nothing.
    pub argument: &'static str,
    pub words: &'static str,
    pub heading: Heading,
    /// Offered by name (slash command, palette); the others are keys only.
    pub named: bool,
}

const fn key(action: Action, name: &'static str, heading: Heading, words: &'static str) -> Command {
    Command { action, name, aliases: &[], argument: "", words, heading, named: false }
}

const fn named(action: Action, name: &'static str, heading: Heading, words: &'static str) -> Command {
    Command { named: true, ..key(action, name, heading, words) }
}

impl Command {
    const fn with(self, argument: &'static str) -> Command {
        Command { argument, ..self }
    }

    const fn also(self, aliases: &'static [&'static str]) -> Command {
        Command { aliases, ..self }
    }
}

use Heading::{Ask, Label, Learning, Look, Program, Replaying};

/// In the order the help page prints them. Neighbours with the same words share one line of it.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    key(Action::Send, "send", Ask, "send the query; while one runs it waits in the queue"),
    key(Action::Newline, "newline", Ask, "new line (or \\ and Enter)"),
    key(Action::Escape, "escape", Ask, "close, cancel the running query, back to the newest"),
    named(Action::NewConversation, "new", Ask, "new conversation").also(&["clear"]),
    named(Action::History, "history", Ask, "search earlier queries"),
    named(Action::Editor, "editor", Ask, "write the query in $EDITOR").also(&["edit"]),
    key(Action::Complete, "complete", Ask, "after / or @: take the command or file that is offered"),
    key(Action::CompleteSend, "complete-send", Ask, "after / or @: take the command or file that is offered"),
    key(Action::Recall, "recall", Ask, ""),
    named(Action::Queue, "queue", Ask, "queued queries: take one back or remove it"),
    key(Action::TakeBack, "take-back", Ask, ""),
    key(Action::DropQueued, "drop-queued", Ask, ""),

    named(Action::Good, "good", Label, "good answer"),
    named(Action::Bad, "bad", Label, "bad answer"),
    named(Action::PlanBad, "plan-bad", Label, "plan bad (the turn, where one is selected)"),
    key(Action::Better, "better", Label, "in a group: this answer is better than another, neither need be right"),
    named(Action::Correct, "correct", Label, "bad answer, and what it should have been").with("[TEXT]"),
    named(Action::Expires, "expires", Label, "the answer changes over time: how long its label holds").with("[TIME]"),
    named(Action::ClearLabel, "unlabel", Label, "take the label back"),
    named(Action::Label, "label", Label, "label by name").with("good|bad|plan-bad|clear"),

    named(Action::Tab(TabName::Chat), "chat", Look, "tabs: chat, replay, groups, training, models"),
    named(Action::Tab(TabName::Replay), "replay", Look, "tabs: chat, replay, groups, training, models").also(&["sessions"]),
    named(Action::Tab(TabName::Groups), "groups", Look, "tabs: chat, replay, groups, training, models"),
    named(Action::Tab(TabName::Training), "training", Look, "tabs: chat, replay, groups, training, models").also(&["train"]),
    named(Action::Tab(TabName::Models), "models", Look, "tabs: chat, replay, groups, training, models"),
    key(Action::PreviousTab, "previous-tab", Look, "tab before and after"),
    key(Action::NextTab, "next-tab", Look, "tab before and after"),
    key(Action::NextPane, "next-pane", Look, "next pane, then back to the conversation"),
    key(Action::PreviousPane, "previous-pane", Look, "pane before"),
    named(Action::Pane(0), "plan", Look, "panes: plan, tool calls, verdicts, memory"),
    named(Action::Pane(1), "tools", Look, "panes: plan, tool calls, verdicts, memory"),
    named(Action::Pane(2), "verdicts", Look, "panes: plan, tool calls, verdicts, memory"),
    named(Action::Pane(3), "memory", Look, "panes: plan, tool calls, verdicts, memory"),
    key(Action::TurnBack, "turn-back", Look, "turn before and after"),
    key(Action::TurnForward, "turn-forward", Look, "turn before and after"),
    key(Action::QueryBack, "query-back", Look, "query before and after"),
    key(Action::QueryForward, "query-forward", Look, "query before and after"),
    key(Action::ScrollUp, "up", Look, "in a pane, list or page: line before and after"),
    key(Action::ScrollDown, "down", Look, "in a pane, list or page: line before and after"),
    key(Action::PageUp, "page-up", Look, "scroll a page"),
    key(Action::PageDown, "page-down", Look, "scroll a page"),
    key(Action::First, "first", Look, "in a list or page: to its first line"),
    named(Action::Newest, "newest", Look, "to the newest"),
    key(Action::Open, "open", Look, "in a list: open what is selected"),
    named(Action::Find, "find", Look, "search the conversation").with("[TEXT]"),
    key(Action::FindBack, "find-back", Look, "in a search, after Enter: what is older and newer"),
    key(Action::FindForward, "find-forward", Look, "in a search, after Enter: what is older and newer"),
    key(Action::FindEnd, "find-end", Look, ""),
    named(Action::Copy, "copy", Look, "copy the answer through the terminal (OSC 52)").with("[answer|code|query|all]"),
    named(Action::CopyPart, "copy-part", Look, "choose what to copy: code, a call, a result, everything"),
    named(Action::Export, "export", Look, "write the conversation to a markdown file").with("[FILE]"),

    named(Action::Zoom, "zoom", Look, "the pane on the whole screen"),
    named(Action::Face(Face::CALLS), "calls", Look, "inside: model calls, tokens, where the time went"),
    named(Action::Face(Face::TOKENS), "tokens", Look, "inside: model calls, tokens, where the time went"),
    named(Action::Face(Face::TIME), "time", Look, "inside: model calls, tokens, where the time went"),
    key(Action::Face(Face(0)), "face-1", Look, ""),
    key(Action::Face(Face(1)), "face-2", Look, ""),
    key(Action::Face(Face(2)), "face-3", Look, ""),
    key(Action::Face(Face(3)), "face-4", Look, ""),
    key(Action::CallBack, "call-back", Look, "inside: model call before and after"),
    key(Action::CallForward, "call-forward", Look, "inside: model call before and after"),
    key(Action::Back, "back", Look, "one step to the side: token, event, answer"),
    key(Action::Forward, "forward", Look, "one step to the side: token, event, answer"),
    named(Action::Fork, "fork", Look, "plan the selected turn again, in a new trajectory"),
    named(Action::Rewind, "rewind", Look, "back to before this query, in a new conversation"),

    key(Action::Pause, "pause", Replaying, "play and pause"),
    key(Action::Slower, "slower", Replaying, "slower and faster"),
    key(Action::Faster, "faster", Replaying, "slower and faster"),
    key(Action::Resume, "resume", Replaying, "go on in this session"),
    key(Action::Rename, "rename", Replaying, "rename the session"),
    key(Action::Remove, "remove", Replaying, "delete the session"),
    key(Action::Undo, "undo", Replaying, "take back what was done last"),
    key(Action::Search, "find-session", Replaying, "find among the sessions"),
    key(Action::OnlyWrong, "only-wrong", Replaying, "only what went wrong: not right, labelled bad, no answer"),
    key(Action::Mark, "mark", Replaying, "mark a trajectory for a comparison"),
    named(Action::Compare, "compare", Replaying, "a fork beside its parent, or a trajectory beside the marked one"),

    named(Action::Roll, "roll", Learning, "roll a query out as a group").with("SIZE").also(&["group"]),
    key(Action::Step, "step", Learning, "learn from what is labelled"),
    key(Action::Stop, "stop", Learning, "stop what runs: rollouts, a step, a comparison"),
    named(Action::Rollback, "rollback", Learning, "back to the adapter before"),
    named(Action::Model, "model", Learning, "serve another GGUF").with("[FILE]"),
    key(Action::ItsGroup, "its-group", Learning, "what the adapter learned from"),
    key(Action::NoAdapter, "no-adapter", Learning, "plan with no adapter"),

    key(Action::Edit(Edit::Up), "line-up", Heading::Edit, "line above and below; at the ends, input before and after"),
    key(Action::Edit(Edit::Down), "line-down", Heading::Edit, "line above and below; at the ends, input before and after"),
    key(Action::Edit(Edit::Left), "left", Heading::Edit, ""),
    key(Action::Edit(Edit::Right), "right", Heading::Edit, ""),
    key(Action::Edit(Edit::WordLeft), "word-left", Heading::Edit, "word left and right"),
    key(Action::Edit(Edit::WordRight), "word-right", Heading::Edit, "word left and right"),
    key(Action::Edit(Edit::LineStart), "line-start", Heading::Edit, "start and end of the line"),
    key(Action::Edit(Edit::LineEnd), "line-end", Heading::Edit, "start and end of the line"),
    key(Action::Edit(Edit::Backspace), "backspace", Heading::Edit, ""),
    key(Action::Edit(Edit::Delete), "delete", Heading::Edit, ""),
    key(Action::Edit(Edit::DeleteWord), "delete-word", Heading::Edit, "delete a word, to the start, to the end"),
    key(Action::Edit(Edit::DeleteToStart), "delete-to-start", Heading::Edit, "delete a word, to the start, to the end"),
    key(Action::Edit(Edit::DeleteToEnd), "delete-to-end", Heading::Edit, "delete a word, to the start, to the end"),

    named(Action::Help, "help", Program, "this page").also(&["keys"]),
    named(Action::Palette, "palette", Program, "find a command by its name (or type / in the input)").also(&["commands"]),
    named(Action::Doctor, "doctor", Program, "what works here, checked by doing it"),
    named(Action::Approve, "approve", Program, "look at an MCP server of the settings, and allow its tools").with("[SERVER]"),
    named(Action::Theme, "theme", Program, "colours: walk the themes and see each at once").with("[NAME]"),
    named(Action::Mouse, "mouse", Program, "take the mouse, or give it back to the terminal"),
    key(Action::Interrupt, "interrupt", Program, "close, clear the input, cancel; twice: quit"),
    key(Action::QuitIfEmpty, "quit-if-empty", Program, "quit when the input is empty"),
    named(Action::Quit, "quit", Program, "quit").also(&["exit"]),
    named(Action::Suspend, "suspend", Program, "suspend; fg brings it back"),
    named(Action::Redraw, "redraw", Program, "draw everything again"),
];

/// The table's row of an action; every action has one (a test says so).
pub fn of(action: Action) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.action == action)
}

/// A text that begins with `/` and a word of letters: its command and argument, or the word nobody knows.
/// None: the text is a query. A path (`/etc/hosts`) is one, and so is what begins with a space.
pub fn slash(text: &str) -> Option<Result<(&'static Command, &str), &str>> {
    let rest = text.strip_prefix('/')?;
    let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let found = || called(name).filter(|command| command.named).map(|c| (c, argument.trim())).ok_or(name);
    is_name.then(found)
}

/// What a person who typed the name of no command may have meant: the named command fewest letters away, two at
/// most.
pub fn nearest(name: &str) -> Option<&'static str> {
    let names = COMMANDS.iter().filter(|command| command.named);
    let names = names.flat_map(|command| command.aliases.iter().chain([&command.name]));
    let far = |known: &&&str| apart(name, known);
    names.min_by_key(far).copied().filter(|known| apart(name, known) <= 2.min(name.len().saturating_sub(1)))
}

/// Letters to change, add, drop or swap with their neighbour to make one word of the other.
fn apart(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                rows[i][j] = rows[i][j].min(rows[i - 2][j - 2] + 1);
            }
        }
    }
    rows[a.len()][b.len()]
}

/// The command called `name` or one of its aliases.
pub fn called(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name || command.aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_means_two_things() {
        let mut names: Vec<&str> = Vec::new();
        for command in COMMANDS {
            names.push(command.name);
            names.extend(command.aliases);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn names_find_their_command() {
        assert_eq!(called("exit").map(|command| command.name), Some("quit"));
        assert!(called("nonsense").is_none());
    }

    #[test]
    fn typing_errors_find_what_was_meant() {
        for (typed, meant) in [("hlep", "help"), ("them", "theme"), ("exprot", "export"), ("exitt", "exit")] {
            assert_eq!(nearest(typed), Some(meant));
        }
        assert_eq!((nearest("nonsense"), nearest("x")), (None, None));
    }

    #[test]
    fn slash_commands_and_what_is_none() {
        let parsed =
            |text| slash(text).map(|found| found.map(|(command, argument)| (command.name, argument)));
        assert_eq!(parsed("/theme  dark "), Some(Ok(("theme", "dark"))));
        assert_eq!(parsed("/exit"), Some(Ok(("quit", ""))));
        assert_eq!(parsed("/nonsense x"), Some(Err("nonsense")));
        for query in ["/etc/hosts holds?", " /quit", "/", "/2 is half", "what is /quit"] {
            assert_eq!(parsed(query), None, "{query}");
        }
    }
}
