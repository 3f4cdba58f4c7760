//! The retry quotas of DynamoDB's client: each project's requests and each job's
//! subject has one of its own.
//!
//! The SDK tries a throttled call again as long as its client has tokens left. With one
//! bucket for all, the calls of one project, whose index is hot, spend the tokens of
//! everybody: then nobody's call is tried again. What a call is charged to stands around
//! it: jobs and requests say so, and what says nothing shares the client's own bucket.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use aws_sdk_dynamodb::config::interceptors::BeforeSerializationInterceptorContextMut;
use aws_sdk_dynamodb::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;

/// Quotas kept. Of more, those that are whole are forgotten, since a new one is too.
const QUOTAS_MAX: usize = 1024;
/// Tokens of a quota: a retry takes 5, or 10 after a timeout, and a call that succeeds
/// at once gives one back.
const TOKENS: usize = 250;

tokio::task_local! {
    /// A hash of what pays for retries of the current work, once that is known.
    static PAYER: OnceLock<u64>;
}

static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Runs `work` with retries that [`charge_to`] says who pays for. It is moved: who has
/// a large one boxes it.
pub async fn with_payer<T>(work: impl Future<Output = T>) -> T {
    PAYER.scope(OnceLock::new(), work).await
}

/// Has the retries of the current work paid for by `payer`, unless somebody pays already.
pub fn charge_to(payer: &str) {
    // Outside of any work with a payer all share one quota.
    let _ = PAYER.try_with(|paying| paying.set(HASHES.hash_one(payer)));
}

/// The interceptor that gives each call the quota of its payer.
#[derive(Debug, Default)]
pub(super) struct RetryQuotas(Mutex<HashMap<u64, Quota>>);

#[derive(Debug, Clone)]
struct Quota {
    partition: RetryPartition,
    tokens: TokenBucket,
}

impl Quota {
    fn new() -> Self {
        let tokens = TokenBucket::new(TOKENS);
        let partition = RetryPartition::custom("payer").token_bucket(tokens.clone());
        Self {
            partition: partition.build(),
            tokens,
        }
    }
}

impl RetryQuotas {
    fn of(&self, payer: u64) -> RetryPartition {
        let mut quotas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if quotas.len() >= QUOTAS_MAX && !quotas.contains_key(&payer) {
            quotas.retain(|_, quota| !quota.tokens.is_full());
            if quotas.len() >= QUOTAS_MAX {
                quotas.clear();
            }
        }
        let quota = quotas.entry(payer).or_insert_with(Quota::new);
        quota.partition.clone()
    }
}

impl Intercept for RetryQuotas {
    fn name(&self) -> &'static str {
        "retry quotas"
    }

    fn modify_before_serialization(
        &self,
        _: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let payer = PAYER.try_with(|payer| payer.get().copied()).ok().flatten();
        if let Some(payer) = payer {
            config.interceptor_state().store_put(self.of(payer));
        }
        Ok(())
    }
}
