//! calculator: exact arithmetic, unit conversion and dates, through fend.
//!
//! It reads no clock, no network (so no currencies) and keeps no variables between calls. Dates are
//! its own small grammar (`dates`); everything else is fend's, with the spellings models use
//! (`×`, `÷`, `−`, `x`) translated and the readings that would be silently wrong refused.

mod dates;
mod number;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Tool, ToolCard, ToolContext, ToolExample, ToolFault, ToolResult};

/// Longest expression read.
const MAX_EXPRESSION_CHARS: usize = 1000;
/// Deepest nesting of brackets read; fend's parser is recursive.
const MAX_NESTING: usize = 64;
/// Longest result given.
const MAX_RESULT_CHARS: usize = 10_000;
/// Longest part of a result, or of fend's own words, in a reason: both may hold a number of any length.
const MAX_QUOTED_CHARS: usize = 150;
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// fend recurses once per operator; 1000 operators must fit.
const STACK_BYTES: usize = 256 << 20;

/// See the file's head.
pub struct Calculator {
    card: ToolCard,
}

impl Calculator {
    pub fn new() -> Calculator {
        Calculator { card: card() }
    }
}

impl Default for Calculator {
    fn default() -> Calculator {
        Calculator::new()
    }
}

fn card() -> ToolCard {
    let example = |expression: &str, result: &str| ToolExample {
        arguments: json!({ "expression": expression }),
        result: result.into(),
    };
    ToolCard {
        name: "calculator".into(),
        purpose: "Computes arithmetic exactly, converts units and counts with dates.".into(),
        brief: "arithmetic, units, dates".into(),
        schema: json!({
            "type": "object",
            "properties": {"expression": {
                "type": "string",
                "description": "e.g. (3 + 4) * 5, 5 miles to km, @2024-01-15 + 3 days, @2024-03-01 - @2024-01-15",
                "maxLength": MAX_EXPRESSION_CHARS
            }},
            "required": ["expression"],
            "additionalProperties": false
        }),
        examples: vec![example("37*41+5", "1522"), example("5 miles to km", "8.04672 km")],
        limits: vec![
            "Integers are exact and printed in full; other numbers are rounded to 6 decimals (below 0.001: to 6 significant digits).".into(),
            "Dates are written @YYYY-MM-DD; days, weeks, months and years can be added, two dates subtracted.".into(),
            "No currencies, no current date, no variables from earlier calls, no comparison with < or >.".into(),
            "Write divided units with brackets: (10 m) / (2 s).".into(),
            format!("Stops after {} seconds or {MAX_RESULT_CHARS} characters of result.", TIME_LIMIT.as_secs()),
        ],
    }
}

#[async_trait]
impl Tool for Calculator {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    async fn call(&self, arguments: &Value, context: &ToolContext) -> ToolResult {
        let expression = arguments["expression"].as_str().unwrap_or_default().to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let (send, receive) = oneshot::channel();
        // A thread of its own: fend's depth needs more stack than the runtime's threads have.
        let spawned = std::thread::Builder::new()
            .name("calculator".into())
            .stack_size(STACK_BYTES)
            .spawn(move || _ = send.send(calculate(&expression, &seen)));
        if let Err(error) = spawned {
            return ToolResult::fault(ToolFault::Failed, format!("no thread for the calculator: {error}"));
        }
        let _stop_when_dropped = StopGuard(stop);
        tokio::select! {
            outcome = receive => outcome.unwrap_or_else(|_| failed("the calculator gave up on this expression")),
            () = context.cancel.cancelled() => ToolResult::fault(ToolFault::Cancelled, "cancelled"),
        }
    }
}

