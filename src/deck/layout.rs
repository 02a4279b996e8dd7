//! Where everything stands, from the size of the screen alone.
//!
//! ```text
//! status
//! +- conversation ----+- plan -----+- tool calls -+     wide (100x16 and more)
//! |                   +- verdicts -+- memory -----+
//! +-------------------+------------+--------------+
//! > input (one row or more)
//! notice or keys                                        narrow: one block, a pane at a time
//! ```

use ratatui::layout::Rect;

/// From here on all panes show at once.
const WIDE: (u16, u16) = (100, 16);
/// Below this nothing useful fits.
pub const LEAST: (u16, u16) = (24, 6);

pub struct Layout {
    pub status: Rect,
    /// Absent on a narrow screen that shows a pane.
    pub conversation: Option<Rect>,
    /// (place in `Pane::ALL`, where).
    pub panes: Vec<(usize, Rect)>,
    pub input: Rect,
    pub footer: Rect,
    pub wide: bool,
}

/// `input_rows` is what the input would like; it gets at most a third of the screen.
pub fn layout((columns, rows): (u16, u16), input_rows: usize, shown: Option<usize>) -> Layout {
    let input_rows = u16::try_from(input_rows).unwrap_or(u16::MAX).clamp(1, (rows / 3).max(1));
    let body_rows = rows.saturating_sub(2 + input_rows);
    let body = Rect::new(0, 1, columns, body_rows);
    let wide = columns >= WIDE.0 && rows >= WIDE.1;
    let (conversation, panes) = match shown {
        _ if wide => {
            let (conversation, panes) = wide_body(body);
            (Some(conversation), panes)
        }
        Some(pane) => (None, vec![(pane, body)]),
        None => (Some(body), Vec::new()),
    };
    Layout {
        status: Rect::new(0, 0, columns, 1),
        conversation,
        panes,
        input: Rect::new(0, 1 + body_rows, columns, input_rows),
        footer: Rect::new(0, rows.saturating_sub(1), columns, 1),
        wide,
    }
}

/// Neighbours share their border: each block begins on the last column (row) of the one before.
fn wide_body(body: Rect) -> (Rect, Vec<(usize, Rect)>) {
    let conversation = body.width * 42 / 100;
    let left = (body.width - conversation) / 2;
    let top = body.height * 11 / 20;
    let (x1, x2) = (conversation - 1, conversation + left - 1);
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
