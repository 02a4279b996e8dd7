//! The training tab: what the steps did (reward, divergence, clipping, plans, tools), what the gate says,
//! the adapters as a tree. What a step changed on one of the person's own questions is drawn by `difference`.

mod figures;

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::Effect;
use crate::deck::command::Action;
use crate::deck::fit::fitted;
use crate::deck::keymap::Place;
use crate::deck::message::{DeckCommand, DeckEvent};
use crate::deck::paint::{draw_rows, draw_title, frame_block, inner};
use crate::deck::row::{Prose, Row};
use crate::deck::study::{AdapterLine, GateOutcome, StepLine, StudyCommand, StudyEvent, TrainingView, Work};
use crate::deck::tab::difference::Shown;
use crate::deck::tab::{Context, Look, Tab, TabName, draw_empty};
use crate::deck::table::{moved, scrolled};
use crate::deck::theme::Ink;

/// Rows from which the figures show beside what can be acted on.
const LEAST_ROWS: u16 = 16;
/// How often a run under way is looked at, while this tab shows.
const POLL: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Training {
    view: TrainingView,
    /// Place in the tree's order.
    adapter: usize,
    difference: Option<Shown>,
    /// The query answered last in the chat: what "what changed" asks unless told otherwise.
    query: Option<String>,
    /// What planned before the person moved the adapter: one key brings it back.
    before: Option<Option<String>>,
    /// The adapter that was asked for although the gate found it worse, and was warned of.
    doubted: Option<String>,
    /// The deck's clock, and when what goes on was told.
    now_ms: u64,
    told_ms: u64,
    /// A comparison asks its question now.
    comparing: bool,
}

fn ask(command: StudyCommand) -> Effect {
    Effect::Command(DeckCommand::Study(command))
}

/// Adapters as a tree: each under its parent, with the lines that say so.
fn tree(adapters: &[AdapterLine]) -> Vec<(String, &AdapterLine)> {
    fn under<'a>(
        parent: Option<&str>,
        lead: &str,
        all: &'a [AdapterLine],
        out: &mut Vec<(String, &'a AdapterLine)>,
    ) {
        let is_root = |line: &AdapterLine| {
            let known = line.parent.as_ref().is_some_and(|id| all.iter().any(|other| other.id == *id));
            !known
        };
        let children: Vec<&AdapterLine> = all
            .iter()
            .filter(|line| match parent {
                None => is_root(line),
                Some(parent) => line.parent.as_deref() == Some(parent) && line.id != parent,
            })
            .collect();
        for (n, line) in children.iter().enumerate() {
            // A damaged record must not turn the tree into a circle.
            if out.iter().any(|(_, seen)| seen.id == line.id) {
                continue;
            }
            let last = n + 1 == children.len();
            let (branch, below) = match parent {
                None => (String::new(), String::new()),
                Some(_) if last => (format!("{lead}`- "), format!("{lead}   ")),
                Some(_) => (format!("{lead}|- "), format!("{lead}|  ")),
            };
            out.push((branch, line));
            under(Some(&line.id), &below, all, out);
        }
    }
    let mut out = Vec::new();
    under(None, "", adapters, &mut out);
    out
}

const NO_STEP: &str =
    "Nothing has been learned yet. Label answers of a group (F3) good and bad; t there takes a step.";

const NO_GATE: &str = "After a step, questions that never train are asked with the new adapter and with what planned \
                       before; only a better one plans by itself. None has been tried yet.";

/// An adapter's id as it is shown everywhere: the beginning of its hash.
pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn named(adapter: Option<&str>) -> String {
    adapter.map_or_else(|| "no adapter".to_string(), |id| format!("adapter {}", short(id)))
}

impl Training {
    fn selected(&self) -> Option<&AdapterLine> {
        tree(&self.view.adapters).get(self.adapter).map(|(_, line)| *line)
    }

    /// What of this deck could be stopped here.
    fn stoppable(&self) -> Option<Work> {
        let comparison = self.comparing.then_some(Work::Comparison);
        comparison.or(self.view.own.then_some(Work::Step))
    }

    /// A step runs that ends with this deck.
    pub fn is_stepping(&self) -> bool {
        self.view.own
    }

