//! Suggestions for keys that there are not: what was most likely meant.

use super::keys::known_keys;
use super::problem::env_name;

/// Words that people try, with the key that each stands for. They are looked for
/// alone and behind the section of their key.
const ALIASES: &[(&str, &str)] = &[
    ("port", "http.listen"),
    ("bind", "http.listen"),
    ("bind address", "http.listen"),
    ("bind addr", "http.listen"),
    ("address", "http.listen"),
    ("addr", "http.listen"),
    ("hostname", "http.listen"),
    ("interface", "http.listen"),
    ("ip", "http.listen"),
    ("listen address", "http.listen"),
    ("listen addr", "http.listen"),
    ("listen host", "http.listen"),
    ("listen port", "http.listen"),
    ("http", "http.listen"),
    ("http host", "http.listen"),
    ("http url", "http.listen"),
    ("max body size", "http.body_bytes_max"),
    ("max body bytes", "http.body_bytes_max"),
    ("body size", "http.body_bytes_max"),
    ("body limit", "http.body_bytes_max"),
    ("rate limit", "http.events_per_second_max"),
    ("database", "database.url"),
    ("dsn", "database.url"),
    ("database dsn", "database.url"),
    ("database uri", "database.url"),
    ("database connection string", "database.url"),
    ("database user", "database.url"),
    ("database username", "database.url"),
    ("database password", "database.url"),
    ("database ssl mode", "database.url"),
    ("database db", "database.name"),
    ("database database", "database.name"),
    ("database pool", "database.pool_size"),
    ("database max connections", "database.pool_size"),
    ("admin", "admin_key"),
    ("admin token", "admin_key"),
    ("admin password", "admin_key"),
    ("admin secret", "admin_key"),
    ("admin api key", "admin_key"),
    ("data", "data_dir"),
    ("data directory", "data_dir"),
    ("data path", "data_dir"),
    ("directory", "data_dir"),
    ("home", "data_dir"),
    ("storage", "data_dir"),
    ("path", "data_dir"),
    ("retention", "retention_days"),
    ("ttl", "retention_days"),
    ("log", "log.level"),
    ("debug", "log.level"),
    ("verbose", "log.level"),
    ("verbosity", "log.level"),
    ("rust log", "log.level"),
    ("dynamodb", "dynamodb.endpoint_url"),
    ("dynamodb url", "dynamodb.endpoint_url"),
    ("endpoint", "aws.endpoint_url"),
    ("aws url", "aws.endpoint_url"),
    ("localstack", "aws.endpoint_url"),
    ("workers", "delivery.concurrency"),
    ("retries", "delivery.retry_schedule_s"),
    ("max retries", "delivery.retry_schedule_s"),
    ("max attempts", "delivery.retry_schedule_s"),
    ("retry", "delivery.retry_schedule_s"),
    ("allow private", "delivery.allow_private_targets"),
    ("allow localhost", "delivery.allow_private_targets"),
    ("s3 bucket", "archive.bucket"),
    ("mode", "handlers"),
    ("role", "handlers"),
    ("otel", "telemetry.otlp_url"),
    ("tracing", "telemetry.traces"),
];

/// Other names that people have for a section.
const SECTIONS: &[(&str, &str)] = &[
    ("db", "database"),
    ("pg", "database"),
    ("postgres", "database"),
    ("postgresql", "database"),
    ("sql", "database"),
    ("server", "http"),
    ("api", "http"),
    ("web", "http"),
    ("listener", "http"),
    ("ddb", "dynamodb"),
    ("dynamo", "dynamodb"),
    ("logs", "log"),
    ("logger", "log"),
    ("logging", "log"),
    ("s3", "archive"),
    ("deliveries", "delivery"),
    ("webhook", "delivery"),
    ("webhooks", "delivery"),
    ("metrics", "telemetry"),
    ("otlp", "telemetry"),
    ("opentelemetry", "telemetry"),
];

/// What is no key at all, and what to use instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("config", "a file is named by --config FILE"),
    ("configfile", "a file is named by --config FILE"),
    (
        "apikey",
        "an API key is no configuration; examples read it from MILLRACE_KEY",
    ),
];

