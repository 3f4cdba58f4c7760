//! Text, escaped for HTML.

use std::fmt::{Display, Formatter, Result, Write};

/// Shows as itself, in an element or in a quoted attribute.
pub(super) struct Text<T>(pub T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> Result {
        text.chars().try_for_each(|c| match c {
            '<' => self.0.write_str("&lt;"),
            '>' => self.0.write_str("&gt;"),
            '&' => self.0.write_str("&amp;"),
            '"' => self.0.write_str("&quot;"),
            '\'' => self.0.write_str("&#39;"),
            c => self.0.write_char(c),
        })
    }
}

/// A doc comment: as [`Text`], with what stands between backticks as code.
pub(super) struct Prose<'a>(pub &'a str);

impl Display for Prose<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (n, part) in self.0.split('`').enumerate() {
            match n % 2 {
                0 => write!(f, "{}", Text(part))?,
                _ => write!(f, "<code>{}</code>", Text(part))?,
            }
        }
        Ok(())
    }
}

/// A path with its parameters marked.
pub(super) struct Path<'a>(pub &'a str);

impl Display for Path<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for part in self.0.split_inclusive('}') {
            let (fixed, parameter) = part.split_once('{').unwrap_or((part, ""));
            write!(f, "{}", Text(fixed))?;
            if !parameter.is_empty() {
                write!(f, "<var>{{{}</var>", Text(parameter))?;
            }
        }
        Ok(())
    }
}
