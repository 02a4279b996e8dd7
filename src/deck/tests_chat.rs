//! The chat's input and what lies over it: slash commands, completion, palette, search, copies, themes.

use crossterm::event::{KeyCode, KeyModifiers};

use super::{Deck, QUERY, SIZES, each_size, snapshot, styled};
use crate::deck::app::{Effect, Input};
use crate::deck::completion::Files;
use crate::deck::manners::Notify;
use crate::deck::message::{DeckCommand, DeckEvent, LabelValue};
use crate::deck::tab::TabName;

const CTRL: KeyModifiers = KeyModifiers::CONTROL;
const ALT: KeyModifiers = KeyModifiers::ALT;

#[test]
fn slash_commands_complete_and_run() {
    each_size("slash", |size| {
        let mut deck = Deck::answered(size, QUERY);
        deck.type_text("/co");
        deck
    });
    let mut deck = Deck::new((80, 24));
    deck.type_text("/trai").press(KeyCode::Enter);
    assert_eq!((deck.app.tabs.shown, deck.value().as_str()), (TabName::Training, ""));
    assert!(super::asked(&deck.effects).is_empty(), "nothing was asked");

    let mut deck = Deck::answered((80, 24), QUERY);
    deck.effects.clear();
    deck.type_text("/label good").press(KeyCode::Enter);
    let Some(Effect::Command(DeckCommand::Label(label))) = deck.effects.pop() else { panic!("no label") };
    assert_eq!(label.value, LabelValue::Good);

    deck.type_text("/nonsense").press(KeyCode::Enter);
    assert!(deck.text().contains("no command is called /nonsense"));
    assert_eq!(deck.value(), "/nonsense", "what was typed is not lost");
    deck.chord(CTRL, 'u').type_text(" /nonsense").press(KeyCode::Enter);
    assert!(matches!(deck.effects.pop(), Some(Effect::Command(DeckCommand::Ask { .. }))));
}

#[test]
fn choices_are_walked_taken_and_closed() {
    let mut deck = Deck::new((80, 24));
    deck.type_text("/").press(KeyCode::Down).press(KeyCode::Up).press(KeyCode::Tab);
    assert_eq!(deck.value(), "/new", "the first in the table");
    deck.press(KeyCode::Esc).press(KeyCode::Backspace);
    assert!(deck.app.tabs.chat.completion.is_some(), "offered again");
    deck.press(KeyCode::Esc);
    assert!(deck.app.tabs.chat.completion.is_none());
    assert_eq!(deck.value(), "/ne");
    deck.type_text("w").chord(CTRL, 'c');
    assert_eq!((deck.app.tabs.chat.completion.is_none(), deck.value().as_str()), (true, "/new"));
    deck.chord(CTRL, 'c');
    assert_eq!(deck.value(), "");
}

#[test]
fn files_are_asked_for_and_offered() {
    let mut deck = Deck::new((80, 24));
    deck.type_text("read @");
    assert_eq!(deck.effects, [Effect::ListFiles(String::new())]);
    let names = ["data/", "notes.md"].map(String::from).to_vec();
    deck.input(Input::Files(Files { names, ..Files::default() }));
    snapshot("files_80x24", &deck.text());
    deck.press(KeyCode::Enter);
    assert_eq!(
        (deck.value().as_str(), deck.effects.last()),
        ("read @data/", Some(&Effect::ListFiles("data/".into())))
    );
    let (folder, before) = ("data/".to_string(), "data/".to_string());
    let names = vec!["x.csv".to_string()];
    deck.input(Input::Files(Files { folder, names, before, note: String::new() }));
    deck.type_text("x").press(KeyCode::Tab);
    assert_eq!(deck.value(), "read data/x.csv ");
}