/// Keys that are worth naming at once: with more, none is likely.
const SUGGESTED_MAX: usize = 4;

/// A key by one of its names, in the letters and digits that tell names apart.
struct Name {
    text: String,
    key: &'static str,
}

/// What to say of a key that there is not: the keys that were most likely meant, or
/// where all of them are.
pub fn hint(path: &str) -> String {
    if let Some((_, elsewhere)) = ELSEWHERE.iter().find(|(name, _)| *name == plain(path)) {
        return (*elsewhere).to_owned();
    }
    let keys = likely(path);
    let named = keys.iter().map(|key| format!("{key} ({})", env_name(key)));
    let named: Vec<_> = named.collect();
    match named.split_last() {
        None => "config.toml lists them all".to_owned(),
        Some((only, [])) => format!("did you mean {only}?"),
        Some((last, others)) => format!("did you mean {} or {last}?", others.join(", ")),
    }
}

/// The keys that `path` most likely stands for, by the first rule that finds any.
fn likely(path: &str) -> Vec<&'static str> {
    let spellings = spellings(path);
    let names = names();
    let rules: [&dyn Fn() -> Vec<&'static str>; 4] = [
        &|| keys_of(&names, |name| spellings.contains(&name.text)),
        &|| same_last(path),
        &|| misspelt(&names, &spellings),
        &|| with_words(&spellings_in_words(path)),
    ];
    let found = rules.iter().map(|rule| rule());
    let mut found = found.filter(|keys| (1..=SUGGESTED_MAX).contains(&keys.len()));
    found.next().unwrap_or_default()
}

/// Every name of every key: its own, what people call it, and that in its section.
fn names() -> Vec<Name> {
    let own = known_keys().iter().map(|(key, _)| Name {
        text: plain(key),
        key,
    });
    let others = ALIASES.iter().flat_map(|(alias, key)| {
        let section = key.split_once('.').map_or("", |(section, _)| section);
        [String::new(), section.to_owned()].map(|section| Name {
            text: section + &plain(alias),
            key,
        })
    });
    own.chain(others).collect()
}

/// The distinct keys of the names that `fits`, in their order.
fn keys_of(names: &[Name], fits: impl Fn(&Name) -> bool) -> Vec<&'static str> {
    let mut keys: Vec<&'static str> = Vec::new();
    for name in names.iter().filter(|name| fits(name)) {
        if !keys.contains(&name.key) {
            keys.push(name.key);
        }
    }
    keys
}

/// The keys whose own name, on whatever level, is the last of `path`.
fn same_last(path: &str) -> Vec<&'static str> {
    let own = plain(path.rsplit('.').next().unwrap_or(path));
    let last = |key: &str| plain(key.rsplit('.').next().unwrap_or(key));
    let keys = known_keys().iter().map(|(key, _)| key.as_str());
    keys.filter(|key| last(key) == own).collect()
}

/// The keys of the names that are the fewest slips away, if they are few.
fn misspelt(names: &[Name], spellings: &[String]) -> Vec<&'static str> {
    let slips = |name: &Name| {
        let distances = spellings.iter().filter_map(|spelling| {
            let slips = distance(spelling, &name.text);
            (slips <= slips_max(spelling)).then_some(slips)
        });
        distances.min()
    };
    let fewest = names.iter().filter_map(slips).min();
    keys_of(names, |name| fewest.is_some() && slips(name) == fewest)
}

/// Slips in a word of that length that leave it recognisable.
fn slips_max(text: &str) -> usize {
    match text.len() {
        0..=3 => 1,
        4..=7 => 2,
        _ => 3,
    }
}

/// The keys that have all these words in their names.
fn with_words(spellings: &[Vec<String>]) -> Vec<&'static str> {
    let keys = known_keys().iter().map(|(key, _)| key.as_str());
    let has_all = |key: &&str| {
        let own = words(key);
        let all = |spelling: &Vec<String>| spelling.iter().all(|word| own.contains(word));
        spellings
            .iter()
            .any(|words| !words.is_empty() && all(words))
    };
    keys.filter(has_all).collect()
}