    /// The groups tab, at a group that the selected adapter's step learned from; without a selection the last step's.
    fn its_group(&self, cx: &mut Context) {
        let selected = self.selected().map(|line| line.id.as_str());
        let made = |step: &&StepLine| selected.is_some() && step.adapter.as_deref() == selected;
        let Some(step) = self.view.steps.iter().rfind(made) else {
            return cx.say("no step on record here made this adapter; F3 shows every group");
        };
        match step.groups.first() {
            Some(group) => cx.wishes.run = Some((Action::Tab(TabName::Groups), group.clone())),
            None => cx.say("its step kept no group of its own; F3 shows every group"),
        }
    }

    /// Let the selected adapter plan; one that the gate found worse is asked about first.
    fn let_plan(&mut self, doubted: Option<String>, cx: &mut Context) {
        let Some(line) = self.selected() else { return cx.say("there is no adapter yet") };
        let (id, worse) = (line.id.clone(), line.worse.clone());
        match worse.filter(|_| doubted.as_ref() != Some(&id)) {
            Some(worse) => {
                cx.warn(format!("Enter once more: it plans all the same. Adapter {} is {worse}", short(&id)));
                self.doubted = Some(id);
            }
            None => cx.effect(ask(StudyCommand::UseAdapter { id: Some(id) })),
        }
    }

    /// The same question under the selected adapter and its parent.
    fn what_changed(&self, argument: &str, cx: &mut Context) {
        let query = Some(argument.trim().to_string()).filter(|q| !q.is_empty()).or(self.query.clone());
        let Some(query) = query else {
            return cx
                .say("ask something in the chat first (F1): that question is asked under both adapters");
        };
        let Some(line) = self.selected() else { return cx.say("there is no adapter yet") };
        let (before, after) = (line.parent.clone(), Some(line.id.clone()));
        cx.effect(ask(StudyCommand::WhatChanged { query, before, after }));
        cx.say("asking the same question under both adapters");
    }

    /// Take in what is on record now. The selection stays with its adapter; one that is new takes it: it is what
    /// a person wants to look at after a step.
    fn show_view(&mut self, view: &TrainingView) {
        let known: Vec<String> = self.view.adapters.iter().map(|line| line.id.clone()).collect();
        let held = self.selected().map(|line| line.id.clone());
        if self.view.running != view.running {
            self.told_ms = self.now_ms;
        }
        self.view.clone_from(view);
        let shown = tree(&self.view.adapters);
        let new = shown.iter().position(|(_, line)| !known.is_empty() && !known.contains(&line.id));
        let same = shown.iter().position(|(_, line)| Some(&line.id) == held.as_ref());
        self.adapter = new.or(same).unwrap_or(moved(self.adapter, 0, shown.len()));
    }

    /// What moved, and the key that takes it back. Also what `b` did asks nobody first: it loses nothing.
    fn tell_move(&mut self, before: &Option<Option<String>>, now: Option<&str>, cx: &mut Context) {
        self.before.clone_from(before);
        let now = named(now);
        cx.say(match before {
            Some(before) if named(before.as_deref()) == now => format!("{now} plans already"),
            Some(before) => format!("{now} plans now; u brings {} back", named(before.as_deref())),
            None => format!("{now} plans now"),
        });
    }

    /// Labels that got worse with what plans now.
    fn live_rows(&self, width: usize) -> Vec<Row> {
        let plain = Row::new();
        let rows = self.view.live.iter().flat_map(|words| {
            Prose::of("alarm: ", Ink::Warning).say(words.as_str(), Ink::Text).wrap(width, &plain, &plain)
        });
        rows.collect()
    }

    /// What moved in the newest step that moved anything, while its run is the newest.
    fn alarm_rows(&self, width: usize) -> Vec<Row> {
        let Some(step) = self.view.steps.last().filter(|step| !step.alarms.is_empty()) else {
            return Vec::new();
        };
        let words = format!("alarm in step {}: ", step.step);
        let prose = Prose::of(words, Ink::Warning).say(step.alarms.join("; "), Ink::Text);
        prose.wrap(width, &Row::new(), &Row::new())
    }

