//! `millrace doctor`: checks of what Millrace stands on, with what is wrong and how
//! to fix it. It changes nothing: what is not there yet it does not make, and what
//! another process has open it asks that one about.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use http::Method;
use serde_json::Value;

use super::command_output::CommandOutput;
use super::data_dir::{self, DataDirStatus};
use super::running;
use super::start;
use crate::app;
use crate::config::Config;
use crate::store::config_projection::check;
use crate::store::dynamo::Dynamo;
use crate::store::postgres::Postgres;
use crate::store::table;
use crate::telemetry::OneLine;

/// Clocks further apart than this break webhook signatures, whose receivers
/// allow five minutes, and AWS's request signatures.
const CLOCK_SKEW_MAX_S: i64 = 60;
/// How long a change may be on its way to the event store: a few repairs.
const PROJECTED_MAX_S: i64 = 60;
/// Ids listed of many.
const LISTED_IDS_MAX: usize = 3;
/// How long another process may take to say how it is: its stores have two
/// seconds of that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// One check: what was looked at, and what is wrong with it.
struct Check {
    what: &'static str,
    found: CheckResult,
    fix: &'static str,
}

/// What a check found.
enum CheckResult {
    /// All that is wrong; nothing, if it is empty.
    Problems(Vec<String>),
    /// Nothing wrong, and more to say of it.
    Healthy(String),
    /// It could not look, for this reason.
    Unknown(&'static str),
}

impl Check {
    fn new(what: &'static str, found: CheckResult, fix: &'static str) -> Self {
        Self { what, found, fix }
    }
}

/// Checks stores, table, migrations, projection and clock; true if all is well.
///
/// # Errors
/// When the data directory or an embedded store cannot be opened at all.
pub async fn doctor(config: Config) -> anyhow::Result<bool> {
    let mut out = CommandOutput::stdout();
    let handlers = format!("{} handlers", config.handlers.len());
    print_check(
        &mut out,
        &Check::new("configuration", CheckResult::Healthy(handlers), ""),
    )?;
    let mut well = true;
    for check in checks(config).await? {
        well &= print_check(&mut out, &check)?;
    }
    Ok(well)
}

async fn checks(config: Config) -> anyhow::Result<Vec<Check>> {
    if !config.uses_embedded_postgres() {
        let (dynamo, postgres) = start::remote_stores(&config).await?;
        let mut checks = store_checks(&postgres, &dynamo).await;
        let fix = "set the clock, or run a time synchronisation service";
        checks.push(Check::new("clock", clock_skew(&postgres).await, fix));
        return Ok(checks);
    }
    let directory = |found| Check::new("data directory", CheckResult::Healthy(found), "");
    match data_dir::look(&config.data_dir)? {
        DataDirStatus::Nothing => {
            let found = "not there yet; the first start makes it and the stores in it";
            Ok(vec![directory(found.into())])
        }
        DataDirStatus::InUse(pid) => {
            let found = format!("in use by another Millrace (pid {pid})");
            Ok(vec![directory(found), ask(&config).await])
        }
        DataDirStatus::Free => {
            let started = start::assemble(config).await?;
            let app = &started.app;
            let mut checks = vec![Check::new(
                "data directory and secrets",
                CheckResult::Problems(vec![]),
                "",
            )];
            // Without a check of the clock: an embedded store's is this one.
            checks.extend(store_checks(&app.postgres, &app.dynamo).await);
            started.stop().await?;
            Ok(checks)
        }
    }
}

/// Asks the process that has the stores open how they are.
async fn ask(config: &Config) -> Check {
    let found = match readiness(config).await {
        Ok(said) if said["status"] == "ready" => {
            CheckResult::Healthy("ready, says that one".into())
        }
        Ok(said) => CheckResult::Problems(vec![format!("that one says {said}")]),
        Err(error) => CheckResult::Problems(vec![format!("{error:#}")]),
    };
    let fix = "see its log; set MILLRACE_HTTP__LISTEN as for that one";
    Check::new("stores", found, fix)
}

/// What the process that has the data directory answers, where it says that it
/// serves, or else where this configuration would.
async fn readiness(config: &Config) -> anyhow::Result<Value> {
    let address = match data_dir::address(&config.data_dir) {
        Some(address) => address,
        None => config.http.listen.parse()?,
    };
    let path = "/health/ready";
    running::ask(
        address,
        Method::GET,
        path,
        None,
        &Value::Null,
        ANSWER_TIMEOUT,
    )
    .await
    .map(|answer| answer.body)
    .with_context(|| format!("that one does not answer at {address}"))
}

async fn store_checks(postgres: &Postgres, dynamo: &Dynamo) -> Vec<Check> {
    let (database, migrations) = split(postgres.pending_migrations().await, |names| {
        let pending = names.iter().map(|name| format!("{name} is not applied"));
        CheckResult::Problems(pending.collect())
    });
    let (event_store, table) = split(table::differences(dynamo).await, CheckResult::Problems);
    let projection = match [&database, &migrations, &event_store, &table] {
        all if all.iter().all(|found| found.is_ok()) => check_projection(postgres, dynamo).await,
        _ => CheckResult::Unknown("not checked, because of the above"),
    };
    vec![
        Check::new(
            "control-plane database",
            database,
            "check MILLRACE_DATABASE__URL and that the database is running",
        ),
        Check::new("migrations", migrations, "run `millrace migrate`"),
        Check::new(
            "event store",
            event_store,
            "check MILLRACE_DYNAMODB__TABLE, MILLRACE_AWS__ENDPOINT_URL and the credentials",
        ),
        Check::new(
            "table",
            table,
            "run `millrace migrate` if it is missing; else create it as deploy/ does",
        ),
        Check::new(
            "keys and endpoints in the event store",
            projection,
            "see that a process with the handler `sweep` runs; if it does, run \
             `millrace migrate --reproject`",
        ),
    ]
}

impl CheckResult {
    fn is_ok(&self) -> bool {
        match self {
            Self::Problems(wrong) => wrong.is_empty(),
            Self::Healthy(_) => true,
            Self::Unknown(_) => false,
        }
    }
}

/// Whether a store answered, and what its answer says.
fn split<T>(
    answer: anyhow::Result<T>,
    read: impl FnOnce(T) -> CheckResult,
) -> (CheckResult, CheckResult) {
    match answer {
        Ok(answer) => (CheckResult::Problems(vec![]), read(answer)),
        Err(error) => (
            CheckResult::Problems(vec![format!("{error:#}")]),
            CheckResult::Unknown("not checked, as the store does not answer"),
        ),
    }
}

/// Prints the outcome of one check; true if nothing is wrong with it.
fn print_check(out: &mut impl Write, check: &Check) -> std::io::Result<bool> {
    match &check.found {
        CheckResult::Unknown(why) => writeln!(out, "?     {}: {why}", check.what)?,
        CheckResult::Healthy(more) => writeln!(out, "ok    {}: {more}", check.what)?,
        CheckResult::Problems(wrong) if wrong.is_empty() => writeln!(out, "ok    {}", check.what)?,
        CheckResult::Problems(wrong) => {
            for wrong in wrong {
                writeln!(out, "WRONG {}: {}", check.what, OneLine(wrong))?;
            }
            writeln!(out, "      fix: {}", check.fix)?;
        }
    }
    Ok(check.found.is_ok())
}

/// Whether accepting and delivering know what people configured.
async fn check_projection(postgres: &Postgres, dynamo: &Dynamo) -> CheckResult {
    let backlog = check::outbox_backlog(postgres).await;
    let missing = check::missing(postgres, dynamo).await;
    let (Ok(backlog), Ok(missing)) = (backlog, missing) else {
        return CheckResult::Unknown("not checked, as a store does not answer any more");
    };
    let mut wrong = Vec::new();
    let oldest_at = backlog.oldest_at;
    let waited_s = oldest_at.map_or(0, |at| app::now().as_second() - at.as_second());
    if waited_s > PROJECTED_MAX_S {
        let changes = backlog.changes;
        wrong.push(format!("{changes} on the way, the first for {waited_s} s"));
    }
    if !missing.is_empty() {
        let listed: Vec<_> = missing
            .iter()
            .take(LISTED_IDS_MAX)
            .map(String::as_str)
            .collect();
        let count = missing.len();
        wrong.push(format!(
            "{count} of the latest missing or old: {}",
            listed.join(", ")
        ));
    }
    CheckResult::Problems(wrong)
}

/// How far this clock is from the database's, if too far.
async fn clock_skew(postgres: &Postgres) -> CheckResult {
    let Ok(theirs) = postgres.clock().await else {
        return CheckResult::Unknown("not checked, as the database does not answer");
    };
    let skew_s = theirs.as_second() - app::now().as_second();
    if skew_s.abs() <= CLOCK_SKEW_MAX_S {
        return CheckResult::Problems(vec![]);
    }
    CheckResult::Problems(vec![format!("{skew_s} s away from the database's")])
}
