//! What a key says of an answer or a plan in the groups tab, and what takes it back.

use super::better::{self, Pressed};
use super::{Groups, ask};
use crate::deck::layer::line::Line;
use crate::deck::message::LabelValue;
use crate::deck::study::{Picked, StudyCommand};
use crate::deck::tab::Context;

impl Groups {
    pub(super) fn label(&mut self, value: LabelValue, correction: Option<String>, cx: &mut Context) {
        self.unseen = false;
        let seconds = self.took(cx.now_ms);
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
            seconds,
        };
        let (command, back) = (label(value, correction), label(before, None));
        let unpicked =
            (value == LabelValue::Clear && cluster.label.is_none()).then_some((group, self.cluster));
        let picks: Vec<_> = unpicked.map_or_else(Vec::new, |(group, at)| {
            better::about(group, at).map(|picked| (group.id.clone(), picked.clone())).collect()
        });
        if !picks.is_empty() {
            let back = |(group, picked): &(String, Picked)| StudyCommand::Pick {
                group: group.clone(),
                picked: picked.clone(),
                seconds,
            };
            self.done.push(picks.iter().map(back).collect());
            for (group, picked) in picks {
                cx.effect(ask(StudyCommand::Unpick { group, picked }));
            }
            return;
        }
        self.done.push(vec![back]);
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

    /// How long the label on this answer holds: asked, then said.
    pub(super) fn expires(&mut self, after: &str, cx: &mut Context) {
        let Some((group, cluster)) = self.chosen() else { return cx.say("no answer to label yet") };
        if cluster.label.is_none() || !cluster.said_by.is_empty() {
            return cx.say("label this answer first: + or -");
        }
        if after.is_empty() {
            return cx.open(Line::expires(&cluster.until));
        }
        let expires = |after: &str| StudyCommand::Expires {
            group: group.id.clone(),
            answer: cluster.canonical.clone(),
            after: after.to_string(),
        };
        let back = expires(if cluster.until.is_empty() { "never" } else { &cluster.until });
        let command = expires(after);
        self.done.push(vec![back]);
        cx.effect(ask(command));
    }

    /// This answer is better than another: one key where there are two, else one on each.
    pub(super) fn better(&mut self, cx: &mut Context) {
        self.unseen = false;
        let Some(group) = self.groups.get(self.at) else { return cx.say("no answer to compare yet") };
        let id = group.id.clone();
        match self.better.press(group, self.cluster, self.rollout) {
            Pressed::Marked { next } => (self.cluster, self.rollout) = (next, 0),
            Pressed::LetGo => cx.say("nothing is compared"),
            Pressed::Alone => cx.say("there is no other answer to compare with; r rolls it again"),
            Pressed::Picked(picked) => {
                let seconds = self.took(cx.now_ms);
                self.done.push(vec![StudyCommand::Unpick { group: id.clone(), picked: picked.clone() }]);
                cx.effect(ask(StudyCommand::Pick { group: id, picked, seconds }));
            }
        }
    }

    pub(super) fn plan_bad(&mut self, cx: &mut Context) {
        let seconds = self.took(cx.now_ms);
        let Some((group, cluster)) = self.chosen() else { return };
        let Some(rollout) = cluster.rollouts.get(self.rollout) else { return };
        let (bad, clear) = (LabelValue::Bad, LabelValue::Clear);
        let (value, before) = if rollout.plan_bad { (clear, bad) } else { (bad, clear) };
        let label = |value| StudyCommand::LabelPlan {
            group: group.id.clone(),
            trajectory: rollout.trajectory.clone(),
            value,
            seconds,
        };
        let (command, back) = (label(value), label(before));
        self.done.push(vec![back]);
        cx.effect(ask(command));
    }
}