#[test]
fn the_palette_finds_and_runs() {
    each_size("palette", |size| {
        let mut deck = Deck::answered(size, QUERY);
        deck.chord(CTRL, 'p').type_text("bad");
        deck
    });
    let mut deck = Deck::answered((80, 24), QUERY);
    deck.chord(CTRL, 'p').type_text("models").press(KeyCode::Enter);
    assert_eq!(deck.app.tabs.shown, TabName::Models);
    deck.effects.clear();
    deck.chord(CTRL, 'p').type_text("plan-bad").press(KeyCode::Enter);
    assert_eq!(deck.app.tabs.shown, TabName::Chat, "a command of the chat goes there");
    assert_eq!(deck.effects.len(), 1);
    deck.chord(CTRL, 'p').type_text("xyzzy").press(KeyCode::Enter);
    assert_eq!(deck.app.layers.len(), 1, "nothing to run, nothing closed");
    deck.chord(CTRL, 'c');
    assert!(deck.app.layers.is_empty());
}

#[test]
fn earlier_queries_are_searched() {
    let mut deck = Deck::new((80, 24));
    deck.ask("population of Peru").ask("boiling point of iron").ask("population of Chile");
    deck.chord(CTRL, 'r').type_text("popu");
    snapshot("history_80x24", &deck.text());
    deck.press(KeyCode::Down).press(KeyCode::Enter);
    assert_eq!(deck.value(), "population of Peru");
}

#[test]
fn up_brings_back_commands_as_well_as_queries() {
    let mut deck = Deck::new((80, 24));
    deck.ask("population of Peru").ask("/theme dark").ask("/nonsense");
    assert_eq!(deck.value(), "/nonsense", "what nobody knows stays to be mended");
    deck.chord(CTRL, 'c');
    for expected in ["/nonsense", "/theme dark", "population of Peru"] {
        deck.press(KeyCode::Up);
        assert_eq!(deck.value(), expected);
    }
    deck.press(KeyCode::Down).press(KeyCode::Enter);
    assert_eq!(deck.app.look.theme.name, "dark", "brought back, it runs again");
}

#[test]
fn the_conversation_is_searched_and_marked() {
    let mut deck = Deck::answered((80, 24), QUERY);
    for n in 0..30 {
        let (id, query) = (format!("t{n}"), format!("question {n}"));
        deck.ask(&query).play(&id, &query);
    }
    deck.text();
    deck.chord(CTRL, 'f').type_text("question 7");
    let shown = deck.text();
    assert!(shown.contains("> question 7"), "{shown}");
    snapshot("find_80x24", &shown);
    assert!(styled(deck.buffer()).contains("REVERSED\u{bb}question 7"));
    deck.chord(CTRL, 'u').type_text("QUESTION 1").press(KeyCode::Enter);
    assert!(deck.text().contains("> question 1"));
    deck.press(KeyCode::Backspace).type_text("xyz");
    assert!(deck.text().contains("not found"));
    deck.press(KeyCode::Esc);
    assert!(deck.app.layers.is_empty() && deck.app.tabs.chat.sought.is_empty());
}

/// A conversation in which "moon" stands in three queries of ten.
fn about_the_moon(size: (u16, u16)) -> Deck {
    let mut deck = Deck::new(size);
    for n in 0..10 {
        let query = if n % 3 == 1 { format!("moon {n}") } else { format!("question {n}") };
        deck.ask(&query).play(&format!("t{n}"), &query);
    }
    deck.text();
    deck
}

