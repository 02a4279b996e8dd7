//! Answers that quote: a pack may say that its generator does nothing but copy what memory holds, or says that it
//! cannot answer. An answer that is neither is drawn again under that rule.
//!
//! A small model spells most names right and a few by a rule of its own ("Ukraineian"). Under the rule alone its
//! first token would decide ("Ukraine"), so several quotations are drawn and the one the unconstrained model finds
//! likeliest as a whole is taken. What a quotation says, and whether it answers the query, is not judged here.

use std::ops::Range;

/// Quotations drawn, the greedy one first.
pub const DRAWS: usize = 16;
/// Pieces of memory a quotation may be of, the newest; each is a rule of the grammar.
const PIECES: usize = 2000;

/// Whether `answer` is a passage of one of the results, beginning and ending where words and numbers do.
pub fn is_quote(answer: &str, results: &[String]) -> bool {
    let answer = answer.trim();
    !answer.is_empty()
        && results.iter().any(|result| {
            let bounds = pieces(result);
            let at = |end: fn(&Range<usize>) -> usize, place: usize| bounds.iter().any(|p| end(p) == place);
            result
                .match_indices(answer)
                .any(|(from, _)| at(|p| p.start, from) && at(|p| p.end, from + answer.len()))
        })
}

/// The GBNF grammar (root rule `root`) of all passages of the results, and of `no_answer`.
pub fn grammar(results: &[String], no_answer: &str) -> String {
    let (mut starts, mut rules) = (vec![literal(no_answer)], String::new());
    let mut number = 0;
    // The grammar is handed over as a C string, which would end at a NUL that a tool printed: so does a passage.
    for result in results.iter().rev().flat_map(|result| result.split('\0')) {
        let bounds = pieces(result);
        if number + bounds.len() > PIECES {
            break;
        }
        for (index, piece) in bounds.iter().enumerate() {
            let text = &result[piece.clone()];
            let blank = text.trim().is_empty();
            // A passage neither begins nor ends in a blank.
            let more = match (index + 1 < bounds.len(), blank) {
                (true, true) => format!(" q{}", number + 1),
                (true, false) => format!(" q{}?", number + 1),
                (false, _) => String::new(),
            };
            rules.push_str(&format!("q{number} ::= {}{more}\n", literal(text)));
            if !blank {
                starts.push(format!("q{number}"));
            }
            number += 1;
        }
    }
    format!("root ::= {}\n{rules}", starts.join(" | "))
}

/// Words, numbers (with their points and commas) and single other signs. A blank at the end belongs to nothing.
fn pieces(text: &str) -> Vec<Range<usize>> {
    let text = text.trim_end();
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut inside = false;
    for (i, (at, c)) in chars.iter().enumerate() {
        let digit = |place: Option<usize>| {
            place.and_then(|place| chars.get(place)).is_some_and(|(_, c)| c.is_ascii_digit())
        };
        let joins = matches!(c, '.' | ',') && digit(i.checked_sub(1)) && digit(Some(i + 1));
        let word = c.is_alphanumeric() || joins;
        let end = at + c.len_utf8();
        match found.last_mut() {
            Some(last) if word && inside => last.end = end,
            _ => found.push(*at..end),
        }
        inside = word;
    }
    found
}

fn literal(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_quotation_is_whole_words_and_whole_numbers_of_one_result() {
        let memory = results(&[
            "The language of Ukraine is Ukrainian. / The capital of Peru is Lima.",
            "approx. 1,234.56 km",
            "12/(3-(5/2))",
        ]);
        for quote in [
            "Ukrainian",
            "Ukrainian.",
            "The capital of Peru",
            "Lima",
            "1,234.56",
            "1,234.56 km",
            "12/(3-(5/2))",
            "Ukraine is Ukrainian",
            " Lima ",
        ] {
            assert!(is_quote(quote, &memory), "{quote}");
        }
        for other in ["Ukraineian", "Ukrain", "234.56", "1,234", "1234.56", "Lima Peru", "", " ", "lima"] {
            assert!(!is_quote(other, &memory), "{other}");
        }
    }

    #[test]
    fn pieces_cover_the_text() {
        for text in ["a b", " x\ty ", "12.5,3 ü/é", "", "...", "1. 2", "naïve—42"] {
            let found = pieces(text);
            let whole: String = found.iter().map(|piece| &text[piece.clone()]).collect();
            assert_eq!(whole, text.trim_end(), "{found:?}");
        }
        let text = "pi is 3.14, or 3.";
        let found: Vec<&str> = pieces(text).into_iter().map(|piece| &text[piece]).collect();
        assert_eq!(found, ["pi", " ", "is", " ", "3.14", ",", " ", "or", " ", "3", "."]);
    }

    #[test]
    fn a_nul_ends_a_passage_and_not_the_grammar() {
        let text = grammar(&results(&["a \0 b\0", "\0"]), "No.");
        assert_eq!(text, "root ::= \"No.\" | q0 | q2\nq0 ::= \"a\"\nq1 ::= \" \" q2\nq2 ::= \"b\"\n");
    }

    #[test]
    fn the_grammar_names_every_start_once_and_escapes() {
        let text = grammar(&results(&["a \"b\"\\\n"]), "No.");
        assert_eq!(
            text,
            "root ::= \"No.\" | q0 | q2 | q3 | q4 | q5\n\
             q0 ::= \"a\" q1?\nq1 ::= \" \" q2\nq2 ::= \"\\\"\" q3?\nq3 ::= \"b\" q4?\nq4 ::= \"\\\"\" q5?\n\
             q5 ::= \"\\\\\"\n"
        );
        // Too much memory: the newest result that fits.
        let long = "word ".repeat(PIECES);
        assert_eq!(grammar(&results(&[&long, "x"]), "No.").lines().count(), 2);
    }
}
