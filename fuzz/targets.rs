//! What is fuzzed: one function per reader of foreign bytes. Each takes any bytes at all and must come back; what
//! it accepts must hold what the reader promises. Called by the targets of cargo-fuzz and by `tests/fuzz.rs`.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use tillerman::cli::{self, export};
use tillerman::config::Config;
use tillerman::deck::exchange::Exchange;
use tillerman::deck::keymap_file;
use tillerman::deck::live::{Live, Stage};
use tillerman::deck::row::Row;
use tillerman::deck::theme::Themes;
use tillerman::engine::chat::ChatTemplate;
use tillerman::engine::grammar::schema_to_gbnf;
use tillerman::engine::remote::{plain, reply, sse};
use tillerman::engine::wire::{self, FromWorker, ToWorker};
use tillerman::engine::{Message, Role, Speaker};
use tillerman::flow::event::{Event, Progress, ProgressSource};
use tillerman::flow::planner::Reply;
use tillerman::flow::trajectory::{Outcome, Trajectory};
use tillerman::flow::{executor, memory, planner, quote, refers, verifier};
use tillerman::gguf::pieces::Pieces;
use tillerman::gguf::toy::{SHAPES, Shape, ToyModel};
use tillerman::gguf::{Header, check, check_adapter_reader, check_reader, memory_needed};
use tillerman::store::{canonical, redact};
use tillerman::tasks::loaders::{self, Benchmark};
use tillerman::tasks::question::Key;
use tillerman::text::{SafeText, safe};
use tillerman::tools::calculator::Calculator;
use tillerman::tools::mcp::{self, Listed};
use tillerman::tools::net::{Guard, Target, body};
use tillerman::tools::search::page_text;
use tillerman::tools::{ToolContext, Toolbox, schema};
use tillerman::train::{peft, safetensors};

/// Size claimed for a GGUF of which the input is the header: room for the tensors it describes.
const CLAIMED: u64 = 1 << 26;

static TOOLBOX: LazyLock<Toolbox> =
    LazyLock::new(|| Toolbox { tools: vec![Arc::new(Calculator::new())], refused: Vec::new() });

/// A GGUF header: refused, or everything asked of it later has an answer.
pub fn gguf(data: &[u8]) {
    let Ok(header) = check_reader(data, CLAIMED.max(data.len() as u64)) else { return };
    assert!((1..=512).contains(&header.blocks()), "{} blocks", header.blocks());
    assert_eq!(header.heads().len() as u64, header.blocks());
    assert_eq!(header.heads_kv().len() as u64, header.blocks());
    assert!(header.vocabulary() > 0 && header.data_offset <= header.file_bytes);
    for tensor in &header.tensors {
        let end = header.data_offset.checked_add(tensor.offset).and_then(|at| at.checked_add(tensor.bytes));
        assert!(end.is_some_and(|end| end <= header.file_bytes), "{} lies outside", tensor.name);
    }
    let _ = memory_needed(&header, header.context_train, 4);
    let ids: Vec<i32> = (-1..64).collect();
    assert_eq!(Pieces::of(&header).texts(&ids).len(), ids.len());
    let _ = (header.special_token("bos"), header.special_token("eos"), header.chat_template());
}

/// Text for the screen: no control but newline and tab, nothing that turns the direction, and clean stays clean.
pub fn safe_text(data: &[u8]) {
    let clean = SafeText::from_bytes(data);
    for c in clean.as_str().chars() {
        assert!(!c.is_control() || matches!(c, '\n' | '\t'), "{c:?} came through");
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}');
        let hidden = matches!(c, '\u{e0000}'..='\u{e007f}' | '\u{feff}' | '\u{2028}' | '\u{2029}');
        assert!(!turns && !hidden, "{c:?} came through");
    }
    assert_eq!(safe(clean.as_str()), clean.as_str(), "cleaning twice changes something");
}

/// A planner's text: a plan whose tool is there and whose sub-goal says something, or a reason.
pub fn plan(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match planner::read(&text, &TOOLBOX) {
        Reply::Plan { plan, .. } => {
            assert!(TOOLBOX.get(&plan.tool).is_some() && !plan.sub_goal.is_empty(), "{plan:?}");
            // What is written in the asked form is read again.
            let again = planner::read(&planner::write(&plan), &TOOLBOX);
            assert!(matches!(again, Reply::Plan { .. }), "{plan:?} became {again:?}");
        }
        Reply::Refused { reason, text: kept, .. } => {
            assert!(!reason.is_empty() && kept == text, "{reason:?}");
        }
    }
}

