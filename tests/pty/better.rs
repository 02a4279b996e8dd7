//! What can be said of answers beside good and bad, by keys on the real program: the better of two, and until when.

use std::time::Duration;

use tillerman::config::Home;
use tillerman::store::Store;

use super::cores::{began, rolled, shown};

#[test]
fn the_better_of_two_is_picked_by_keys_and_teaches() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = began(folder.path());
    rolled(&mut terminal);
    // Letters that follow each other at once are a sentence.
    let press = |terminal: &mut super::Terminal, key: &str| {
        terminal.type_text(key);
        std::thread::sleep(Duration::from_millis(400));
    };
    press(&mut terminal, "b");
    terminal.wait_until("a question or the pick", |terminal| {
        shown(terminal).contains("b says so") || shown(terminal).contains("1 comparison")
    });
    if shown(&terminal).contains("b says so") {
        press(&mut terminal, "b");
    }
    terminal.wait_for("1 comparison");
    terminal.wait_for("nothing is said to be right");
    press(&mut terminal, "u");
    terminal.wait_until("no contrast", |terminal| {
        !shown(terminal).contains("1 comparison") && shown(terminal).contains("no contrast")
    });
    // A word that only holds for a time.
    press(&mut terminal, "\u{1b}[D");
    press(&mut terminal, "-");
    terminal.wait_for("(bad)");
    press(&mut terminal, "\u{1b}[D");
    press(&mut terminal, "e");
    terminal.wait_for("does this answer change over time?");
    terminal.type_text("30d\r");
    terminal.wait_for("(bad, until");
    press(&mut terminal, "x");
    terminal.wait_until("no label", |terminal| !shown(terminal).contains("(bad"));
    press(&mut terminal, "b");
    if !shown(&terminal).contains("1 comparison") {
        press(&mut terminal, "b");
    }
    terminal.wait_for("1 comparison");
    terminal.type_text("t");
    terminal.wait_for("t once more");
    terminal.type_text("\r");
    terminal.wait_for("asked of both");
    assert_eq!(terminal.leave(), 0);
    terminal.assert_restored();
    let store = Store::open(&Home::open(Some(folder.path())).unwrap()).unwrap();
    let group = store.groups(1).unwrap().remove(0);
    let picks = store.picks(&group.question_id).unwrap();
    assert!(picks.len() == 1 && picks[0].seconds.is_some_and(|seconds| seconds > 0.0), "{picks:?}");
    let labels = store.question_labels(&group.question_id).unwrap();
    assert!(labels.iter().any(|label| label.expiry_ms.is_some() && label.seconds.is_some()), "{labels:?}");
    assert!(labels.iter().all(|label| label.cleared_ms.is_some()), "all of them were taken back");
    assert!(store.group_trained(&group.id).unwrap().is_some());
}
