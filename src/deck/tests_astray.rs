//! Letters typed where no input is, rollouts looked into from their group, screens without colours. As in
//! `tests`: keys and events in, screens out.

use crossterm::event::{KeyCode, KeyModifiers};
use proptest::prelude::*;

use super::tests::{Deck, QUERY, each_size, snapshot, styled};
use super::tests_groups::group;
use super::tests_inside::{looked_into, recording, replayed, send, sessions};
use super::tests_study::{study, training_view};
use crate::deck::app::{Effect, Input};
use crate::deck::library::{LibraryCommand, LibraryEvent};
use crate::deck::message::{DeckCommand, LabelValue};
use crate::deck::study::*;
use crate::deck::tab::TabName;
use crate::deck::theme::Theme;

const SIZE: (u16, u16) = (120, 40);
/// A deck of a size, somewhere.
type Scene = fn((u16, u16)) -> Deck;

fn groups(size: (u16, u16)) -> Deck {
    let mut deck = Deck::new(size);
    deck.press(KeyCode::F(3));
    let mut labelled = group();
    labelled.clusters[1].label = Some(LabelValue::Bad);
    labelled.verdict = "a step learns from 4 right and 2 wrong rollouts of this question".to_string();
    study(&mut deck, StudyEvent::Groups(vec![labelled, GroupView { id: "g-0".to_string(), ..group() }]));
    deck
}

fn training(size: (u16, u16)) -> Deck {
    let mut deck = Deck::new(size);
    deck.press(KeyCode::F(4));
    study(&mut deck, StudyEvent::Training(training_view()));
    deck
}

fn models(size: (u16, u16)) -> Deck {
    let mut deck = Deck::new(size);
    deck.press(KeyCode::F(5));
    let line = ModelLine { name: "m".to_string(), path: "/m.gguf".to_string(), ..ModelLine::default() };
    study(&mut deck, StudyEvent::Models(vec![line]));
    deck
}

fn pane(size: (u16, u16)) -> Deck {
    let mut deck = Deck::answered(size, QUERY);
    deck.press(KeyCode::Tab);
    deck
}

/// Every place in which letters are keys.
const PLACES: [(&str, Scene); 8] = [
    ("groups", groups),
    ("training", training),
    ("models", models),
    ("sessions", sessions),
    ("replay", replayed),
    ("pane", pane),
    ("inside", |size| looked_into(size, 'm')),
    ("inside a replay", |size| {
        let mut deck = replayed(size);
        deck.press(KeyCode::Char('t'));
        deck
    }),
];

/// The place, some time after it was gone to.
fn at(place: Scene) -> Deck {
    let mut deck = place(SIZE);
    deck.now_ms += 5_000;
    deck.input(Input::Tick);
    deck
}

/// What was asked for that is more than reading.
fn changes(deck: &Deck) -> Vec<&Effect> {
    use LibraryCommand::{List, Open};
    use StudyCommand::{FindModels, ListGroups, ShowTraining, WatchTraining};
    let reads = |effect: &&Effect| {
        matches!(
            effect,
            Effect::Command(DeckCommand::Library(List | Open { .. }))
                | Effect::Command(DeckCommand::Study(FindModels | ListGroups | ShowTraining | WatchTraining))
                | Effect::ListFiles(_)
        )
    };
    deck.effects.iter().filter(|effect| !reads(effect)).collect()
}

/// What takes time and cannot be taken back by a key.
fn costs(deck: &Deck) -> bool {
    changes(deck).iter().any(|effect| {
        matches!(
            effect,
            Effect::Command(DeckCommand::Study(StudyCommand::Train { .. } | StudyCommand::RollGroup { .. }))
                | Effect::Command(DeckCommand::Library(LibraryCommand::Fork { .. }))
                | Effect::Command(DeckCommand::Ask { .. })
        )
    })
}

/// Type with `gap` ms between two letters, as hands do.
fn typed(deck: &mut Deck, text: &str, gap: u64) {
    for c in text.chars() {
        deck.type_text(c.encode_utf8(&mut [0; 4]));
        deck.now_ms += gap;
        deck.input(Input::Tick);
    }
}

