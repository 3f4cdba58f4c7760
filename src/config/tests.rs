//! The layers of configuration, and what is said of a mistake in any of them.

use std::time::Duration;

use figment::Figment;
use figment::value::Dict;
use insta::assert_snapshot;

use super::check::{RANGES, value_at};
use super::problem::env_name;
use super::*;

fn load(toml: &str, env: &[(&str, &str)]) -> Result<Config, InvalidConfig> {
    load_for(Purpose::Serve, toml, env)
}

fn load_for(purpose: Purpose, toml: &str, env: &[(&str, &str)]) -> Result<Config, InvalidConfig> {
    let env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::layered(Some(Layer::toml("millrace.toml", toml)?), &env, purpose)
}

/// What a build without stores cannot start without.
const STORE: &str = "[database]\nurl = \"postgresql://u:p@db/m\"";

fn defaults() -> Config {
    let toml = if cfg!(feature = "embedded") {
        ""
    } else {
        STORE
    };
    Config::from_toml(toml).unwrap()
}

fn complaint(toml: &str, env: &[(&str, &str)]) -> String {
    load(toml, env).unwrap_err().to_string()
}

fn dotted(prefix: &str, value: &serde_json::Value, into: &mut Vec<String>) {
    match value.as_object() {
        Some(fields) => fields
            .iter()
            .for_each(|(name, value)| dotted(&format!("{prefix}.{name}"), value, into)),
        None => into.push(prefix[1..].to_owned()),
    }
}

#[test]
fn the_defaults_are_a_laptop() {
    let config = defaults();
    assert_eq!(config.region(), "us-east-1");
    assert_eq!(config.delivery.retry_schedule.len(), 10);
    assert_eq!(config.sweep.interval, Duration::from_secs(1));
    assert!(!config.uses_sqs());
    assert_eq!(config.uses_embedded_postgres(), cfg!(feature = "embedded"));
}

#[test]
fn config_toml_documents_every_key_of_the_struct_and_no_other() {
    let values = serde_json::to_value(defaults()).unwrap();
    let mut fields = Vec::new();
    dotted("", &values, &mut fields);
    let mut documented: Vec<String> = keys::known_keys()
        .iter()
        .map(|(key, _)| key.clone())
        .collect();
    fields.sort();
    documented.sort();
    assert_eq!(fields, documented);
}

