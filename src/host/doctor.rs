//! `millrace doctor`: checks what Millrace stands on, and says what is wrong and
//! how to mend it.

use std::io::Write;

use super::start;
use crate::config::Config;
use crate::store::table;

/// Clocks further apart than this break webhook signatures, whose receivers
/// allow five minutes, and AWS's request signatures.
const CLOCK_SKEW_MAX_S: i64 = 60;

/// One check: what was looked at, and what is wrong with it.
struct Check {
    what: &'static str,
    wrong: Vec<String>,
    mend: &'static str,
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
    let app = &started.app;
    let mut well = true;
    let pending = app.postgres.pending_migrations().await;
    let database = Check {
        what: "control-plane database",
        wrong: pending
            .as_ref()
            .err()
            .map(|error| format!("{error:#}"))
            .into_iter()
            .collect(),
        mend: "check MILLRACE_DATABASE__URL and that the database is running",
    };
    let migrations = Check {
        what: "migrations",
        wrong: match &pending {
            Ok(names) => names
                .iter()
                .map(|name| format!("{name} is not applied"))
                .collect(),
            Err(_) => vec!["unknown".into()],
        },
        mend: "run `millrace migrate`",
    };
    let differences = table::differences(&app.dynamo).await;
    let event_store = Check {
        what: "event store",
        wrong: differences
            .as_ref()
            .err()
            .map(|error| format!("{error:#}"))
            .into_iter()
            .collect(),
        mend: "check MILLRACE_DYNAMODB__TABLE, MILLRACE_AWS__ENDPOINT_URL and the credentials",
    };
    let table = Check {
        what: "table",
        wrong: differences.unwrap_or_else(|_| vec!["unknown".into()]),
        mend: "run `millrace migrate` if it is missing; else create it as deploy/ does",
    };
    let clock = Check {
        what: "clock",
        wrong: clock_skew(app).await,
        mend: "set the clock, or run a time synchronisation service",
    };
    for check in [database, migrations, event_store, table, clock] {
        if check.wrong.is_empty() {
            writeln!(out, "ok    {}", check.what)?;
            continue;
        }
        well = false;
        for wrong in &check.wrong {
            writeln!(out, "WRONG {}: {wrong}", check.what)?;
        }
        writeln!(out, "      mend: {}", check.mend)?;
    }
    started.stop().await;
    Ok(well)
}

/// How far this clock is from the database's, if too far.
async fn clock_skew(app: &crate::app::App) -> Vec<String> {
    let Ok(theirs) = app.postgres.clock().await else {
        return vec!["unknown".into()];
    };
    let skew_s = theirs.as_second() - crate::app::now().as_second();
    if skew_s.abs() <= CLOCK_SKEW_MAX_S {
        return vec![];
    }
    vec![format!("{skew_s} s away from the database's")]
}