    fn gate_rows(&self, width: usize) -> Vec<Row> {
        let Some(gate) = &self.view.gate else {
            return Prose::of(NO_GATE, Ink::Dim).wrap(width, &Row::new(), &Row::new());
        };
        let (word, ink) = match gate.outcome {
            GateOutcome::Champion => ("better", Ink::Good),
            GateOutcome::Worse => ("worse", Ink::Bad),
            GateOutcome::CannotTell => ("cannot tell", Ink::Text),
        };
        let mut figures = format!("  adapter {}: ", short(&gate.adapter));
        if gate.asked > 0 {
            figures.push_str(&format!(
                "of {} questions asked of both, {} only it got right, {} only the one before; ",
                gate.asked, gate.only_new, gate.only_old
            ));
        }
        Prose::of(word, ink).say(figures, Ink::Text).say(gate.words.as_str(), Ink::Dim).wrap(
            width,
            &Row::new(),
            &Row::new(),
        )
    }

    fn tree_rows(&self, width: usize, height: usize) -> Vec<Row> {
        let lines = tree(&self.view.adapters);
        if lines.is_empty() {
            return vec![Row::new().say("no adapter yet: the planner plans as it was shipped", Ink::Dim)];
        }
        let first = scrolled(0, self.adapter, height);
        let row = |(n, (lead, line)): (usize, &(String, &AdapterLine))| {
            let here = if n == self.adapter { Ink::Selected } else { Ink::Text };
            let mark = if line.current { "* " } else { "  " };
            let row = Row::new()
                .say(mark, Ink::Good)
                .say(lead.as_str(), Ink::Border)
                .say(short(&line.id), here)
                .say(format!("  {}", line.status), Ink::Accent);
            let room = width.saturating_sub(row.width() + 2);
            let words = format!("{} · {}", line.words, line.when);
            row.say("  ", Ink::Text).say(fitted(&words, room), Ink::Dim)
        };
        lines.iter().enumerate().skip(first).take(height).map(row).collect()
    }

    /// What goes on and for how long it has, so that a long stretch without a word is seen to go on.
    fn running_rows(&self, width: usize) -> Vec<Row> {
        let Some(words) = self.view.running.as_deref() else { return Vec::new() };
        let seconds = self.now_ms.saturating_sub(self.told_ms) / 1_000;
        let mut prose = Prose::of(words, Ink::Accent);
        if self.view.alive && seconds > 1 {
            prose = prose.say(format!(" · {seconds} s"), Ink::Dim);
        }
        prose.wrap(width, &Row::new(), &Row::new())
    }

    fn draw_block(buffer: &mut Buffer, area: Rect, title: &str, rows: &[Row], look: &Look) {
        frame_block(buffer, area, Ink::Border, &look.theme);
        draw_title(buffer, area, &Row::new().say(format!(" {title} "), Ink::Title), &look.theme);
        draw_rows(buffer, inner(area), rows.iter(), &look.theme);
    }