#[test]
fn a_letter_that_nothing_takes_says_so_and_where_words_are_taken() {
    for (name, place) in PLACES {
        let mut deck = at(place);
        deck.effects.clear();
        deck.press(KeyCode::Char('y'));
        let text = deck.text();
        match name {
            "pane" => assert_eq!(deck.value(), "y", "there it is typed"),
            "inside" => {
                assert!(text.contains("y does nothing here: ? shows the keys, Esc leads back"), "{text}")
            }
            _ => {
                assert!(text.contains("y does nothing here: ? shows the keys, F1 leads to"), "{name}\n{text}")
            }
        }
        deck.now_ms += 1_000;
        deck.press(KeyCode::Char('!'));
        assert!(name == "pane" || deck.text().contains("! does nothing here"), "{name}");
        assert!(changes(&deck).is_empty(), "{name}: {:?}", deck.effects);
    }
    each_size("astray_training", |size| {
        let mut deck = training(size);
        deck.press(KeyCode::Char('y'));
        deck
    });
}

#[test]
fn a_sentence_typed_in_the_wrong_place_does_nothing_and_is_not_lost() {
    let sentences = [
        "train the planner on this",
        "the population of Peru",
        "undo that, please",
        "please use both",
        "back to the start",
        "roll three dice",
        "find long rivers",
        "calculate 12*3",
        "new idea",
        "xylophones",
        "just tell me",
        "I want + and - and [2]",
        "What's up?",
        "use 0 of them",
        "read notes.md",
        "both, thanks",
        "mixed up",
        "shorter",
        "zebras",
        "write it down",
        "okay",
        "8+8-4",
        "we're",
    ];
    for (name, place) in PLACES {
        for text in sentences {
            for gap in [0, 90, 180, 240] {
                let mut deck = at(place);
                deck.effects.clear();
                typed(&mut deck, text, gap);
                assert_eq!(deck.value(), text, "{name}, {gap} ms");
                assert_eq!(deck.app.tabs.shown, TabName::Chat, "{name}: {text}");
                assert!(changes(&deck).is_empty(), "{name}, {gap} ms, {text}: {:?}", deck.effects);
            }
        }
    }
}

#[test]
fn a_sentence_typed_in_the_wrong_place_says_where_it_went() {
    each_size("sentence_groups", |size| {
        let mut deck = groups(size);
        typed(&mut deck, "try the", 150);
        assert!(deck.text().contains("> try the"), "in sight at {size:?}\n{}", deck.text());
        deck
    });
    let mut deck = training(SIZE);
    typed(&mut deck, "what", 150);
    assert!(deck.text().contains("stands in the chat's input; F4 leads back to training"), "{}", deck.text());
    deck.press(KeyCode::F(4));
    assert!(deck.app.tabs.shown == TabName::Training && !deck.text().contains("leads back"));
    // What was there before stays apart.
    let mut deck = Deck::new(SIZE);
    deck.type_text("a draft").press(KeyCode::F(4));
    typed(&mut deck, "why", 100);
    assert_eq!(deck.value(), "a draft\nwhy");
    // What a slow first letter did is told, with what it was.
    let mut deck = training(SIZE);
    typed(&mut deck, "ban", 300);
    assert_eq!(deck.value(), "ban");
    assert!(deck.text().contains("b was a key there: back to the adapter before"), "{}", deck.text());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However slowly: no words of letters start what takes time.
    #[test]
    fn no_sentence_starts_what_costs_time(text in "[a-z]{2,6}( [a-z]{1,7}){0,4}", place in 0usize..8,
        gaps in prop::collection::vec(0u64..2_000, 40)) {
        let (name, place) = PLACES[place];
        let mut deck = at(place);
        deck.effects.clear();
        // A key pressed twice is meant: words do not begin with a letter and the same again.
        let begins_twice = text.as_bytes().windows(2).any(|pair| pair[0] == pair[1]);
        for (c, gap) in text.chars().zip(&gaps) {
            typed(&mut deck, c.encode_utf8(&mut [0; 4]), *gap);
        }
        prop_assert!(begins_twice || !costs(&deck), "{}: {} {:?}", name, text, deck.effects);
    }

    /// Letters a hand's time apart: nothing changes, and every one of them is in the input. Words without q, which
    /// leaves a list, and without j and k: moving right after another key is what fingers do.
    #[test]
    fn words_typed_in_any_place_are_in_the_input(text in "[a-ilm-pr-z]{3,9}( [a-ilm-pr-z]{1,7}){0,3}",
        place in 0usize..8, gaps in prop::collection::vec(0u64..250, 40)) {
        let (name, place) = PLACES[place];
        let mut deck = at(place);
        deck.effects.clear();
        let begins_twice = text.as_bytes()[0] == text.as_bytes()[1];
        for (c, gap) in text.chars().zip(&gaps) {
            typed(&mut deck, c.encode_utf8(&mut [0; 4]), *gap);
        }
        prop_assert!(begins_twice || changes(&deck).is_empty(), "{}: {} {:?}", name, text, deck.effects);
        prop_assert!(begins_twice || deck.value() == text, "{}: {} {:?}", name, text, deck.value());
    }
}

