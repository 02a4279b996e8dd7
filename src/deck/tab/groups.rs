//! The groups tab: rollouts of one query side by side, folded by answer, to be labelled with one key each.
//!
//! Left and Right choose a cluster, Up and Down a rollout in it, which Enter opens in the replay panes. `+` and
//! `-` say what an answer is worth, `p` that a plan was bad whatever came of it, `c` what the answer should
//! have been. The meter says whether a step can learn anything from what has been said.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::Effect;
use crate::deck::command::Action;
use crate::deck::keymap::Place;
use crate::deck::layer::line::Line;
use crate::deck::message::{DeckCommand, DeckEvent, LabelValue};
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::row::{Prose, Row};
use crate::deck::shelf::fitted;
use crate::deck::study::{After, Cluster, GroupView, StudyCommand, StudyEvent, Work};
use crate::deck::tab::{Context, Look, Tab, TabName, draw_empty};
use crate::deck::table::{moved, scrolled};
use crate::deck::theme::{Ink, Theme};
use crate::tasks::stats::contrast_chance;

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
    /// What was labelled last, newest last: undone in that order.
    done: Vec<StudyCommand>,
    /// The adapter that plans now, shortened; the outer None: not known yet.
    planning: Option<Option<String>>,
    /// Groups this deck draws now.
    rolling: usize,
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
            Some(at) => (self.at, self.cluster, self.rollout, self.first) = (at, 0, 0, 0),
            None => cx.say("only the newest groups stand here, and that one is older"),
        }
    }

    fn keep(&mut self, mut group: GroupView) {
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
            }
        }
        self.hold();
    }

    fn hold(&mut self) {
        self.at = moved(self.at, 0, self.groups.len());
        self.cluster = moved(self.cluster, 0, self.group().map_or(0, |group| group.clusters.len()));
        self.rollout = moved(self.rollout, 0, self.chosen().map_or(0, |(_, c)| c.rollouts.len()));
    }

    fn walk(&mut self, groups: isize, clusters: isize, rollouts: isize) {
        self.unseen = false;
        if groups != 0 {
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

    fn label(&mut self, value: LabelValue, correction: Option<String>, cx: &mut Context) {
        self.unseen = false;
        let Some((group, cluster)) = self.chosen() else {
            return cx.say("no answer to label yet");
        };
        // What only follows from another answer's label was not said of this one: nothing was there to come back to.
        let own = cluster.label.filter(|_| cluster.said_by.is_empty());
        let before = own.unwrap_or(LabelValue::Clear);
        let label = |value, correction| StudyCommand::LabelCluster {
            group: group.id.clone(),
            answer: cluster.canonical.clone(),
            value,
            correction,
        };
        let (command, back) = (label(value, correction), label(before, None));
        self.done.push(back);
        cx.effect(ask(command));
        // On to the next answer nobody has judged: one key per answer.
        if let Some(group) = self.group()
            && let Some(next) = (0..group.clusters.len())
                .map(|n| (self.cluster + 1 + n) % group.clusters.len())
                .find(|n| *n != self.cluster && group.clusters[*n].label.is_none())
        {
            (self.cluster, self.rollout) = (next, 0);
        }
    }

    fn plan_bad(&mut self, cx: &mut Context) {
        let Some((group, cluster)) = self.chosen() else { return };
        let Some(rollout) = cluster.rollouts.get(self.rollout) else { return };
        let (bad, clear) = (LabelValue::Bad, LabelValue::Clear);
        let (value, before) = if rollout.plan_bad { (clear, bad) } else { (bad, clear) };
        let label = |value| StudyCommand::LabelPlan {
            group: group.id.clone(),
            trajectory: rollout.trajectory.clone(),
            value,
        };
        let (command, back) = (label(value), label(before));
        self.done.push(back);
        cx.effect(ask(command));
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
            let (rows, chosen) = cluster_rows(cluster, rollout, usize::from(inside.width));
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

/// What a small screen says of a group: its query, and whether there is something to learn from.
fn small_rows(group: &GroupView, width: usize) -> Vec<Row> {
    let (good, bad) = group.counts();
    let mut rows = vec![Row::new().say(fitted(&group.query, width), Ink::Strong)];
    rows.extend(meter(group, good, bad).wrap(width, &Row::new(), &Row::new()));
    rows
}

/// `(good)` in words, so that colour is never the only sign.
fn label_of(cluster: &Cluster) -> Prose {
    let by = if cluster.said_by.is_empty() { String::new() } else { format!(", {}", cluster.said_by) };
    match cluster.label {
        Some(LabelValue::Good) => Prose::of(format!("(good{by})"), Ink::Good),
        Some(LabelValue::Bad) => Prose::of(format!("(bad{by})"), Ink::Bad),
        _ => Prose::of("(not judged)", Ink::Dim),
    }
}

/// The rows of an answer, and in which of them the chosen rollout stands.
fn cluster_rows(cluster: &Cluster, chosen: Option<usize>, width: usize) -> (Vec<Row>, usize) {
    let mut chosen_row = 0;
    let answer = if cluster.answer.trim().is_empty() { "(no answer)" } else { &cluster.answer };
    let mut rows = Prose::of(answer, Ink::Text).wrap(width, &Row::new(), &Row::new());
    rows.truncate(6);
    rows.extend(label_of(cluster).wrap(width, &Row::new(), &Row::new()));
    rows.push(Row::new());
    let mut first = 0;
    for way in cluster.rollouts.chunk_by(|a, b| a.plans == b.plans) {
        let turns = way[0].plans.len();
        let words = format!(
            "{} {}, {turns} {}:",
            way.len(),
            if way.len() == 1 { "rollout" } else { "rollouts" },
            if turns == 1 { "turn" } else { "turns" }
        );
        rows.push(Row::new().say(words, Ink::Text));
        for plan in &way[0].plans {
            rows.push(Row::new().say("  ", Ink::Dim).say(fitted(plan, width.saturating_sub(2)), Ink::Dim));
        }
        let margin = Row::new().say("  ", Ink::Text);
        let mut times = Prose::new();
        for (n, rollout) in way.iter().enumerate() {
            let here = chosen == Some(first + n);
            // A space within would let one rollout's words be torn apart at the end of a line.
            let digits = if rollout.seconds < 1.0 { 2 } else { 1 };
            let time = format!("{:.digits$}\u{a0}s", rollout.seconds);
            times = times.say(time, if here { Ink::Selected } else { Ink::Text });
            times = times
                .say(if rollout.plan_bad { "\u{a0}plan\u{a0}bad" } else { "" }, Ink::Bad)
                .say("  ", Ink::Text);
        }
        rows.extend(times.wrap(width, &margin, &margin));
        if chosen.is_some_and(|chosen| (first..first + way.len()).contains(&chosen)) {
            chosen_row = rows.len() - 1;
        }
        first += way.len();
    }
    (rows, chosen_row)
}

/// Rollouts that took the same way side by side, the ways in the order in which they first came.
fn by_way(group: &mut GroupView) {
    for cluster in &mut group.clusters {
        let ways: Vec<Vec<String>> = cluster.rollouts.iter().map(|rollout| rollout.plans.clone()).collect();
        cluster.rollouts.sort_by_key(|rollout| ways.iter().position(|way| *way == rollout.plans));
    }
}

fn adapter_words(adapter: Option<&str>) -> String {
    adapter.map_or_else(|| "no adapter".to_string(), |id| format!("adapter {id}"))
}

/// Why a step would find nothing to learn in this group, and what helps.
fn no_contrast(group: &GroupView) -> Option<&'static str> {
    let open = group.clusters.iter().any(|cluster| cluster.label.is_none());
    match (group.has_contrast(), group.clusters.len(), open) {
        (true, ..) => None,
        (_, 0, _) => Some("no contrast: no rollout has ended yet"),
        (_, 1, _) => Some(
            "no contrast: every rollout gave the same answer, so nothing can be learned; r rolls it again, F1 asks another",
        ),
        (.., true) => Some("no contrast: label one answer good and another bad first"),
        (.., false) => {
            Some("no contrast: all its answers got the same label; r rolls it again, F1 asks another")
        }
    }
}

/// `contrast |++++----....|  4 good, 4 bad, 0 not judged`
fn meter(group: &GroupView, good: usize, bad: usize) -> Prose {
    let all: usize = group.clusters.iter().map(|cluster| cluster.rollouts.len()).sum();
    let open = all.saturating_sub(good + bad);
    let words = if !group.verdict.is_empty() {
        // Says it already, on the next line.
        ""
    } else if group.has_contrast() {
        ": there is something to learn from"
    } else if good + bad == 0 {
        ": nothing is judged yet"
    } else {
        ": no contrast, a step would learn nothing"
    };
    Prose::of("contrast |", Ink::Dim)
        .say("+".repeat(good.min(64)), Ink::Good)
        .say("-".repeat(bad.min(64)), Ink::Bad)
        .say(".".repeat(open.min(64)), Ink::Dim)
        .say("|  ", Ink::Dim)
        .say(format!("{good} good, {bad} bad, {open} not judged{words}"), Ink::Text)
}

/// The chance that the query, rolled out again, gives both kinds of answer, by what is known: the labels, else how
/// many rollouts agree.
fn chances(group: &GroupView, good: usize, bad: usize) -> Prose {
    let judged = good + bad;
    let all: usize = group.clusters.iter().map(|cluster| cluster.rollouts.len()).sum();
    let biggest = group.clusters.first().map_or(0, |cluster| cluster.rollouts.len());
    // Laplace's rule: nothing seen is not "never".
    let rate = |hits: usize, of: usize| (hits as f64 + 1.0) / (of as f64 + 2.0);
    let (rate, whence) = match judged {
        0 => (rate(biggest, all), format!("{biggest} of {all} agree")),
        _ => (rate(good, judged), format!("{good} of {judged} are good")),
    };
    let mut prose = Prose::of("rolled out again, the chance of different answers: ", Ink::Dim);
    for (n, size) in [4, 8, 16].into_iter().enumerate() {
        // Chances are never certain; a space within would let a figure be torn from its sign.
        let chance = (contrast_chance(rate, size) * 100.0).min(99.0);
        let words = format!("{chance:.0}\u{a0}%\u{a0}with\u{a0}{size}");
        prose = prose.say(if n == 0 { "" } else { ", " }, Ink::Dim);
        prose = prose.say(words, if size == group.size { Ink::Strong } else { Ink::Dim });
    }
    prose.say(format!(" (now {whence})"), Ink::Dim)
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
            Action::TurnBack => self.walk(-1, 0, 0),
            Action::TurnForward => self.walk(1, 0, 0),
            Action::Back | Action::PreviousPane => self.walk(0, -1, 0),
            Action::Forward | Action::NextPane => self.walk(0, 1, 0),
            Action::ScrollUp => self.walk(0, 0, -1),
            Action::ScrollDown => self.walk(0, 0, 1),
            Action::Good => self.label(LabelValue::Good, None, cx),
            Action::Bad => self.label(LabelValue::Bad, None, cx),
            Action::ClearLabel => self.label(LabelValue::Clear, None, cx),
            Action::PlanBad => self.plan_bad(cx),
            Action::Correct if argument.is_empty() => {
                let words = "Enter marks this answer bad and keeps yours as the right one, Esc keeps what you wrote for later";
                let about =
                    self.chosen().map(|(group, cluster)| format!("{} {}", group.id, cluster.canonical));
                let line = Line::new("what should the answer have been?", words, Action::Correct, "");
                cx.open(line.kept(about.unwrap_or_default()));
            }
            Action::Correct => self.label(LabelValue::Bad, Some(argument.to_string()), cx),
            Action::Undo => match self.done.pop() {
                Some(command) => cx.effect(ask(command)),
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
            DeckEvent::Study(StudyEvent::Group(group)) => self.keep(group.clone()),
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
        let rows = if area.height < SMALL { small_rows(&group, width) } else { self.rows_of(&group, width) };
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
