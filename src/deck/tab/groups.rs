//! The groups tab: rollouts of one query side by side, folded by answer, to be labelled with one key each.
//!
//! Left and Right choose a cluster, Up and Down a rollout in it, which Enter opens in the replay panes. `+` and
//! `-` say what an answer is worth, `b` which of two is better, `p` that a plan was bad whatever came of it, `c` what the
//! answer should have been. The meter says whether a step can learn anything from what has been said.

mod better;
mod label;
mod rows;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::Effect;
use crate::deck::command::Action;
use crate::deck::keymap::Place;
use crate::deck::layer::line::Line;
use crate::deck::message::{DeckCommand, DeckEvent, LabelValue};
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::row::{Prose, Row};
use crate::deck::study::{After, Cluster, GroupView, StudyCommand, StudyEvent, Work};
use crate::deck::tab::{Context, Look, Tab, TabName, draw_empty};
use crate::deck::table::{moved, scrolled};
use crate::deck::theme::{Ink, Theme};

use self::better::Better;
use self::rows::{adapter_words, by_way, chances, cluster_rows, meter, no_contrast, small_rows};

/// Rollouts of a group nobody named a size for.
pub const SIZE: usize = 8;
/// Rows below which only the query and its contrast stand above the answers.
const SMALL: u16 = 14;
/// Columns a cluster needs.
const CLUSTER: u16 = 26;

#[derive(Default)]
pub struct Groups {
    /// Newest first.
    groups: Vec<GroupView>,
    at: usize,
    /// The chosen cluster and the chosen rollout in it.
    cluster: usize,
    rollout: usize,
    first: usize,
    /// The newest group came while another tab showed: nobody has chosen anything in it.
    unseen: bool,
    /// This group shall show once the groups are there.
    wanted: Option<String>,
    /// What takes each key's words back, newest last: undone in that order.
    done: Vec<Vec<StudyCommand>>,
    /// The adapter that plans now, shortened; the outer None: not known yet.
    planning: Option<Option<String>>,
    /// Groups this deck draws now.
    rolling: usize,
    better: Better,
    /// Since when what shows has waited for a word, in the deck's milliseconds.
    since_ms: u64,
}

fn ask(command: StudyCommand) -> Effect {
    Effect::Command(DeckCommand::Study(command))
}

impl Groups {
    /// Rollouts are under way that end with this deck.
    pub fn is_rolling(&self) -> bool {
        self.rolling > 0
    }

    fn group(&self) -> Option<&GroupView> {
        self.groups.get(self.at)
    }

    fn chosen(&self) -> Option<(&GroupView, &Cluster)> {
        let group = self.group()?;
        Some((group, group.clusters.get(self.cluster)?))
    }

    /// Show this group once the groups are read; empty: whichever is there.
    pub fn want(&mut self, id: &str) {
        self.wanted = Some(id.trim().to_string()).filter(|id| !id.is_empty());
    }

    fn show_wanted(&mut self, cx: &mut Context) {
        let Some(id) = self.wanted.take() else { return };
        match self.groups.iter().position(|group| group.id == id) {
            Some(at) => {
                (self.at, self.cluster, self.rollout, self.first) = (at, 0, 0, 0);
                self.since_ms = cx.now_ms;
            }
            None => cx.say("only the newest groups stand here, and that one is older"),
        }
    }

    fn keep(&mut self, mut group: GroupView, now_ms: u64) {
        by_way(&mut group);
        // Clusters change places while rollouts end; what is chosen stays chosen.
        let held =
            self.chosen().filter(|(chosen, _)| chosen.id == group.id).map(|(_, c)| c.canonical.clone());
        if let Some(at) = held.and_then(|held| group.clusters.iter().position(|c| c.canonical == held)) {
            self.cluster = at;
        }
        match self.groups.iter_mut().find(|known| known.id == group.id) {
            Some(known) => *known = group,
            None => {
                self.groups.insert(0, group);
                (self.at, self.cluster, self.rollout, self.unseen) = (0, 0, 0, true);
                self.better.forget();
                self.since_ms = now_ms;
            }
        }
        self.hold();
    }

    fn hold(&mut self) {
        self.at = moved(self.at, 0, self.groups.len());
        self.cluster = moved(self.cluster, 0, self.group().map_or(0, |group| group.clusters.len()));
        self.rollout = moved(self.rollout, 0, self.chosen().map_or(0, |(_, c)| c.rollouts.len()));
    }

