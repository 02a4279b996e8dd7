//! Where everything of a screen with panes stands, from the size of its area alone.
//!
//! ```text
//! +- conversation ----+- plan -----+- tool calls -+     wide (100x14 and more)
//! |                   +- verdicts -+- memory -----+
//! +-------------------+------------+--------------+
//! > input (one row or more)                             narrow: one block, a pane at a time
//! ```

use ratatui::layout::Rect;

/// From here on all panes show at once.
const WIDE: (u16, u16) = (100, 14);
/// Columns and rows of the whole screen below which nothing useful fits.
pub const LEAST: (u16, u16) = (24, 6);

pub struct Layout {
    /// Absent on a narrow screen that shows a pane.
    pub conversation: Option<Rect>,
    /// (place in `Pane::ALL`, where).
    pub panes: Vec<(usize, Rect)>,
    pub input: Rect,
    pub wide: bool,
}

/// `input_rows` is what the input would like, 0 for none; it gets at most a third of the area.
pub fn layout(area: Rect, input_rows: usize, shown: Option<usize>) -> Layout {
    let most = area.height.div_ceil(3).max(1);
    let input_rows = u16::try_from(input_rows).unwrap_or(u16::MAX).min(most);
    let body = Rect { height: area.height.saturating_sub(input_rows), ..area };
    let wide = area.width >= WIDE.0 && area.height >= WIDE.1;
    let (conversation, panes) = match shown {
        _ if wide => {
            let (conversation, panes) = wide_body(body);
            (Some(conversation), panes)
        }
        Some(pane) => (None, vec![(pane, body)]),
        None => (Some(body), Vec::new()),
    };
    let input = Rect::new(area.x, body.bottom(), area.width, input_rows);
    Layout { conversation, panes, input, wide }
}

/// Neighbours share their border: each block begins on the last column (row) of the one before.
fn wide_body(body: Rect) -> (Rect, Vec<(usize, Rect)>) {
    let conversation = body.width * 42 / 100;
    let left = (body.width - conversation) / 2;
    let top = body.height * 11 / 20;
    let (x1, x2) = (body.x + conversation - 1, body.x + conversation + left - 1);
    let (y0, y1) = (body.y, body.y + top - 1);
    let (bottom, right) = (body.bottom(), body.right());
    let panes = vec![
        (0, Rect::new(x1, y0, x2 - x1 + 1, y1 - y0 + 1)),
        (1, Rect::new(x2, y0, right - x2, y1 - y0 + 1)),
        (2, Rect::new(x1, y1, x2 - x1 + 1, bottom - y1)),
        (3, Rect::new(x2, y1, right - x2, bottom - y1)),
    ];
    (Rect::new(body.x, body.y, conversation, body.height), panes)
}