#[test]
fn a_key_alone_acts_after_a_moment_and_before_the_next_key() {
    let labelled = |deck: &Deck| {
        changes(deck)
            .iter()
            .filter(|effect| {
                matches!(effect, Effect::Command(DeckCommand::Study(StudyCommand::LabelPlan { .. })))
            })
            .count()
    };
    let mut deck = groups(SIZE);
    deck.type_text("p");
    assert_eq!((labelled(&deck), deck.app.wait().map(|wait| wait.as_millis())), (0, Some(250)));
    deck.now_ms += 250;
    deck.input(Input::Tick);
    assert_eq!((labelled(&deck), deck.app.wait()), (1, None));
    // Whoever presses another key does not wait.
    for code in [KeyCode::Down, KeyCode::Right, KeyCode::Char('j'), KeyCode::Char('['), KeyCode::F(1)] {
        let mut deck = groups(SIZE);
        deck.type_text("p").input(crate::deck::app::press(code));
        assert_eq!(labelled(&deck), 1, "{code:?}");
    }
    let mut deck = groups(SIZE);
    deck.type_text("pp");
    assert_eq!(labelled(&deck), 1, "pressed twice, it is meant twice");
    deck.chord(KeyModifiers::ALT, '5');
    assert_eq!(labelled(&deck), 2);
}

#[test]
fn what_costs_time_is_asked_first() {
    let trained = |deck: &Deck| {
        changes(deck)
            .iter()
            .any(|effect| matches!(effect, Effect::Command(DeckCommand::Study(StudyCommand::Train { .. }))))
    };
    each_size("step_asked", |size| {
        let mut deck = training(size);
        deck.press(KeyCode::Char('t'));
        deck
    });
    for (answer, expected) in
        [(KeyCode::Char('t'), true), (KeyCode::Enter, true), (KeyCode::Esc, false), (KeyCode::Down, false)]
    {
        let mut deck = training(SIZE);
        deck.press(KeyCode::Char('t'));
        assert!(
            deck.text().contains("t once more, or Enter: one step on every labelled group not trained yet")
        );
        deck.now_ms += 60_000;
        deck.press(answer);
        assert_eq!((trained(&deck), deck.app.tabs.shown), (expected, TabName::Training), "{answer:?}");
        deck.press(KeyCode::F(3)).press(KeyCode::F(4)).press(KeyCode::Enter);
        assert_eq!(trained(&deck), expected, "a question is over with the next key");
    }
    // Something else was said over it: Enter is about what can be seen.
    let mut deck = training(SIZE);
    deck.press(KeyCode::Char('t'));
    study(&mut deck, StudyEvent::Moved { before: None, now: None });
    deck.press(KeyCode::Enter);
    assert!(!trained(&deck));
}

