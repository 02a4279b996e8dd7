//! Checks arguments against a card's JSON schema (the subset cards use).
//!
//! Knows: type (object, string, integer, number, boolean, array), properties, required,
//! additionalProperties false, enum, maxLength, minLength, minimum, maximum, items, maxItems. Other
//! keywords are ignored. It does not validate schemas and resolves no references.

use serde_json::Value;

/// How deep a schema is followed; cards are two or three levels deep.
const MAX_DEPTH: usize = 16;

/// # Errors
/// Says which argument is wrong and what was expected, in words a model can act on.
pub fn check(schema: &Value, arguments: &Value) -> Result<(), String> {
    value(schema, arguments, "arguments", MAX_DEPTH)
}

fn value(schema: &Value, given: &Value, name: &str, depth: usize) -> Result<(), String> {
    if depth == 0 {
        return Err(format!("{name} is nested too deeply"));
    }
    if let Some(kind) = schema.get("type").and_then(Value::as_str)
        && !has_type(given, kind)
    {
        return Err(format!("{name} must be {}, got {}", with_article(kind), type_name(given)));
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(given)
    {
        let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
        return Err(format!("{name} must be one of {}", list.join(", ")));
    }
    match given {
        Value::Object(_) => object(schema, given, name, depth),
        Value::Array(items) => array(schema, items, name, depth),
        Value::String(text) => string(schema, text, name),
        Value::Number(number) => range(schema, number.as_f64().unwrap_or(f64::NAN), name),
        Value::Bool(_) | Value::Null => Ok(()),
    }
}

fn object(schema: &Value, given: &Value, name: &str, depth: usize) -> Result<(), String> {
    let (Some(properties), Some(given)) =
        (schema.get("properties").and_then(Value::as_object), given.as_object())
    else {
        return Ok(());
    };
    let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for wanted in required.iter().filter_map(Value::as_str) {
        if !given.contains_key(wanted) {
            return Err(format!("{name} lack {wanted:?}; expected {}", expected(schema)));
        }
    }
    for (key, inner) in given {
        match properties.get(key) {
            Some(schema) => value(schema, inner, &format!("{key:?}"), depth - 1)?,
            None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                return Err(format!("{name} have no {:?}; expected {}", cut(key), expected(schema)));
            }
            None => {}
        }
    }
    Ok(())
}

fn array(schema: &Value, items: &[Value], name: &str, depth: usize) -> Result<(), String> {
    if let Some(most) = count(schema, "maxItems")
        && items.len() > most
    {
        return Err(format!("{name} has {} items, at most {most} are allowed", items.len()));
    }
    match schema.get("items") {
        Some(each) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, item)| value(each, item, &format!("{name}[{at}]"), depth - 1)),
        None => Ok(()),
    }
}

fn string(schema: &Value, text: &str, name: &str) -> Result<(), String> {
    let length = || text.chars().count();
    // A byte is at most one character, so most strings need no counting.
    if let Some(most) = count(schema, "maxLength")
        && text.len() > most
        && length() > most
    {
        return Err(format!("{name} has {} characters, at most {most} are allowed", length()));
    }
    if let Some(least) = count(schema, "minLength")
        && length() < least
    {
        return Err(format!("{name} has {} characters, at least {least} are needed", length()));
    }
    Ok(())
}

fn range(schema: &Value, number: f64, name: &str) -> Result<(), String> {
    if let Some(least) = schema.get("minimum").and_then(Value::as_f64)
        && number < least
    {
        return Err(format!("{name} is {number}, at least {least} is needed"));
    }
    if let Some(most) = schema.get("maximum").and_then(Value::as_f64)
        && number > most
    {
        return Err(format!("{name} is {number}, at most {most} is allowed"));
    }
    Ok(())
}

fn count(schema: &Value, key: &str) -> Option<usize> {
    schema.get(key).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok())
}

fn has_type(given: &Value, kind: &str) -> bool {
    match kind {
        "object" => given.is_object(),
        "array" => given.is_array(),
        "string" => given.is_string(),
        "boolean" => given.is_boolean(),
        "null" => given.is_null(),
        "number" => given.is_number(),
        // JSON schema counts 3.0 as an integer, but every tool here reads with as_u64.
        "integer" => given.is_i64() || given.is_u64(),
        _ => false,
    }
}

fn type_name(given: &Value) -> &'static str {
    match given {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// The schema's properties in one line: `{"query": string, "limit"?: integer}`.
fn expected(schema: &Value) -> String {
    let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut parts = Vec::new();
    for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let mark = if required.iter().any(|name| name == key) { "" } else { "?" };
        let kind = inner.get("type").and_then(Value::as_str).unwrap_or("any");
        parts.push(format!("{key:?}{mark}: {kind}"));
    }
    format!("{{{}}}", parts.join(", "))
}

fn cut(key: &str) -> String {
    key.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;

    fn schema() -> serde_json::Value {
        json!({
            "type": "object",
            "properties": {
                "query": {"type": "string", "maxLength": 5},
                "limit": {"type": "integer", "minimum": 1, "maximum": 10},
                "mode": {"type": "string", "enum": ["any", "all"]},
                "ratio": {"type": "number"},
                "deep": {"type": "boolean"},
                "names": {"type": "array", "items": {"type": "string"}, "maxItems": 2}
            },
            "required": ["query"],
            "additionalProperties": false
        })
    }

    #[test]
    fn fitting_arguments_pass() {
        for arguments in [
            json!({"query": "a"}),
            json!({"query": "äöüéß", "limit": 10, "mode": "all"}),
            json!({"query": "", "ratio": 0.5, "deep": true, "names": ["x", "y"]}),
        ] {
            assert_eq!(check(&schema(), &arguments), Ok(()), "{arguments}");
        }
    }

    #[test]
    fn wrong_arguments_are_named_with_what_was_expected() {
        for (arguments, part) in [
            (json!("a"), "arguments must be an object, got a string"),
            (json!({}), "arguments lack \"query\"; expected {\"query\": string, \"limit\"?: integer"),
            (json!({"query": 5}), "\"query\" must be a string, got a number"),
            (json!({"query": "abcdef"}), "\"query\" has 6 characters, at most 5 are allowed"),
            (json!({"query": "a", "limit": 0}), "\"limit\" is 0, at least 1 is needed"),
            (json!({"query": "a", "limit": 11}), "\"limit\" is 11, at most 10 is allowed"),
            (json!({"query": "a", "limit": 1.5}), "\"limit\" must be an integer"),
            (json!({"query": "a", "mode": "some"}), "\"mode\" must be one of \"any\", \"all\""),
            (json!({"query": "a", "deep": "yes"}), "\"deep\" must be a boolean, got a string"),
            (json!({"query": "a", "names": ["x", 1]}), "\"names\"[1] must be a string, got a number"),
            (json!({"query": "a", "names": ["x", "y", "z"]}), "\"names\" has 3 items, at most 2"),
            (json!({"query": "a", "code": 1}), "arguments have no \"code\"; expected {"),
        ] {
            let reason = check(&schema(), &arguments).expect_err("refused");
            assert!(reason.contains(part), "{arguments}: {reason}");
        }
    }

    #[test]
    fn a_schema_nested_without_end_stops() {
        let mut schema = json!({"type": "array"});
        let mut value = json!([]);
        for _ in 0..40 {
            schema = json!({"type": "array", "items": schema});
            value = json!([value]);
        }
        assert!(check(&schema, &value).expect_err("refused").contains("too deeply"));
    }
}
