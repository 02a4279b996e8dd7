//! The text of a web page: tags dropped, scripts and styles left out, entities decoded.
//!
//! No parser of HTML: it builds no tree, runs in one pass over any input and never fails.

/// Elements whose content is not text.
const DROPPED: [&str; 6] = ["script", "style", "noscript", "template", "svg", "head"];
/// Elements that stay inside a line.
const INLINE: [&str; 16] = [
    "a", "abbr", "b", "code", "em", "i", "kbd", "mark", "q", "s", "small", "span", "strong", "sub", "sup",
    "u",
];

/// Paragraphs separated by empty lines.
pub fn text(html: &str) -> String {
    // Same length in bytes, so that positions fit both.
    let lower = html.to_ascii_lowercase();
    let mut out = String::with_capacity(html.len() / 2);
    let mut at = 0;
    while let Some(open) = html[at..].find('<').map(|found| at + found) {
        decode(&html[at..open], &mut out);
        at = after_tag(&lower, open, &mut out);
    }
    decode(&html[at..], &mut out);
    out
}

/// Where reading goes on after what starts with the `<` at `open`.
fn after_tag(lower: &str, open: usize, out: &mut String) -> usize {
    let rest = &lower[open + 1..];
    if let Some(comment) = rest.strip_prefix("!--") {
        return comment.find("-->").map_or(lower.len(), |end| open + 4 + end + 3);
    }
    let closing = rest.starts_with('/');
    let name: &str = rest.trim_start_matches('/');
    let name = &name[..name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())];
    if name.is_empty() && !rest.starts_with(['!', '?', '/']) {
        out.push('<'); // "a < b"
        return open + 1;
    }
    let Some(end) = rest.find('>').map(|end| open + 1 + end + 1) else {
        return lower.len();
    };
    if !INLINE.contains(&name) {
        out.push_str("\n\n");
    }
    if !closing && DROPPED.contains(&name) {
        let close = format!("</{name}");
        return lower[end..].find(&close).map_or(lower.len(), |found| end + found);
    }
    end
}

fn decode(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        // The longest entity decoded is shorter than 12 bytes.
        let end = rest.bytes().take(12).position(|b| b == b';');
        match end.and_then(|end| Some((end, entity(&rest[1..end])?))) {
            Some((end, c)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
}

fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).filter(|c| !c.is_control());
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "deg" => '°',
        "times" => '×',
        "euro" => '€',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::text;

    fn check(html: &str, expected: &str) {
        assert_eq!(text(html).split_whitespace().collect::<Vec<_>>().join(" "), expected, "{html}");
    }

    #[test]
    fn only_text_is_left() {
        check("<h1>Title</h1><p>One <b>bold</b>ly &lt;said&gt;</p>", "Title One boldly <said>");
        check("<head><title>x</title></head><body>b</body>", "b");
        check("a<SCRIPT>if (1 < 2) x</Script>b", "a b");
        check("a<!-- <p>hidden</p> -->b", "ab");
        check("1 < 2 & 3 &unknown; &#65;&#x42;&#0;", "1 < 2 & 3 &unknown; AB&#0;");
        assert!(text("<p>a</p><p>b</p>").contains("\n\n"));
    }

    #[test]
    fn broken_pages_end() {
        check("text <p", "text");
        check("text <!-- open", "text");
        check("<script>open", "");
        check("ä<ä>&ä;", "ä<ä>&ä;");
        check("&#99999999999;", "&#99999999999;");
        text(&"<".repeat(100_000));
        text(&"<script>".repeat(50_000));
        text(&"&".repeat(100_000));
    }
}