/// Ends the calculation when its caller is gone.
struct StopGuard(Arc<AtomicBool>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn failed(reason: impl Into<String>) -> ToolResult {
    ToolResult::fault(ToolFault::Failed, reason)
}

fn calculate(expression: &str, stop: &AtomicBool) -> ToolResult {
    let deadline = Deadline { end: Instant::now() + TIME_LIMIT, stop };
    let outcome = prepare(expression).and_then(|ready| match dates::evaluate(&ready) {
        Some(Ok(dates::Outcome::Text(text))) => Ok(text),
        Some(Ok(dates::Outcome::Expression(rest))) => evaluate(&rest, &deadline),
        Some(Err(reason)) => Err(reason),
        None => evaluate(&ready, &deadline),
    });
    match outcome {
        Ok(text) if text.len() > MAX_RESULT_CHARS => ToolResult::fault(
            ToolFault::Limit,
            format!("the result has {} characters, more than {MAX_RESULT_CHARS}", text.len()),
        ),
        Ok(text) if text.trim().is_empty() => failed("the expression has no value"),
        Ok(text) => ToolResult::ok(text),
        Err(_) if deadline.passed() => ToolResult::fault(
            ToolFault::Limit,
            format!("stopped after {} seconds; the numbers are too large", TIME_LIMIT.as_secs()),
        ),
        Err(reason) => failed(reason),
    }
}

struct Deadline<'a> {
    end: Instant,
    stop: &'a AtomicBool,
}

impl Deadline<'_> {
    fn passed(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() > self.end
    }
}

impl fend_core::Interrupt for Deadline<'_> {
    fn should_interrupt(&self) -> bool {
        self.passed()
    }
}

/// Spellings made fend's; what fend would misread refused with the remedy.
fn prepare(expression: &str) -> Result<String, String> {
    if expression.chars().count() > MAX_EXPRESSION_CHARS {
        return Err(format!("the expression is longer than {MAX_EXPRESSION_CHARS} characters"));
    }
    let mut text: String = expression
        .chars()
        .map(|c| match c {
            '×' | '·' | '⋅' | '∗' | '✕' => '*',
            '÷' | '∕' => '/',
            '−' | '–' | '—' | '‐' | '‑' => '-',
            c if c.is_whitespace() => ' ',
            c => c,
        })
        .collect();
    text = text.trim().trim_end_matches('?').trim_end().trim_end_matches('=').trim_end().to_owned();
    for (long, short) in [("degrees ", ""), ("degree ", "")] {
        for scale in ["celsius", "Celsius", "fahrenheit", "Fahrenheit"] {
            text = text.replace(&format!("{long}{scale}"), &format!("{short}{}", scale.to_lowercase()));
        }
    }
    if text.is_empty() {
        return Err("the expression is empty".into());
    }
    refuse_misreadings(&text)?;
    Ok(times_signs(&number::without_separators(&text)?))
}

fn refuse_misreadings(text: &str) -> Result<(), String> {
    let mut depth = 0usize;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return Err("there is a ) without its (".into()),
            ')' => depth -= 1,
            // fend's own functions can call themselves without end.
            ':' | '\\' => return Err(format!("{c:?} means nothing here; write one expression")),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(format!("brackets are nested deeper than {MAX_NESTING}"));
        }
    }
    if depth > 0 {
        return Err("there is a ( without its )".into());
    }
    if text.contains("=>") {
        return Err("\"=>\" means nothing here; write one expression".into());
    }
    if text.contains("//") {
        return Err("\"//\" means nothing here; write floor(a / b)".into());
    }
    // These would be read as units (minutes, gigadays) times a bracket.
    let mut word = String::new();
    for c in text.chars() {
        if c == '(' && matches!(word.trim_end(), "min" | "max" | "gcd" | "lcm" | "sum") {
            return Err(format!("there is no function {:?}", word.trim_end()));
        }
        if c == ' ' || c.is_alphanumeric() {
            word.push(c)
        } else {
            word.clear()
        }
        if word.ends_with(|c: char| c.is_ascii_digit()) {
            word.clear();
        }
        if let Some((_, last)) = word.trim_start().split_once(' ')
            && !last.is_empty()
        {
            word = last.to_owned();
        }
    }
    Ok(())
}

