//! The greeting of a start: where everything is, for whoever has started it.
//!
//! Goes to stdout, which may be a log: the first API key is shown to a terminal, and
//! to anything else the path of the file that holds it.

use std::fmt::Write as _;
use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;

use super::data_dir;
use super::first_key::{self, FirstKey};
use super::start::ADMIN_KEY_FILE;
use crate::config::Config;
use crate::telemetry;

/// How long it may take to be shown. One that takes longer is shown again at the next
/// start, if a key is in it.
const SHOWN_MAX: Duration = Duration::from_secs(1);

/// Says where everything is, how to get into the console by the address `console` and how
/// to make an API key and, once, the first one.
///
/// Whoever does not read it is not told, and the start goes on.
///
/// # Errors
/// The data directory cannot be read or written.
pub(super) fn greet(
    config: &Config,
    url: &str,
    console: Option<&str>,
    first: Option<&FirstKey>,
) -> anyhow::Result<()> {
    let first = first.map(|first| shown(config, first)).transpose()?;
    let text = text(config, url, console, first.as_ref())?;
    // In order with the log, and waited for no longer than a reader needs who reads.
    if telemetry::print(&text, SHOWN_MAX) && first.is_some() {
        first_key::note_told(config);
    }
    Ok(())
}

/// The first key as it is shown.
struct Shown {
    /// What stands behind "Project "default" (prj_…) has".
    introduction: String,
    /// The key in a shell's words: itself, or a command that prints it.
    words: String,
    project: String,
}

fn shown(config: &Config, first: &FirstKey) -> anyhow::Result<Shown> {
    let project = first.project.to_string();
    if stdout().is_terminal() {
        return Ok(Shown {
            introduction: "this API key. It is shown this once:".to_owned(),
            words: first.key.clone(),
            project,
        });
    }
    let path = first_key::keep(config, first)?;
    let quoted = quoted(&path);
    let path = path.display();
    Ok(Shown {
        introduction: format!("an API key. It is in the file\n\n  {path}"),
        words: format!("$(cat {quoted})"),
        project,
    })
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%".contains(c);
    if text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn text(
    config: &Config,
    url: &str,
    console: Option<&str>,
    first: Option<&Shown>,
) -> anyhow::Result<String> {
    let data_dir = std::path::absolute(&config.data_dir).context("data_dir")?;
    let mut out = format!("\nMillrace is up at {url}  (API documentation: {url}/docs)\n");
    if let Some(console) = console {
        writeln!(out, "Console: {console}  (signs in once, within an hour)")?;
    }
    if config.uses_embedded_postgres() || config.uses_embedded_dynamodb() {
        writeln!(out, "Data lies in {}", data_dir.display())?;
    } else if config.needs_data_dir() {
        writeln!(out, "Secrets lie in {}", data_dir.display())?;
    }
    out.push_str("API keys: millrace keys create\n");
    if is_another_admin_key(config) {
        let file = data_dir.join(ADMIN_KEY_FILE);
        writeln!(
            out,
            "The admin key is that of the configuration (admin_key, MILLRACE_ADMIN_KEY), and not \
             the one in {}",
            file.display()
        )?;
    }
    if let Some(Shown {
        introduction,
        words,
        project,
    }) = first
    {
        writeln!(
            out,
            "\nProject \"default\" ({project}) has {introduction}\n\n  \
             export MILLRACE_KEY={words}\n\n\
             Publish an event:\n\n  \
             curl {url}/v1/events -H \"Authorization: Bearer {words}\" \\\n    \
             -H 'Content-Type: application/json' \\\n    \
             -d '{{\"type\": \"hello.world\", \"data\": {{\"name\": \"Ada\"}}}}'"
        )?;
        if config.makes_admin_key() {
            let file = data_dir.join(ADMIN_KEY_FILE);
            let what = "The admin key, which creates projects and keys, is in";
            writeln!(out, "\n{what} {}", file.display())?;
        }
    }
    out.push('\n');
    Ok(out)
}

/// Whether the admin key that is configured is another than the one that an earlier
/// start has left: a variable set for something else would go unnoticed.
fn is_another_admin_key(config: &Config) -> bool {
    let configured = config.admin_key.expose_secret();
    // None is configured, or one in a secret that nobody has read by now.
    if configured.is_empty() {
        return false;
    }
    // A hint: a file that is of no use otherwise may be as it likes.
    let stored = data_dir::read_secret(&config.data_dir.join(ADMIN_KEY_FILE)).unwrap_or_default();
    stored.is_some_and(|stored| stored.expose_secret() != configured)
}
