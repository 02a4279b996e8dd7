//! Secrets are taken out of texts before they are written.
//!
//! Finds the keys this program holds itself, exactly, and what has an unmistakable form: cloud and code-host
//! keys, JWTs, PEM private keys. A password in prose has none and stays; for what people paste this is a net
//! under carelessness, not a promise.

use crate::text::held;

/// Bytes of a PEM block looked through for its end; a 16,384-bit RSA key takes 13 KB.
const LONGEST_KEY: usize = 16 << 10;

/// The text without its secrets and how many there were; None when there were none.
pub fn redact(text: &str) -> Option<(String, usize)> {
    let Some((kept, held)) = held::without(text) else { return by_form(text) };
    Some(match by_form(&kept) {
        Some((kept, count)) => (kept, held + count),
        None => (kept, held),
    })
}

fn by_form(text: &str) -> Option<(String, usize)> {
    let bytes = text.as_bytes();
    let (mut kept, mut from, mut at, mut count) = (String::new(), 0, 0, 0);
    while at < bytes.len() {
        // Every form begins with one of these, so the scan costs little on ordinary text.
        let hit =
            matches!(bytes[at], b'A' | b'g' | b's' | b'h' | b'x' | b'e' | b'-' | b't' | b'n' | b'p' | b'r')
                .then(|| secret_at(text, at))
                .flatten();
        match hit {
            Some((length, name)) => {
                kept.push_str(&text[from..at]);
                kept.push_str("[redacted ");
                kept.push_str(name);
                kept.push(']');
                at += length;
                from = at;
                count += 1;
            }
            None => at += 1,
        }
    }
    (count > 0).then(|| {
        kept.push_str(&text[from..]);
        (kept, count)
    })
}

/// (bytes, name) of the secret that begins at byte `at`.
fn secret_at(text: &str, at: usize) -> Option<(usize, &'static str)> {
    let rest = text.get(at..)?;
    if rest.starts_with("-----BEGIN ") {
        return private_key(rest).map(|length| (length, "private key"));
    }
    if !begins_word(text.as_bytes(), at) {
        return None;
    }
    let alnum = |c: u8| c.is_ascii_alphanumeric();
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    for prefix in ["AKIA", "ASIA"] {
        if let Some(tail) = rest.strip_prefix(prefix) {
            let length = run(tail, alnum);
            let fits = length == 16 && !tail[..16].bytes().any(|c| c.is_ascii_lowercase());
            return fits.then_some((20, "cloud key"));
        }
    }
    // What follows may hold hyphens, so a start after a hyphen was already looked at; looking again at
    // every "sk-sk-sk-" would take quadratic time.
    if at > 0 && text.as_bytes()[at - 1] == b'-' {
        return None;
    }
    let forms: [(&str, usize, &'static str); 19] = [
        ("ghp_", 36, "code-host token"),
        ("gho_", 36, "code-host token"),
        ("ghu_", 36, "code-host token"),
        ("ghs_", 36, "code-host token"),
        ("ghr_", 36, "code-host token"),
        ("github_pat_", 40, "code-host token"),
        ("glpat-", 20, "code-host token"),
        ("hf_", 30, "model-hub token"),
        ("AIza", 35, "cloud key"),
        ("xoxb-", 20, "chat token"),
        ("xoxp-", 20, "chat token"),
        ("xoxa-", 20, "chat token"),
        ("xapp-", 20, "chat token"),
        ("sk-", 20, "API key"),
        ("sk_live_", 20, "API key"),
        ("rk_live_", 20, "API key"),
        ("tvly-", 20, "API key"),
        ("npm_", 36, "registry token"),
        ("pypi-", 60, "registry token"),
    ];
    for (prefix, least, name) in forms {
        if let Some(tail) = rest.strip_prefix(prefix) {
            let length = run(tail, word);
            // Hyphenated prose ("sk-learn-style-estimators-...") has no long run with a digit in it.
            let random = tail[..length]
                .split(['-', '_'])
                .any(|part| part.len() >= 16 && part.bytes().any(|c| c.is_ascii_digit()));
            return (length >= least && random).then_some((prefix.len() + length, name));
        }
    }
    rest.starts_with("eyJ").then(|| jwt(rest)).flatten().map(|length| (length, "web token"))
}

/// Three base64url parts with dots between, the first of which begins as `{"` does.
fn jwt(rest: &str) -> Option<usize> {
    let part = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    let mut length = 0;
    for index in 0..3 {
        let here = run(&rest[length..], part);
        if here < 10 {
            return None;
        }
        length += here;
        if index < 2 {
            if rest.as_bytes().get(length) != Some(&b'.') {
                return None;
            }
            length += 1;
        }
    }
    Some(length)
}

/// From BEGIN to END; to the last line that can be key material when the END was cut off.
fn private_key(rest: &str) -> Option<usize> {
    let rest = &rest[..rest.floor_char_boundary(LONGEST_KEY)];
    let label_end = rest["-----BEGIN ".len()..].find("-----")? + "-----BEGIN ".len();
    if label_end > 64 || !rest[..label_end].ends_with("PRIVATE KEY") {
        return None;
    }
    let body = label_end + 5;
    if let Some(end) = rest[body..].find("-----END ") {
        let label = body + end + "-----END ".len();
        return Some(rest[label..].find("-----").map_or(rest.len(), |close| label + close + 5));
    }
    Some(body + run(&rest[body..], |c| c.is_ascii_alphanumeric() || b"+/=\\\r\n :,-".contains(&c)))
}

fn run(text: &str, fits: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|c| fits(*c)).count()
}

