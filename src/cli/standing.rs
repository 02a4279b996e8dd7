//! How an adapter stands, by what the gate has on record of it: better, worse, cannot tell, or never judged.

use crate::error::Error;
use crate::store::{Adapter, Origin, Store};
use crate::train::gate::{Decision, Report, Verdict};

use super::train::drift_of;

/// One adapter's standing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// "better", "cannot tell", "worse", "over budget", "not judged"; of what was not trained here, whence it came.
    pub word: String,
    /// Whom it was found worse than, with the figures.
    pub worse: Option<String>,
}

impl Standing {
    /// # Errors
    /// The store cannot be read.
    pub fn of(store: &Store, adapter: &Adapter) -> Result<Standing, Error> {
        let looks = store.gate_looks(&adapter.id)?;
        let decision = looks.iter().rev().find_map(|look| look.decision.clone());
        let mut reports =
            looks.into_iter().filter_map(|look| serde_json::from_value::<Report>(look.report).ok());
        let worse = reports.rfind(|report| report.verdict == Verdict::Worse);
        if let Some(report) = worse {
            let worse = format!("worse than {}: {}", report.opponent.words(), report.figures_text());
            return Ok(Standing { word: "worse".to_string(), worse: Some(worse) });
        }
        let is = |wanted: Decision| decision.as_deref() == Some(wanted.name());
        let spent = drift_of(adapter).is_some_and(|drift| drift.mean >= drift.budget);
        let word = match () {
            () if is(Decision::Activate) => "better",
            () if decision.is_some() => "cannot tell",
            () if spent => "over budget",
            () if adapter.origin == Origin::Trained => "not judged",
            () => adapter.origin.name(),
        };
        Ok(Standing { word: word.to_string(), worse: None })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Home;
    use crate::train::gate::{Gate, Opponent};

    #[test]
    fn what_the_gate_refused_stands_as_worse_with_its_figures() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::open(Some(dir.path())).unwrap()).unwrap();
        let adapter = Adapter {
            id: "c".into(),
            hash: "c".into(),
            model_hash: "m".into(),
            parent: None,
            origin: Origin::Trained,
            rank: 8,
            alpha: 32.0,
            manifest: json!({}),
            created_ms: 0,
        };
        let word = || Standing::of(&store, &adapter).unwrap();
        assert_eq!(word().word, "not judged");
        let look = |opponent, against: Option<&str>, pairs: &[(bool, bool)], decision: &str| {
            let gate = Gate::kept(opponent, against.map(String::from), pairs, 0);
            store.add_gate_look("c", against, &[], &json!(gate.report())).unwrap();
            store.decide_gate("c", against, decision).unwrap();
        };
        look(Opponent::Champion, Some("b"), &[(true, false); 3], "hold");
        assert_eq!((word().word.as_str(), word().worse), ("cannot tell", None));
        look(Opponent::Champion, Some("b"), &[(true, false); 9], "activate");
        assert_eq!(word().word, "better");
        look(Opponent::Base, None, &[(false, true); 6], "refuse");
        let told = word().worse.unwrap();
        assert_eq!(word().word, "worse");
        assert!(told.contains("worse than base without an adapter: 6 pairs: 0 won, 6 lost"), "{told}");
        let far = json!({"step": {"drift": {"mean": 0.3, "low": 0.2, "high": 0.4, "prompts": 9, "tokens": 99, "budget": 0.2}}});
        let adapter = Adapter { id: "d".into(), manifest: far, ..adapter };
        assert_eq!(Standing::of(&store, &adapter).unwrap().word, "over budget");
    }
}
