//! The groups tab by keys: rollouts side by side, what a key says of an answer, and what takes it back.
//! As in `tests`: keys and events in, screens out.

use crossterm::event::{KeyCode, KeyModifiers};

use super::tests::{Deck, QUERY, each_size};
use super::tests_study::{asked_of_study, study, training_view};
use crate::deck::app::Effect;
use crate::deck::message::{DeckCommand, LabelValue};
use crate::deck::study::*;
use crate::deck::tab::TabName;

pub(super) fn group() -> GroupView {
    let rollout = |n: usize, tool: &str| RolloutLine {
        trajectory: format!("r-{n}"),
        plans: vec![format!("{tool}: find both figures"), "calculator: divide the two".to_string()],
        seconds: 1.5 + n as f64 / 10.0,
        plan_bad: n == 1,
    };
    let cluster = |answer: &str, rollouts, label| Cluster {
        answer: answer.to_string(),
        canonical: answer.to_lowercase(),
        rollouts,
        label,
        said_by: String::new(),
        until: String::new(),
    };
    GroupView {
        id: "g-1".to_string(),
        query: QUERY.to_string(),
        adapter: Some("a3f9c0de".to_string()),
        size: 8,
        ended: 8,
        failed: 1,
        clusters: vec![
            cluster("1.73", (0..4).map(|n| rollout(n, "search")).collect(), Some(LabelValue::Good)),
            cluster("0.58", (4..6).map(|n| rollout(n, "search")).collect(), None),
            cluster("I do not know.", vec![rollout(6, "base")], None),
        ],
        picks: Vec::new(),
        picks_teach: false,
        verdict: "no contrast: nothing is learned, because all 4 labelled rollouts are right".to_string(),
        trained: false,
    }
}

#[test]
fn group_of_rollouts() {
    each_size("groups", |size| {
        let mut deck = Deck::new(size);
        deck.press(KeyCode::F(3));
        study(&mut deck, StudyEvent::Groups(vec![group()]));
        deck
    });
}

#[test]
fn one_key_labels_a_cluster_and_moves_on() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(3));
    study(&mut deck, StudyEvent::Groups(vec![group()]));
    let label = |cluster: usize, value, correction| {
        let answer = group().clusters[cluster].canonical.clone();
        Some(StudyCommand::LabelCluster { group: "g-1".to_string(), answer, value, correction, seconds: 0.0 })
    };
    deck.press(KeyCode::Char('t'));
    assert!(deck.text().contains("no contrast"), "one outcome alone teaches nothing");
    deck.press(KeyCode::Right).press(KeyCode::Char('-'));
    assert_eq!(unhurried(asked_of_study(&mut deck)), label(1, LabelValue::Bad, None));
    deck.press(KeyCode::Char('c')).type_text("1.7347").press(KeyCode::Enter);
    assert_eq!(unhurried(asked_of_study(&mut deck)), label(2, LabelValue::Bad, Some("1.7347".to_string())));
    deck.press(KeyCode::Char('u'));
    assert_eq!(unhurried(asked_of_study(&mut deck)), label(2, LabelValue::Clear, None));
    deck.press(KeyCode::Char('p'));
    let plan = asked_of_study(&mut deck);
    assert!(matches!(plan, Some(StudyCommand::LabelPlan { value: LabelValue::Bad, .. })), "{plan:?}");
    let mut labelled = group();
    labelled.clusters[1].label = Some(LabelValue::Bad);
    study(&mut deck, StudyEvent::Group(labelled));
    deck.effects.clear();
    deck.press(KeyCode::Char('t'));
    assert!(
        deck.effects.is_empty()
            && deck.text().contains("t once more, or Enter: one step on what is labelled")
    );
    deck.press(KeyCode::Char('t'));
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::Train { groups: vec!["g-1".to_string()] }));
}

#[test]
fn a_key_hits_the_answer_that_was_seen_and_undo_brings_back_what_was_said() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(3));
    let mut shown = group();
    // It follows from the first being right; nobody said it of this one.
    (shown.clusters[1].label, shown.clusters[1].said_by) =
        (Some(LabelValue::Bad), "another is right".to_string());
    study(&mut deck, StudyEvent::Groups(vec![shown.clone()]));
    deck.press(KeyCode::Right);
    // Rollouts end, and what stood second now stands first.
    shown.clusters.swap(0, 1);
    study(&mut deck, StudyEvent::Group(shown));
    let label = |value| {
        let (group, answer, correction) = ("g-1".to_string(), "0.58".to_string(), None);
        Some(StudyCommand::LabelCluster { group, answer, value, correction, seconds: 0.0 })
    };
    deck.press(KeyCode::Char('+'));
    assert_eq!(unhurried(asked_of_study(&mut deck)), label(LabelValue::Good));
    deck.press(KeyCode::Char('u'));
    assert_eq!(
        unhurried(asked_of_study(&mut deck)),
        label(LabelValue::Clear),
        "no word of its own was there before"
    );
}

