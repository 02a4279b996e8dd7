//! Tests of `grammar`, with a small GBNF acceptor of their own (backtracking, no llama.cpp).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::schema_to_gbnf;

/// What one symbol of a rule matches.
#[derive(Clone, Debug)]
enum Symbol {
    Text(Vec<char>),
    Class(bool, Vec<(char, char)>),
    Rule(String),
    Group(Vec<Vec<Symbol>>),
    Repeat(Box<Symbol>, usize, usize),
}

struct Grammar {
    rules: BTreeMap<String, Vec<Vec<Symbol>>>,
}

impl Grammar {
    fn parse(text: &str) -> Grammar {
        let rules = text.lines().map(|line| {
            let (name, body) = line.split_once(" ::= ").expect("a rule per line");
            let mut chars = body.chars().collect::<Vec<_>>();
            chars.push(')');
            let mut at = 0;
            let alternatives = alternatives(&chars, &mut at);
            assert_eq!(at, chars.len(), "all of {line}");
            (name.to_string(), alternatives)
        });
        let grammar = Grammar { rules: rules.collect() };
        grammar.all_rules_exist();
        grammar
    }

    fn all_rules_exist(&self) {
        let mut pending: Vec<&Symbol> = self.rules.values().flatten().flatten().collect();
        while let Some(symbol) = pending.pop() {
            match symbol {
                Symbol::Rule(name) => assert!(self.rules.contains_key(name), "{name}"),
                Symbol::Group(inner) => pending.extend(inner.iter().flatten()),
                Symbol::Repeat(inner, ..) => pending.push(inner),
                Symbol::Text(_) | Symbol::Class(..) => {}
            }
        }
    }

    fn accepts(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.ends(&self.rules["root"], &text, 0).contains(&text.len())
    }

    fn ends(&self, alternatives: &[Vec<Symbol>], text: &[char], start: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for sequence in alternatives {
            let mut at = BTreeSet::from([start]);
            for symbol in sequence {
                at = at.into_iter().flat_map(|start| self.step(symbol, text, start)).collect();
            }
            found.extend(at);
        }
        found
    }

    fn step(&self, symbol: &Symbol, text: &[char], start: usize) -> BTreeSet<usize> {
        match symbol {
            Symbol::Text(wanted) if text[start..].starts_with(wanted) => {
                BTreeSet::from([start + wanted.len()])
            }
            Symbol::Text(_) => BTreeSet::new(),
            Symbol::Class(negated, ranges) => match text.get(start) {
                Some(c) if ranges.iter().any(|(low, high)| (low..=high).contains(&c)) != *negated => {
                    BTreeSet::from([start + 1])
                }
                _ => BTreeSet::new(),
            },
            Symbol::Rule(name) => self.ends(&self.rules[name], text, start),
            Symbol::Group(inner) => self.ends(inner, text, start),
            Symbol::Repeat(inner, least, most) => {
                let mut found = BTreeSet::new();
                let mut at = BTreeSet::from([start]);
                for round in 0..=*most {
                    if round >= *least {
                        found.extend(at.iter().copied());
                    }
                    at = at.into_iter().flat_map(|start| self.step(inner, text, start)).collect();
                    if at.is_empty() {
                        break;
                    }
                }
                found
            }
        }
    }
}

fn alternatives(chars: &[char], at: &mut usize) -> Vec<Vec<Symbol>> {
    let mut all = vec![Vec::new()];
    loop {
        let c = chars[*at];
        *at += 1;
        let symbol = match c {
            ' ' => continue,
            ')' => return all,
            '|' => {
                all.push(Vec::new());
                continue;
            }
            '(' => Symbol::Group(alternatives(chars, at)),
            '"' => Symbol::Text(std::iter::from_fn(|| one_char(chars, at, '"')).collect()),
            '[' => class(chars, at),
            '?' | '*' | '{' => repeat(&mut all, chars, at, c),
            _ => {
                let mut name = c.to_string();
                while chars[*at].is_ascii_alphanumeric() {
                    name.push(chars[*at]);
                    *at += 1;
                }
                Symbol::Rule(name)
            }
        };
        all.last_mut().expect("never empty").push(symbol);
    }
}

