//! A server's JSON schema in the subset that prompts, grammars and the argument check know.
//!
//! Where a schema says more, the card says less: the server still checks what it gets. Every text in it is
//! somebody else's and is cleaned and cut.

use serde_json::{Map, Value, json};

use super::card::clean;
use crate::engine::grammar;

const DEPTH: usize = 8;
/// Properties one object may have.
const PROPERTIES: usize = 64;
/// Values one enum may have.
const VALUES: usize = 64;
/// Characters of a property's description.
const WORDS: usize = 160;
/// Bytes of a whole card's schema; it stands in prompts.
const SCHEMA_MOST: usize = 8 << 10;
/// Parts one schema may have, followed references counted each time: more would not fit into SCHEMA_MOST, and a few
/// definitions that refer to each other many times make millions out of a short message.
const PARTS: usize = 512;
/// Repetitions a grammar can count.
const REPEATS: u64 = 2000;
const ITEMS: u64 = 64;

/// The schema for a card.
///
/// # Errors
/// Why no arguments could be made for it.
pub fn simplified(schema: &Value) -> Result<Value, String> {
    let mut simple = Reader::of(schema, true).value(schema, DEPTH)?;
    if simple["type"] != "object" {
        return Err("its arguments are no object".to_string());
    }
    if simple.to_string().len() > SCHEMA_MOST {
        simple = Reader::of(schema, false).value(schema, DEPTH)?;
    }
    let bytes = simple.to_string().len();
    if bytes > SCHEMA_MOST {
        return Err(format!(
            "its schema takes {bytes} bytes without descriptions, at most {SCHEMA_MOST} are shown"
        ));
    }
    grammar::schema_to_gbnf(&simple).map_err(|e| e.to_string())?;
    Ok(simple)
}

/// What references lead into, and how much of it has been read.
struct Reader<'a> {
    root: &'a Value,
    words: bool,
    parts: usize,
}

impl Reader<'_> {
    fn of(root: &Value, words: bool) -> Reader<'_> {
        Reader { root, words, parts: 0 }
    }

    fn value(&mut self, schema: &Value, depth: usize) -> Result<Value, String> {
        if depth == 0 {
            return Err(format!("its schema is nested deeper than {DEPTH} levels"));
        }
        self.parts += 1;
        if self.parts > PARTS {
            return Err(format!("its schema has more than {PARTS} parts"));
        }
        if let Some(place) = schema.get("$ref").and_then(Value::as_str) {
            let found = place.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            let found = found
                .ok_or_else(|| format!("its schema refers to {:?}, which is not in it", clean(place, 60)))?;
            return self.value(found, depth - 1);
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            // The first form that is not null; what the others allow is not offered.
            let forms = schema.get(key).and_then(Value::as_array);
            if let Some(form) = forms.and_then(|forms| forms.iter().find(|form| form["type"] != "null")) {
                let mut chosen = self.value(form, depth - 1)?;
                describe(&mut chosen, schema, self.words);
                return Ok(chosen);
            }
        }
        let mut simple = match kind(schema) {
            "object" => self.object(schema, depth)?,
            "array" => self.array(schema, depth)?,
            kind => scalar(schema, kind),
        };
        describe(&mut simple, schema, self.words);
        Ok(simple)
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Result<Value, String> {
        let empty = Map::new();
        let given = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        if given.len() > PROPERTIES {
            return Err(format!("it takes {} arguments, at most {PROPERTIES} are shown", given.len()));
        }
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        // Required ones first: a grammar can leave out only what stands after the last of them.
        let (first, rest): (Vec<_>, Vec<_>) =
            given.iter().partition(|(name, _)| required.contains(&name.as_str()));
        let mut properties = Map::new();
        for (name, inner) in first.iter().chain(&rest) {
            if name.is_empty() || name.len() > 64 || !name.chars().all(|c| c.is_ascii_graphic() && c != '"') {
                return Err(format!("an argument is called {:?}", clean(name, 40)));
            }
            properties.insert((*name).clone(), self.value(inner, depth - 1)?);
        }
        let names: Vec<&String> = first.iter().map(|(name, _)| *name).collect();
        Ok(
            json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false}),
        )
    }

    fn array(&mut self, schema: &Value, depth: usize) -> Result<Value, String> {
        let items = match schema.get("items") {
            Some(items @ Value::Object(_)) => self.value(items, depth - 1)?,
            _ => json!({"type": "string"}),
        };
        let mut simple = json!({"type": "array", "items": items});
        bounds(&mut simple, schema, ["minItems", "maxItems"], ITEMS);
        Ok(simple)
    }
}

/// The one type of a schema: of several the first that is not null, of none the likeliest.
fn kind(schema: &Value) -> &str {
    let known = ["object", "array", "string", "integer", "number", "boolean"];
    let named = match &schema["type"] {
        Value::String(kind) => Some(kind.as_str()),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        _ if schema.get("properties").is_some() => Some("object"),
        _ if schema.get("items").is_some() => Some("array"),
        _ => None,
    };
    named.filter(|kind| known.contains(kind)).unwrap_or("string")
}