/// As the groups tab asks, but for how long the person took.
fn unhurried(command: Option<StudyCommand>) -> Option<StudyCommand> {
    command.map(|command| match command {
        StudyCommand::LabelCluster { group, answer, value, correction, .. } => {
            StudyCommand::LabelCluster { group, answer, value, correction, seconds: 0.0 }
        }
        StudyCommand::Pick { group, picked, .. } => StudyCommand::Pick { group, picked, seconds: 0.0 },
        other => other,
    })
}

#[test]
fn the_better_of_two_is_said_with_one_key_on_each() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(3));
    let mut open = group();
    open.clusters[0].label = None;
    open.verdict = "no contrast: nothing is learned, because none of its answers is labelled".to_string();
    study(&mut deck, StudyEvent::Groups(vec![open.clone()]));
    let picked = |better: &str, worse: &str, better_left| Picked {
        better: better.to_string(),
        worse: worse.to_string(),
        better_left,
    };
    let pick = |picked| Some(StudyCommand::Pick { group: "g-1".to_string(), picked, seconds: 0.0 });
    // The third answer is better than the one offered, the biggest; what is compared stands above.
    deck.press(KeyCode::Right).press(KeyCode::Right).press(KeyCode::Char('b'));
    assert!(deck.text().contains("answer 3 is better than answer 1? b says so"), "{}", deck.text());
    deck.press(KeyCode::Right);
    assert!(deck.text().contains("answer 3 is better than answer 2? b says so"), "{}", deck.text());
    deck.press(KeyCode::Char('b'));
    assert_eq!(unhurried(asked_of_study(&mut deck)), pick(picked("r-6", "r-4", false)));
    deck.press(KeyCode::Char('u'));
    let unpick = StudyCommand::Unpick { group: "g-1".to_string(), picked: picked("r-6", "r-4", false) };
    assert_eq!(asked_of_study(&mut deck), Some(unpick));
    // The key again on the same answer lets go.
    deck.press(KeyCode::Char('b')).press(KeyCode::Right);
    while !deck.text().contains("Choose the other one") {
        deck.press(KeyCode::Left);
    }
    deck.effects.clear();
    deck.press(KeyCode::Char('b'));
    assert!(deck.effects.is_empty() && deck.text().contains("nothing is compared"), "{}", deck.text());
    // Of two answers one key is enough.
    let mut two = open.clone();
    two.clusters.truncate(2);
    study(&mut deck, StudyEvent::Group(two.clone()));
    deck.press(KeyCode::Left).press(KeyCode::Left).press(KeyCode::Char('b'));
    assert_eq!(unhurried(asked_of_study(&mut deck)), pick(picked("r-0", "r-4", true)));
    // Kept, it shows and it is contrast enough for a step.
    two.picks = vec![picked("r-0", "r-4", true)];
    two.picks_teach = true;
    two.verdict = "a step learns from 1 comparison of two answers; nothing is said to be right".to_string();
    study(&mut deck, StudyEvent::Group(two));
    let text = deck.text();
    for words in
        ["better than answer 2", "less good than answer 1", "1 comparison", "nothing is said to be right"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    deck.effects.clear();
    deck.press(KeyCode::Char('t')).press(KeyCode::Enter);
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::Train { groups: vec!["g-1".to_string()] }));
}

#[test]
fn one_key_takes_back_what_one_key_cleared() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(3));
    let mut open = group();
    open.clusters[0].label = None;
    let picked = |worse: &str| Picked { better: "r-0".into(), worse: worse.into(), better_left: true };
    open.picks = vec![picked("r-4"), picked("r-6")];
    study(&mut deck, StudyEvent::Groups(vec![open]));
    let mut asked = |key| {
        deck.effects.clear();
        deck.press(KeyCode::Char(key));
        let mut commands: Vec<_> = std::iter::from_fn(|| unhurried(asked_of_study(&mut deck))).collect();
        commands.reverse();
        commands
    };
    let group = || "g-1".to_string();
    let unpick = |worse| StudyCommand::Unpick { group: group(), picked: picked(worse) };
    assert_eq!(asked('x'), [unpick("r-4"), unpick("r-6")]);
    let pick = |worse| StudyCommand::Pick { group: group(), picked: picked(worse), seconds: 0.0 };
    assert_eq!(asked('u'), [pick("r-4"), pick("r-6")]);
    assert_eq!(asked('u'), []);
}

