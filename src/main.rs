//! The command `millrace`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use millrace::config::{Config, Purpose};
use millrace::host::keys::{self, KeyRequest};
use millrace::host::{Host, doctor, lambda, serve, start};
use millrace::model::api_key::Scope;
use millrace::{http, telemetry};
use secrecy::ExposeSecret;

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
    },
}

impl KeysCommand {
    fn request(self) -> KeyRequest {
        let Self::Create {
            name,
            project,
            mut scopes,
        } = self;
        if scopes.is_empty() {
            scopes = Scope::ALL.into();
        }
        KeyRequest {
            name,
            project,
            scopes,
        }
    }
}

fn scope(name: &str) -> Result<Scope, String> {
    Scope::from_name(name.trim()).ok_or_else(|| {
        let all = Scope::ALL.map(Scope::as_str).join(", ");
        format!("expected any of {all}")
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "millrace: {error:#}");
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
        Command::Migrate { .. } | Command::Keys(_) => Purpose::Migrate,
        _ => Purpose::Serve,
    };
    let config = Config::load(arguments.config.as_deref(), purpose)?;
    if let Command::Config = command {
        return print(&config.masked_toml());
    }
    // A key is all that is printed: a log on stdout would be taken for part of it.
    if !matches!(command, Command::Keys(_)) {
        telemetry::init(&config.log)?;
    }
    let host = Host::detect(&config);
    let runtime = match host {
        Host::Lambda => lambda::runtime()?,
        Host::Tcp | Host::Ecs => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    };
    runtime.block_on(async {
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
            Command::Keys(command) => {
                let key = keys::create(config, command.request()).await?;
                print(key.expose_secret())
            }
            Command::Config | Command::Openapi => unreachable!("handled before the runtime"),
        }
    })
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stdout(), "{text}").context("stdout")?;
    Ok(ExitCode::SUCCESS)
}