fn repeat(all: &mut [Vec<Symbol>], chars: &[char], at: &mut usize, mark: char) -> Symbol {
    let previous = all.last_mut().and_then(Vec::pop).expect("something to repeat");
    let (least, most) = match mark {
        '?' => (0, 1),
        '*' => (0, usize::MAX - 1),
        _ => {
            let end = *at + chars[*at..].iter().position(|c| *c == '}').expect("}");
            let inner: String = chars[*at..end].iter().collect();
            *at = end + 1;
            let (least, most) = inner.split_once(',').expect("two bounds");
            (least.parse().expect("a count"), most.parse().unwrap_or(usize::MAX - 1))
        }
    };
    Symbol::Repeat(Box::new(previous), least, most)
}

/// One character of a literal or class, its escape resolved as llama.cpp does; None at the closing mark.
fn one_char(chars: &[char], at: &mut usize, closing: char) -> Option<char> {
    let c = chars[*at];
    *at += 1;
    if c == closing {
        return None;
    }
    if c != '\\' {
        return Some(c);
    }
    let escaped = chars[*at];
    *at += 1;
    match escaped {
        'x' => {
            let digits: String = chars[*at..*at + 2].iter().collect();
            *at += 2;
            char::from_u32(u32::from_str_radix(&digits, 16).expect("hex"))
        }
        '\\' | '"' | '[' | ']' | '-' => Some(escaped),
        other => panic!("llama.cpp knows no escape \\{other}"),
    }
}

fn class(chars: &[char], at: &mut usize) -> Symbol {
    let negated = chars[*at] == '^';
    *at += usize::from(negated);
    let mut ranges = Vec::new();
    while let Some(low) = one_char(chars, at, ']') {
        if chars[*at] == '-' && chars[*at + 1] != ']' {
            *at += 1;
            ranges.push((low, one_char(chars, at, ']').expect("a range has an end")));
        } else {
            ranges.push((low, low));
        }
    }
    Symbol::Class(negated, ranges)
}

#[track_caller]
fn check(schema: Value, good: &[&str], bad: &[&str]) {
    let text = schema_to_gbnf(&schema).expect("a supported schema");
    let grammar = Grammar::parse(&text);
    for text in good {
        serde_json::from_str::<Value>(text).expect("the test's own JSON");
        assert!(grammar.accepts(text), "{text} should fit {schema}");
    }
    for text in bad {
        assert!(!grammar.accepts(text), "{text} should not fit {schema}");
    }
}

