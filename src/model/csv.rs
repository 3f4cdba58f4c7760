//! CSV as RFC 4180 has it, safe to open in a spreadsheet.
//!
//! A text that a spreadsheet would take for a formula is written behind an apostrophe;
//! numbers stay numbers, negative ones too. Nothing is an empty cell, an empty text `""`.

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Nothing.
    Empty,
    /// Somebody's words.
    Text(&'a str),
    /// A number, a Boolean or a time, as it is written.
    Plain(&'a str),
}

/// What makes a spreadsheet compute a cell that begins with it.
const FORMULA_STARTS: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\n'];

/// Adds a line of `cells` to `out`.
pub fn write_row<'a>(out: &mut String, cells: impl IntoIterator<Item = Cell<'a>>) {
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match cell {
            Cell::Empty => {}
            Cell::Plain(text) => out.push_str(text),
            Cell::Text(text) => write_text(out, text),
        }
    }
    out.push_str("\r\n");
}

fn write_text(out: &mut String, text: &str) {
    let guard = if text.starts_with(FORMULA_STARTS) {
        "'"
    } else {
        ""
    };
    if !text.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        out.push_str(guard);
        out.push_str(text);
        return;
    }
    out.push('"');
    out.push_str(guard);
    out.push_str(&text.replace('"', "\"\""));
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[Cell<'_>]) -> String {
        let mut out = String::new();
        write_row(&mut out, cells.iter().copied());
        out
    }

    #[test]
    fn texts_are_quoted_where_they_must_be() {
        for (text, written) in [
            ("acme", "acme"),
            ("", "\"\""),
            ("a b;c", "a b;c"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\nb", "\"a\nb\""),
            ("a\r\nb", "\"a\r\nb\""),
            ("é…", "é…"),
        ] {
            assert_eq!(row(&[Cell::Text(text)]), format!("{written}\r\n"));
        }
        let cells = [
            Cell::Empty,
            Cell::Plain("-1.5"),
            Cell::Text("x"),
            Cell::Empty,
        ];
        assert_eq!(row(&cells), ",-1.5,x,\r\n");
    }

    #[test]
    fn no_text_is_a_formula() {
        for (text, written) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@sum", "'@sum"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("\n=1", "\"'\n=1\""),
            ("=a,\"b\"", "\"'=a,\"\"b\"\"\""),
            ("a=1", "a=1"),
        ] {
            assert_eq!(row(&[Cell::Text(text)]), format!("{written}\r\n"));
        }
    }
}