#[test]
fn a_paste_where_no_input_is_goes_to_the_input() {
    for (name, place) in PLACES {
        let mut deck = at(place);
        deck.effects.clear();
        deck.input(Input::Paste("how many rows has it?".to_string()));
        assert_eq!(
            (deck.value().as_str(), deck.app.tabs.shown),
            ("how many rows has it?", TabName::Chat),
            "{name}"
        );
        assert!(deck.text().contains("> how many rows has it?"), "{name}\n{}", deck.text());
        assert!(name == "pane" || deck.text().contains("what you type stands in"), "{name}");
    }
}

/// The chosen rollout of the second group, opened.
fn rollout_opened(size: (u16, u16)) -> Deck {
    let mut deck = groups(size);
    deck.press(KeyCode::Char(']')).press(KeyCode::Right).press(KeyCode::Down).effects.clear();
    deck.press(KeyCode::Enter);
    let open = LibraryCommand::Open { trajectory: "r-5".to_string() };
    assert_eq!(deck.effects.pop(), Some(Effect::Command(DeckCommand::Library(open))));
    assert_eq!(deck.app.tabs.shown, TabName::Groups, "until it is read");
    send(&mut deck, LibraryEvent::Opened(Box::new(recording("r-5", QUERY))));
    deck
}

#[test]
fn a_rollout_is_looked_into_from_its_group_and_esc_leads_back() {
    each_size("rollout_opened", rollout_opened);
    let mut deck = rollout_opened(SIZE);
    assert!(deck.app.tabs.shown == TabName::Replay && deck.text().contains("q groups"), "{}", deck.text());
    for (key, shows) in
        [('z', "sub-goal"), ('m', "prompt, token for token"), ('t', "chance p >= 0.9"), ('s', "tok/s")]
    {
        deck.press(KeyCode::Char(key));
        assert!(deck.text().contains(shows), "{key}\n{}", deck.text());
        deck.press(KeyCode::Esc);
    }
    deck.press(KeyCode::Char('['));
    deck.now_ms += 60_000;
    deck.input(Input::Tick);
    assert!(deck.text().contains("paused"), "it is looked at, turn by turn\n{}", deck.text());
    deck.effects.clear();
    deck.press(KeyCode::Esc);
    assert_eq!(deck.effects, [Effect::Command(DeckCommand::Study(StudyCommand::ListGroups))]);
    // A group was rolled meanwhile: the one that was left is still the one that shows.
    let newer = GroupView { id: "g-2".to_string(), ..group() };
    study(
        &mut deck,
        StudyEvent::Groups(vec![newer, group(), GroupView { id: "g-0".to_string(), ..group() }]),
    );
    assert!(deck.text().contains("group 3 of 3"), "{}", deck.text());
    deck.effects.clear();
    deck.press(KeyCode::Enter);
    let open = LibraryCommand::Open { trajectory: "r-5".to_string() };
    assert_eq!(deck.effects, [Effect::Command(DeckCommand::Library(open))], "the same rollout is chosen");
    // From the list it leads to the list.
    let mut deck = replayed(SIZE);
    deck.press(KeyCode::Esc);
    assert!(deck.app.tabs.shown == TabName::Replay && deck.text().contains("Peru and Chile"));
    let mut deck = Deck::new(SIZE);
    deck.press(KeyCode::F(3));
    study(&mut deck, StudyEvent::Groups(vec![GroupView { clusters: Vec::new(), ..group() }]));
    deck.press(KeyCode::Enter);
    assert!(deck.text().contains("no rollout has ended yet"));
    let mut deck = Deck::new(SIZE);
    deck.press(KeyCode::F(3)).press(KeyCode::Enter);
    assert!(deck.text().contains("no group yet"));
}

#[test]
fn the_chosen_rollout_is_in_sight_however_many_there_are() {
    let way = |n: usize| RolloutLine {
        trajectory: format!("r-{n}"),
        plans: (0..3).map(|turn| format!("search: way {n}, turn {turn}")).collect(),
        seconds: 10.0 + n as f64,
        plan_bad: false,
    };
    for size in [(40, 12), (80, 24)] {
        let mut deck = Deck::new(size);
        deck.press(KeyCode::F(3));
        let mut many = group();
        many.clusters[0].rollouts = (0..8).map(way).collect();
        study(&mut deck, StudyEvent::Groups(vec![many]));
        assert!(deck.text().contains("1.73") && deck.text().contains("(good)"), "the answer comes first");
        for n in 1..8 {
            deck.press(KeyCode::Down);
            assert!(deck.text().contains(&format!("{n}.0\u{a0}s")), "{n} at {size:?}\n{}", deck.text());
        }
    }
}