    /// How long what shows has waited; from now on it waits for the next word.
    fn took(&mut self, now_ms: u64) -> f64 {
        let since = std::mem::replace(&mut self.since_ms, now_ms);
        now_ms.saturating_sub(since) as f64 / 1e3
    }

    fn walk(&mut self, (groups, clusters, rollouts): (isize, isize, isize), now_ms: u64) {
        self.unseen = false;
        if groups != 0 {
            self.better.forget();
            self.since_ms = now_ms;
            self.at = moved(self.at, groups, self.groups.len());
            (self.cluster, self.rollout, self.first) = (0, 0, 0);
        }
        let count = self.group().map_or(0, |group| group.clusters.len());
        if clusters != 0 {
            (self.cluster, self.rollout) = (moved(self.cluster, clusters, count), 0);
        }
        let count = self.chosen().map_or(0, |(_, cluster)| cluster.rollouts.len());
        self.rollout = moved(self.rollout, rollouts, count);
    }

    /// The chosen rollout, through the panes it had when it ran.
    fn open(&self, cx: &mut Context) {
        match self.chosen().and_then(|(_, cluster)| cluster.rollouts.get(self.rollout)) {
            Some(rollout) => cx.wishes.run = Some((Action::Open, rollout.trajectory.clone())),
            None if self.group().is_none() => {
                cx.say("no group yet: in the chat (F1), Alt+g rolls a query out")
            }
            None => cx.say("no rollout has ended yet that could be looked into"),
        }
    }

    fn roll(&self, argument: &str, cx: &mut Context) {
        let size = argument.trim().parse().ok().filter(|size| (2..=64).contains(size)).unwrap_or(SIZE);
        match self.group() {
            Some(group) => {
                let after = After::Group(group.id.clone());
                cx.effect(ask(StudyCommand::RollGroup { query: group.query.clone(), size, after }));
            }
            None => cx.say("ask something in the chat first; there, Alt+g rolls it out"),
        }
    }

    fn rows_of(&self, group: &GroupView, width: usize) -> Vec<Row> {
        let (good, bad) = group.counts();
        let mut rows = Prose::of(group.query.as_str(), Ink::Strong).wrap(width, &Row::new(), &Row::new());
        let mut facts = format!("{} of {} rollouts ended", group.ended, group.size);
        if group.failed > 0 {
            facts.push_str(&format!(", {} failed (never scored)", group.failed));
        }
        facts.push_str(&format!(" · adapter {}", group.adapter.as_deref().unwrap_or("none")));
        rows.extend(Prose::of(facts, Ink::Dim).wrap(width, &Row::new(), &Row::new()));
        rows.extend(meter(group, good, bad).wrap(width, &Row::new(), &Row::new()));
        rows.extend(self.comparing(group, width));
        let ended = group.ended == group.size;
        if let Some(why) = no_contrast(group).filter(|_| ended) {
            rows.extend(Prose::of(why, Ink::Text).wrap(width, &Row::new(), &Row::new()));
        } else if !group.verdict.is_empty() {
            rows.extend(Prose::of(group.verdict.as_str(), Ink::Text).wrap(width, &Row::new(), &Row::new()));
        }
        if let Some(planning) = self.planning.as_ref().filter(|planning| **planning != group.adapter) {
            let words = format!(
                "drawn with {}, but {} plans now: a step learns from its own rollouts only; r rolls it again",
                adapter_words(group.adapter.as_deref()),
                adapter_words(planning.as_deref())
            );
            rows.extend(Prose::of(words, Ink::Warning).wrap(width, &Row::new(), &Row::new()));
        }
        if !group.has_contrast() && ended && !group.clusters.is_empty() {
            rows.extend(chances(group, good, bad).wrap(width, &Row::new(), &Row::new()));
        }
        rows
    }

    /// What is being compared, while something is.
    fn comparing(&self, group: &GroupView, width: usize) -> Vec<Row> {
        let words = self.better.question(group, self.cluster);
        words.map_or_else(Vec::new, |words| {
            Prose::of(words, Ink::Accent).wrap(width, &Row::new(), &Row::new())
        })
    }

