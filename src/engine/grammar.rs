//! JSON schema to GBNF: the grammar that holds a frozen role's reply to a card's arguments.
//!
//! Only the subset cards use is known; any other keyword is an error that names it, since a grammar that
//! silently allowed more would be worse than none. The grammar writes compact JSON (no blanks, properties
//! in the schema's order), because a small model should spend no token on layout. It checks no values:
//! `tools::schema` does that, also for the bounds too wide for a grammar (see [`MAX_REPEAT`]).

use serde_json::{Map, Value};

use crate::error::EngineError;

/// llama.cpp turns longer repetitions into unbounded ones; such a `maxLength` is left to the checker.
const MAX_REPEAT: u64 = 2000;
/// Longer arrays are left unbounded: each item copies its rule.
const MAX_ITEMS: u64 = 64;
/// An integer range of at most this many values is spelt out; a wider one is left to the checker.
const MAX_SPELT: i64 = 256;
const MAX_DEPTH: usize = 16;

/// Keywords that describe and constrain nothing a grammar could add.
const NOTES: [&str; 8] =
    ["type", "title", "description", "default", "examples", "$schema", "$id", "additionalProperties"];

/// Rules every grammar may refer to. Surrogates come in pairs, else no JSON parser would take them.
const BASICS: [(&str, &str); 7] = [
    ("string", r#""\"" char* "\"""#),
    ("char", r#"[^"\\\x00-\x1F] | "\\" escape"#),
    ("escape", r#"["\\/bfnrt] | "u" unicode"#),
    (
        "unicode",
        r#"[0-9abcefABCEF] hex hex hex | [dD] [0-7] hex hex | [dD] [89abAB] hex hex "\\u" [dD] [c-fC-F] hex hex"#,
    ),
    ("hex", "[0-9a-fA-F]"),
    ("natural", r#""0" | [1-9] [0-9]{0,15}"#),
    ("number", r#""-"? natural ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?"#),
];

/// The GBNF grammar (root rule `root`) of the compact JSON texts that fit `schema`.
///
/// Optional properties may be left out only at the end: those before the last required one are written.
///
/// # Errors
/// [`EngineError::Grammar`] naming the keyword and the place it stands at.
pub fn schema_to_gbnf(schema: &Value) -> Result<String, EngineError> {
    let mut builder = Builder { rules: Vec::new() };
    let root = builder.value(schema, "arguments", MAX_DEPTH)?;
    let mut text = format!("root ::= {root}\n");
    for (name, body) in builder.rules.iter().map(|(n, b)| (n.as_str(), b.as_str())).chain(BASICS) {
        text.push_str(&format!("{name} ::= {body}\n"));
    }
    Ok(text)
}

/// Collects the named rules of nested objects and arrays.
struct Builder {
    rules: Vec<(String, String)>,
}

impl Builder {
    /// The expression that matches one value of the schema.
    fn value(&mut self, schema: &Value, place: &str, depth: usize) -> Result<String, EngineError> {
        let Some(schema) = schema.as_object() else {
            return Err(refuse(place, "a schema must be an object"));
        };
        if depth == 0 {
            return Err(refuse(place, &format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if let Some(value) = schema.get("const") {
            known(schema, place, &["const"])?;
            return Ok(literal(value));
        }
        if let Some(values) = schema.get("enum") {
            known(schema, place, &["enum"])?;
            return one_of(values, place);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => self.object(schema, place, depth),
            Some("array") => self.array(schema, place, depth),
            Some("string") => string(schema, place),
            Some("integer") => integer(schema, place),
            Some("number") => known(schema, place, &["minimum", "maximum"]).map(|()| "number".to_string()),
            Some("boolean") => known(schema, place, &[]).map(|()| r#"("true" | "false")"#.to_string()),
            Some("null") => known(schema, place, &[]).map(|()| r#""null""#.to_string()),
            Some(other) => Err(refuse(place, &format!("type {other:?} is not supported"))),
            None => match schema.keys().find(|key| !NOTES.contains(&key.as_str())) {
                Some(key) => Err(refuse(place, &format!("keyword {key:?} is not supported"))),
                None => Err(refuse(place, "\"type\" must name one type")),
            },
        }
    }

    fn object(
        &mut self,
        schema: &Map<String, Value>,
        place: &str,
        depth: usize,
    ) -> Result<String, EngineError> {
        known(schema, place, &["properties", "required"])?;
        let empty = Map::new();
        let properties = match schema.get("properties") {
            None => &empty,
            Some(value) => {
                value.as_object().ok_or_else(|| refuse(place, "\"properties\" must be an object"))?
            }
        };
        let required = required(schema, properties, place)?;
        let mut pairs = Vec::with_capacity(properties.len());
        for (name, inner) in properties {
            let expression = self.value(inner, &format!("{place}.{name}"), depth - 1)?;
            let key = quoted(&format!("{}:", Value::from(name.as_str())));
            pairs.push(format!("{key} {expression}"));
        }
        let mut tail = String::new();
        for (index, pair) in pairs.iter().enumerate().skip(required).rev() {
            let comma = if index == 0 { "" } else { "\",\" " };
            let inner = if tail.is_empty() { String::new() } else { format!(" {tail}") };
            tail = format!("({comma}{pair}{inner})?");
        }
        let mut body = vec!["\"{\"".to_string()];
        if required > 0 {
            body.push(pairs[..required].join(" \",\" "));
        }
        if !tail.is_empty() {
            body.push(tail);
        }
        body.push("\"}\"".to_string());
        Ok(self.named("object", body.join(" ")))
    }

    fn array(
        &mut self,
        schema: &Map<String, Value>,
        place: &str,
        depth: usize,
    ) -> Result<String, EngineError> {
        known(schema, place, &["items", "minItems", "maxItems"])?;
        let items = schema.get("items").ok_or_else(|| refuse(place, "an array needs \"items\""))?;
        let least = count(schema, "minItems", place)?.unwrap_or(0);
        let most = count(schema, "maxItems", place)?;
        if least > MAX_ITEMS || most.is_some_and(|most| most < least) {
            return Err(refuse(place, &format!("\"minItems\" must be at most \"maxItems\" and {MAX_ITEMS}")));
        }
        let item = self.value(items, &format!("{place}[]"), depth - 1)?;
        if most == Some(0) {
            return Ok("\"[]\"".to_string());
        }
        let least_more = least.saturating_sub(1);
        let more = match most.filter(|most| *most <= MAX_ITEMS) {
            Some(1) => String::new(),
            Some(most) => format!(" (\",\" {item}){{{least_more},{}}}", most - 1),
            None => format!(" (\",\" {item}){{{least_more},}}"),
        };
        let filled = format!("{item}{more}");
        let body =
            if least == 0 { format!("\"[\" ({filled})? \"]\"") } else { format!("\"[\" {filled} \"]\"") };
        Ok(self.named("array", body))
    }

    fn named(&mut self, kind: &str, body: String) -> String {
        let name = format!("{kind}{}", self.rules.len() + 1);
        self.rules.push((name.clone(), body));
        name
    }
}

fn string(schema: &Map<String, Value>, place: &str) -> Result<String, EngineError> {
    known(schema, place, &["minLength", "maxLength"])?;
    let least = count(schema, "minLength", place)?.unwrap_or(0);
    let most = count(schema, "maxLength", place)?;
    if least > MAX_REPEAT || most.is_some_and(|most| most < least) {
        let reason = format!("\"minLength\" must be at most \"maxLength\" and {MAX_REPEAT}");
        return Err(refuse(place, &reason));
    }
    Ok(match (least, most.filter(|most| *most <= MAX_REPEAT)) {
        (0, None) => "string".to_string(),
        (_, None) => format!(r#""\"" char{{{least},}} "\"""#),
        (_, Some(most)) => format!(r#""\"" char{{{least},{most}}} "\"""#),
    })
}

fn integer(schema: &Map<String, Value>, place: &str) -> Result<String, EngineError> {
    known(schema, place, &["minimum", "maximum"])?;
    let least = schema.get("minimum").and_then(Value::as_i64);
    let most = schema.get("maximum").and_then(Value::as_i64);
    match (least, most) {
        (Some(least), Some(most)) if most < least => {
            Err(refuse(place, "\"minimum\" must be at most \"maximum\""))
        }
        (Some(least), Some(most)) if most.saturating_sub(least) < MAX_SPELT => {
            let values: Vec<String> = (least..=most).map(|value| format!("\"{value}\"")).collect();
            Ok(format!("({})", values.join(" | ")))
        }
        (Some(0..), _) => Ok("natural".to_string()),
        _ => Ok(r#"("-"? natural)"#.to_string()),
    }
}

fn one_of(values: &Value, place: &str) -> Result<String, EngineError> {
    match values.as_array().map(Vec::as_slice) {
        None | Some([]) => Err(refuse(place, "\"enum\" must be a list that is not empty")),
        Some(values) => Ok(format!("({})", values.iter().map(literal).collect::<Vec<_>>().join(" | "))),
    }
}

/// How many properties are always written: all up to the last required one.
fn required(
    schema: &Map<String, Value>,
    properties: &Map<String, Value>,
    place: &str,
) -> Result<usize, EngineError> {
    let Some(names) = schema.get("required") else { return Ok(0) };
    let names = names.as_array().ok_or_else(|| refuse(place, "\"required\" must be a list"))?;
    let mut last = 0;
    for name in names {
        let position = properties.keys().position(|key| Some(key.as_str()) == name.as_str());
        match position {
            Some(position) => last = last.max(position + 1),
            None => return Err(refuse(place, &format!("\"required\" names {name}, which is no property"))),
        }
    }
    Ok(last)
}

fn known(schema: &Map<String, Value>, place: &str, keywords: &[&str]) -> Result<(), EngineError> {
    match schema.keys().find(|key| !NOTES.contains(&key.as_str()) && !keywords.contains(&key.as_str())) {
        Some(key) => Err(refuse(place, &format!("keyword {key:?} is not supported"))),
        None if schema.get("additionalProperties").is_some_and(|value| !value.is_boolean()) => {
            Err(refuse(place, "keyword \"additionalProperties\" with a schema is not supported"))
        }
        None => Ok(()),
    }
}

fn count(schema: &Map<String, Value>, key: &str, place: &str) -> Result<Option<u64>, EngineError> {
    match schema.get(key) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(count) => Ok(Some(count)),
            None => Err(refuse(place, &format!("{key:?} must be a count, it is {value}"))),
        },
    }
}

fn literal(value: &Value) -> String {
    quoted(&value.to_string())
}

/// JSON text as a GBNF literal. JSON has no raw control characters, so two escapes suffice.
fn quoted(json: &str) -> String {
    format!("\"{}\"", json.replace('\\', "\\\\").replace('"', "\\\""))
}

fn refuse(place: &str, reason: &str) -> EngineError {
    EngineError::Grammar(format!("schema of {place}: {reason}"))
}

#[cfg(test)]
#[path = "grammar_tests.rs"]
mod tests;