/// An executor's and a verifier's text, and the cut of a result.
pub fn command(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let arguments = executor::read(&text);
    if let Err(reason) = schema::check(&TOOLBOX.tools[0].card().schema, &arguments) {
        assert!(!reason.is_empty());
    }
    let verdict = verifier::read(&text);
    let again = verifier::read(&verifier::write(&verdict, true));
    assert_eq!(again, verdict);
    for most in [0, 1, 7, 100] {
        let (kept, gone) = memory::cut(&text, most);
        assert!(gone <= text.chars().count() && (gone > 0 || kept == text), "{most}: {gone} {kept:?}");
    }
}

/// Frames of the engine's pipe, read until they end: what is read is written the same way again.
pub fn frames(data: &[u8]) {
    let (mut stream, mut buffer) = (data, Vec::new());
    while let Ok(Some(message)) = wire::read::<FromWorker>(&mut stream, &mut buffer) {
        same(&message);
    }
    let mut stream = data;
    while let Ok(Some(message)) = wire::read::<ToWorker>(&mut stream, &mut buffer) {
        same(&message);
    }
}

/// Written, read and written: equal bytes. (The messages themselves are not compared: they may hold NaN.)
fn same<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) {
    let (mut first, mut second, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    if wire::encode(message, &mut first).is_ok() {
        let again = wire::read::<T>(&mut first.as_slice(), &mut buffer).ok().flatten();
        let again = again.unwrap_or_else(|| panic!("a frame we wrote cannot be read"));
        let encoded = wire::encode(&again, &mut second);
        assert!(encoded.is_ok() && first == second, "a frame changed on its way");
    }
}

/// A file to import: refused by its line, or events whose fold and whose lines hold together.
pub fn import(data: &[u8]) {
    let Ok(groups) = export::read(&mut BufReader::new(data), Path::new("input")) else { return };
    for events in groups.values() {
        let trajectory = Trajectory::from_events(events);
        assert!(events.is_sorted_by_key(|event| event.seq));
        let _ = trajectory.turns.len();
        for event in events {
            if let Some(line) = cli::plain::line(event) {
                assert!(safe(&line) == line && !line.contains('\n'), "{line:?}");
            }
            let id = event.trajectory.as_str();
            assert!(id.bytes().all(|byte| byte.is_ascii_graphic()) && !id.contains(['/', '.']), "{id:?}");
            let Ok(line) = serde_json::to_string(event) else { continue };
            let again: Result<Event, _> = serde_json::from_str(&line);
            let again = again.unwrap_or_else(|e| panic!("an event we wrote cannot be read: {e}: {line}"));
            assert_eq!(again, *event);
        }
    }
}

/// The parts of an input, cut at the first so many line ends.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut pieces = data.splitn(N, |byte| *byte == b'\n');
    std::array::from_fn(|_| pieces.next().unwrap_or_default())
}

/// A web address and a redirect from it: refused, or one plain spelling of a public place.
pub fn address(data: &[u8]) {
    let [first, second] = parts(data);
    let guard = Guard::new(&[]);
    let Ok(target) = guard.target(&String::from_utf8_lossy(first)) else { return };
    reachable(&guard, &target);
    if let Ok(further) = guard.redirect(&target, &String::from_utf8_lossy(second)) {
        reachable(&guard, &further);
    }
}

fn reachable(guard: &Guard, target: &Target) {
    let Target { url, host, port, listed } = target;
    assert!(!listed && matches!(port, 80 | 443) && matches!(url.scheme(), "http" | "https"), "{url}");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
    assert!(!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()), "{host:?}");
    assert!(!host.ends_with('.') && !host.bytes().any(|byte| byte.is_ascii_uppercase()), "{host:?}");
    assert!(!host.starts_with("127.") || host.parse::<std::net::Ipv4Addr>().is_err(), "{host:?}");
    assert_eq!(guard.target(url.as_str()).ok().as_ref(), Some(target), "checked again it is another");
}