    /// Why there is nothing to learn from the group that shows, and what helps.
    fn teaches_nothing(&self) -> Option<&'static str> {
        let Some(group) = self.group() else { return Some("no group to learn from yet") };
        if self.planning.as_ref().is_some_and(|planning| *planning != group.adapter) {
            return Some("drawn with another adapter than plans now: r rolls it again, then label and t");
        }
        no_contrast(group)
    }

    /// One step on this group.
    fn step(&self, cx: &mut Context) {
        if let Some(why) = self.teaches_nothing() {
            return cx.warn(why);
        }
        let groups = self.group().map(|group| vec![group.id.clone()]).unwrap_or_default();
        cx.effect(ask(StudyCommand::Train { groups }));
        cx.wishes.tab = Some(TabName::Training);
    }

    fn draw_clusters(&mut self, buffer: &mut Buffer, area: Rect, theme: &Theme) {
        let Some(group) = self.groups.get(self.at) else { return };
        let fits = usize::from((area.width / CLUSTER).max(1));
        let count = group.clusters.len();
        self.first = scrolled(self.first, self.cluster, fits).min(count.saturating_sub(fits));
        let shown = fits.min(count).max(1);
        let hidden = count.saturating_sub(shown);
        let width = area.width / u16::try_from(shown).unwrap_or(1);
        for (place, (n, cluster)) in
            group.clusters.iter().enumerate().skip(self.first).take(shown).enumerate()
        {
            let x = area.x + width * u16::try_from(place).unwrap_or(0);
            let last = place + 1 == shown;
            let block = Rect { x, width: if last { area.right() - x } else { width }, ..area };
            let here = n == self.cluster;
            frame_block(buffer, block, if here { Ink::BorderFocus } else { Ink::Border }, theme);
            let title = format!(" answer {}, {} of {} ", n + 1, cluster.rollouts.len(), group.ended);
            let title = Row::new().say(title, if here { Ink::TitleFocus } else { Ink::Title });
            draw_title(buffer, block, &title, theme);
            let inside = inner(block);
            let rollout = here.then_some(self.rollout);
            let compared = self.better.words(group, n);
            let (rows, chosen) = cluster_rows(cluster, &compared, rollout, usize::from(inside.width));
            let height = usize::from(inside.height);
            // The answer and its label stay in sight until somebody walks down to rollouts that do not.
            let above = if here && self.rollout > 0 { scrolled(0, chosen, height) } else { 0 };
            draw_rows(buffer, inside, rows.iter().skip(above), theme);
            let below = rows.len().saturating_sub(above + height);
            if here && above + below > 0 && !(last && hidden > 0) {
                let words = if below > 0 { format!(" {below} more rows: Down ") } else { " Up ".to_string() };
                draw_corner(buffer, block, &Row::new().say(words, Ink::Dim), theme);
            }
        }
        if hidden > 0 {
            let answers = if hidden == 1 { "answer" } else { "answers" };
            let words = format!(" {hidden} more {answers}: Left, Right ");
            draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), theme);
        }
    }
}

impl Tab for Groups {
    fn places(&self) -> Vec<Place> {
        vec![Place::Groups, Place::List]
    }

    fn shown(&mut self, cx: &mut Context) {
        // Whoever comes finds the biggest answer chosen, not the one that happened to end first.
        if std::mem::take(&mut self.unseen) && self.at == 0 {
            (self.cluster, self.rollout) = (0, 0);
        }
        self.since_ms = cx.now_ms;
        cx.effect(ask(StudyCommand::ListGroups));
    }

    fn question(&mut self, action: Action) -> Option<String> {
        match action {
            Action::Step if self.teaches_nothing().is_none() => {
                Some("one step on what is labelled here".to_string())
            }
            Action::Roll if self.group().is_some() => Some(format!("roll it out {SIZE} times more")),
            Action::Stop if self.is_rolling() => {
                Some("stop the rollouts; those that have ended stay".to_string())
            }
            _ => None,
        }
    }

    fn perform(&mut self, action: Action, argument: &str, cx: &mut Context) -> bool {
        match action {
            Action::TurnBack => self.walk((-1, 0, 0), cx.now_ms),
            Action::TurnForward => self.walk((1, 0, 0), cx.now_ms),
            Action::Back | Action::PreviousPane => self.walk((0, -1, 0), cx.now_ms),
            Action::Forward | Action::NextPane => self.walk((0, 1, 0), cx.now_ms),
            Action::ScrollUp => self.walk((0, 0, -1), cx.now_ms),
            Action::ScrollDown => self.walk((0, 0, 1), cx.now_ms),
            Action::Good => self.label(LabelValue::Good, None, cx),
            Action::Bad => self.label(LabelValue::Bad, None, cx),
            Action::ClearLabel => self.label(LabelValue::Clear, None, cx),
            Action::PlanBad => self.plan_bad(cx),
            Action::Better => self.better(cx),
            Action::Correct if argument.is_empty() => {
                let words = "Enter marks this answer bad and keeps yours as the right one, Esc keeps what you wrote for later";
                let about =
                    self.chosen().map(|(group, cluster)| format!("{} {}", group.id, cluster.canonical));
                let line = Line::new("what should the answer have been?", words, Action::Correct, "");
                cx.open(line.kept(about.unwrap_or_default()));
            }
            Action::Correct => self.label(LabelValue::Bad, Some(argument.to_string()), cx),
            Action::Expires => self.expires(argument, cx),
            Action::Undo => match self.done.pop() {
                Some(commands) => commands.into_iter().for_each(|command| cx.effect(ask(command))),
                None => cx.say("nothing to take back"),
            },
            Action::Open => self.open(cx),
            Action::Roll => self.roll(argument, cx),
            Action::Step => self.step(cx),
            Action::Stop if self.is_rolling() => {
                cx.effect(ask(StudyCommand::Stop(Work::Rollouts)));
                cx.say("stopping the rollouts; those that have ended stay");
            }
            Action::Stop => cx.say("no rollouts are under way in this deck"),
            _ => return false,
        }
        true
    }

