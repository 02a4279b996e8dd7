//! One line of text in so many columns: cut where it is longer, filled up where it is to be.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::text::one_line;

/// One line of at most `width` columns.
pub fn fitted(text: &str, width: usize) -> String {
    let flat = one_line(text);
    if flat.width() <= width {
        return flat;
    }
    let (mut out, mut used) = (String::new(), 0);
    for piece in flat.graphemes(true) {
        used += piece.width();
        if used > width.saturating_sub(2) {
            break;
        }
        out.push_str(piece);
    }
    out + ".."
}

/// The same, filled up to `width` columns.
pub fn padded(text: &str, width: usize) -> String {
    let text = fitted(text, width);
    let pad = width.saturating_sub(text.width());
    text + &" ".repeat(pad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_fits_in_columns_whatever_it_is_written_in() {
        let wide = "秘鲁的首都是哪座城市？🇵🇪 and more";
        for width in 2..40 {
            assert!(fitted(wide, width).width() <= width, "{width}");
            assert_eq!(padded(wide, width).width(), width);
        }
        assert_eq!((fitted("abcdef", 5).as_str(), fitted("abcde", 5).as_str()), ("abc..", "abcde"));
    }
}
