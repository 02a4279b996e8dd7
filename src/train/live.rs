//! The planner that plans now, watched by the labels its answers get: an alarm once more of them are called bad than
//! was usual before it.

use crate::error::Error;
use crate::store::{LabelValue, Store};
use crate::train::watch::Cusum;

/// Labels on answers of the planner that plans now, beside those of whatever planned before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Live {
    pub watch: Cusum,
    /// Labels on answers of what plans now, and those of them that say bad.
    pub labels: usize,
    pub failures: usize,
    /// Labels on answers of other planners, which say what is usual.
    pub before: usize,
}

impl Live {
    /// A person's labels on answers of one model (its hash); None where those of other planners are too few to know
    /// what is usual, or nothing has been said of this one's. `adapter`: the hash of the one that plans; None: the
    /// bare model.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn of(store: &Store, model: &str, adapter: Option<&str>) -> Result<Option<Live>, Error> {
        let labels = store.answer_labels(model)?;
        let bad = |value: LabelValue| value == LabelValue::Bad;
        let (own, others): (Vec<_>, Vec<_>) =
            labels.into_iter().partition(|(by, _)| by.as_deref() == adapter);
        let missed = others.iter().filter(|(_, value)| bad(*value)).count();
        let Some(mut watch) = Cusum::new(missed, others.len()).filter(|_| !own.is_empty()) else {
            return Ok(None);
        };
        for (_, value) in &own {
            watch.add(bad(*value));
        }
        let failures = own.iter().filter(|(_, value)| bad(*value)).count();
        Ok(Some(Live { watch, labels: own.len(), failures, before: others.len() }))
    }

    /// The alarm in words, with what helps; None: all is as usual.
    pub fn words(&self) -> Option<String> {
        self.watch.alarmed().then(|| {
            format!(
                "{} of {} labelled answers of what plans now are bad, {:.0} % were before ({} labels): more than chance; \
                 roll back, or label on to be sure",
                self.failures,
                self.labels,
                self.watch.usual * 100.0,
                self.before
            )
        })
    }
}
