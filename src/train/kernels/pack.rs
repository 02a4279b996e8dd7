//! Layouts of a product's operands. A word holds one f32, or two neighbours of the summed dimension as bf16
//! (the lower one in the low half); what is missing to a whole word or group is zero.
//!
//! | function | from (f32, row-major) | to |
//! |---|---|---|
//! | [`left`] | rows, summed along the row | [rows][words] ([`unleft`]: back) |
//! | [`pairs`] | rows, summed down the rows | [words][width]: a right side, or a left side with row 1 |
//! | [`panels_of_rows`] | rows that are the product's columns | [group of 16 rows][words][16] |
//! | [`panels_of_columns`] | rows, summed down the rows | [group of 16 columns][words][16], stripe by stripe |

/// Columns of a panel.
pub const GROUP: usize = 16;

/// Words that hold `values` numbers of the summed dimension.
pub fn words(per_word: usize, values: usize) -> usize {
    values.div_ceil(per_word)
}

/// The nearest bf16, ties to even. Numbers only.
fn bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16
}

fn pair(low: f32, high: f32) -> u32 {
    bf16(low) | (bf16(high) << 16)
}

/// Rows of `width` numbers, `stride` apart, as [rows][words].
pub fn left(per_word: usize, source: &[f32], stride: usize, width: usize, out: &mut [u32]) {
    let count = words(per_word, width);
    for (source, out) in source.chunks(stride).zip(out.chunks_exact_mut(count)) {
        if per_word == 1 {
            out.iter_mut().zip(&source[..width]).for_each(|(word, value)| *word = value.to_bits());
        } else {
            let (whole, rest) = source[..width].as_chunks::<2>();
            out.iter_mut().zip(whole).for_each(|(word, [low, high])| *word = pair(*low, *high));
            if let ([last], Some(word)) = (rest, out.last_mut()) {
                *word = pair(*last, 0.0);
            }
        }
    }
}

/// [`left`] read back: [rows][words] as rows of `width` numbers, one after another.
pub fn unleft(per_word: usize, words_of_rows: &[u32], width: usize, out: &mut [f32]) {
    let count = words(per_word, width);
    for (source, out) in words_of_rows.chunks_exact(count).zip(out.chunks_exact_mut(width)) {
        if per_word == 1 {
            out.iter_mut().zip(source).for_each(|(value, word)| *value = f32::from_bits(*word));
        } else {
            for (two, word) in out.chunks_mut(2).zip(source) {
                let both = [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)];
                two.iter_mut().zip(both).for_each(|(value, half)| *value = half);
            }
        }
    }
}

/// `rows` rows of `width` numbers, `stride` apart, as [words of rows][out_width] with rows of a word
/// side by side.
pub fn pairs(
    per_word: usize,
    source: &[f32],
    (rows, stride, width): (usize, usize, usize),
    out: &mut [u32],
    out_width: usize,
) {
    for (index, out) in out.chunks_mut(out_width).take(words(per_word, rows)).enumerate() {
        let row = |row: usize| &source[row * stride..row * stride + width];
        if per_word == 1 {
            out.iter_mut().zip(row(index)).for_each(|(word, value)| *word = value.to_bits());
        } else if 2 * index + 1 < rows {
            let both = row(2 * index).iter().zip(row(2 * index + 1));
            out.iter_mut().zip(both).for_each(|(word, (low, high))| *word = pair(*low, *high));
        } else {
            out.iter_mut().zip(row(2 * index)).for_each(|(word, low)| *word = pair(*low, 0.0));
        }
        out[width..].fill(0);
    }
}

/// Up to 16 rows of `width` numbers, `stride` apart, as one panel [words][16] with a row in each column.
pub fn panels_of_rows(
    per_word: usize,
    source: &[f32],
    rows: usize,
    stride: usize,
    width: usize,
    out: &mut [u32],
) {
    if rows < GROUP {
        out.fill(0);
    }
    for row in 0..rows.min(GROUP) {
        let source = &source[row * stride..row * stride + width];
        let column = out.chunks_exact_mut(GROUP).map(|words| &mut words[row]);
        if per_word == 1 {
            column.zip(source).for_each(|(word, value)| *word = value.to_bits());
        } else {
            let numbers = source.chunks(2).map(|two| pair(two[0], two.get(1).copied().unwrap_or(0.0)));
            column.zip(numbers).for_each(|(word, value)| *word = value);
        }
    }
}

/// Up to 16 columns of rows that are `width` apart, as a stripe [words of rows][16] of a panel whose columns
/// they are. `source` begins at the first row's first column.
pub fn panels_of_columns(per_word: usize, source: &[f32], (rows, width): (usize, usize), out: &mut [u32]) {
    for (index, out) in out.chunks_exact_mut(GROUP).take(words(per_word, rows)).enumerate() {
        let at = |row: usize| &source[row * width..][..GROUP];
        if per_word == 1 {
            out.iter_mut().zip(at(index)).for_each(|(word, value)| *word = value.to_bits());
        } else if 2 * index + 1 < rows {
            let both = at(2 * index).iter().zip(at(2 * index + 1));
            out.iter_mut().zip(both).for_each(|(word, (low, high))| *word = pair(*low, *high));
        } else {
            out.iter_mut().zip(at(2 * index)).for_each(|(word, low)| *word = pair(*low, 0.0));
        }
    }
}
