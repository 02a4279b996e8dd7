//! The ledger's own questions as a gate asks them: what a person has confirmed is rolled again, and its answers are
//! scored by what was said of them. Nothing is rolled here.
//!
//! A word is about (question, canonical answer). One good answer settles the others as wrong, as it does for rewards;
//! where several are good an answer that nobody has judged is open, and its pair is no evidence: missing is not zero.
//! A verdict is about these questions alone, however few they are; the gate says how many it asks.

use std::collections::HashSet;

use crate::error::Error;
use crate::store::{Adapter, LabelValue, Store, question_id};
use crate::tasks::question::{Key, Question};
use crate::train::reward::Known;
use crate::train::rollout;

/// Every question with an answer that was called good, but for those in `trained` (ids of the ledger): a gate on what
/// just trained measures memory. Questions of a session that had met text from outside are left out: nobody is asked
/// about the calls of a gate, so they would not be asked as they were.
///
/// # Errors
/// The store cannot be read.
pub fn questions(store: &Store, trained: &HashSet<String>) -> Result<Vec<Question>, Error> {
    let mut found = Vec::new();
    for past in store.past_questions(0)? {
        if trained.contains(&past.question_id) {
            continue;
        }
        let known = Known::of(store, &past.question_id)?;
        let of = |value: LabelValue| -> Vec<String> {
            let said = known.holding().filter(|entry| entry.value == value);
            said.map(|entry| entry.canonical_answer.clone()).collect()
        };
        let (good, bad) = (of(LabelValue::Good), of(LabelValue::Bad));
        let trajectory = store.trajectory(&past.trajectory)?;
        if good.is_empty() || trajectory.inherited.outside {
            continue;
        }
        found.push(Question {
            id: past.question_id,
            group: "labelled".to_string(),
            query: trajectory.query,
            conversation: trajectory.conversation,
            answer: good.first().cloned().unwrap_or_default(),
            key: Key::Ledger { good, bad },
            attachment: None,
        });
    }
    // One order whatever was rolled last, so that a gate that goes on draws what it would have.
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// The ledger's id of a file's question.
pub fn id_of(question: &Question) -> String {
    question_id(&question.query, &question.conversation)
}

/// Ids of the questions the step that made an adapter learned from: of its labelled groups and lone labels, or of the file its run
/// drew from. Unknown (made elsewhere, or by an earlier version): none.
///
/// # Errors
/// The store cannot be read.
pub fn trained(store: &Store, adapter: &Adapter) -> Result<HashSet<String>, Error> {
    let made = &adapter.manifest["made_from"];
    let labelled = made["labels"].as_array().into_iter().flatten();
    // What was left out of the step trained nothing.
    let labelled = labelled.filter(|report| report["without"].is_null());
    let lone = made["lone"].as_array().into_iter().flatten();
    let mut ids: HashSet<String> =
        labelled.chain(lone).filter_map(|one| one["question_id"].as_str().map(String::from)).collect();
    if let Some(run) = made["run"].as_str() {
        match store.run(run) {
            Ok(run) => {
                let asked = run.settings["asks"].as_array().into_iter().flatten();
                ids.extend(asked.filter_map(|id| id.as_str().map(String::from)));
            }
            Err(crate::store::StoreError::NoRun(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ids)
}

/// Leave out what trained, by the question itself: ids of files are their own.
pub fn untrained(questions: Vec<Question>, trained: &HashSet<String>) -> Vec<Question> {
    questions.into_iter().filter(|question| !trained.contains(&id_of(question))).collect()
}

/// A question of a file as rollouts ask it.
///
/// # Errors
/// It comes with a file of its own, which rollouts have no place for; says which row.
pub fn asked(question: &Question) -> Result<rollout::Question, Error> {
    match &question.attachment {
        None => Ok(rollout::Question::of_task(question)),
        Some(file) => Err(Error::Usage(format!(
            "row {} comes with the file {:?}; rollouts attach none, so it can be evaluated (`tillerman eval`) but \
             neither trains nor judges: leave the row out",
            file.row, file.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_answer_settles_the_others_and_several_leave_them_open() {
        let of = |good: &[&str], bad: &[&str]| {
            let forms = |texts: &[&str]| texts.iter().map(|text| crate::store::canonical(text)).collect();
            Key::Ledger { good: forms(good), bad: forms(bad) }
        };
        let one = of(&["42"], &[]);
        assert!(one.right("The answer is 42.") && !one.right("41") && !one.is_open("41"));
        let several = of(&["42", "7"], &["41"]);
        assert!(several.right("7") && !several.right("41") && !several.is_open("41"));
        assert!(several.is_open("8") && !several.right("8"), "neither right nor wrong");
        assert!(!Key::Number { value: "42".into() }.is_open("8"));
    }
}