/// Holds a file below `src/` to what a test makes it of; `recipe` of the justfile
/// sets `UPDATE_FILES`, and then it is written.
pub(crate) fn hold_file(name: &str, made: &str, recipe: &str) {
    let path = format!("{}/src/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_FILES").is_some() {
        return std::fs::write(path, made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(written.lines()).find(|(a, b)| a != b);
    assert!(
        made == written,
        "{path} is stale, at {differs:?}; `just {recipe}` writes it"
    );
}

#[test]
fn the_compiled_in_defaults_are_those_of_config_toml() {
    let documented = Figment::from(Layer::toml("config.toml", DEFAULTS).unwrap());
    let documented: Dict = documented.extract().unwrap();
    let made = serde_json::to_string_pretty(&documented).unwrap() + "\n";
    hold_file("config/defaults.json", &made, "defaults");
}

#[test]
fn every_key_has_a_description_and_its_environment_name() {
    for (key, _) in keys::known_keys() {
        let name = key.rsplit('.').next().unwrap();
        let line = format!("# Environment: {}\n{name} = ", env_name(key));
        let before = DEFAULTS.split(&line).next().unwrap();
        assert_ne!(before, DEFAULTS, "{key} lacks its environment name");
        assert!(before.lines().next_back().unwrap().len() > 5, "{key}");
    }
}

#[test]
fn every_number_has_a_range_its_default_is_in() {
    let config = defaults();
    let values = serde_json::to_value(&config).unwrap();
    let mut fields = Vec::new();
    dotted("", &values, &mut fields);
    fields.retain(|key| value_at(&values, key).is_number());
    let mut ranged: Vec<&str> = RANGES.iter().map(|(key, ..)| *key).collect();
    fields.sort();
    ranged.sort_unstable();
    assert_eq!(fields, ranged);
}

#[test]
fn the_environment_goes_before_the_file() {
    let config = load(
        "retention_days = 7\n[http]\nlisten = \"127.0.0.1:1\"",
        &[
            ("MILLRACE_HTTP__LISTEN", "0.0.0.0:80"),
            ("MILLRACE_HANDLERS", "http, sweep"),
            ("MILLRACE_DELIVERY__RETRY_SCHEDULE_S", "[0, 1]"),
            ("MILLRACE_DELIVERY__RETRY_JITTER", "0"),
            ("MILLRACE_HTTP__CONNECTIONS_MAX", "1_000"),
            ("MILLRACE_DYNAMODB__TABLE", "2024"),
            ("MILLRACE_DELIVERY__ALLOW_PRIVATE_TARGETS", "false"),
            ("MILLRACE_DATABASE__URL", "postgresql://u:p@db/m"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
        ],
    )
    .unwrap();
    assert_eq!(config.http.listen, "0.0.0.0:80");
    assert_eq!(config.retention_days, 7);
    assert_eq!(config.handlers, [Handler::Http, Handler::Sweep]);
    assert_eq!(config.delivery.retry_schedule[1], Duration::from_secs(1));
    assert_eq!(config.delivery.retry_jitter, 0.0);
    assert_eq!(config.http.connections_max, 1000);
    assert_eq!(config.dynamodb.table, "2024");
    assert!(!config.allows_private_targets());
    assert_eq!(config.region(), "eu-west-1");
}

#[test]
fn a_configured_database_means_the_regions_dynamodb() {
    let config = load(STORE, &[]).unwrap();
    assert!(!config.uses_embedded_postgres() && !config.uses_embedded_dynamodb());
    assert!(!config.allows_private_targets());
    assert_eq!((config.pool_size(), config.dynamodb_endpoint()), (10, None));
}

#[test]
#[cfg(feature = "embedded")]
fn nothing_is_embedded_on_aws() {
    let message = complaint("", &[ECS]);
    assert_snapshot!(message, @"
    configuration:
      database.url (MILLRACE_DATABASE__URL): expected PostgreSQL's URL, or database.host: on ECS and Lambda there is none in process
      admin_key (MILLRACE_ADMIN_KEY): expected a secret of at least 32 characters on ECS and Lambda, or admin_key_secret_arn
      key_ring.secret_arn (MILLRACE_KEY_RING__SECRET_ARN): expected the ARN of a secret on ECS and Lambda
    ");
}

const ECS: (&str, &str) = ("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2");
const LAMBDA: (&str, &str) = ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001");
const KEY_RING: (&str, &str) = ("MILLRACE_KEY_RING__SECRET_ARN", "arn:aws:secretsmanager:x");
const ADMIN_KEY: (&str, &str) = ("MILLRACE_ADMIN_KEY", "0123456789abcdef0123456789abcdef");
const QUEUES: [(&str, &str); 2] = [
    ("MILLRACE_SQS__FAN_OUT_URL", "https://sqs.test/1/f"),
    ("MILLRACE_SQS__DELIVER_URL", "https://sqs.test/1/d"),
];

#[test]
fn a_migration_on_ecs_needs_the_stores_alone() {
    let login = "[database]\nhost = \"db\"\nsecret_arn = \"arn:aws:secretsmanager:y\"";
    load_for(Purpose::Migrate, login, &[ECS]).unwrap();
    assert!(load(login, &[ECS]).is_err());
    let without = load_for(Purpose::Migrate, "", &[ECS]).unwrap_err();
    assert_snapshot!(without, @"
    configuration:
      database.url (MILLRACE_DATABASE__URL): expected PostgreSQL's URL, or database.host: on ECS and Lambda there is none in process
    ");
}

#[test]
fn the_role_of_serving_processes_is_named_once_where_there_are_roles() {
    let with = |keys: &str| {
        let login = "[database]\nhost = \"db\"\nsecret_arn = \"arn:aws:secretsmanager:y\"";
        load_for(Purpose::Migrate, &format!("{login}\n{keys}"), &[ECS])
    };
    with("app_role = \"millrace_app\"").unwrap();
    with("app_secret_arn = \"arn:aws:secretsmanager:z\"").unwrap();
    let both = "app_role = \"a\"\napp_secret_arn = \"arn:aws:secretsmanager:z\"";
    assert_snapshot!(with(both).unwrap_err(), @r#"
    configuration:
      database.app_role (MILLRACE_DATABASE__APP_ROLE): a string of 1 character given, expected nothing, as database.app_secret_arn is set
    "#);
    for name in ["A", "1a", "a-b", "pg_a", "a b", &"a".repeat(64)] {
        let refused = with(&format!("app_role = {name:?}")).unwrap_err();
        assert!(refused.to_string().contains("database.app_role"), "{name}");
    }
    #[cfg(feature = "embedded")]
    assert_snapshot!(complaint("[database]\napp_role = \"a\"", &[]), @r#"
    configuration:
      database.app_role (MILLRACE_DATABASE__APP_ROLE): a string of 1 character given, expected nothing, as PostgreSQL in process has one role
    "#);
}

#[test]
fn a_function_without_queues_is_refused_unless_it_sends_no_jobs() {
    let env = [LAMBDA, KEY_RING, ADMIN_KEY];
    assert_snapshot!(complaint(STORE, &env), @"
    configuration:
      sqs.deliver_url (MILLRACE_SQS__DELIVER_URL): expected the URL of a queue on Lambda, which runs nothing between invocations
    ");
    let with = |more: &[(&'static str, &'static str)]| {
        let env: Vec<_> = env.iter().chain(more).copied().collect();
        load(STORE, &env)
    };
    with(&QUEUES).unwrap();
    with(&[("MILLRACE_HANDLERS", "meter")]).unwrap();
    // Behind the Web Adapter it is a process like any other.
    with(&[("MILLRACE_HOST", "tcp")]).unwrap();
}

#[test]
fn a_function_has_a_connection_for_each_invocation_at_a_time() {
    let pool_size = |more: &[(&'static str, &'static str)]| {
        let env = [LAMBDA, KEY_RING, ADMIN_KEY].into_iter().chain(QUEUES);
        let env: Vec<_> = env.chain(more.iter().copied()).collect();
        load(STORE, &env).unwrap().pool_size()
    };
    assert_eq!(pool_size(&[]), 1);
    assert_eq!(pool_size(&[("AWS_LAMBDA_MAX_CONCURRENCY", "1")]), 1);
    assert_eq!(pool_size(&[("AWS_LAMBDA_MAX_CONCURRENCY", "4")]), 4);
    assert_eq!(pool_size(&[("AWS_LAMBDA_MAX_CONCURRENCY", "64")]), 10);
}

#[test]
fn libpqs_modes_are_taken_and_others_refused() {
    let url = |mode: &str| format!("[database]\nurl = \"postgresql://u:p@db/m?sslmode={mode}\"");
    for mode in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
        load(&url(mode), &[]).unwrap();
    }
    assert_snapshot!(complaint(&url("sometimes"), &[]), @"
    configuration:
      database.url (MILLRACE_DATABASE__URL): expected a URL such as postgresql://user:password@host:5432/database
    ");
}

#[test]
fn the_grace_of_a_drain_is_part_of_it() {
    let message = complaint(&format!("{STORE}\n[http]\ndrain_grace_s = 26"), &[]);
    assert_snapshot!(message, @"
    configuration:
      http.drain_grace_s (MILLRACE_HTTP__DRAIN_GRACE_S): 26 given, expected at most http.drain_timeout_s, which is 25
    ");
}

#[test]
#[cfg(feature = "embedded")]
fn an_endpoint_alone_leaves_postgres_embedded() {
    let config = load("[aws]\nendpoint_url = \"http://localhost:4566\"", &[]).unwrap();
    assert!(config.uses_embedded_postgres() && !config.uses_embedded_dynamodb());
    assert_eq!(config.pool_size(), 1);
    assert_eq!(config.dynamodb_endpoint(), Some("http://localhost:4566"));
    assert_eq!(config.sqs_endpoint(), Some("http://localhost:4566"));
}

#[test]
#[cfg(not(feature = "embedded"))]
fn a_build_without_stores_asks_for_them() {
    assert_snapshot!(complaint("", &[]), @"
    configuration:
      database.url (MILLRACE_DATABASE__URL): expected PostgreSQL's URL: this build has none in process
    ");
}

#[test]
fn an_unknown_key_is_named_with_its_origin_and_the_nearest() {
    let message = complaint(
        "listen = \"x\"\nzzzzzzzzzzzz = 1\n[http]\nlisten_adress = 1\n[databse]\nurl = \"x\"",
        &[("MILLRACE_HTTP__LISTN", "x"), ("MILLRACE_HTTP", "x")],
    );
    assert_snapshot!(message, @"
    configuration:
      databse.url: unknown key in millrace.toml; did you mean database.url (MILLRACE_DATABASE__URL)?
      http.listen_adress: unknown key in millrace.toml; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      listen: unknown key in millrace.toml; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      zzzzzzzzzzzz: unknown key in millrace.toml; config.toml lists them all
      MILLRACE_HTTP: unknown key in the environment; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      MILLRACE_HTTP__LISTN: unknown key in the environment; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
    ");
}

#[test]
fn a_date_is_a_value_of_its_key() {
    let message = complaint(
        "data_dir = 1979-05-27\nadmin_key = 1979-05-27\nhttp = 07:32:00\nbirthday = 1979-05-27\n\
         handlers = 1979-05-27\n[log]\nlevel = 1979-05-27T07:32:00Z\n",
        &[("MILLRACE_HTTP__CONNECTIONS_MAX", "1979-05-27")],
    );
    assert_snapshot!(message, @"
    configuration:
      admin_key (MILLRACE_ADMIN_KEY): expected text in quotes
      birthday: unknown key in millrace.toml; config.toml lists them all
      data_dir (MILLRACE_DATA_DIR): 1979-05-27 given in millrace.toml, expected text in quotes
      handlers (MILLRACE_HANDLERS): 1979-05-27 given in millrace.toml, expected a list of names in quotes
      http: unknown key in millrace.toml; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      log.level (MILLRACE_LOG__LEVEL): 1979-05-27T07:32:00Z given in millrace.toml, expected text in quotes
      http.connections_max (MILLRACE_HTTP__CONNECTIONS_MAX): 1979-05-27 given in the environment, expected a whole number, not negative
    ");
}

#[test]
fn what_clients_read_is_never_configuration() {
    let clients = [
        ("MILLRACE_URL", "http://127.0.0.1:8080"),
        ("MILLRACE_KEY", "mr_x"),
        ("MILLRACE_BIN", ""),
        ("millrace_key", "mr_x"),
    ];
    load(STORE, &clients).unwrap();
    // In a file they are keys like any others.
    assert_snapshot!(complaint("url = \"x\"\nbin = \"x\"", &[]), @"
    configuration:
      bin: unknown key in millrace.toml; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      url: unknown key in millrace.toml; did you mean database.url (MILLRACE_DATABASE__URL)?
    ");
}

#[test]
fn every_unknown_variable_is_named_as_written_at_once() {
    let message = complaint(
        "",
        &[
            ("MILLRACE_PORT", "secret-1"),
            ("MILLRACE_DATABASE_URL", "postgresql://u:secret-2@db/m"),
            ("MILLRACE_LOG_LEVEL", ""),
            ("MILLRACE_http__listen", "127.0.0.1:1"),
            ("millrace_retention_days", "1"),
            ("MILLRACE_HTTP___LISTEN", "127.0.0.1:1"),
            ("MILLRACE_HTTP__TIMEOUT", "1"),
            ("MILLRACE_CONFIG", "x.toml"),
            ("MILLRACE_API_KEY", "mr_secret-3"),
            ("MILLRACE_", "x"),
            ("MILLRACE", "not ours"),
            ("OTHER_PORT", "1"),
        ],
    );
    assert!(!message.contains("secret-"));
    assert_snapshot!(message, @"
    configuration:
      MILLRACE_: unknown key in the environment; config.toml lists them all
      MILLRACE_API_KEY: unknown key in the environment; an API key is no configuration; examples read it from MILLRACE_KEY
      MILLRACE_CONFIG: unknown key in the environment; a file is named by --config FILE
      MILLRACE_DATABASE_URL: unknown key in the environment; did you mean database.url (MILLRACE_DATABASE__URL)?
      MILLRACE_HTTP__TIMEOUT: unknown key in the environment; did you mean http.drain_timeout_s (MILLRACE_HTTP__DRAIN_TIMEOUT_S), http.header_timeout_s (MILLRACE_HTTP__HEADER_TIMEOUT_S), http.idle_timeout_s (MILLRACE_HTTP__IDLE_TIMEOUT_S) or http.request_timeout_s (MILLRACE_HTTP__REQUEST_TIMEOUT_S)?
      MILLRACE_HTTP___LISTEN: unknown key in the environment; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      MILLRACE_LOG_LEVEL: unknown key in the environment; did you mean log.level (MILLRACE_LOG__LEVEL)?
      MILLRACE_PORT: unknown key in the environment; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      MILLRACE_http__listen: unknown key in the environment; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      millrace_retention_days: unknown key in the environment; did you mean retention_days (MILLRACE_RETENTION_DAYS)?
    ");
}

#[test]
fn a_section_that_there_is_not_is_named_even_if_it_is_empty() {
    let message = complaint("[databse]\n[http]\n[http.tls]\n[[log]]\nlevel = 1", &[]);
    assert_snapshot!(message, @"
    configuration:
      databse: unknown key in millrace.toml; did you mean database.url (MILLRACE_DATABASE__URL)?
      http.tls: unknown key in millrace.toml; config.toml lists them all
      log: unknown key in millrace.toml; did you mean log.level (MILLRACE_LOG__LEVEL)?
    ");
}

#[test]
fn values_that_are_empty_too_large_or_an_address_are_told_what_is_expected() {
    let message = complaint(
        "[database]\nport = 99999",
        &[
            ("MILLRACE_RETENTION_DAYS", "99999999999"),
            ("MILLRACE_HANDLERS", ""),
            ("MILLRACE_HOST", "0.0.0.0"),
            ("MILLRACE_HTTP__IDLE_TIMEOUT_S", ""),
            ("MILLRACE_LOG__FORMAT", ""),
        ],
    );
    assert_snapshot!(message, @r#"
    configuration:
      database.port (MILLRACE_DATABASE__PORT): 99999 given in millrace.toml, expected 1 to 65535 as a port
      host (MILLRACE_HOST): a string of 7 characters given in the environment, expected one of auto, tcp, lambda; the address to listen on is http.listen (MILLRACE_HTTP__LISTEN)
      http.idle_timeout_s (MILLRACE_HTTP__IDLE_TIMEOUT_S): an empty string given in the environment, expected a whole number, not negative
      log.format (MILLRACE_LOG__FORMAT): an empty string given in the environment, expected one of auto, json, human
      retention_days (MILLRACE_RETENTION_DAYS): 99999999999 given in the environment, expected 1 to 3650 days
    "#);
    assert_snapshot!(complaint(STORE, &[("MILLRACE_HTTP__LISTEN", "")]), @r#"
    configuration:
      http.listen (MILLRACE_HTTP__LISTEN): an empty string given, expected an IP address and port: 0.0.0.0:8080 for every interface
    "#);
}

#[test]
#[cfg(unix)]
fn a_variable_of_ours_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = || OsString::from_vec(vec![0xff]);
    let vars = |name: &str| super::variables([(OsString::from(name), bytes())].into_iter());
    let refused = vars("MILLRACE_DATA_DIR").unwrap_err();
    assert_snapshot!(refused, @"
    configuration:
      MILLRACE_DATA_DIR: expected text in UTF-8
    ");
    assert_eq!(vars("LS_COLORS"), Ok(vec![]));
    assert_eq!(vars("MILLRACE_KEY"), Ok(vec![]));
}

#[test]
fn every_wrong_type_is_reported_at_once_and_secrets_are_not_shown() {
    let message = complaint(
        "admin_key = 123456\nhandlers = [\"http\", \"nope\"]\n[http]\nlisten = 8080\n\
         request_timeout_s = \"30s\"\nbody_bytes_max = -1\n[log]\nformat = \"xml\"",
        &[
            ("MILLRACE_RETENTION_DAYS", "a month"),
            ("MILLRACE_HOST", "ecs"),
            ("MILLRACE_DELIVERY__ALLOW_PRIVATE_TARGETS", "perhaps"),
            ("MILLRACE_DELIVERY__RETRY_SCHEDULE_S", "soon"),
            ("MILLRACE_DELIVERY__RETRY_JITTER", "some"),
        ],
    );
    assert_snapshot!(message, @r#"
    configuration:
      admin_key (MILLRACE_ADMIN_KEY): expected text in quotes
      delivery.allow_private_targets (MILLRACE_DELIVERY__ALLOW_PRIVATE_TARGETS): a string of 7 characters given in the environment, expected "auto", true or false
      delivery.retry_jitter (MILLRACE_DELIVERY__RETRY_JITTER): a string of 4 characters given in the environment, expected a number
      delivery.retry_schedule_s (MILLRACE_DELIVERY__RETRY_SCHEDULE_S): a string of 4 characters given in the environment, expected a list of whole numbers, not negative
      handlers (MILLRACE_HANDLERS): a string of 4 characters given in millrace.toml, expected one of http, fan_out, deliver, ingest, sweep, meter
      host (MILLRACE_HOST): a string of 3 characters given in the environment, expected one of auto, tcp, lambda
      http.body_bytes_max (MILLRACE_HTTP__BODY_BYTES_MAX): -1 given in millrace.toml, expected a whole number, not negative
      http.listen (MILLRACE_HTTP__LISTEN): 8080 given in millrace.toml, expected text in quotes
      http.request_timeout_s (MILLRACE_HTTP__REQUEST_TIMEOUT_S): a string of 3 characters given in millrace.toml, expected a whole number, not negative
      log.format (MILLRACE_LOG__FORMAT): a string of 3 characters given in millrace.toml, expected one of auto, json, human
      retention_days (MILLRACE_RETENTION_DAYS): a string of 7 characters given in the environment, expected a whole number, not negative
    "#);
}

#[test]
fn every_value_out_of_range_is_reported_at_once() {
    let message = complaint(
        "admin_key = \"short-secret\"\nretention_days = 1\nhandlers = []\ndata_dir = \"\"\n\
         [http]\nlisten = \"localhost\"\nheader_timeout_s = 0\n\
         [database]\nurl = \"mysql://user:hunter2@host/db\"\n\
         [aws]\nregion = \"eu west\"\nendpoint_url = \"localhost:4566\"\n\
         [dynamodb]\ntable = \"m\"\n[sqs]\ndeliver_url = \"https://sqs.test/1/d\"\n\
         [delivery]\nendpoint_concurrency = 300\nconnect_timeout_s = 31\nretry_jitter = 1.5\n\
         [log]\nlevel = \"info,=x=\"",
        &[],
    );
    assert!(!message.contains("short-secret") && !message.contains("hunter2"));
    assert_snapshot!(message, @r#"
    configuration:
      http.header_timeout_s (MILLRACE_HTTP__HEADER_TIMEOUT_S): 0 given, expected 1 to 300 seconds
      delivery.retry_jitter (MILLRACE_DELIVERY__RETRY_JITTER): 1.5 given, expected 0 to 1 of the wait
      data_dir (MILLRACE_DATA_DIR): an empty string given, expected a directory
      handlers (MILLRACE_HANDLERS): [] given, expected at least one handler, each once
      http.listen (MILLRACE_HTTP__LISTEN): a string of 9 characters given, expected an IP address, not a name: 127.0.0.1:8080
      log.level (MILLRACE_LOG__LEVEL): a string of 8 characters given, expected off, error, warn, info, debug or trace, or a list such as info,millrace::jobs=debug with one level for each target and at most one for all others
      admin_key (MILLRACE_ADMIN_KEY): expected a secret of at least 32 characters
      database.url (MILLRACE_DATABASE__URL): expected a URL such as postgresql://user:password@host:5432/database
      dynamodb.table (MILLRACE_DYNAMODB__TABLE): a string of 1 character given, expected 3 to 255 letters, digits, '_', '-' or '.'
      aws.region (MILLRACE_AWS__REGION): a string of 7 characters given, expected a region such as eu-west-1
      aws.endpoint_url (MILLRACE_AWS__ENDPOINT_URL): a string of 14 characters given, expected an http or https URL
      sqs.fan_out_url (MILLRACE_SQS__FAN_OUT_URL): expected a URL, as sqs.deliver_url has one
      retention_days (MILLRACE_RETENTION_DAYS): 1 given, expected at least 7 days, as delivery.retry_schedule_s takes longer
      delivery.endpoint_concurrency (MILLRACE_DELIVERY__ENDPOINT_CONCURRENCY): 300 given, expected at most delivery.concurrency, which is 256
      delivery.connect_timeout_s (MILLRACE_DELIVERY__CONNECT_TIMEOUT_S): 31 given, expected at most delivery.timeout_s, which is 30
    "#);
}

#[test]
fn every_schedule_it_takes_is_one() {
    use crate::model::retry::Schedule;
    for (attempts, wait_s) in [(0, 0), (1, 0), (20, 86_400), (21, 0), (1, 86_401)] {
        let waits = vec![wait_s.to_string(); attempts].join(", ");
        let toml = format!("{STORE}\n[delivery]\nretry_schedule_s = [{waits}]");
        let schedule = Schedule::new(vec![Duration::from_secs(wait_s); attempts], 0.1);
        match (load(&toml, &[]), schedule) {
            (Ok(_), Ok(_)) => {}
            (Err(refused), Err(_)) => {
                assert!(refused.to_string().contains("delivery.retry_schedule_s"));
            }
            (config, schedule) => panic!("{attempts} × {wait_s}: {config:?}, {schedule:?}"),
        }
    }
}

#[test]
fn a_listen_address_that_is_none_is_answered_with_one() {
    let listen = |given: &str| {
        let message = complaint(&format!("[http]\nlisten = {given:?}"), &[]);
        message.rsplit_once("expected ").unwrap().1.to_owned()
    };
    assert_snapshot!(listen("localhost:9000"), @"an IP address, not a name: 127.0.0.1:9000");
    assert_snapshot!(listen(":9000"), @"an IP address and port: 0.0.0.0:9000 for every interface");
    assert_snapshot!(listen("9000"), @"an IP address and port, such as 127.0.0.1:9000");
    assert_snapshot!(listen("example.com:99999"), @"an IP address and port, such as 127.0.0.1:8080");
}

#[test]
fn metrics_are_written_where_cloudwatch_reads_them() {
    let emits = |metrics: &str, env: &[(&str, &str)]| {
        let env: Vec<_> = env.iter().copied().chain([ADMIN_KEY, KEY_RING]).collect();
        let toml = format!("{STORE}\n[telemetry]\nmetrics = {metrics:?}");
        load(&toml, &env).unwrap().emits_metrics()
    };
    let ecs = [ECS];
    assert!(emits("auto", &ecs) && !emits("auto", &[]));
    assert!(emits("emf", &[]) && !emits("off", &ecs));
}

#[test]
fn the_archive_is_a_bucket_by_host_or_below_an_endpoint_by_path() {
    let url = |keys: &str| {
        let toml = format!("{STORE}\n[archive]\nbucket = \"b-1\"\n{keys}");
        load(&toml, &[]).unwrap().archive_url()
    };
    let in_region = |region: &str| url(&format!("[aws]\nregion = {region:?}"));
    assert_eq!(
        in_region("eu-west-1"),
        "https://b-1.s3.eu-west-1.amazonaws.com/"
    );
    assert_eq!(
        in_region("cn-north-1"),
        "https://b-1.s3.cn-north-1.amazonaws.com.cn/"
    );
    let own = "endpoint_url = \"http://s3:1/\"\n[aws]\nendpoint_url = \"http://aws:1\"";
    assert_eq!(url(own), "http://s3:1/b-1/");
    assert_eq!(
        url("[aws]\nendpoint_url = \"http://aws:1\""),
        "http://aws:1/b-1/"
    );
    let wrong = "[delivery]\nretry_schedule_s = [0]\n\
         [archive]\nbucket = \"B.c\"\nprefix = \"a/../b\"\nendpoint_url = \"s3\"";
    let wrong = format!("retention_days = 2\n{STORE}\n{wrong}");
    assert_snapshot!(complaint(&wrong, &[]), @r#"
    configuration:
      archive.endpoint_url (MILLRACE_ARCHIVE__ENDPOINT_URL): a string of 2 characters given, expected an http or https URL
      archive.bucket (MILLRACE_ARCHIVE__BUCKET): a string of 3 characters given, expected 3 to 63 lower-case letters, digits or '-'
      archive.prefix (MILLRACE_ARCHIVE__PREFIX): a string of 6 characters given, expected up to 512 letters, digits, '_', '-', '.', '=' or '/'
      retention_days (MILLRACE_RETENTION_DAYS): 2 given, expected at least 3 days, as archive.bucket is set
    "#);
}

#[test]
fn traces_go_to_the_regions_x_ray_unless_told_otherwise() {
    let url = |keys: &str| {
        let toml = format!("{STORE}\n[aws]\nregion = \"eu-west-1\"\n{keys}");
        load(&toml, &[]).unwrap().traces_url()
    };
    let regional = "https://xray.eu-west-1.amazonaws.com/v1/traces";
    assert_eq!(url(""), regional);
    assert_eq!(
        url("endpoint_url = \"http://aws:1/\""),
        "http://aws:1/v1/traces"
    );
    let own = "endpoint_url = \"http://aws:1\"\n[telemetry]\notlp_url = \"http://c:4318/t\"";
    assert_eq!(url(own), "http://c:4318/t");
    let wrong =
        format!("{STORE}\n[telemetry]\ntraces = \"otlp\"\nservice = \"a b\"\nsample_ratio = 2");
    assert_snapshot!(complaint(&wrong, &[]), @r#"
    configuration:
      telemetry.sample_ratio (MILLRACE_TELEMETRY__SAMPLE_RATIO): 2 given, expected 0 to 1 of the traces
      telemetry.service (MILLRACE_TELEMETRY__SERVICE): a string of 3 characters given, expected 1 to 100 letters, digits, '_', '-', '.' or '/'
      telemetry.otlp_url (MILLRACE_TELEMETRY__OTLP_URL): expected a URL, as telemetry.traces is "otlp"
    "#);
}

#[test]
fn a_file_that_is_no_toml_is_named_with_the_line() {
    assert_snapshot!(complaint("listen = = 1", &[]), @r#"
    configuration:
      millrace.toml, line 1: invalid string, expected `"`, `'`
    "#);
}

#[test]
fn a_named_file_must_be_there() {
    let missing = Config::load(Some(Path::new("no/such.toml")), Purpose::Serve).unwrap_err();
    assert_snapshot!(missing, @"
    configuration:
      cannot read no/such.toml: No such file or directory (os error 2)
    ");
}

#[test]
fn what_is_shown_has_no_secrets_and_can_be_read_back() {
    let secret = "0123456789abcdef0123456789abcdef";
    let config = load(
        &format!("admin_key = \"{secret}\"\n[delivery]\nallow_private_targets = true"),
        &[(
            "MILLRACE_DATABASE__URL",
            "postgresql://u:hunter2@db:5432/m?password=hunter3&sslmode=require",
        )],
    )
    .unwrap();
    let shown = config.masked_toml();
    assert!(!shown.contains(secret) && !shown.contains("hunter"));
    assert!(!format!("{config:?}").contains("hunter"));
    assert_snapshot!(shown, @r#"
    data_dir = ".millrace"
    host = "auto"
    handlers = ["http", "fan_out", "deliver", "ingest", "sweep", "meter"]
    admin_key = "***"
    admin_key_secret_arn = ""
    retention_days = 30

    [http]
    listen = "127.0.0.1:8080"
    body_bytes_max = 1048576
    request_timeout_s = 30
    header_timeout_s = 10
    idle_timeout_s = 75
    write_stall_s = 30
    connections_max = 10000
    events_per_second_max = 0
    auth_failures_max = 100
    trusted_proxies = []
    drain_timeout_s = 25
    drain_grace_s = 0

    [database]
    url = "postgresql://u:***@db:5432/m?password=***&sslmode=require"
    secret_arn = ""
    app_role = ""
    app_secret_arn = ""
    host = ""
    port = 5432
    name = "millrace"
    ca_file = ""
    pool_size = 10
    connect_timeout_s = 5
    statement_timeout_s = 10

    [key_ring]
    secret_arn = ""

    [aws]
    endpoint_url = ""
    region = ""
    ca_file = ""

    [dynamodb]
    table = "millrace"
    endpoint_url = ""

    [sqs]
    fan_out_url = ""
    deliver_url = ""
    ingest_url = ""
    parked_url = ""
    endpoint_url = ""

    [queue]
    local_jobs_max = 20000
    local_bytes_max = 268435456

    [delivery]
    allow_private_targets = true
    connect_timeout_s = 5
    timeout_s = 30
    response_bytes_max = 65536
    concurrency = 256
    in_flight_max = 10000
    endpoint_concurrency = 32
    ca_file = ""
    breaker_failures = 10
    breaker_open_s = 30
    breaker_open_max_s = 900
    disable_after_days = 5
    retry_schedule_s = [0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    retry_jitter = 0.1
    source_addresses = []

    [recovery]
    per_second_max = 50

    [archive]
    bucket = ""
    prefix = "events"
    endpoint_url = ""

    [erasure]
    per_second_max = 200

    [endpoints]
    per_project_max = 10000

    [event_types]
    per_project_max = 1000
    schema_bytes_per_project_max = 1048576

    [ingest]
    project = ""

    [sweep]
    interval_ms = 1000
    batch = 500
    lease_s = 5
    sqs_lease_s = 30

    [meters]
    interval_ms = 1000
    batch = 500
    groups_max = 1000
    late_days_max = 35

    [cache]
    ttl_s = 5
    keys_max = 10000
    projects_max = 1000

    [log]
    format = "auto"
    level = "info"

    [telemetry]
    service = "millrace"
    metrics = "auto"
    metrics_interval_s = 60
    traces = "off"
    otlp_url = ""
    sample_ratio = 0.05
    kpi_series_max = 100
    "#);
    let again = Config::from_toml(&shown.replace("***", secret)).unwrap();
    assert_eq!(again.masked_toml(), shown);
}