/// `3 x 4` means times; `0x10` stays hexadecimal.
fn times_signs(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    for (at, &c) in chars.iter().enumerate() {
        let before = chars[..at].iter().rev().find(|c| **c != ' ');
        let after = chars[at + 1..].iter().find(|c| **c != ' ');
        let between = before.is_some_and(|c| c.is_ascii_digit() || *c == ')')
            && after.is_some_and(|c| c.is_ascii_digit() || matches!(c, '(' | '-' | '.'));
        let hexadecimal = at > 0
            && chars[at - 1] == '0'
            && (at < 2 || !(chars[at - 2].is_ascii_digit() || chars[at - 2] == '.'))
            && chars.get(at + 1).is_some_and(char::is_ascii_hexdigit);
        out.push(if matches!(c, 'x' | 'X') && between && !hexadecimal { '*' } else { c });
    }
    out
}

fn evaluate(expression: &str, deadline: &Deadline<'_>) -> Result<String, String> {
    let plain = fend(expression, deadline).map_err(|reason| explain(expression, reason))?;
    let Some(shown) = number::Shown::parse(&plain) else {
        return Ok(plain);
    };
    if shown.complex() {
        return Err(format!("the result is not a real number: {}", quoted(shown.number)));
    }
    let inexact_names = ["floor", "ceil", "round"].iter().any(|name| expression.contains(name));
    if inexact_names && shown.number.trim_start_matches('-').len() > 15 {
        return Err("floor, ceil and round are exact up to 15 digits only; use a - a mod b".into());
    }
    if !shown.approximate || !shown.decimal() {
        return Ok(shown.rounded());
    }
    // fend rounds 2.50000000004 to 2.6 when the digits before its cut are zeros, so it is asked for
    // more digits until the last one printed is not a dropped zero.
    let mut best = shown.rounded();
    for places in 25..35 {
        let Ok(longer) = fend(&format!("{expression} to {places} dp"), deadline) else { break };
        let Some(longer) = number::Shown::parse(&longer) else { break };
        let complete = longer.places() == places;
        best = longer.rounded();
        if complete {
            break;
        }
    }
    Ok(best)
}

