//! Numbers, fractions and numbers with a unit, exactly: no floating point is involved.

/// The normal form of `text` when it is a number, alone or with a unit.
pub fn quantity(text: &str) -> Option<String> {
    let (sign_first, text) = currency_first(text);
    let (number, rest) = Number::read(text)?;
    let unit = match (sign_first, rest.trim()) {
        (Some(currency), "") => currency,
        (Some(_), _) => return None,
        (None, unit) => unit,
    };
    if unit.is_empty() {
        return Some(number.write());
    }
    if !unit.starts_with(|c: char| c.is_alphabetic() || "%°$€£¥".contains(c)) {
        return None;
    }
    Some(match known(unit) {
        Some((base, factor)) => match number.times(factor) {
            Some(converted) => format!("{} {base}", converted.write()),
            None => format!("{} {unit}", number.write()),
        },
        // A short unknown word may be a symbol, and symbols mean something by their case ("Mg", "mg").
        None if unit.chars().count() <= 3 => format!("{} {unit}", number.write()),
        None => format!("{} {}", number.write(), super::fold(unit)),
    })
}

fn currency_first(text: &str) -> (Option<&'static str>, &str) {
    for sign in ["$", "€", "£", "¥"] {
        if let Some(rest) = text.strip_prefix(sign) {
            return (Some(sign), rest.trim_start());
        }
    }
    (None, text)
}

/// `digits * 10^exponent`, or a reduced fraction of two integers.
#[derive(Debug, PartialEq)]
enum Number {
    /// No zeros at either end; empty digits are zero.
    Decimal {
        negative: bool,
        digits: String,
        exponent: i32,
    },
    Fraction(i128, i128),
}

impl Number {
    /// The number `text` begins with, and what follows it.
    fn read(text: &str) -> Option<(Number, &str)> {
        let (number, rest) = decimal(text)?;
        let Some((below, after)) = rest.strip_prefix('/').and_then(decimal) else {
            return Some((number, rest));
        };
        let (above, below) = (number.integer()?, below.integer()?);
        // "3/4/2024" is no fraction of anything.
        if after.starts_with('/') { None } else { Some((Number::fraction(above, below)?, after)) }
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Number::Decimal { negative, digits, exponent } if *exponent >= 0 && !digits.is_empty() => {
                let value = 10i128.checked_pow(u32::try_from(*exponent).ok()?)?;
                let value = value.checked_mul(digits.parse().ok()?)?;
                Some(if *negative { -value } else { value })
            }
            Number::Decimal { digits, .. } if digits.is_empty() => Some(0),
            _ => None,
        }
    }

    /// Reduced; a fraction that ends as a decimal becomes one.
    fn fraction(above: i128, below: i128) -> Option<Number> {
        if below == 0 || above == i128::MIN || below == i128::MIN {
            return None;
        }
        let shared = common_divisor(above.unsigned_abs(), below.unsigned_abs());
        let shared = i128::try_from(shared).ok()?;
        let (mut above, mut below) = (above / shared * below.signum(), below.abs() / shared);
        let (mut rest, mut exponent) = (below, 0);
        let mut scaled = above;
        while rest % 2 == 0 || rest % 5 == 0 {
            let (divisor, factor) = if rest % 10 == 0 {
                (10, 1)
            } else if rest % 5 == 0 {
                (5, 2)
            } else {
                (2, 5)
            };
            rest /= divisor;
            match i128::checked_mul(scaled, factor) {
                Some(next) => scaled = next,
                None => return Some(Number::Fraction(above, below)),
            }
            exponent -= 1;
        }
        if rest == 1 {
            return Some(Number::from_digits(scaled < 0, &scaled.unsigned_abs().to_string(), exponent));
        }
        if below < 0 {
            (above, below) = (-above, -below);
        }
        Some(Number::Fraction(above, below))
    }

    fn from_digits(negative: bool, digits: &str, exponent: i32) -> Number {
        let digits = digits.trim_start_matches('0');
        let short = digits.trim_end_matches('0');
        let cut = i32::try_from(digits.len() - short.len()).unwrap_or(i32::MAX);
        let zero = short.is_empty();
        Number::Decimal {
            negative: negative && !zero,
            digits: short.to_string(),
            exponent: if zero { 0 } else { exponent.saturating_add(cut) },
        }
    }

    /// None when the product leaves i128; the caller then keeps the unit as written.
    fn times(&self, factor: (i128, i128)) -> Option<Number> {
        let (above, below) = match self {
            Number::Fraction(above, below) => (*above, *below),
            Number::Decimal { negative, digits, exponent } => {
                let value: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
                let value = if *negative { -value } else { value };
                let power = 10i128.checked_pow(exponent.unsigned_abs())?;
                if *exponent >= 0 { (value.checked_mul(power)?, 1) } else { (value, power) }
            }
        };
        Number::fraction(above.checked_mul(factor.0)?, below.checked_mul(factor.1)?)
    }

    fn write(&self) -> String {
        let (negative, digits, exponent) = match self {
            Number::Fraction(above, below) => return format!("{above}/{below}"),
            Number::Decimal { digits, .. } if digits.is_empty() => return "0".to_string(),
            Number::Decimal { negative, digits, exponent } => (*negative, digits, *exponent),
        };
        let sign = if negative { "-" } else { "" };
        let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
        let point = exponent.saturating_add(length);
        if (0..=60).contains(&exponent) {
            format!("{sign}{digits}{}", "0".repeat(usize::try_from(exponent).unwrap_or(0)))
        } else if exponent > 60 || point < -60 {
            let (first, more) = digits.split_at(1);
            let dot = if more.is_empty() { "" } else { "." };
            format!("{sign}{first}{dot}{more}e{}", point - 1)
        } else if point > 0 {
            let (whole, part) = digits.split_at(usize::try_from(point).unwrap_or(0));
            format!("{sign}{whole}.{part}")
        } else {
            format!("{sign}0.{}{digits}", "0".repeat(usize::try_from(-point).unwrap_or(0)))
        }
    }
}