/// `path` as written, and with the section it may mean by its first word.
fn spellings_in_words(path: &str) -> Vec<Vec<String>> {
    let words = words(path);
    let section = words.first().and_then(|first| {
        let section = SECTIONS.iter().find(|(other, _)| other == first)?;
        Some(vec![section.1.to_owned()])
    });
    let meant = section.map(|section| [&section, &words[1..]].concat());
    [Some(words), meant].into_iter().flatten().collect()
}

fn spellings(path: &str) -> Vec<String> {
    let spellings = spellings_in_words(path).into_iter();
    spellings.map(|words| words.concat()).collect()
}

fn words(path: &str) -> Vec<String> {
    let words = path.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// The letters and digits of `text`, whatever separates its words.
fn plain(text: &str) -> String {
    words(text).concat()
}

/// Edits from one to the other: a letter more, less or another, or two swapped.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) | (_, 0) => i + j,
                _ => {
                    let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let edited = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    let is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    match is_swap.then(|| rows[i - 2][j - 2] + 1) {
                        Some(swapped) => edited.min(swapped),
                        None => edited,
                    }
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_leads_to_a_key_and_is_none_itself() {
        let known: Vec<_> = known_keys().iter().map(|(key, _)| key.as_str()).collect();
        let own: Vec<_> = known.iter().map(|key| plain(key)).collect();
        for (alias, key) in ALIASES {
            assert!(known.contains(key), "{alias} leads to {key}");
            assert!(!own.contains(&plain(alias)), "{alias} is a key");
        }
        for (other, section) in SECTIONS {
            let prefix = format!("{section}.");
            assert!(known.iter().any(|key| key.starts_with(&prefix)), "{other}");
        }
    }

    #[test]
    fn what_people_try_is_told_the_right_key() {
        for (tried, key) in [
            ("port", "http.listen"),
            ("prot", "http.listen"),
            ("http.port", "http.listen"),
            ("http.prot", "http.listen"),
            ("http_prot", "http.listen"),
            ("http.host", "http.listen"),
            ("server.port", "http.listen"),
            ("listen", "http.listen"),
            ("http_listen", "http.listen"),
            ("http.listen_adress", "http.listen"),
            ("httpListen", "http.listen"),
            ("bind", "http.listen"),
            ("bind_addr", "http.listen"),
            ("address", "http.listen"),
            ("http._listen", "http.listen"),
            ("database_url", "database.url"),
            ("databse.url", "database.url"),
            ("db_url", "database.url"),
            ("db", "database.url"),
            ("postgres", "database.url"),
            ("postgres_url", "database.url"),
            ("postgres.password", "database.url"),
            ("pg_host", "database.host"),
            ("db.port", "database.port"),
            ("url", "database.url"),
            ("log_level", "log.level"),
            ("level", "log.level"),
            ("loglevel", "log.level"),
            ("logging.level", "log.level"),
            ("lgo_level", "log.level"),
            ("data", "data_dir"),
            ("data.dir", "data_dir"),
            ("datadir", "data_dir"),
            ("dir", "data_dir"),
            ("adminkey", "admin_key"),
            ("admin.key", "admin_key"),
            ("admin_kye", "admin_key"),
            ("retention", "retention_days"),
            ("retention_day", "retention_days"),
            ("region", "aws.region"),
            ("aws_region", "aws.region"),
            ("table", "dynamodb.table"),
            ("dynamodb_table", "dynamodb.table"),
            ("delivery.timeout", "delivery.timeout_s"),
            ("max_connections", "http.connections_max"),
        ] {
            assert_eq!(likely(tried), [key], "{tried}");
        }
    }

    #[test]
    fn several_that_fit_alike_are_all_named_and_none_is_guessed() {
        let fit = ["http.drain_timeout_s", "http.header_timeout_s"];
        let found = likely("http.timeout");
        assert!(fit.iter().all(|key| found.contains(key)), "{found:?}");
        for none in ["", "zzzzzzzzzzzz", "foo", "x", "_"] {
            assert_eq!(likely(none), [""; 0], "{none}");
        }
    }
}
