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
    /// A person's labels on answers, oldest first; None where those of other planners are too few to know what is
    /// usual, or nothing has been said of this one's. `adapter`: the hash of the one that plans; None: the bare model.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn of(store: &Store, adapter: Option<&str>) -> Result<Option<Live>, Error> {
        let labels = store.answer_labels()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Home;
    use crate::store::{Label, Scope, Source};

    fn say(store: &Store, adapter: Option<&str>, values: &[LabelValue]) {
        for value in values {
            let label = Label {
                id: 0,
                trajectory: None,
                question_id: "q".to_string(),
                canonical_answer: Some("42".to_string()),
                scope: Scope::Answer,
                turn: None,
                value: *value,
                text: None,
                correction: None,
                source: Source::Person,
                shown_set: Vec::new(),
                order: 0,
                propensity: 1.0,
                seconds: None,
                adapter: adapter.map(String::from),
                expiry_ms: None,
                audit: false,
                re_ask_of: None,
                created_ms: 1,
                cleared_ms: None,
            };
            store.add_label(&label).unwrap();
        }
    }

    #[test]
    fn an_adapter_whose_answers_are_called_bad_more_often_than_usual_sets_the_alarm_off() {
        use LabelValue::{Bad, Good};
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::open(Some(dir.path())).unwrap()).unwrap();
        let usual = [Good, Good, Good, Good, Bad];
        say(&store, None, &usual.repeat(5));
        say(&store, Some("new"), &[Bad; 9]);
        assert_eq!(Live::of(&store, Some("new")).unwrap(), None, "25 labels do not say what is usual");
        say(&store, None, &usual.repeat(4));
        let live = Live::of(&store, Some("new")).unwrap().unwrap();
        let words = live.words().unwrap();
        assert!(
            words.contains("9 of 9") && words.contains("(45 labels)") && words.contains("roll back"),
            "{words}"
        );
        // One that does as well as usual sets nothing off, however long it goes on.
        say(&store, Some("fine"), &usual.repeat(12));
        let fine = Live::of(&store, Some("fine")).unwrap().unwrap();
        assert!(fine.words().is_none() && fine.labels == 60, "{fine:?}");
        assert_eq!(Live::of(&store, Some("unheard of")).unwrap(), None);
    }
}