#[test]
fn keys_that_share_a_word_stand_or_fall_together() {
    for width in 24..130 {
        for (name, place) in PLACES {
            let mut deck = place((width, 20));
            let text = deck.text();
            let hints = text.trim_end().lines().last().unwrap();
            let words: Vec<&str> = hints.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect();
            for part in words {
                let only = |keys: &[&str], word: &str| {
                    part.ends_with(word) && !keys.iter().all(|key| part.contains(key))
                };
                let torn = only(&["Left", "Right"], " step")
                    || only(&["Up", "Down"], " choose")
                    || only(&["[", "]"], " turn")
                    || only(&["<", ">"], " speed");
                let bare = ["[", "]", "<", ">", "Left", "Right", ",", "."]
                    .iter()
                    .any(|key| part.split(' ').all(|p| p == *key));
                assert!(!torn && !bare, "{name} at {width}: {hints:?}");
            }
        }
    }
}

#[test]
fn views_inside_are_named_on_narrow_screens_too() {
    for (width, names) in [
        (200, ["1 plan", "2 tool calls", "3 verdicts", "4 memory", "5 model calls", "6 tokens", "7 time"]),
        (80, ["1 plan", "2 tool calls", "3 verdicts", "4 memory", "5 model calls", "6 tokens", "7 time"]),
        (64, ["1 plan", "2 tools", "3 verdicts", "4 memory", "5 calls", "6 tokens", "7 time"]),
    ] {
        let text = looked_into((width, 24), 's').text();
        let title = text.lines().nth(1).unwrap();
        assert!(names.iter().all(|name| title.contains(name)), "{width}: {title}");
    }
    let text = looked_into((40, 12), 'm').text();
    assert!(text.lines().nth(1).unwrap().contains("5 model calls"), "{text}");
}

/// Weight and marks alone tell everything apart.
#[test]
fn screens_without_colours() {
    let differs = |size| {
        let mut deck = training(size);
        let side = |adapter: &str| Side {
            adapter: adapter.to_string(),
            tokens: [0.99f32, 0.6, 0.3, 0.05].iter().map(|p| ("word ".to_string(), p.ln())).collect(),
            answer: "1.73".to_string(),
        };
        let (before, after) = (side("none"), side("c0ffee12"));
        let difference = Difference { query: QUERY.to_string(), before, after };
        study(&mut deck, StudyEvent::Difference(Box::new(difference)));
        deck
    };
    let compared = |size| {
        let mut deck = sessions(size);
        deck.press(KeyCode::Down).press(KeyCode::Char('m')).press(KeyCode::Down).press(KeyCode::Char('='));
        send(&mut deck, LibraryEvent::Opened(Box::new(recording("t-1", QUERY))));
        send(&mut deck, LibraryEvent::Opened(Box::new(recording("t-2", "fail please"))));
        deck
    };
    let found = |size| {
        let mut deck = Deck::answered(size, QUERY);
        deck.ask("/find million");
        deck
    };
    let scenes: [(&str, Scene); 11] = [
        ("groups", groups),
        ("training", training),
        ("models", models),
        ("sessions", sessions),
        ("replay", rollout_opened),
        ("calls", |size| looked_into(size, 'm')),
        ("tokens", |size| looked_into(size, 't')),
        ("time", |size| looked_into(size, 's')),
        ("difference", differs),
        ("compare", compared),
        ("find", found),
    ];
    for (name, scene) in scenes {
        let mut deck = scene((80, 24));
        deck.app.look.theme = Theme::named("mono").unwrap();
        let content = styled(deck.buffer());
        let coloured = content.split('\u{ab}').skip(1).find(|style| !style.starts_with("Reset Reset "));
        assert_eq!(coloured, None, "{name}");
        snapshot(&format!("mono_{name}_80x24"), &content);
    }
}