    fn event(&mut self, event: &DeckEvent, cx: &mut Context) {
        match event {
            DeckEvent::Study(StudyEvent::Groups(groups)) => {
                let held = self.group().map(|group| group.id.clone());
                self.groups.clone_from(groups);
                self.groups.iter_mut().for_each(by_way);
                // Who comes back finds the group that was left, also where newer ones stand before it by now.
                self.at = self.groups.iter().position(|g| Some(&g.id) == held.as_ref()).unwrap_or(self.at);
                self.show_wanted(cx);
                self.hold();
            }
            DeckEvent::Status(status) if !status.model.is_empty() => {
                self.planning = Some(status.adapter.clone());
            }
            DeckEvent::Study(StudyEvent::Group(group)) => self.keep(group.clone(), cx.now_ms),
            DeckEvent::Study(StudyEvent::Working { work: Work::Rollouts, count }) => self.rolling = *count,
            DeckEvent::Study(StudyEvent::Failed { what, why }) => cx.warn(format!("{what}: {why}")),
            _ => {}
        }
    }

    fn hints(&self) -> Vec<(Action, &'static str)> {
        let stop = self.is_rolling().then_some((Action::Stop, "stop"));
        if self.groups.is_empty() {
            return stop.into_iter().collect();
        }
        let mut hints = vec![
            (Action::Good, "good"),
            (Action::Bad, "bad"),
            (Action::Step, "learn"),
            (Action::PlanBad, "plan bad"),
            (Action::Correct, "correct"),
            // Its arrows stand on the answers' own border where some do not show.
            (Action::NextPane, "answer"),
            (Action::Open, "open"),
            (Action::Better, "better"),
            (Action::Undo, "undo"),
            (Action::Roll, "roll again"),
            (Action::TurnBack, ""),
            (Action::TurnForward, "group"),
        ];
        if let Some(stop) = stop {
            hints.insert(0, stop);
        }
        hints
    }

    fn draw(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) -> Option<Position> {
        let Some(group) = self.groups.get(self.at).cloned() else {
            let words = [
                "A group is one query rolled out several times. Answers that agree stand together, biggest cluster first; one key says which are good and which are bad, and the planner learns from the difference.",
                "No group yet. In the chat (F1), Alt+g rolls the selected query out eight times.",
            ];
            draw_empty(buffer, area, TabName::Groups, &words, look);
            return None;
        };
        let theme = &look.theme;
        let width = usize::from(area.width.saturating_sub(4));
        let rows = match area.height < SMALL {
            true => [small_rows(&group, width), self.comparing(&group, width)].concat(),
            false => self.rows_of(&group, width),
        };
        let top = u16::try_from(rows.len() + 2).unwrap_or(u16::MAX).min(area.height / 2);
        let head = Rect { height: top, ..area };
        frame_block(buffer, head, Ink::Border, theme);
        let trained = if group.trained { "· has trained " } else { "" };
        let title = format!(" group {} of {} {trained}", self.at + 1, self.groups.len());
        draw_title(buffer, head, &Row::new().say(title, Ink::Title), theme);
        draw_rows(buffer, inner(head), rows.iter(), theme);
        let below = Rect { y: area.y + top, height: area.height.saturating_sub(top), ..area };
        if group.clusters.is_empty() {
            let words = if self.is_rolling() || group.ended == 0 {
                "rollouts are under way; their answers stand here as they end"
            } else {
                "none of its rollouts came to an answer; r rolls it again"
            };
            Row::new().say(words, Ink::Dim).draw(buffer, inner(below), theme);
        } else {
            self.draw_clusters(buffer, below, theme);
        }
        None
    }
}