/// Not inside a longer word; the letter of an escape (`\n` in JSON text) is no part of a word.
fn begins_word(bytes: &[u8], at: usize) -> bool {
    match (at.checked_sub(2).map(|i| bytes[i]), at.checked_sub(1).map(|i| bytes[i])) {
        (Some(b'\\'), Some(b'n' | b'r' | b't')) => true,
        (_, Some(before)) => !(before.is_ascii_alphanumeric() || before == b'_'),
        (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL36: &str = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";

    #[test]
    fn secrets_go_and_are_counted() {
        held::hold("zq-redact-held");
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc=\n-----END RSA PRIVATE KEY-----";
        for (text, expected, count) in [
            ("key AKIAIOSFODNN7EXAMPLE.".to_string(), "key [redacted cloud key].", 1),
            (format!("ghp_{TAIL36} x"), "[redacted code-host token] x", 1),
            (format!("a\\nghp_{TAIL36}\\n"), "a\\n[redacted code-host token]\\n", 1),
            (format!("sk-proj-{TAIL36}"), "[redacted API key]", 1),
            (
                "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN".to_string(),
                "Bearer [redacted web token]",
                1,
            ),
            (format!("a {pem} b {pem}"), "a [redacted private key] b [redacted private key]", 2),
            ("-----BEGIN PRIVATE KEY-----\nMIIEow\nab".to_string(), "[redacted private key]", 1),
            (format!("é ghp_{TAIL36}é"), "é [redacted code-host token]é", 1),
            (format!("tvly-dev-{TAIL36}, npm_{TAIL36}"), "[redacted API key], [redacted registry token]", 2),
            (format!("sk_live_{TAIL36} xapp-1-{TAIL36}"), "[redacted API key] [redacted chat token]", 2),
            (
                "x zq-redact-held, AKIAIOSFODNN7EXAMPLE".to_string(),
                "x [redacted held key], [redacted cloud key]",
                2,
            ),
        ] {
            let (kept, found) = redact(&text).unwrap_or_else(|| panic!("nothing found in {text:?}"));
            assert_eq!((kept.as_str(), found), (expected, count));
            assert_eq!(redact(&kept), None, "redacting twice changes nothing");
        }
    }

    #[test]
    fn ordinary_text_stays() {
        for text in [
            "",
            "AKIA is a prefix; AKIAIOSFODNN7EXAMPLES0 is too long",
            "sk-learn-style-estimators-and-more",
            "a task-1234567890123456789012345 runs",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "eyJ.eyJ.x and ghp_short",
            "xAKIAIOSFODNN7EXAMPLE",
            "日本語 -----BEGIN ",
        ] {
            assert_eq!(redact(text), None, "{text:?}");
        }
    }
}