#[track_caller]
fn refused(schema: Value, expected: &str) {
    let error = schema_to_gbnf(&schema).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_calculators_card() {
    let schema = json!({"type": "object", "properties": {"expression": {"type": "string"}},
        "required": ["expression"], "additionalProperties": false});
    let text = schema_to_gbnf(&schema).unwrap();
    assert!(
        text.starts_with("root ::= object1\nobject1 ::= \"{\" \"\\\"expression\\\":\" string \"}\"\n"),
        "{text}"
    );
    check(
        schema,
        &[r#"{"expression":"1+2"}"#, r#"{"expression":""}"#],
        &[
            "{}",
            r#"{"expression":1}"#,
            r#"{ "expression":"1"}"#,
            r#"{"expression":"1"} "#,
            r#"{"other":"1"}"#,
        ],
    );
}

#[test]
fn strings_take_every_escape_and_no_control_character() {
    check(
        json!({"type": "string"}),
        &[r#""a\"b\\c\n\t\/ é 漢 😀""#, r#""\u00e9\uD83D\uDE00""#, "\"\u{7f}\u{2028}\""],
        &["\"\n\"", r#""\x""#, r#""\u12""#, r#""\uD83D""#, r#""\uDE00""#, "\"\"\"", "\"", "\"\0\""],
    );
    check(
        json!({"type": "string", "minLength": 1, "maxLength": 3}),
        &["\"abc\"", r#""\n""#],
        &["\"\"", "\"abcd\""],
    );
    let long = format!("\"{}\"", "x".repeat(2500));
    check(json!({"type": "string", "maxLength": 9000}), &[&long], &[]);
    check(json!({"type": "string", "maxLength": 2000}), &[], &[&long]);
}

#[test]
fn numbers_and_ranges() {
    check(
        json!({"type": "integer"}),
        &["0", "-12", "9007199254740991"],
        &["01", "1.0", "+1", "", "-", "1e3"],
    );
    check(json!({"type": "integer", "minimum": 1, "maximum": 10}), &["1", "10"], &["0", "11", "-1"]);
    check(json!({"type": "integer", "minimum": 0}), &["0", "77"], &["-1"]);
    check(json!({"type": "number"}), &["1", "-0.5", "1e-9", "2.5E+10"], &[".5", "1.", "NaN", "00"]);
    check(json!({"type": "boolean"}), &["true", "false"], &["null", "True"]);
    check(json!({"type": "null"}), &["null"], &["0"]);
}

#[test]
fn enum_and_const_are_literals() {
    check(
        json!({"type": "string", "enum": ["any", "a\"b\\\n", 3]}),
        &["\"any\"", r#""a\"b\\\n""#, "3"],
        &["any", "\"x\""],
    );
    check(json!({"const": {"a": [1, null]}}), &[r#"{"a":[1,null]}"#], &["{}"]);
}

#[test]
fn optional_properties_are_left_out_only_at_the_end() {
    let schema = |required: Value| {
        json!({"type": "object", "required": required, "properties":
            {"a": {"type": "boolean"}, "b": {"type": "boolean"}, "c": {"type": "boolean"}}})
    };
    let all = r#"{"a":true,"b":true,"c":true}"#;
    check(
        schema(json!(["a"])),
        &[r#"{"a":true}"#, r#"{"a":true,"b":true}"#, all],
        &["{}", r#"{"a":true,"c":true}"#],
    );
    check(
        schema(json!(["b"])),
        &[r#"{"a":true,"b":true}"#, all],
        &[r#"{"b":true}"#, r#"{"b":true,"a":true}"#],
    );
    check(schema(json!([])), &["{}", r#"{"a":true}"#, all], &[r#"{"b":true}"#, r#"{,"a":true}"#]);
    check(json!({"type": "object"}), &["{}"], &[r#"{"a":1}"#]);
}

#[test]
fn arrays_and_nesting() {
    let of = |least: u64, most: u64| json!({"type": "array", "items": {"type": "integer"}, "minItems": least, "maxItems": most});
    check(of(0, 2), &["[]", "[1]", "[1,2]"], &["[1,2,3]", "[,]", "[1,]"]);
    check(of(2, 3), &["[1,2]", "[1,2,3]"], &["[]", "[1]", "[1,2,3,4]"]);
    check(of(0, 0), &["[]"], &["[1]"]);
    check(of(0, 1), &["[]", "[1]"], &["[1,2]"]);
    check(
        json!({"type": "object", "required": ["rows"], "properties": {"rows": {"type": "array", "items":
            {"type": "object", "required": ["n"], "properties": {"n": {"type": "number"}, "é\"": {"type": "string"}}}}}}),
        &[r#"{"rows":[]}"#, r#"{"rows":[{"n":1},{"n":2.5,"é\"":"x"}]}"#],
        &[r#"{"rows":[1]}"#, r#"{"rows":{}}"#, r#"{"rows":[{}]}"#],
    );
}

#[test]
fn what_is_not_supported_is_named_with_its_place() {
    refused(json!({"type": "string", "pattern": "a+"}), "schema of arguments: keyword \"pattern\"");
    refused(
        json!({"type": "object", "properties": {"a": {"anyOf": []}}}),
        "schema of arguments.a: keyword \"anyOf\"",
    );
    refused(json!({"type": ["string", "null"]}), "must name one type");
    refused(json!({"type": "date"}), "\"date\"");
    refused(json!({"type": "array"}), "\"items\"");
    refused(json!({"type": "object", "required": ["x"]}), "names \"x\"");
    refused(json!({"type": "object", "additionalProperties": {"type": "string"}}), "additionalProperties");
    refused(json!({"type": "string", "maxLength": -1}), "maxLength");
    refused(json!({"enum": []}), "enum");
    refused(json!(true), "must be an object");
    let mut deep = json!({"type": "boolean"});
    for _ in 0..20 {
        deep = json!({"type": "array", "items": deep});
    }
    refused(deep, "deeper");
}

proptest! {
    #[test]
    fn whatever_serde_writes_for_a_string_and_a_number_fits(text in any::<String>(), whole in -10_000_000_000_000_i64..10_000_000_000_000) {
        let schema = json!({"type": "object", "required": ["s", "i"], "properties": {"s": {"type": "string"}, "i": {"type": "integer"}}});
        let grammar = Grammar::parse(&schema_to_gbnf(&schema).unwrap());
        let written = json!({"s": text, "i": whole}).to_string();
        prop_assert!(grammar.accepts(&written), "{}", written);
    }
}