#[test]
fn a_search_by_name_is_walked_with_letters_until_a_query_begins() {
    let mut deck = about_the_moon((80, 24));
    deck.ask("/find moon");
    let shown = |deck: &mut Deck, n: usize| {
        let marked = styled(deck.buffer()).contains("REVERSED\u{bb}moon");
        assert!(marked && deck.text().contains(&format!("> moon {n}")), "{n}\n{}", deck.text());
    };
    shown(&mut deck, 7);
    snapshot("find_by_name_80x24", &deck.text());
    deck.press(KeyCode::Char('n'));
    shown(&mut deck, 4);
    deck.press(KeyCode::Char('n'));
    shown(&mut deck, 1);
    deck.press(KeyCode::Char('n'));
    assert!(deck.text().contains("nothing older holds it"));
    deck.press(KeyCode::Char('N')).press(KeyCode::Down);
    shown(&mut deck, 7);
    deck.press(KeyCode::Char('N'));
    assert!(deck.text().contains("nothing newer holds it"));
    // Any other letter begins a query: the search is over, nothing typed is lost.
    deck.type_text("what");
    assert_eq!((deck.value().as_str(), deck.app.layers.len()), ("what", 0));
    assert!(deck.app.tabs.chat.sought.is_empty());
    deck.chord(CTRL, 'u').ask("/find nowhere");
    assert!(deck.text().contains("not found"), "{}", deck.text());
    deck.press(KeyCode::Esc).chord(CTRL, 'f').input(Input::Paste("moon 4".to_string()));
    shown(&mut deck, 4);
    deck.press(KeyCode::Enter).type_text("n");
    assert_eq!(deck.value(), "", "after Enter n is a key");
}

/// The window is not left half empty when it grows, or when what it shows becomes shorter, after a search.
#[test]
fn no_rows_stay_blank_below_the_newest_after_a_search() {
    let blank_at_the_end = |deck: &mut Deck| {
        let rows: Vec<String> = deck.text().lines().map(|line| line.replace(['│', ' '], "")).collect();
        let input = rows.iter().rposition(|row| row.starts_with('>')).unwrap();
        rows[..input - 1].iter().rev().take_while(|row| row.is_empty()).count()
    };
    for size in [(80, 24), (120, 40)] {
        let mut deck = about_the_moon(size);
        assert!(blank_at_the_end(&mut deck) <= 1);
        deck.ask("/find moon 7").press(KeyCode::Esc);
        for grown in [(size.0, size.1 + 6), (size.0 + 60, size.1 + 20), (size.0 * 2, size.1 + 30)] {
            deck.input(Input::Resize(grown.0, grown.1));
            assert!(blank_at_the_end(&mut deck) <= 1, "{size:?} to {grown:?}\n{}", deck.text());
        }
    }
    // A draft of several lines is sent away while a match is in sight.
    let mut deck = about_the_moon((80, 24));
    for _ in 0..7 {
        deck.chord(CTRL, 'j');
    }
    deck.text();
    deck.chord(CTRL, 'f').type_text("question 8").press(KeyCode::Esc).chord(CTRL, 'c');
    assert!(blank_at_the_end(&mut deck) <= 1, "{}", deck.text());
}

#[test]
fn parts_are_copied_by_name_or_by_choice() {
    let copied = |deck: &mut Deck| match deck.effects.pop() {
        Some(Effect::Copy(text)) => text,
        other => panic!("{other:?} is no copy"),
    };
    let mut deck = Deck::answered((80, 24), QUERY);
    deck.chord(CTRL, 'o');
    assert!(copied(&mut deck).starts_with("**1.73**"));
    assert!(deck.text().contains("sent to the terminal's clipboard"));
    deck.press(KeyCode::Char('[')).type_text("/copy call").press(KeyCode::Enter);
    assert!(copied(&mut deck).contains("peru = 34_000_000"));
    deck.type_text("/copy all").press(KeyCode::Enter);
    let all = copied(&mut deck);
    assert!(all.contains("## What is the population") && all.contains("print(peru / chile)"), "{all}");
    deck.chord(ALT, 'o');
    snapshot("copy_80x24", &deck.text());
    deck.type_text("query").press(KeyCode::Enter);
    assert_eq!(copied(&mut deck), QUERY);
    deck.type_text("/copy code").press(KeyCode::Enter);
    assert!(deck.text().contains("there is no code to copy"));
}