    /// What stands above the tree says who plans; where none does nothing in it is marked.
    fn tree_title(&self) -> &'static str {
        if self.view.adapters.iter().any(|line| line.current) {
            "adapters (* plans now)"
        } else {
            "adapters (none plans now)"
        }
    }

    /// Gate and tree alone: what a person acts on, where there is no room for figures as well.
    fn draw_small(&self, buffer: &mut Buffer, area: Rect, look: &Look) {
        let width = usize::from(area.width).saturating_sub(4);
        let mut gate = self.running_rows(width);
        gate.extend(self.live_rows(width));
        gate.extend(self.gate_rows(width));
        let tall = u16::try_from(gate.len() + 2).unwrap_or(4).min(area.height / 2);
        Training::draw_block(buffer, Rect { height: tall, ..area }, "gate", &gate, look);
        let below = Rect { y: area.y + tall, height: area.height - tall, ..area };
        let inside = inner(below);
        let adapters = self.tree_rows(usize::from(inside.width), usize::from(inside.height));
        Training::draw_block(buffer, below, self.tree_title(), &adapters, look);
    }

    /// Charts above (side by side where there is room), gate and steps, the tree below.
    fn draw_view(&self, buffer: &mut Buffer, area: Rect, look: &Look) {
        if area.height < LEAST_ROWS {
            return self.draw_small(buffer, area, look);
        }
        let width = usize::from(area.width);
        let wide = width >= 100;
        let top = area.height * if wide { 2 } else { 1 } / 5;
        let charts = Rect { height: top.max(6).min(area.height), ..area };
        let per_row = if wide { 5.min(width / 38) } else { (width / 38).clamp(1, 2) };
        let inside = {
            Training::draw_block(buffer, charts, "what the steps did", &[], look);
            inner(charts)
        };
        let column = inside.width / u16::try_from(per_row).unwrap_or(1).max(1);
        let lines = 5usize.div_ceil(per_row);
        let tall = (usize::from(inside.height) / lines).max(4);
        let cells = if self.view.steps.is_empty() {
            let words = if self.view.alive { "Its figures stand here once it is done." } else { NO_STEP };
            let rows = Prose::of(words, Ink::Dim).wrap(inside.width.into(), &Row::new(), &Row::new());
            draw_rows(buffer, inside, rows.iter(), &look.theme);
            Vec::new()
        } else {
            figures::charts(&self.view.steps, usize::from(column).saturating_sub(2), tall.saturating_sub(2))
        };
        for (n, rows) in cells.iter().enumerate() {
            let x = inside.x + column * u16::try_from(n % per_row).unwrap_or(0);
            let y = inside.y + u16::try_from(n / per_row * tall).unwrap_or(u16::MAX);
            if y < inside.bottom() {
                let height = inside.bottom() - y;
                let cell = Rect::new(
                    x,
                    y,
                    column.saturating_sub(2),
                    height.min(u16::try_from(tall).unwrap_or(height)),
                );
                draw_rows(buffer, cell, rows.iter(), &look.theme);
            }
        }
        let below = Rect { y: charts.bottom(), height: area.bottom() - charts.bottom(), ..area };
        let mut gate = self.running_rows(width.saturating_sub(4));
        gate.extend(self.live_rows(width.saturating_sub(4)));
        gate.extend(self.alarm_rows(width.saturating_sub(4)));
        gate.extend(self.gate_rows(width.saturating_sub(4)));
        let gate_height = u16::try_from(gate.len() + 2).unwrap_or(4).min(below.height);
        let block = Rect { height: gate_height, ..below };
        Training::draw_block(buffer, block, "gate", &gate, look);
        let rest = Rect { y: block.bottom(), height: below.bottom() - block.bottom(), ..below };
        let (left, right) = if wide {
            let half = rest.width / 2;
            (Rect { width: half, ..rest }, Rect { x: rest.x + half, width: rest.width - half, ..rest })
        } else {
            let half = rest.height / 2;
            (Rect { height: half, ..rest }, Rect { y: rest.y + half, height: rest.height - half, ..rest })
        };
        let (room, width) = (usize::from(inner(left).height), usize::from(inner(left).width));
        let steps = figures::step_rows(&self.view.steps, room, width);
        Training::draw_block(buffer, left, "steps", &steps, look);
        let inside = inner(right);
        let adapters = self.tree_rows(usize::from(inside.width), usize::from(inside.height));
        Training::draw_block(buffer, right, self.tree_title(), &adapters, look);
    }
}

impl Tab for Training {
    fn places(&self) -> Vec<Place> {
        vec![Place::Training, Place::List]
    }

    fn shown(&mut self, cx: &mut Context) {
        cx.effect(ask(StudyCommand::ShowTraining));
    }

    fn question(&mut self, action: Action) -> Option<String> {
        match (action, self.stoppable()) {
            (Action::Step, _) => Some("one step on every labelled group not trained yet".to_string()),
            (Action::Stop, Some(Work::Step)) => {
                Some("stop the step; what planned before goes on".to_string())
            }
            (Action::Stop, Some(_)) => Some("stop the comparison".to_string()),
            _ => None,
        }
    }