fn common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// Sign, digits (grouped by commas, spaces or underscores in threes, or not at all), fraction, exponent.
fn decimal(text: &str) -> Option<(Number, &str)> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mut digits, mut rest) = grouped(text);
    let mut exponent = 0;
    let fraction = rest.strip_prefix('.').map(|after| after.split_at(run(after)));
    if let Some((part, after)) = fraction.filter(|(part, _)| !part.is_empty() || !digits.is_empty()) {
        digits.push_str(part);
        exponent = -i32::try_from(part.len()).ok()?;
        rest = after;
    }
    if digits.is_empty() || digits.len() > 4096 {
        return None;
    }
    if let Some(after) = rest.strip_prefix(['e', 'E']) {
        let signed = after.strip_prefix(['-', '+']).unwrap_or(after);
        let length = after.len() - signed.len() + run(signed);
        if run(signed) > 0 {
            let power: i32 = after[..length].parse().ok().filter(|power| (-9999..=9999).contains(power))?;
            exponent += power;
            rest = &after[length..];
        }
    }
    Some((Number::from_digits(negative, &digits, exponent), rest))
}

fn run(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn grouped(text: &str) -> (String, &str) {
    let first = run(text);
    let separator = text.as_bytes().get(first).copied().filter(|c| b", _".contains(c));
    let plain = (text[..first].to_string(), &text[first..]);
    let Some(separator) = separator.filter(|_| (1..=3).contains(&first)) else { return plain };
    let (mut digits, mut rest) = plain.clone();
    while let Some(after) = rest.strip_prefix(char::from(separator)).filter(|after| run(after) == 3) {
        digits.push_str(&after[..3]);
        rest = &after[3..];
    }
    // "1,522,7" is a list, not a number.
    let list = rest.strip_prefix(char::from(separator)).is_some_and(|after| run(after.trim_start()) > 0);
    if list { plain } else { (digits, rest) }
}

/// (base unit, exact factor) of a unit. Symbols are taken as written (`Mg` is not `mg`), names without case.
fn known(unit: &str) -> Option<(&'static str, (i128, i128))> {
    let symbol = UNITS.iter().find(|u| u.symbols.split(' ').any(|s| s == unit));
    let name = || {
        let unit = super::fold(unit);
        UNITS.iter().find(|u| u.names.split(", ").any(|n| n == unit))
    };
    symbol.or_else(name).map(|u| (u.base, u.factor))
}

struct Unit {
    base: &'static str,
    factor: (i128, i128),
    symbols: &'static str,
    names: &'static str,
}

const fn unit(base: &'static str, factor: (i128, i128), symbols: &'static str, names: &'static str) -> Unit {
    Unit { base, factor, symbols, names }
}

const UNITS: [Unit; 39] = [
    unit("m", (1, 1), "m", "meter, meters, metre, metres"),
    unit("m", (1000, 1), "km", "kilometer, kilometers, kilometre, kilometres"),
    unit("m", (1, 100), "cm", "centimeter, centimeters, centimetre, centimetres"),
    unit("m", (1, 1000), "mm", "millimeter, millimeters, millimetre, millimetres"),
    unit("m", (254, 10_000), "in", "inch, inches"),
    unit("m", (3048, 10_000), "ft", "foot, feet"),
    unit("m", (9144, 10_000), "yd", "yard, yards"),
    unit("m", (1_609_344, 1000), "mi", "mile, miles"),
    unit("m²", (1, 1), "m² m2 m^2", "square meter, square meters, square metre, square metres"),
    unit("m²", (1_000_000, 1), "km² km2 km^2", "square kilometer, square kilometers, square kilometres"),
    unit("kg", (1, 1), "kg", "kilogram, kilograms"),
    unit("kg", (1, 1000), "g", "gram, grams"),
    unit("kg", (1, 1_000_000), "mg", "milligram, milligrams"),
    unit("kg", (1000, 1), "t", "tonne, tonnes"),
    unit("kg", (45_359_237, 100_000_000), "lb lbs", ""),
    unit("kg", (28_349_523_125, 1_000_000_000_000), "oz", "ounce, ounces"),
    unit("s", (1, 1), "s", "second, seconds, sec, secs"),
    unit("s", (1, 1000), "ms", "millisecond, milliseconds"),
    unit("s", (60, 1), "min", "minute, minutes, mins"),
    unit("s", (3600, 1), "h", "hour, hours, hr, hrs"),
    unit("s", (86_400, 1), "", "day, days"),
    unit("s", (604_800, 1), "", "week, weeks"),
    unit("B", (1, 1), "B", "byte, bytes"),
    unit("B", (1000, 1), "kB", "kilobyte, kilobytes"),
    unit("B", (1_000_000, 1), "MB", "megabyte, megabytes"),
    unit("B", (1_000_000_000, 1), "GB", "gigabyte, gigabytes"),
    unit("B", (1_000_000_000_000, 1), "TB", "terabyte, terabytes"),
    unit("B", (1 << 10, 1), "KiB", "kibibyte, kibibytes"),
    unit("B", (1 << 20, 1), "MiB", "mebibyte, mebibytes"),
    unit("B", (1 << 30, 1), "GiB", "gibibyte, gibibytes"),
    unit("l", (1, 1), "l L", "liter, liters, litre, litres"),
    unit("l", (1, 1000), "ml mL", "milliliter, milliliters, millilitre, millilitres"),
    unit("km/h", (1, 1), "km/h kmh kph", ""),
    unit("°C", (1, 1), "°C C", "degrees celsius, celsius, degree celsius"),
    unit("°F", (1, 1), "°F F", "degrees fahrenheit, fahrenheit, degree fahrenheit"),
    unit("%", (1, 1), "%", "percent, per cent"),
    unit("$", (1, 1), "$", "usd, dollar, dollars"),
    unit("€", (1, 1), "€", "eur, euro, euros"),
    unit("£", (1, 1), "£", "gbp"),
];