#[test]
fn the_conversation_is_exported() {
    let mut deck = Deck::new((80, 24));
    deck.type_text("/export").press(KeyCode::Enter);
    assert!(deck.effects.is_empty() && deck.text().contains("nothing to export"));
    let mut deck = Deck::answered((80, 24), QUERY);
    deck.press(KeyCode::Char('+')).type_text("/export out.md").press(KeyCode::Enter);
    let Some(Effect::Export { path, own_name, text }) = deck.effects.pop() else { panic!("no export") };
    assert_eq!((path.as_str(), own_name), ("out.md", false));
    snapshot("export", &text);
}

#[test]
fn themes_are_tried_kept_and_put_back() {
    let mut deck = Deck::new((80, 24));
    let name = |deck: &Deck| deck.app.look.theme.name.clone();
    deck.type_text("/theme").press(KeyCode::Enter).press(KeyCode::Down);
    assert_eq!(name(&deck), "dark", "seen at once");
    deck.press(KeyCode::Esc);
    assert_eq!((name(&deck).as_str(), deck.effects.len()), ("default", 0));
    deck.type_text("/theme").press(KeyCode::Enter).type_text("lig").press(KeyCode::Enter);
    assert_eq!(name(&deck), "light");
    let kept = DeckCommand::Remember { key: "theme", value: "light".to_string() };
    assert_eq!(deck.effects, [Effect::Command(kept)]);
    deck.type_text("/theme pink").press(KeyCode::Enter);
    assert!(deck.text().contains("no theme is called"));
}

#[test]
fn the_editor_gets_the_input_and_gives_it_back() {
    let mut deck = Deck::new((80, 24));
    deck.type_text("draft").chord(ALT, 'e');
    assert_eq!(deck.effects, [Effect::Edit("draft".to_string())]);
    deck.input(Input::Edited("two\nlines".to_string()));
    assert_eq!(deck.value(), "two\nlines");
}

#[test]
fn answers_are_told_only_to_those_who_look_elsewhere() {
    let told = |notify: Notify, focused: bool| {
        let mut deck = Deck::new((80, 24));
        deck.app.set_notify(notify);
        deck.input(Input::Focus(focused)).ask(QUERY).play("t-1", QUERY);
        deck.effects.iter().filter(|effect| matches!(effect, Effect::Notify(..))).count()
    };
    assert_eq!(told(Notify::Bell, false), 1);
    assert_eq!(told(Notify::Bell, true), 0);
    assert_eq!(told(Notify::Off, false), 0);
}

#[test]
fn the_mouse_scrolls_chooses_and_is_released() {
    let mut deck = Deck::answered((120, 40), QUERY);
    deck.press(KeyCode::F(12)).text();
    assert_eq!(deck.effects.pop(), Some(Effect::Mouse(true)));
    deck.input(Input::Click(60, 5));
    assert_eq!(deck.app.tabs.chat.panes.focus, Some(0));
    deck.input(Input::Wheel(true)).input(Input::Click(5, 5));
    assert_eq!(deck.app.tabs.chat.panes.focus, None);
    deck.press(KeyCode::F(12));
    assert_eq!(deck.effects.pop(), Some(Effect::Mouse(false)));
}

#[test]
fn what_the_mouse_is_dragged_over_is_copied_out_of_one_frame() {
    let mut deck = Deck::answered((120, 40), QUERY);
    let shown = deck.text();
    let row = shown.lines().position(|line| line.contains("> What is")).unwrap();
    let (row, next) = (u16::try_from(row).unwrap(), u16::try_from(row + 2).unwrap());
    deck.input(Input::Click(2, row)).input(Input::Drag(90, next)).text();
    deck.input(Input::Drop).text();
    let text = deck.app.dropped().unwrap();
    assert!(text.starts_with("> What is the population of Peru") && !text.contains('│'), "{text}");
    assert!(deck.text().contains("characters sent to the terminal's clipboard"), "{}", deck.text());
    assert_eq!(deck.app.dropped(), None, "once");
    // A click alone selects nothing, and any key lets go of what was marked.
    deck.input(Input::Click(5, 5)).input(Input::Drop).text();
    assert_eq!(deck.app.dropped(), None);
    deck.input(Input::Click(2, row)).input(Input::Drag(9, row)).press(KeyCode::Char('x'));
    assert!(deck.app.selection.is_none());
}