    fn perform(&mut self, action: Action, argument: &str, cx: &mut Context) -> bool {
        let count = self.view.adapters.len();
        // Only the very next key says that a worse one is meant.
        let doubted = self.doubted.take();
        match action {
            Action::Escape if self.difference.is_some() => self.difference = None,
            Action::ScrollUp | Action::ScrollDown if self.difference.is_some() => {
                self.difference.iter_mut().for_each(|shown| shown.scroll(action == Action::ScrollDown));
            }
            Action::ScrollUp => self.adapter = moved(self.adapter, -1, count),
            Action::ScrollDown => self.adapter = moved(self.adapter, 1, count),
            Action::Open => self.let_plan(doubted, cx),
            Action::Rollback => cx.effect(ask(StudyCommand::Rollback)),
            Action::Undo => match self.before.take() {
                Some(id) => cx.effect(ask(StudyCommand::UseAdapter { id })),
                None => cx.say("no adapter was moved since the start; Enter lets the selected one plan"),
            },
            Action::NoAdapter => cx.effect(ask(StudyCommand::UseAdapter { id: None })),
            Action::Compare => self.what_changed(argument, cx),
            Action::Step => cx.effect(ask(StudyCommand::Train { groups: Vec::new() })),
            Action::ItsGroup => self.its_group(cx),
            Action::Stop => match self.stoppable() {
                Some(work) => {
                    cx.effect(ask(StudyCommand::Stop(work)));
                    cx.say("stopping");
                }
                None if self.view.alive => {
                    cx.say("that run is another terminal's: stop it there with Ctrl+C")
                }
                None => cx.say("neither a step nor a comparison is under way in this deck"),
            },
            _ => return false,
        }
        true
    }

    fn event(&mut self, event: &DeckEvent, cx: &mut Context) {
        match event {
            DeckEvent::Study(StudyEvent::Training(view)) => self.show_view(view),
            DeckEvent::Study(StudyEvent::Working { work: Work::Comparison, count }) => {
                self.comparing = *count > 0;
            }
            DeckEvent::Study(StudyEvent::Moved { before, now }) => self.tell_move(before, now.as_deref(), cx),
            DeckEvent::Study(StudyEvent::Difference(difference)) => {
                self.difference = Some(Shown::new((**difference).clone()));
                cx.say("both planned without chance: what differs is the adapter's doing");
            }
            DeckEvent::Flow(event) => {
                if let crate::flow::event::Body::Started { query, .. } = &event.body {
                    self.query = Some(query.clone());
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    fn wait(&self) -> Option<Duration> {
        self.view.alive.then_some(POLL)
    }

    fn due(&mut self, cx: &mut Context) {
        if self.view.alive {
            cx.effect(ask(StudyCommand::WatchTraining));
        }
    }

    fn hints(&self) -> Vec<(Action, &'static str)> {
        if self.difference.is_some() {
            return vec![(Action::Escape, "back"), (Action::ScrollDown, "scroll")];
        }
        let mut hints = vec![
            (Action::Open, "use"),
            (Action::Compare, "what did it change?"),
            (Action::Step, "learn"),
            (Action::ItsGroup, "its group"),
            (Action::Rollback, "roll back"),
            (Action::Undo, "undo"),
            (Action::NoAdapter, "use none"),
        ];
        if self.stoppable().is_some() {
            hints.insert(0, (Action::Stop, "stop"));
        }
        hints
    }

    fn draw(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) -> Option<Position> {
        if let Some(shown) = &mut self.difference {
            shown.draw(buffer, area, look);
        } else if self.view == TrainingView::default() {
            let words = [
                "A step makes an adapter, a small file beside the model that lets the planner plan otherwise. Here stand the steps, how their adapters did on questions that never train, and which one plans now.",
                NO_STEP,
            ];
            draw_empty(buffer, area, TabName::Training, &words, look);
        } else {
            self.draw_view(buffer, area, look);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_stand_under_their_parents_and_circles_end() {
        let line = |id: &str, parent: Option<&str>| AdapterLine {
            id: id.to_string(),
            parent: parent.map(String::from),
            ..AdapterLine::default()
        };
        let all = [line("a", None), line("c", Some("b")), line("b", Some("a")), line("d", Some("a"))];
        let shown: Vec<String> = tree(&all).iter().map(|(lead, line)| format!("{lead}{}", line.id)).collect();
        assert_eq!(shown, ["a", "|- b", "|  `- c", "`- d"]);
        let circle = [line("a", Some("b")), line("b", Some("a"))];
        assert!(tree(&circle).len() <= 2);
        let orphan = [line("x", Some("gone"))];
        assert_eq!(tree(&orphan).len(), 1, "an adapter whose parent is gone still shows");
    }
}
