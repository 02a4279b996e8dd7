//! The better of two answers: marked one after the other, where neither need be right. A step then learns from these two
//! rollouts alone.

use crate::deck::study::{GroupView, Picked};

/// What was marked first, until the other is.
#[derive(Default)]
pub struct Better {
    /// A trajectory.
    first: Option<String>,
}

/// What came of the key.
#[derive(Debug, PartialEq)]
pub enum Pressed {
    /// Marked as the better one; the next choice is offered.
    Marked {
        next: usize,
    },
    Picked(Picked),
    LetGo,
    /// There is nothing to compare with.
    Alone,
}

/// Which answer a rollout gave.
fn cluster_of(group: &GroupView, trajectory: &str) -> Option<usize> {
    let holds =
        |n: &usize| group.clusters[*n].rollouts.iter().any(|rollout| rollout.trajectory == trajectory);
    (0..group.clusters.len()).find(holds)
}

impl Better {
    /// The key was pressed on a rollout of an answer. Of two answers the other is meant without a second key.
    pub fn press(&mut self, group: &GroupView, cluster: usize, rollout: usize) -> Pressed {
        let at = |cluster: usize, rollout: usize| {
            let rollouts = &group.clusters.get(cluster)?.rollouts;
            Some(rollouts.get(rollout).or(rollouts.first())?.trajectory.clone())
        };
        let picked = |better: String, worse: String| {
            let left = cluster_of(group, &better) < cluster_of(group, &worse);
            Pressed::Picked(Picked { better, worse, better_left: left })
        };
        let Some(here) = at(cluster, rollout) else { return Pressed::Alone };
        let marked = self.first.take().and_then(|first| Some((cluster_of(group, &first)?, first)));
        let others: Vec<usize> = (0..group.clusters.len()).filter(|n| *n != cluster).collect();
        match (marked, others.as_slice()) {
            (Some((same, _)), _) if same == cluster => Pressed::LetGo,
            (Some((_, first)), _) => picked(first, here),
            (None, []) => Pressed::Alone,
            (None, [other]) => match at(*other, 0) {
                Some(other) => picked(here, other),
                None => Pressed::Alone,
            },
            (None, [biggest, ..]) => {
                self.first = Some(here);
                Pressed::Marked { next: *biggest }
            }
        }
    }

    pub fn forget(&mut self) {
        self.first = None;
    }

    /// What stands in a head's line while one is marked.
    pub fn question(&self, group: &GroupView, chosen: usize) -> Option<String> {
        let first = cluster_of(group, self.first.as_ref()?)?;
        Some(match first == chosen {
            true => {
                format!("better: answer {}. Choose the other one, b there says so; b here lets go", first + 1)
            }
            false => format!("answer {} is better than answer {}? b says so", first + 1, chosen + 1),
        })
    }

    /// What an answer's frame says of comparisons: `better than answer 2`, and the mark.
    pub fn words(&self, group: &GroupView, cluster: usize) -> Vec<String> {
        let mut words = Vec::new();
        let first = self.first.as_ref().and_then(|first| cluster_of(group, first));
        if first == Some(cluster) {
            words.push("(better than ... ?)".to_string());
        }
        for pick in &group.picks {
            let (better, worse) = (cluster_of(group, &pick.better), cluster_of(group, &pick.worse));
            let (Some(better), Some(worse)) = (better, worse) else { continue };
            let said = match (better == cluster, worse == cluster) {
                (true, _) => format!("(better than answer {})", worse + 1),
                (_, true) => format!("(less good than answer {})", better + 1),
                _ => continue,
            };
            if !words.contains(&said) {
                words.push(said);
            }
        }
        words
    }
}

/// The picks that are about this answer.
pub fn about(group: &GroupView, cluster: usize) -> impl Iterator<Item = &Picked> {
    let here = move |id: &str| cluster_of(group, id) == Some(cluster);
    group.picks.iter().filter(move |pick| here(&pick.better) || here(&pick.worse))
}
