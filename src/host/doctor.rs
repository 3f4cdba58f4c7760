//! `millrace doctor`: checks what Millrace stands on, and says what is wrong and
//! how to mend it.

use std::io::Write;

use super::start;
use crate::app::{self, App};
use crate::config::Config;
use crate::store::table;

/// Clocks further apart than this break webhook signatures, whose receivers
/// allow five minutes, and AWS's request signatures.
const CLOCK_SKEW_MAX_S: i64 = 60;

/// One check: what was looked at, and what is wrong with it.
struct Check {
    what: &'static str,
    found: Found,
    mend: &'static str,
}

/// What a check found.
enum Found {
    /// All that is wrong; nothing, if it is empty.
    Wrong(Vec<String>),
    /// It could not look, because of what is told elsewhere.
    Unknown(&'static str),
}

/// Checks stores, table, migrations and clock; true if all is well.
///
/// # Errors
/// When the data directory or an embedded store cannot be opened at all.
pub async fn doctor(config: Config) -> anyhow::Result<bool> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "ok    configuration: {} handlers",
        config.handlers.len()
    )?;
    let started = start::assemble(config).await?;
    writeln!(out, "ok    data directory and secrets")?;
    let mut well = true;
    for check in checks(&started.app).await {
        well &= tell(&mut out, &check)?;
    }
    started.stop().await;
    Ok(well)
}

async fn checks(app: &App) -> Vec<Check> {
    let (database, migrations) = split(app.postgres.pending_migrations().await, |names| {
        let pending = names.iter().map(|name| format!("{name} is not applied"));
        Found::Wrong(pending.collect())
    });
    let (event_store, table) = split(table::differences(&app.dynamo).await, Found::Wrong);
    vec![
        Check {
            what: "control-plane database",
            found: database,
            mend: "check MILLRACE_DATABASE__URL and that the database is running",
        },
        Check {
            what: "migrations",
            found: migrations,
            mend: "run `millrace migrate`",
        },
        Check {
            what: "event store",
            found: event_store,
            mend: "check MILLRACE_DYNAMODB__TABLE, MILLRACE_AWS__ENDPOINT_URL and the credentials",
        },
        Check {
            what: "table",
            found: table,
            mend: "run `millrace migrate` if it is missing; else create it as deploy/ does",
        },
        Check {
            what: "clock",
            found: clock_skew(app).await,
            mend: "set the clock, or run a time synchronisation service",
        },
    ]
}

/// Whether a store answered, and what its answer says.
fn split<T>(answer: anyhow::Result<T>, read: impl FnOnce(T) -> Found) -> (Found, Found) {
    match answer {
        Ok(answer) => (Found::Wrong(vec![]), read(answer)),
        Err(error) => (
            Found::Wrong(vec![format!("{error:#}")]),
            Found::Unknown("not checked, as the store does not answer"),
        ),
    }
}

/// Prints the outcome of one check; true if nothing is wrong with it.
fn tell(out: &mut impl Write, check: &Check) -> std::io::Result<bool> {
    match &check.found {
        Found::Unknown(why) => writeln!(out, "?     {}: {why}", check.what)?,
        Found::Wrong(wrong) if wrong.is_empty() => {
            writeln!(out, "ok    {}", check.what)?;
            return Ok(true);
        }
        Found::Wrong(wrong) => {
            for wrong in wrong {
                writeln!(out, "WRONG {}: {wrong}", check.what)?;
            }
            writeln!(out, "      mend: {}", check.mend)?;
        }
    }
    Ok(false)
}

/// How far this clock is from the database's, if too far.
async fn clock_skew(app: &App) -> Found {
    let Ok(theirs) = app.postgres.clock().await else {
        return Found::Unknown("not checked, as the database does not answer");
    };
    let skew_s = theirs.as_second() - app::now().as_second();
    if skew_s.abs() <= CLOCK_SKEW_MAX_S {
        return Found::Wrong(vec![]);
    }
    Found::Wrong(vec![format!("{skew_s} s away from the database's")])
}
