//! The part of the page about operational events: their catalog.

use std::fmt::Write;

use super::html::{Prose, Text};
use crate::model::operational_event::CATALOG;

/// Writes each type with what it says, the schema of its data and an example.
pub(super) fn write_section(out: &mut String) {
    out.push_str(
        "<section id=\"operational-events\"><h2>operational events</h2><p class=\"lead\">\
         Events that Millrace itself publishes, of types <code>millrace.…</code>. They go to \
         the endpoints that ask for them by name or as <code>millrace.*</code>, signed and \
         retried like any other; <code>*</code> alone does not ask for them. None holds a \
         secret.</p>",
    );
    for entry in &CATALOG {
        let schema = (entry.schema)();
        let example = entry.example_event();
        let _ = write!(
            out,
            "<article id=\"{0}\"><h3><a href=\"#{0}\">{0}</a></h3><p>{1}</p>\
             <details><summary><h4>Example</h4></summary><pre>{2}</pre></details>\
             <details><summary><h4>Schema of data</h4> <small>JSON Schema 2020-12</small>\
             </summary><pre>{3}</pre></details></article>",
            Text(entry.event_type),
            Prose(entry.description),
            Text(format_args!("{example:#}")),
            Text(format_args!("{schema:#}")),
        );
    }
    out.push_str("</section>");
}
