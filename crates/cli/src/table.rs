//! Tables for people.

use std::fmt;

/// A header and its rows. Cells stand right, headers in the middle.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Table {
        Table { rows: vec![header.iter().map(|h| h.to_uppercase()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|c| c.trim().to_owned()).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |i: usize| self.rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
        (0..columns).map(width).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let rule = |f: &mut fmt::Formatter<'_>, left: &str, mid: &str, right: &str| {
            let bars: Vec<String> = widths.iter().map(|w| "─".repeat(w + 2)).collect();
            writeln!(f, "{left}{}{right}", bars.join(mid))
        };
        rule(f, "┌", "┬", "┐")?;
        for (i, row) in self.rows.iter().enumerate() {
            for (cell, &width) in row.iter().zip(&widths) {
                if i == 0 { write!(f, "│ {cell:^width$} ")? } else { write!(f, "│ {cell:>width$} ")? }
            }
            writeln!(f, "│")?;
            if i == 0 {
                rule(f, "├", "┼", "┤")?;
            }
        }
        rule(f, "└", "┴", "┘")
    }
}

impl Table {
    /// Without borders: one line each, two spaces between columns. The columns named by `left` stand left.
    pub(crate) fn plain(&self, left: &[usize]) -> String {
        let widths = self.widths();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (i, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let gap = if i > 0 { "  " } else { "" };
                line +=
                    &if left.contains(&i) { format!("{gap}{cell:<width$}") } else { format!("{gap}{cell:>width$}") };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_columns_are_aligned_and_end_without_spaces() {
        let mut table = Table::new(&["id", "name"]);
        table.row(vec!["7".into(), "é".into()]);
        table.row(vec!["123".into(), "four".into()]);
        assert_eq!(table.plain(&[1]), " ID  NAME\n  7  é\n123  four\n");
    }

    #[test]
    fn headers_in_the_middle_and_cells_to_the_right() {
        let mut table = Table::new(&["id", "status", "name"]);
        table.row(vec!["ac7c".into(), "started".into(), "é".into()]);
        let expected = "\
┌──────┬─────────┬──────┐
│  ID  │ STATUS  │ NAME │
├──────┼─────────┼──────┤
│ ac7c │ started │    é │
└──────┴─────────┴──────┘
";
        assert_eq!(table.to_string(), expected);
    }
}
