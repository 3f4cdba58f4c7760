//! The command `millrace`.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use millrace::config::{Config, Purpose};
use millrace::host::command_output::{self, CommandOutput};
use millrace::host::console_link;
use millrace::host::data_dir::DataDirLost;
use millrace::host::keys::{self, KeyRequest, MadeKey};
use millrace::host::{Host, doctor, lambda, serve, start};
use millrace::http;
use millrace::model::api_key::Scope;
use millrace::telemetry::{self, LogStream, OneLine};
use secrecy::ExposeSecret;

/// How long threads that block may take to end, when all else has.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// Events in once, signed webhooks out.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// A configuration file; else ./millrace.toml, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Run everything the configuration names (the default).
    Serve,
    /// Bring the database and the table up to date.
    Migrate {
        /// Write all keys and endpoints to the table again, as after restoring it
        /// from a backup.
        #[arg(long)]
        reproject: bool,
    },
    /// Print the effective configuration, secrets masked.
    Config,
    /// Print the OpenAPI 3.1 document.
    Openapi,
    /// Check stores, table, migrations, projection and clock, and say how to mend them.
    Doctor,
    /// Print a link that signs in to the console of the server that runs, once and within
    /// an hour.
    Console,
    /// Make API keys.
    #[command(subcommand)]
    Keys(KeysCommand),
}

#[derive(Debug, Clone, Subcommand)]
enum KeysCommand {
    /// Make an API key and print it, also while a server runs on the data directory.
    Create {
        /// What people call it.
        #[arg(long, default_value = "command line")]
        name: String,
        /// The name or id of its project; not needed if there is one only.
        #[arg(long)]
        project: Option<String>,
        /// What it may do, such as events:write,events:read; everything if not given.
        #[arg(long, value_delimiter = ',', value_parser = scope)]
        scopes: Vec<Scope>,
        /// The one tenant it is for; the whole project if not given.
        #[arg(long)]
        tenant: Option<String>,
        /// From when on it is refused, in RFC 3339, such as 2030-01-31T12:00:00Z; never
        /// if not given.
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires_at: Option<Timestamp>,
    },
}

impl KeysCommand {
    fn request(self) -> KeyRequest {
        let Self::Create {
            name,
            project,
            mut scopes,
            tenant,
            expires_at,
        } = self;
        if scopes.is_empty() {
            scopes = Scope::ALL.into();
        }
        KeyRequest {
            name,
            project,
            scopes,
            tenant,
            expires_at,
        }
    }
}

fn scope(name: &str) -> Result<Scope, String> {
    Scope::from_name(name.trim()).ok_or_else(|| {
        let all = Scope::ALL.map(Scope::as_str).join(", ");
        format!("expected any of {all}")
    })
}

fn time(text: &str) -> Result<Timestamp, String> {
    let expected = |_| "expected a time in RFC 3339, such as 2030-01-31T12:00:00Z".to_owned();
    text.parse().map_err(expected)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            let text = format!("{error:#}");
            let lines = text.lines().map(|line| OneLine(line).to_string());
            let text = lines.collect::<Vec<_>>().join("\n");
            command_output::tell_error(&format!("millrace: {text}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let command = arguments.command.clone().unwrap_or(Command::Serve);
    if let Command::Openapi = command {
        return print(http::docs::OPENAPI.trim_end());
    }
    let purpose = match command {
        Command::Migrate { .. } | Command::Keys(_) | Command::Console => Purpose::Migrate,
        _ => Purpose::Serve,
    };
    let config = Config::load(arguments.config.as_deref(), purpose)?;
    if let Command::Config = command {
        return print(&config.masked_toml());
    }
    let host = Host::detect(&config);
    let stream = match (&command, host) {
        (Command::Serve, Host::Lambda) => LogStream::Function,
        (Command::Serve, Host::Tcp | Host::Ecs) => LogStream::Server,
        _ => LogStream::Command,
    };
    // Last of all to go, so that it has what the others say at their end.
    let _log = telemetry::init(&config.log, stream)?;
    let runtime = match host {
        Host::Lambda => lambda::runtime()?,
        Host::Tcp | Host::Ecs => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    };
    let done = runtime.block_on(async {
        match command {
            Command::Serve if host == Host::Lambda => {
                lambda::run(config).await.map(|()| ExitCode::SUCCESS)
            }
            Command::Serve => serve::serve(config).await.map(|()| ExitCode::SUCCESS),
            Command::Migrate { reproject } => {
                start::migrate_alone(config, reproject).await?;
                print("both stores are up to date")
            }
            Command::Doctor => Ok(if doctor::doctor(config).await? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }),
            Command::Console => print(&console_link::create(config).await?),
            Command::Keys(command) => print_key(&keys::create(config, command.request()).await?),
            Command::Config | Command::Openapi => unreachable!("handled before the runtime"),
        }
    });
    if done.as_ref().is_err_and(|error| error.is::<DataDirLost>()) {
        // What is open stays so until the process ends: closed, it would write to what
        // is in the directory's place.
        std::mem::forget(runtime);
        return done;
    }
    // A look-up of a host's name that hangs is not waited for.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    done
}

/// Prints a key. One that nobody has read, as nobody is there, is one to be revoked.
fn print_key(key: &MadeKey) -> anyhow::Result<ExitCode> {
    let mut out = CommandOutput::stdout();
    let written = writeln!(out, "{}", key.text.expose_secret()).and_then(|()| out.flush());
    let written = written.and_then(|()| {
        let gone = || ErrorKind::BrokenPipe.into();
        out.is_read().then_some(()).ok_or_else(gone)
    });
    written.with_context(|| {
        let MadeKey { id, project, .. } = key;
        format!(
            "stdout: the key {id} was made and could not be printed, so nobody has it; revoke it \
             with the admin key: DELETE /v1/projects/{project}/keys/{id}"
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = CommandOutput::stdout();
    writeln!(out, "{text}").context("stdout")?;
    out.flush().context("stdout")?;
    Ok(ExitCode::SUCCESS)
}