/// A body from the web: media type, charset and encoding in a line each, then bytes.
pub fn page(data: &[u8]) {
    const LIMIT: usize = 1 << 18;
    let [kind, declared, packed, bytes] = parts(data);
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Ok(mut unpacker) = body::Unpacker::new("http://h/", &name(packed), LIMIT, 100) else { return };
    if bytes.chunks(61).try_for_each(|piece| unpacker.push(piece)).is_err() {
        return;
    }
    let Ok(bytes) = unpacker.finish() else { return };
    assert!(bytes.len() <= LIMIT, "{} bytes came through", bytes.len());
    let Ok(html) = body::decode("http://h/", &name(kind), &name(declared), &bytes) else { return };
    let text = page_text(&html);
    assert!(text.len() <= 4 * html.len() + 4, "{} bytes became {}", html.len(), text.len());
}

/// A reply of a remote engine: whatever its cuts, the same events; then folded, or refused.
pub fn reply(data: &[u8]) {
    let events = |size: usize| {
        let (mut decoder, mut found) = (sse::Decoder::default(), Vec::new());
        let fed = data.chunks(size).try_for_each(|piece| decoder.feed(piece, &mut |event| found.push(event)));
        if fed.is_ok() {
            decoder.finish(&mut |event| found.push(event));
        }
        (fed.is_ok(), found)
    };
    let (whole, found) = events(data.len().max(1));
    assert_eq!((whole, &found), (events(1).0, &events(7).1), "a cut changes the events");
    let mut folded = reply::Reply::default();
    for event in &found {
        if folded.event(event).is_err() {
            break;
        }
    }
    let _ = (folded.stop(), folded.progress());
    let mut at_once = reply::Reply::default();
    let _ = at_once.whole(data);
    let text = String::from_utf8_lossy(data);
    let _ = (reply::unwrapped(&text), reply::error_words(data));
    let (clean, _) = plain::plain(&text);
    assert_eq!(plain::plain(&clean).1, 0, "a control token came through");
}

/// What an MCP server lists as a tool: refused, or a card with a plain name, a small schema and words on one line.
pub fn mcp_tool(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    if mcp::guard::too_deep(&value) {
        return;
    }
    let text = |key: &str| value[key].as_str().map(str::to_string);
    let listed = Listed {
        name: text("name").unwrap_or_default(),
        title: text("title"),
        description: text("description"),
        schema: value["inputSchema"].clone(),
        annotations: value["annotations"].clone(),
    };
    let _ = (listed.hash(), mcp::arguments(&listed));
    let Ok(card) = mcp::card::card("server", &listed, 30) else { return };
    assert!(
        card.name.len() <= 64 && card.name.bytes().all(|byte| byte.is_ascii_graphic()),
        "{:?}",
        card.name
    );
    assert!(card.schema["type"] == "object" && card.schema.to_string().len() <= 8 << 10);
    for words in [&card.purpose, &card.brief] {
        assert!(!words.contains('\n') && safe(words) == **words, "{words:?}");
    }
    let _ = schema::check(&card.schema, &value["arguments"]);
    // What the executor is held to: rules of ours, a line each, whatever names and values the schema has.
    if let Ok(grammar) = schema_to_gbnf(&card.schema) {
        assert!(!grammar.contains('\0') && grammar.lines().all(|line| line.contains("::=")), "{grammar}");
    }
}

/// A task file, of the benchmark its first byte chooses: refused, or questions of their own ids that any text can be
/// scored against.
pub fn tasks(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let benchmark = Benchmark::ALL.get(usize::from(first % 11)).copied();
    let Ok(questions) = loaders::questions(rest.to_vec(), benchmark) else { return };
    let ids: std::collections::HashSet<&str> =
        questions.iter().map(|question| question.id.as_str()).collect();
    assert_eq!(ids.len(), questions.len(), "an id stands twice");
    for question in &questions {
        for text in [&question.answer, &question.query, &String::new()] {
            let _ = (question.key.right(text), question.key.supported_by(text));
        }
    }
}