fn fend(expression: &str, deadline: &Deadline<'_>) -> Result<String, String> {
    let mut context = fend_core::Context::new();
    let run = std::panic::AssertUnwindSafe(|| {
        fend_core::evaluate_with_interrupt(expression, &mut context, deadline)
    });
    match std::panic::catch_unwind(run) {
        Ok(Ok(result)) => Ok(result.get_main_result().to_owned()),
        Ok(Err(reason)) => Err(quoted(&reason)),
        Err(_) => Err("the calculator cannot read this expression".into()),
    }
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// fend's reason, with the remedy where the mistake is a known one.
fn explain(expression: &str, reason: String) -> String {
    let bare_date = expression.as_bytes().windows(10).any(|w| {
        w.iter().enumerate().all(|(at, b)| if at == 4 || at == 7 { *b == b'-' } else { b.is_ascii_digit() })
    });
    if bare_date {
        return format!("{reason}; write dates with @, as @2024-01-15");
    }
    if reason.contains("exchange rates") {
        return "currencies are not available".into();
    }
    if reason.contains("unexpected character '<'") || reason.contains("unexpected character '>'") {
        return format!("{reason}; there is no comparison, subtract instead");
    }
    reason
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn check(expression: &str, expected: &str) {
        let result = call(expression);
        assert_eq!((result.text.as_str(), result.fault), (expected, None), "{expression}");
    }

    fn check_fault(expression: &str, fault: ToolFault, part: &str) {
        let result = call(expression);
        assert_eq!(result.fault, Some(fault), "{expression}: {}", result.text);
        assert!(result.text.contains(part), "{expression}: {}", result.text);
    }

    fn call(expression: &str) -> ToolResult {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime
            .block_on(Calculator::new().call(&json!({ "expression": expression }), &ToolContext::default()))
    }

    #[test]
    fn the_card_shows_what_the_tool_gives() {
        for example in card().examples {
            check(example.arguments["expression"].as_str().expect("text"), &example.result);
        }
    }

    #[test]
    fn integers_are_exact_and_whole() {
        check("37*41+5", "1522");
        check("2^100", "1267650600228229401496703205376");
        check("25!", "15511210043330985984000000");
        check("10^20 mod 7", "2");
        check("123456789012345678901234567890 * 10", "1234567890123456789012345678900");
        check("1/3*3", "1");
        check("1,234,567 + 1", "1234568");
        check("-7 * 3", "-21");
    }

    #[test]
    fn other_numbers_are_plain_decimals_of_six_places() {
        check("1/3", "0.333333");
        check("2/3", "0.666667");
        check("-2/3", "-0.666667");
        check("7/2", "3.5");
        check("0.1 + 0.2", "0.3");
        check("sqrt 2", "1.414214");
        check("log10(1000)", "3");
        check("1/7000", "0.000142857");
        check("1e-8", "0.00000001");
        check("999999.9999999", "1000000");
        // fend itself prints 2.6 for these two.
        check("2.5 + 1/15000000000", "2.5");
        check("2.5000005", "2.500001");
    }

    #[test]
    fn operators_in_the_spellings_models_use() {
        check("3 x 4", "12");
        check("3x4", "12");
        check("(1+2)X(3)", "9");
        check("3 × 4 ÷ 2 − 1", "5");
        check("2**10", "1024");
        check("2 ^ 10 =", "1024");
        check("6 * 7 = ?", "42");
        check("0x10 + 0", "0x10");
        check("20% of 50", "10");
    }

    #[test]
    fn units_are_converted() {
        check("5 miles to km", "8.04672 km");
        check("5 kg to lb", "11.023113 lbs");
        check("90 km/h to m/s", "25 m/s");
        check("100 C to F", "212 °F");
        check("20 degrees Celsius to fahrenheit", "68 fahrenheit");
        check("3 hours to minutes", "180 minutes");
        check_fault("1 mile + 1 kg", ToolFault::Failed, "incompatible");
        check_fault("5 USD to EUR", ToolFault::Failed, "currencies are not available");
    }

    #[test]
    fn what_cannot_be_computed_says_why() {
        check_fault("7 / 0", ToolFault::Failed, "division by zero");
        check_fault("sqrt(-1)", ToolFault::Failed, "not a real number");
        check_fault("", ToolFault::Failed, "empty");
        check_fault("; ", ToolFault::Failed, "no value");
        check_fault("(1 + 2", ToolFault::Failed, "without its )");
        check_fault("1 + 2)", ToolFault::Failed, "without its (");
        check_fault("12 apples", ToolFault::Failed, "apples");
        check_fault("max(3, 5)", ToolFault::Failed, "no function \"max\"");
        check_fault("min(300,500)", ToolFault::Failed, "no function \"min\"");
        check_fault("3,5 + 1", ToolFault::Failed, "comma");
        check_fault("7 // 2", ToolFault::Failed, "floor");
        check_fault("f = x: f x; f 1", ToolFault::Failed, "':'");
        check_fault("floor(10^20 / 3)", ToolFault::Failed, "15 digits");
        check_fault("2024-01-15 + 3 days", ToolFault::Failed, "@2024-01-15");
    }

    #[test]
    fn what_would_take_forever_is_cut() {
        for expression in ["100000000!", "9^9^9^9"] {
            check_fault(expression, ToolFault::Limit, "too large");
        }
        check_fault("10^20000", ToolFault::Limit, "more than 10000");
        for expression in ["10^20000 * sqrt(-1)", "3+2^409996 99/ 5"] {
            let result = call(expression);
            assert!(result.fault.is_some() && result.text.len() < 250, "{expression}: {}", result.text.len());
        }
    }

    #[test]
    fn deep_and_long_expressions_do_not_end_the_process() {
        check_fault(&"(".repeat(900), ToolFault::Failed, "nested");
        check_fault(&"1+".repeat(100_000), ToolFault::Failed, "longer");
        for part in ["-", "sqrt ", "1^", "1+", "1/", "1 ", "!", "1e", "@", "'", "a=", "1;", "not "] {
            let text = part.repeat(MAX_EXPRESSION_CHARS / part.len() - 1) + "1";
            let result = call(&text);
            assert!(!result.text.is_empty(), "{part}");
        }
    }

    #[test]
    fn a_stopped_calculation_ends() {
        let stop = AtomicBool::new(true);
        assert_eq!(calculate("100000000!", &stop).fault, Some(ToolFault::Limit));
    }
}