fn scalar(schema: &Value, kind: &str) -> Value {
    let constant = schema.get("const").map(std::slice::from_ref);
    let values = schema.get("enum").and_then(Value::as_array).map(Vec::as_slice).or(constant);
    let fit = |value: &&Value| match value {
        Value::String(text) => text.chars().count() <= 200 && crate::text::safe(text) == **text,
        Value::Number(_) | Value::Bool(_) => true,
        _ => false,
    };
    let values: Vec<&Value> = values.unwrap_or_default().iter().filter(fit).take(VALUES).collect();
    if !values.is_empty() {
        return json!({"type": kind, "enum": values});
    }
    let mut simple = json!({"type": kind});
    match kind {
        "string" => bounds(&mut simple, schema, ["minLength", "maxLength"], REPEATS),
        "integer" | "number" => {
            let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
            if bound("minimum").zip(bound("maximum")).is_none_or(|(least, most)| least <= most) {
                for key in ["minimum", "maximum"] {
                    if let Some(number) = schema.get(key).filter(|number| number.is_number()) {
                        simple[key] = number.clone();
                    }
                }
            }
        }
        _ => {}
    }
    simple
}

/// Carry two counts over where they can be kept.
fn bounds(simple: &mut Value, schema: &Value, [least, most]: [&str; 2], limit: u64) {
    let count = |key: &str| schema.get(key).and_then(Value::as_u64);
    let (low, high) = (count(least), count(most));
    if low.is_some_and(|low| low > limit) || low.zip(high).is_some_and(|(low, high)| high < low) {
        return;
    }
    for (key, value) in [(least, low), (most, high)] {
        if let Some(value) = value {
            simple[key] = value.into();
        }
    }
}

fn describe(simple: &mut Value, schema: &Value, words: bool) {
    let text = schema["description"].as_str().map(|text| clean(text, WORDS)).unwrap_or_default();
    if words && !text.is_empty() {
        simple["description"] = text.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: Value, expected: Value) {
        assert_eq!(simplified(&schema).unwrap(), expected, "{schema}");
    }

    #[test]
    fn schemas_of_real_servers_come_out_in_the_subset() {
        check(
            json!({"type": "object"}),
            json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false}),
        );
        check(
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {
                "tail": {"type": ["integer", "null"], "exclusiveMinimum": 0, "description": "Last\u{202e} lines\u{1b}[31m"},
                "path": {"type": "string", "format": "uri", "pattern": "^/"},
                "sort": {"default": "name", "enum": ["name", "size", {"x": 1}], "type": "string"},
                "edits": {"type": "array", "items": {"$ref": "#/$defs/edit"}, "minItems": 1}
            }, "required": ["path", "missing"], "$defs": {"edit": {"anyOf": [{"type": "null"}, {"type": "object",
                "properties": {"old": {}}, "required": ["old"]}], "description": "One edit"}}}),
            json!({"type": "object", "properties": {
                "path": {"type": "string"},
                "tail": {"type": "integer", "description": "Last lines"},
                "sort": {"type": "string", "enum": ["name", "size"]},
                "edits": {"type": "array", "items": {"type": "object", "properties": {"old": {"type": "string"}},
                    "required": ["old"], "additionalProperties": false, "description": "One edit"}, "minItems": 1}
            }, "required": ["path"], "additionalProperties": false}),
        );
    }

    #[test]
    fn what_cannot_be_shown_is_refused_with_the_reason() {
        let mut deep = json!({"type": "string"});
        for _ in 0..20 {
            deep = json!({"type": "object", "properties": {"x": deep}});
        }
        let loops = json!({"type": "object", "properties": {"x": {"$ref": "#"}}});
        // Three kilobytes that would be sixteen million parts.
        let wide_of = |kind: &str| {
            let fields = (0..64).map(|n| (format!("p{n}"), json!({"$ref": format!("#/d/{kind}")})));
            json!({"type": "object", "properties": fields.collect::<Map<_, _>>()})
        };
        let mut bomb = wide_of("a");
        let plain: Map<String, Value> = (0..64).map(|n| (format!("p{n}"), json!({}))).collect();
        let last = json!({"type": "object", "properties": plain});
        bomb["d"] = json!({"a": wide_of("b"), "b": wide_of("c"), "c": last});
        let named = |name: &str| json!({"type": "object", "properties": {name: {"type": "string"}}});
        let wide: Map<String, Value> = (0..65).map(|n| (format!("p{n}"), json!({}))).collect();
        let many = |count: usize| (0..count).map(|n| format!("value number {n} of many")).collect::<Vec<_>>();
        let fat: Map<String, Value> = (0..20).map(|n| (format!("p{n}"), json!({"enum": many(60)}))).collect();
        for (schema, part) in [
            (json!([]), "no object"),
            (json!({"type": "string"}), "no object"),
            (deep, "nested deeper than 8"),
            (loops, "nested deeper than 8"),
            (json!({"type": "object", "properties": {"x": {"$ref": "http://h/x"}}}), "which is not in it"),
            (bomb, "more than 512 parts"),
            (named("раth"), "is called"),
            (named("a\"b"), "is called"),
            (json!({"type": "object", "properties": wide}), "65 arguments"),
            (json!({"type": "object", "properties": fat}), "bytes without descriptions"),
        ] {
            let why = simplified(&schema).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn long_descriptions_go_before_a_tool_does() {
        let property = json!({"type": "string", "description": "word ".repeat(100)});
        let many: Map<String, Value> = (0..60).map(|n| (format!("p{n}"), property.clone())).collect();
        let simple = simplified(&json!({"type": "object", "properties": many})).unwrap();
        assert!(simple["properties"]["p1"].get("description").is_none());
    }
}
