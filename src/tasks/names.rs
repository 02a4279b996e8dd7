//! Made-up names of many shapes, so that a small model must copy names instead of remembering them.

use rand::Rng;

use crate::tasks::TaskRng;

/// Simple sounds come often, rare ones seldom: names stay short but no letter pair is unseen.
const ONSETS: &[&str] = &[
    "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z", "l", "m", "n",
    "r", "s", "t", "", "", "br", "ch", "dr", "gr", "kh", "pr", "qu", "sh", "st", "th", "tr", "y", "x", "fl",
    "cl", "ph",
];
const VOWELS: &[&str] = &[
    "a", "e", "i", "o", "u", "a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ei", "ou", "ia", "oo", "ee",
    "au", "y",
];
const CODAS: &[&str] = &[
    "", "", "", "", "", "", "", "", "", "", "n", "n", "r", "l", "s", "m", "t", "k", "nd", "rt", "ng", "x",
    "ck", "ss",
];
const ENDINGS: &[&str] = &[
    "ia", "land", "ton", "ville", "burg", "stan", "ov", "ski", "son", "ez", "ini", "ium", "ine", "ania",
    "or", "a", "o", "us", "ford", "grad", "pur", "abad", "heim", "wick", "io", "ique", "ador", "aya", "uela",
    "essa",
];

/// One of `items`, evenly. `items` is a non-empty list of this module's callers' constants.
pub(crate) fn pick<T: Copy>(rng: &mut TaskRng, items: &[T]) -> T {
    items[rng.random_range(0..items.len())]
}

/// True with chance `rate` (0 to 1).
pub(crate) fn chance(rng: &mut TaskRng, rate: f64) -> bool {
    rng.random::<f64>() < rate
}

/// A pronounceable lower-case word of one to three syllables, often with an ending.
pub fn word(rng: &mut TaskRng) -> String {
    let syllables = pick(rng, &[1, 1, 2, 2, 2, 2, 3, 3]);
    let mut text = String::new();
    for _ in 0..syllables {
        text.push_str(pick(rng, ONSETS));
        text.push_str(pick(rng, VOWELS));
        text.push_str(pick(rng, CODAS));
    }
    if syllables < 3 && chance(rng, 0.35) {
        text.push_str(pick(rng, ENDINGS));
    }
    if text.len() < 3 { word(rng) } else { text }
}

/// A word with a capital: "Torvania".
pub fn title(rng: &mut TaskRng) -> String {
    super::capital_first(&word(rng))
}

/// A proper name: mostly one word, sometimes two, sometimes with a particle or a hyphen.
pub fn proper(rng: &mut TaskRng) -> String {
    match rng.random_range(0..20) {
        0..=12 => title(rng),
        13..=15 => format!("{} {}", title(rng), title(rng)),
        16 => format!("{}-{}", title(rng), title(rng)),
        17 => format!(
            "{} {}",
            pick(rng, &["New", "San", "North", "South", "Port", "Saint", "East", "El", "La"]),
            title(rng)
        ),
        18 => {
            format!("{} {}", title(rng), pick(rng, &["City", "Islands", "Republic", "Bay", "Coast", "Hills"]))
        }
        _ => format!("{} and {}", title(rng), title(rng)),
    }
}

/// A person's name, mostly first and last.
pub fn person(rng: &mut TaskRng) -> String {
    match rng.random_range(0..8) {
        0 => title(rng),
        1 => format!("{} {} {}", title(rng), pick(rng, &["van", "de", "von", "al"]), title(rng)),
        _ => format!("{} {}", title(rng), title(rng)),
    }
}