/// An answer beside its reference, under every scorer.
pub fn score(data: &[u8]) {
    let [first, second] = parts(data).map(String::from_utf8_lossy);
    let (reference, text) = (first.into_owned(), second.into_owned());
    let numbers = reference.split(' ').filter_map(|n| n.parse().ok()).collect();
    let options: Vec<String> = reference.split('|').map(str::to_string).collect();
    let keys = [
        Key::Names { accepted: vec![reference.clone()] },
        Key::Number { value: reference.clone() },
        Key::Game24 { numbers },
        Key::Choice { letter: 'A', options },
        Key::Gaia { reference: reference.clone() },
    ];
    for key in keys {
        let _ = (key.right(&text), key.supported_by(&text));
        assert!(key.f1(&text).is_none_or(|f1| (0.0..=1.0).contains(&f1)));
    }
    let form = canonical(&text);
    assert_eq!(canonical(&form), form, "the form of a form is another");
    if let Some((kept, count)) = redact(&text) {
        assert!(count > 0 && kept != text, "{text:?}");
    }
}

static BASE: LazyLock<Header> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("tillerman-fuzz-base-{}.gguf", std::process::id()));
    let shape = Shape { vocabulary: 280, blocks: 1, ..SHAPES[0] };
    let written = ToyModel { shape, ..ToyModel::default() }.write(&path);
    let header = written.ok().and_then(|_| check(&path).ok());
    let _ = std::fs::remove_file(&path);
    header.unwrap_or_else(|| panic!("no base model in {}", path.display()))
});

/// An adapter from elsewhere, as a GGUF header for a base or as safetensors.
pub fn adapter(data: &[u8]) {
    if let Ok(header) = check_adapter_reader(data, CLAIMED.max(data.len() as u64), &BASE) {
        assert!(!header.tensors.is_empty() && header.tensors.len().is_multiple_of(2));
        for tensor in &header.tensors {
            let end =
                header.data_offset.checked_add(tensor.offset).and_then(|at| at.checked_add(tensor.bytes));
            assert!(end.is_some_and(|end| end <= header.file_bytes), "{} lies outside", tensor.name);
        }
    }
    let Ok(tensors) = safetensors::read(data) else { return };
    let again = safetensors::read(&safetensors::write(&tensors)).unwrap_or_else(|e| panic!("{e}"));
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(again.len(), tensors.len());
    for (name, tensor) in &tensors {
        let other = &again[name];
        assert!(tensor.shape == other.shape && bits(&tensor.values) == bits(&other.values), "{name} changed");
    }
}

/// A settings file and a file of keys: refused with a line, or read.
pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(error) = Config::parse(&text, Path::new("config.toml")) {
        assert!(error.to_string().contains("config.toml"), "{error}");
    }
    if let Err(error) = keymap_file::parse(&text, Path::new("keys.toml")) {
        assert!(error.to_string().contains("keys.toml"), "{error}");
    }
}

/// A chat template out of a model file: refused, or a prompt in which every part of the chat stands once, as content.
pub fn template(data: &[u8]) {
    /// With these a few bytes of a template ask for gigabytes; the worker bounds its memory, a fuzzer has none to spare.
    const COSTLY: [&str; 14] = [
        "*", "~", "+", "range", "join", "replace", "indent", "center", "format", "batch", "fill", "wordwrap",
        "just", "repeat",
    ];
    let text = String::from_utf8_lossy(data);
    let Ok(template) = ChatTemplate::new(&text, "<s>", "</s>") else { return };
    assert_eq!(template.hash().len(), 64);
    if COSTLY.iter().any(|word| text.contains(word)) {
        return;
    }
    let messages = [
        Message::new(Speaker::System, ["You plan.", " Tools: </s>"]),
        Message::new(Speaker::User, ["Query: ", "{{ bos_token }}<|im_end|>"]),
        Message::new(Speaker::Assistant, ["4"]),
        Message::new(Speaker::User, ["and then?"]),
    ];
    let Ok(segments) = template.render(&messages) else { return };
    // Templates that know no system get its text before the user's, with a blank between.
    let said = segments.iter().filter(|segment| !segment.special && !segment.text.trim().is_empty());
    let mut content: Vec<&str> = said.map(|segment| segment.text.as_str()).collect();
    let mut parts: Vec<&str> =
        messages.iter().flat_map(|message| message.parts.iter().map(String::as_str)).collect();
    content.sort_unstable();
    parts.sort_unstable();
    assert_eq!(content, parts, "a part is missing, doubled or changed");
}

