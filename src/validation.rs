//! The validation of events' data: schemas made ready once and kept by the memory they
//! take, and held against data beside the threads that serve requests, unless that
//! takes next to nothing.
//!
//! Called when an event is accepted and when a schema is registered.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::error::Result;
use crate::model::event::Event;
use crate::model::schema::{
    self, CompiledSchema, STEPS_MAX, Schema, SchemaViolation, UnusableSchema, Verdict,
};

/// Bytes of compiled schemas that are kept.
const COMPILED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What a schema that cannot be used is counted as.
const UNUSABLE_BYTES: usize = 1024;
/// Steps that a request's own thread takes: a fraction of a millisecond.
const INLINE_STEPS_MAX: u64 = 10_000;
/// The largest data that a request's own thread reads for it, in bytes.
const INLINE_BYTES_MAX: usize = 32_768;

type Compiled = Arc<Result<CompiledSchema, UnusableSchema>>;

/// The schemas in use, and threads for them.
pub struct Validation {
    /// By the SHA-256 of their texts, so that one that has not changed when its project
    /// is read again is not compiled again.
    compiled: Cache<[u8; 32], Compiled>,
    /// As many at a time as there are processors: the rest wait without a thread.
    permits: Arc<Semaphore>,
}

impl std::fmt::Debug for Validation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validation").finish_non_exhaustive()
    }
}

impl Default for Validation {
    fn default() -> Self {
        let compiled = Cache::builder()
            .weigher(|_, compiled: &Compiled| weight(compiled))
            .max_capacity(COMPILED_BYTES_MAX)
            .build();
        let threads = available_parallelism().map_or(1, NonZero::get);
        Self {
            compiled,
            permits: Arc::new(Semaphore::new(threads)),
        }
    }
}

impl Validation {
    /// How the data of `event` does not satisfy `schema`; none if it does.
    ///
    /// # Errors
    /// When this version cannot use the schema.
    pub async fn violation(
        &self,
        schema: &Schema,
        event: &Event,
    ) -> Result<Option<SchemaViolation>, UnusableSchema> {
        let compiled = self.compiled(schema).await;
        let usable = (*compiled).as_ref().map_err(Clone::clone)?;
        let len = event.data().map_or(0, <[u8]>::len);
        if len <= INLINE_BYTES_MAX {
            match usable.validate(event.data(), INLINE_STEPS_MAX) {
                Verdict::Satisfied => return Ok(None),
                Verdict::Violated(violation) => return Ok(Some(violation)),
                Verdict::OutOfSteps(_) => {}
            }
        }
        let (compiled, event) = (Arc::clone(&compiled), event.clone());
        let validate = move || match &*compiled {
            Ok(usable) => Some(usable.validate(event.data(), STEPS_MAX)),
            Err(_) => None,
        };
        Ok(match self.beside(validate).await {
            Some(Verdict::Violated(violation) | Verdict::OutOfSteps(violation)) => Some(violation),
            Some(Verdict::Satisfied) | None => None,
        })
    }

    /// Checks a schema that is to be registered.
    ///
    /// # Errors
    /// As [`schema::check`].
    pub async fn check(&self, text: &str) -> Result<()> {
        let text = text.to_owned();
        Ok(self.beside(move || schema::check(&text)).await?)
    }

    /// `schema`, compiled when it is first used.
    async fn compiled(&self, schema: &Schema) -> Compiled {
        let compile = async {
            let schema = schema.clone();
            Arc::new(self.beside(move || schema.compile()).await)
        };
        self.compiled
            .get_with_by_ref(schema.sha256(), compile)
            .await
    }

    /// What `work` answers, on a thread that serves no requests.
    async fn beside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("never closed");
        // Held until it is done, also if nobody waits for it any more.
        let work = move || {
            let answer = work();
            drop(permit);
            answer
        };
        match spawn_blocking(work).await {
            Ok(answer) => answer,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

fn weight(compiled: &Compiled) -> u32 {
    let bytes = (**compiled)
        .as_ref()
        .map_or(UNUSABLE_BYTES, CompiledSchema::bytes);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::model::event::{PlainDefaults, parse_plain};

    /// An event with an array of so many zeros.
    fn event(zeros: usize) -> Event {
        let body = json!({ "type": "t", "data": vec![0; zeros] }).to_string();
        let defaults = PlainDefaults {
            id: "1",
            source: "/",
            time: Timestamp::UNIX_EPOCH,
        };
        parse_plain(body.as_bytes(), defaults).unwrap()
    }

    #[tokio::test]
    async fn what_takes_long_waits_for_a_thread_of_its_own() {
        let validation = Validation::default();
        let schema = Schema::new(r#"{"items":{"type":"integer"}}"#);
        validation.compiled(&schema).await;
        let threads = u32::try_from(validation.permits.available_permits()).unwrap();
        let all_threads = validation.permits.acquire_many(threads).await.unwrap();
        let short = event(100);
        let short = validation.violation(&schema, &short).now_or_never();
        assert_eq!(short.unwrap().unwrap(), None);
        // By its steps, and by its bytes.
        for zeros in [12_000, 100_000] {
            let long = validation.violation(&schema, &event(zeros)).now_or_never();
            assert!(long.is_none(), "{zeros}");
        }
        drop(all_threads);
        let long = validation.violation(&schema, &event(12_000)).await;
        assert_eq!(long.unwrap(), None);
    }

    #[tokio::test]
    async fn schemas_are_kept_by_what_they_take_when_compiled() {
        let validation = Validation::default();
        let (mut texts, mut taken) = (0, 0);
        for n in 0..20 {
            // Some bytes of text, and some ten thousand of automaton.
            let pattern = format!("^{n}\\p{{L}}$");
            let schema = Schema::new(&json!({ "pattern": pattern }).to_string());
            texts += schema.text().len() as u64;
            let compiled = validation.compiled(&schema).await;
            taken += (*compiled)
                .as_ref()
                .map_or(0, |usable| usable.bytes() as u64);
        }
        validation.compiled.run_pending_tasks().await;
        assert!(taken > 100 * texts, "{taken} of {texts}");
        let weighed = validation.compiled.weighted_size();
        assert!(weighed >= taken, "{weighed} of {taken}");
    }

    #[tokio::test]
    async fn a_schema_of_one_text_is_compiled_once() {
        let validation = Validation::default();
        let schema = || Schema::new(r#"{"type":"object"}"#);
        let first = validation.compiled(&schema()).await;
        assert!(Arc::ptr_eq(&first, &validation.compiled(&schema()).await));
    }
}