/// Every tab and every layer at every size a terminal may have, and then some.
#[test]
fn everything_draws_at_every_size() {
    let sizes = [(24, 6), (40, 12), (60, 15), (99, 24), (100, 16), (500, 200), (500, 6), (30, 200)];
    let layers = [(CTRL, 'p'), (CTRL, 'g'), (CTRL, 'f'), (ALT, 'o'), (CTRL, 'r'), (ALT, 'c')];
    for size in sizes {
        let mut deck = Deck::answered(size, QUERY);
        for n in [1, 2, 3, 4, 5] {
            deck.press(KeyCode::F(n)).text();
        }
        deck.press(KeyCode::F(1));
        for (modifiers, key) in layers {
            deck.chord(modifiers, key).type_text("e").text();
            deck.press(KeyCode::Esc).press(KeyCode::Esc);
        }
        deck.type_text("/").text();
    }
}

/// Names of files and commands come from outside as well.
#[test]
fn hostile_names_reach_no_terminal() {
    let hostile = crate::deck::demo::HOSTILE;
    let marks = format!("a{}", "\u{301}".repeat(10_000));
    for size in SIZES {
        let mut deck = Deck::answered(size, "hostile");
        deck.type_text("@");
        let names = vec![hostile.to_string(), marks.clone(), format!("\u{200b}{hostile}/")];
        deck.input(Input::Files(Files { names, ..Files::default() }));
        let mut bytes = super::bytes_of(&mut deck);
        deck.press(KeyCode::Tab);
        bytes.extend(super::bytes_of(&mut deck));
        deck.chord(CTRL, 'u').input(Input::Paste(format!("{hostile}{marks}"))).press(KeyCode::Enter);
        for (modifiers, key) in [(CTRL, 'r'), (ALT, 'o'), (CTRL, 'f')] {
            deck.chord(modifiers, key).type_text("a");
            bytes.extend(super::bytes_of(&mut deck));
            deck.press(KeyCode::Esc);
        }
        let notice = DeckEvent::Notice { level: crate::deck::message::Level::Warning, text: hostile.into() };
        deck.input(Input::Deck(Box::new(notice)))
            .input(Input::Said(crate::deck::message::Level::Info, marks.clone()));
        bytes.extend(super::bytes_of(&mut deck));
        assert_eq!(super::foreign_sequences(&bytes), Vec::<String>::new());
        let text = String::from_utf8(bytes).unwrap();
        for c in ['\u{7}', '\u{9b}', '\u{9d}', '\u{202e}', '\u{200b}', '\u{e0041}'] {
            assert!(!text.contains(c), "{c:?} got through");
        }
        assert!(!text.contains(&"\u{301}".repeat(9)), "a pile of marks got through");
    }
}

#[test]
fn a_keymap_of_ones_own_shows_in_hints_and_help() {
    let mut deck = Deck::answered((80, 24), QUERY);
    let text = "[empty-input]\ngood = 'y'\n[anywhere]\nhelp = 'f12'\n";
    assert!(crate::deck::keymap_file::parse(text, "k".as_ref()).is_err(), "letters are typed there");
    let text = "[empty-input]\ngood = '!'\n[anywhere]\nhelp = 'f12'\n";
    deck.app.look.keymap = crate::deck::keymap_file::parse(text, "k".as_ref()).unwrap();
    assert!(deck.text().contains("! good"));
    deck.press(KeyCode::F(12));
    assert!(deck.text().contains("!  +  Alt++"));
}