/// An expression a model wrote: a value or a reason, in words, and the same again.
pub fn calculator(data: &[u8]) {
    let expression = String::from_utf8_lossy(data);
    if expression.len() > 200 {
        return;
    }
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_current_thread().build().unwrap_or_else(|e| panic!("no runtime: {e}"))
    });
    let arguments = serde_json::json!({ "expression": expression });
    let result = RUNTIME.block_on(TOOLBOX.tools[0].call(&arguments, &ToolContext::default()));
    assert!(!result.text.trim().is_empty(), "nothing is said of {expression:?}");
    assert!(result.text.len() <= 64 << 10, "{} bytes of result", result.text.len());
}

/// An answer in the deck, a query before it: rows that keep to their width and to what may be drawn, whether it has
/// come or is coming. Then a theme of a person's own.
pub fn screen(data: &[u8]) {
    let [query, answer] = parts(data).map(|part| String::from_utf8_lossy(part).into_owned());
    for width in [20, 57] {
        let trajectory = Trajectory { query: query.clone(), ..Trajectory::default() };
        let mut exchange = Exchange::asked(query.clone(), false);
        let mut live = Live::past(trajectory.clone(), false);
        live.stage = Stage::Role(Role::Generator);
        exchange.live = Some(live);
        for piece in cut_in(&answer, 5) {
            let progress = Progress {
                trajectory: String::new(),
                turn: 0,
                source: ProgressSource::Role(Role::Generator),
                text: piece.to_string(),
            };
            exchange.live.as_mut().unwrap_or_else(|| panic!("it was there")).progress(&progress);
            drawable(&exchange.rows(width, false), width);
        }
        let answered =
            Trajectory { answer: Some(answer.clone()), outcome: Outcome::Answered, ..trajectory.clone() };
        exchange.live = Some(Live::past(answered, false));
        drawable(&exchange.rows(width, true), width);
    }
    if let Err(error) = Themes::with(vec![("own".to_string(), answer)]).named("own") {
        assert!(!error.to_string().is_empty());
    }
}

fn drawable(rows: &[Row], width: usize) {
    for row in rows {
        assert!(row.width() <= width, "{} columns of {width}: {:?}", row.width(), row.text());
        assert!(safe(&row.text()) == row.text() && !row.text().contains(['\n', '\t']), "{:?}", row.text());
    }
}

/// A text in at most so many pieces.
fn cut_in(text: &str, pieces: usize) -> Vec<&str> {
    let mut cuts: Vec<usize> =
        (0..=pieces).map(|n| text.floor_char_boundary(text.len() * n / pieces)).collect();
    cuts.dedup();
    cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect()
}

/// An adapter as Python's PEFT writes it, the settings in the first line and the numbers after it: refused with a
/// reason, or matrices of the shapes the base has, all finite.
pub fn peft(data: &[u8]) {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let shared = Path::new("/dev/shm");
        let parent = if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() };
        let folder = parent.join(format!("tillerman-fuzz-peft-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        folder
    });
    let [config, numbers] = parts(data);
    for (name, bytes) in [("adapter_config.json", config), ("adapter_model.safetensors", numbers)] {
        std::fs::write(FOLDER.join(name), bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    match peft::import(&FOLDER, &BASE) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(lora) => {
            assert!(lora.rank > 0 && lora.alpha.is_finite() && !lora.pairs.is_empty());
            for pair in &lora.pairs {
                assert_eq!((pair.a.len(), pair.b.len()), (lora.rank * pair.n_in, pair.n_out * lora.rank));
                assert!(pair.a.iter().chain(&pair.b).all(|value| value.is_finite()), "{}", pair.tensor);
            }
        }
    }
}

/// A text of somebody else's as a passage to quote and as a query: a grammar that holds it and nothing of its own.
pub fn quote(data: &[u8]) {
    let [answer, first, second] = parts(data).map(|part| String::from_utf8_lossy(part).into_owned());
    let results = [first, second];
    let _ = refers::refers_back(&answer);
    if quote::is_quote(&answer, &results) {
        assert!(results.iter().any(|result| result.contains(answer.trim())), "{answer:?}");
    }
    let grammar = quote::grammar(&results, "I do not know.");
    assert!(!grammar.contains('\0'), "a C string would end there");
    // Every line is one rule of ours: what was quoted opens none of its own.
    for (number, line) in grammar.lines().enumerate() {
        let name = if number == 0 { "root ::= ".to_string() } else { String::from("q") };
        assert!(line.starts_with(&name) && line.contains(" ::= "), "{line:?}");
    }
}