#[test]
fn a_word_carries_how_long_it_took_and_how_long_it_holds() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(3));
    study(&mut deck, StudyEvent::Groups(vec![group()]));
    deck.now_ms += 4_000;
    deck.press(KeyCode::Right).press(KeyCode::Char('-'));
    let Some(StudyCommand::LabelCluster { seconds, .. }) = asked_of_study(&mut deck) else {
        panic!("no label")
    };
    assert!(seconds >= 4.0, "{seconds}");
    let mut labelled = group();
    labelled.clusters[1].label = Some(LabelValue::Bad);
    study(&mut deck, StudyEvent::Group(labelled.clone()));
    deck.press(KeyCode::Char('e'));
    assert!(deck.text().contains("label this answer first"), "the next one is not judged: {}", deck.text());
    deck.press(KeyCode::Left).press(KeyCode::Char('e'));
    deck.type_text("30d").press(KeyCode::Enter);
    let expires = |after: &str| {
        let (group, answer, after) = ("g-1".to_string(), "0.58".to_string(), after.to_string());
        Some(StudyCommand::Expires { group, answer, after })
    };
    assert_eq!(asked_of_study(&mut deck), expires("30d"));
    labelled.clusters[1].until = "2027-01-31".to_string();
    study(&mut deck, StudyEvent::Group(labelled));
    assert!(deck.text().contains("(bad, until 2027-01-31)"), "{}", deck.text());
    deck.press(KeyCode::Char('u'));
    assert_eq!(asked_of_study(&mut deck), expires("never"));
}

#[test]
fn rolled_again_a_question_keeps_what_it_was_asked_after() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(3));
    study(&mut deck, StudyEvent::Groups(vec![group()]));
    deck.press(KeyCode::Char('r')).press(KeyCode::Char('r'));
    let (query, after) = (QUERY.to_string(), After::Group("g-1".to_string()));
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::RollGroup { query, size: 8, after }));
}

#[test]
fn what_is_typed_is_rolled_out_in_the_conversation_and_what_shows_where_it_was_asked() {
    let rolled = |deck: &mut Deck| {
        let found = deck.effects.iter().rev().find_map(|effect| match effect {
            Effect::Command(DeckCommand::Study(StudyCommand::RollGroup { query, after, .. })) => {
                Some((query.clone(), after.clone()))
            }
            _ => None,
        });
        found.expect("nothing was rolled out")
    };
    let mut deck = Deck::answered((120, 40), QUERY);
    deck.effects.clear();
    deck.chord(KeyModifiers::ALT, 'g');
    let (query, after) = rolled(&mut deck);
    assert!(query == QUERY && matches!(&after, After::Trajectory(id) if !id.is_empty()), "{after:?}");
    deck.press(KeyCode::F(1)).type_text("and half of that?").chord(KeyModifiers::ALT, 'g');
    let (query, after) = rolled(&mut deck);
    assert!(query == "and half of that?" && matches!(after, After::Session(_)), "{query} {after:?}");
}

#[test]
fn from_an_adapter_one_comes_to_a_group_it_learned_from() {
    let mut deck = Deck::new((120, 40));
    deck.press(KeyCode::F(4));
    let mut view = training_view();
    let made = view.adapters[0].id.clone();
    view.steps[2].adapter = Some(made);
    view.steps[2].groups = vec!["g-2".to_string()];
    study(&mut deck, StudyEvent::Training(view));
    let other = GroupView { id: "g-2".to_string(), query: "How high is Mont Blanc?".to_string(), ..group() };
    deck.press(KeyCode::Char('g'));
    assert_eq!(asked_of_study(&mut deck), Some(StudyCommand::ListGroups));
    study(&mut deck, StudyEvent::Groups(vec![group(), other]));
    assert!(deck.app.tabs.shown == TabName::Groups && deck.text().contains("How high is Mont Blanc?"));
    // An adapter that no step on record made has none.
    deck.press(KeyCode::F(4)).press(KeyCode::Down).press(KeyCode::Char('g'));
    assert!(deck.app.tabs.shown == TabName::Training && deck.text().contains("F3 shows every group"));
}

#[test]
fn whoever_comes_to_a_new_group_finds_its_biggest_answer_chosen() {
    let mut deck = Deck::new((120, 40));
    // The answer that ended first is the smallest in the end.
    let whole = group();
    let first = GroupView { clusters: vec![whole.clusters[2].clone()], ended: 1, ..whole.clone() };
    study(&mut deck, StudyEvent::Group(first));
    let open = |clusters: &[Cluster]| clusters.iter().map(|c| Cluster { label: None, ..c.clone() }).collect();
    study(&mut deck, StudyEvent::Group(GroupView { clusters: open(&whole.clusters), ..whole.clone() }));
    deck.press(KeyCode::F(3));
    deck.effects.clear();
    deck.press(KeyCode::Char('+'));
    let labelled = asked_of_study(&mut deck);
    let Some(StudyCommand::LabelCluster { answer, value: LabelValue::Good, .. }) = labelled else {
        panic!("{labelled:?}")
    };
    assert_eq!(answer, whole.clusters[0].canonical);
}
