//! What happens around the chat's input: sending, slash commands, completion, earlier queries; and what
//! leaves the chat: copies, exports, what is found.

use crate::deck::app::Effect;
use crate::deck::chat::Chat;
use crate::deck::command::{self, Action};
use crate::deck::completion::{self, Wanted};
use crate::deck::composer::{Edit, size};
use crate::deck::export;
use crate::deck::layer::picker::{Item, Picker};
use crate::deck::tab::Context;
use crate::text::one_line;

/// Many terminals refuse more than this over OSC 52 (100,000 base64 characters).
const CLIPBOARD_BYTES: usize = 74_994;

impl Chat {
    /// Send what stands in the input, or run it where it is a slash command.
    pub fn send_or_run(&mut self, cx: &mut Context) {
        if self.composer.newline_for_backslash() {
            return;
        }
        self.completion = None;
        let text = self.composer.value();
        match command::slash(&text) {
            None => {
                let effects = self.send(cx.session, cx.now_ms);
                cx.wishes.effects.extend(effects);
            }
            Some(Ok((command, argument))) => {
                cx.wishes.run = Some((command.action, argument.to_string()));
                self.composer.take();
            }
            Some(Err(name)) => {
                let near = command::nearest(name).map_or(String::new(), |near| format!(" (/{near}?)"));
                cx.warn(format!(
                    "no command is called /{name}{near}; / lists them, and a query may begin with a space"
                ));
            }
        }
    }

    pub fn edit(&mut self, edit: Edit, cx: &mut Context) {
        self.panes.focus = None;
        self.composer.edit(edit);
        self.completion = None;
        if matches!(edit, Edit::Backspace | Edit::Delete | Edit::DeleteWord) {
            self.offer(cx);
        }
    }

    /// Offer what could stand at the cursor; ask for the files of its folder where they are not known.
    pub fn offer(&mut self, cx: &mut Context) {
        if let Some(Wanted::Files(folder)) = completion::wanted(&self.composer)
            && (folder != self.files.folder || self.composer.word().1 == "@")
        {
            cx.effect(Effect::ListFiles(folder));
        }
        self.completion = completion::choices(&self.composer, &self.files);
    }

    pub fn walk_choices(&mut self, forward: bool) {
        if let Some(completion) = &mut self.completion {
            let count = completion.choices.len();
            completion.selected = (completion.selected + if forward { 1 } else { count - 1 }) % count;
        }
    }

    /// Put the selected choice where the cursor is; `send` it where nothing more is to come.
    pub fn complete(&mut self, send: bool, cx: &mut Context) {
        let Some(completion) = self.completion.take() else { return };
        let Some(choice) = completion.choices.into_iter().nth(completion.selected) else { return };
        self.composer.replace_word(completion.start, &choice.text);
        if send && choice.text.starts_with('/') && completion.start == 0 {
            self.send_or_run(cx);
        } else {
            self.offer(cx);
        }
    }

    /// Earlier queries, newest first, to be searched.
    pub fn choose_earlier(&mut self, cx: &mut Context) {
        let mut items: Vec<Item> = Vec::new();
        for text in self.composer.history().iter().rev() {
            let name = one_line(text);
            if items.iter().all(|item| item.run.1 != *text) {
                items.push(Item { name, words: String::new(), run: (Action::Recall, text.clone()) });
            }
        }
        if items.is_empty() {
            cx.say("nothing was asked yet");
        } else {
            cx.open(Picker::new("earlier queries", items).in_order());
        }
    }

    /// What waits for the running query, the next first: each to be taken back into the input or removed.
    pub fn choose_queued(&mut self, cx: &mut Context) {
        let mut items = Vec::new();
        for (cell, query) in self.queued() {
            let name = one_line(query);
            let item = |words: &str, action| Item {
                name: name.clone(),
                words: words.to_string(),
                run: (action, cell.to_string()),
            };
            items.push(item("back into the input", Action::TakeBack));
            items.push(item("remove", Action::DropQueued));
        }
        if items.is_empty() {
            cx.say("nothing waits: what you send while a query runs stands here");
        } else {
            cx.open(Picker::new("queued queries", items).in_order());
        }
    }

    /// A queued query comes back into the input.
    pub fn take_back(&mut self, cell: &str, cx: &mut Context) {
        match cell.parse().ok().and_then(|cell| self.unqueue(cell)) {
            Some(query) => {
                let kept = self.composer.replace(&query);
                let draft = if kept { "; what stood there: Up" } else { "" };
                cx.say(format!("taken back into the input{draft}"));
            }
            None => cx.say("it runs already; Esc cancels it"),
        }
    }

    /// A queued query is not asked at all.
    pub fn drop_queued(&mut self, cell: &str, cx: &mut Context) {
        cx.say(match cell.parse().ok().and_then(|cell| self.unqueue(cell)) {
            Some(_) => "removed: it will not be asked; Up still finds its words",
            None => "it runs already; Esc cancels it",
        });
    }

    /// Copy a part by its name, without one the answer.
    pub fn copy(&mut self, name: &str, cx: &mut Context) {
        let name = if name.is_empty() { "answer" } else { name };
        if name == "all" {
            let text = export::conversation(self, cx.session);
            return copied("conversation", text, cx);
        }
        let parts = self.followed().map(|(live, turn)| export::parts(live, turn)).unwrap_or_default();
        match parts.into_iter().find(|(part, _)| part == name || part.starts_with(&format!("{name} "))) {
            Some((part, text)) => copied(&part, text, cx),
            None => cx.say(format!("there is no {name} to copy here")),
        }
    }

    /// Choose what to copy.
    pub fn choose_part(&mut self, cx: &mut Context) {
        let parts = self.followed().map(|(live, turn)| export::parts(live, turn)).unwrap_or_default();
        let item = |(name, text): (String, String)| {
            let first = text.lines().next().unwrap_or_default();
            let words = format!("{} · {first}", size(text.len()));
            Item { words, run: (Action::Copy, name.clone()), name }
        };
        let mut items: Vec<Item> = parts.into_iter().map(item).collect();
        let all = ("all".to_string(), export::conversation(self, cx.session));
        items.push(item(all));
        cx.open(Picker::new("copy", items));
    }

    /// Write the conversation to a file, by default one named after the session.
    pub fn export(&mut self, path: &str, cx: &mut Context) {
        if self.transcript.exchanges().next().is_none() {
            return cx.say("there is nothing to export yet");
        }
        let own = format!("tillerman-{}.md", cx.session.rsplit('-').next().unwrap_or(cx.session));
        let own_name = path.is_empty();
        let path = if own_name { own } else { path.to_string() };
        cx.effect(Effect::Export { path, own_name, text: export::conversation(self, cx.session) });
    }

    /// Search the conversation, and say when there is nothing (more).
    pub fn find(&mut self, sought: &str, back: bool, fresh: bool, cx: &mut Context) {
        self.sought = sought.to_string();
        if sought.is_empty() {
            return;
        }
        self.panes.clear();
        if !self.transcript.find(sought, back, fresh) {
            cx.say(match (fresh, back) {
                (true, _) => "not found",
                (false, true) => "nothing older holds it",
                (false, false) => "nothing newer holds it",
            });
        }
    }
}

fn copied(name: &str, text: String, cx: &mut Context) {
    let bytes = size(text.len());
    if text.len() > CLIPBOARD_BYTES {
        cx.warn(format!("{name} sent to the terminal's clipboard; at {bytes} some terminals refuse it"));
    } else {
        cx.say(format!("{name} sent to the terminal's clipboard ({bytes})"));
    }
    cx.effect(Effect::Copy(text));
}
