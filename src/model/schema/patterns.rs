//! The patterns of a schema: bounded by what they take when compiled, each and
//! together, and by what matching them takes.
//!
//! They are matched in linear time, but a step of a large one is a large step: it may
//! look at every state. So a pattern's weight is that of each byte it is held against.

use std::sync::{Arc, Mutex};

use jsonschema::{Keyword, ValidationError, ValidationOptions};
use regex_automata::Input;
use regex_automata::meta::{Cache, Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use serde_json::Value;

use super::expected::{EXPECTED_LEN_MAX, shortened};
use super::node::{Metered, Node};

/// What one pattern may take when compiled, in bytes of its automaton.
pub(super) const PATTERN_BYTES_MAX: usize = 262_144;
/// What the patterns of a schema may take together when compiled, in bytes.
const PATTERNS_BYTES_MAX: usize = 1024 * 1024;
/// What one may keep of what it has found while matching.
pub(super) const MATCH_CACHE_BYTES_MAX: usize = 32_768;
/// Bytes of a compiled pattern that a step looks at.
const BYTES_PER_STEP: usize = 2048;

/// Why a pattern is refused.
pub(super) const UNFIT: &str = "expected a regular expression without look-around and \
     back-references, which are not matched in linear time, and of bounded size";

/// What the patterns of a schema come to.
#[derive(Debug, Default)]
pub(super) struct PatternSizes {
    count: usize,
    bytes: usize,
    name_byte: u64,
}

impl PatternSizes {
    /// Bytes of all of them, compiled and with what they keep while matching.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.count * MATCH_CACHE_BYTES_MAX
    }

    /// Steps of a byte of a name that is held against those of `patternProperties`.
    pub(super) fn name_byte(&self) -> u64 {
        self.name_byte
    }

    /// Adds a pattern of `patternProperties`, which the library compiles for itself.
    /// One that does not compile is for the library to refuse, if it is a pattern.
    ///
    /// # Errors
    /// What was expected instead.
    pub(super) fn add_of_names(&mut self, pattern: &str) -> Result<(), String> {
        let Some(regex) = translated(pattern).and_then(|pattern| compiled(&pattern)) else {
            return Ok(());
        };
        self.name_byte += steps_per_byte(&regex);
        self.add(&regex)
    }

    fn add(&mut self, regex: &Regex) -> Result<(), String> {
        self.count += 1;
        self.bytes += regex.memory_usage();
        if self.bytes > PATTERNS_BYTES_MAX {
            return Err(format!(
                "expected patterns that together take up to {PATTERNS_BYTES_MAX} bytes when compiled"
            ));
        }
        Ok(())
    }
}

/// `builder` with the keyword `pattern`, which counts what it compiles in `sizes`.
pub(super) fn bounded<'o, R>(
    builder: ValidationOptions<'o, R, Metered>,
    sizes: &Arc<Mutex<PatternSizes>>,
) -> ValidationOptions<'o, R, Metered> {
    let sizes = Arc::clone(sizes);
    builder.with_keyword("pattern", move |_, value, _| make(&sizes, value))
}

fn make<'s>(
    sizes: &Mutex<PatternSizes>,
    value: &'s Value,
) -> Result<Box<dyn for<'i> Keyword<'i, Metered>>, ValidationError<'s>> {
    let pattern = value.as_str().unwrap_or_default();
    let regex = translated(pattern).and_then(|pattern| compiled(&pattern));
    let regex = regex.ok_or_else(|| ValidationError::schema(UNFIT))?;
    let added = sizes.lock().expect("nothing panics with it").add(&regex);
    added.map_err(ValidationError::schema)?;
    Ok(Box::new(Pattern {
        // Each error has a copy of the words.
        expected: shortened(&format!("expected a match of {pattern}"), EXPECTED_LEN_MAX),
        steps_per_byte: steps_per_byte(&regex),
        cache: Mutex::new(regex.create_cache()),
        regex,
    }))
}

/// A pattern of ECMA-262 in the words of the engine.
fn translated(pattern: &str) -> Option<String> {
    let translated = jsonschema_regex::to_rust_regex(pattern).ok()?;
    Some(translated.into_owned())
}

fn compiled(pattern: &str) -> Option<Regex> {
    let config = Config::new()
        .nfa_size_limit(Some(PATTERN_BYTES_MAX))
        .hybrid_cache_capacity(MATCH_CACHE_BYTES_MAX)
        .which_captures(WhichCaptures::Implicit);
    Regex::builder().configure(config).build(pattern).ok()
}

fn steps_per_byte(regex: &Regex) -> u64 {
    1 + (regex.memory_usage() / BYTES_PER_STEP) as u64
}

/// A `pattern`.
struct Pattern {
    regex: Regex,
    /// One for all threads, as what it takes is counted once; a thread that does not
    /// get it makes do with one of its own.
    cache: Mutex<Cache>,
    steps_per_byte: u64,
    expected: String,
}

impl Pattern {
    fn holds(&self, node: Node<'_>) -> bool {
        let Some(text) = node.string() else {
            return true;
        };
        let steps = (text.len() as u64).saturating_mul(self.steps_per_byte);
        node.meter().charge(steps);
        let input = Input::new(text);
        match self.cache.try_lock() {
            Ok(mut cache) => self.regex.is_match_with(&mut cache, &input),
            Err(_) => {
                let mut cache = self.regex.create_cache();
                self.regex.is_match_with(&mut cache, &input)
            }
        }
    }
}

impl<'i> Keyword<'i, Metered> for Pattern {
    fn validate(&self, instance: Node<'i>) -> Result<(), ValidationError<'i>> {
        if self.holds(instance) {
            Ok(())
        } else {
            Err(ValidationError::custom(self.expected.clone()))
        }
    }

    fn is_valid(&self, instance: Node<'i>) -> bool {
        self.holds(instance)
    }
}
