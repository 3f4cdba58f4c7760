//! The DynamoDB client: one table, typed access to items, errors classified once.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig,
};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, ReturnValuesOnConditionCheckFailure,
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};

use super::retry_quota::RetryQuotas;
use crate::aws;
use crate::aws::clients::Lazy;
use crate::config::Config;
use crate::error::{Error, Result};

/// Keys that one BatchGetItem may have.
const BATCH_GET_MAX: usize = 100;
/// Rounds of BatchGetItem for what DynamoDB left unprocessed: large items come a
/// few at a time.
const BATCH_ROUNDS_MAX: u32 = 8;
/// The wait before the second round, which doubles.
pub(super) const UNPROCESSED_WAIT: Duration = Duration::from_millis(40);

/// The table of everything that accepting and delivering events reads and writes.
#[derive(Clone, Debug)]
pub struct Dynamo {
    /// Made when it is first used.
    pub client: Lazy<Client>,
    /// The name of `dynamodb.table`.
    pub table: String,
}

/// The table of `config`, at its endpoint or AWS's own. Connects to nothing.
pub fn connect(config: &Config, aws: &SdkConfig) -> Dynamo {
    let mut builder = aws_sdk_dynamodb::config::Builder::from(aws);
    if let Some(endpoint) = config.dynamodb_endpoint() {
        builder = builder.endpoint_url(endpoint);
    }
    Dynamo::new(builder.build(), &config.dynamodb.table)
}

/// The table of a DynamoDB that `http` reaches by itself: the embedded one. It
/// takes any credentials and no network.
pub fn connect_embedded(config: &Config, http: SharedHttpClient) -> Dynamo {
    let builder = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region().to_owned()))
        .credentials_provider(Credentials::from_keys("embedded", "embedded", None))
        .endpoint_url("http://embedded.invalid")
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        // Nothing is sent that could stall: a call that waits for its turn goes on.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .http_client(http);
    Dynamo::new(builder.build(), &config.dynamodb.table)
}

impl Dynamo {
    /// The table of that name, reached as `config` says. Connects to nothing.
    pub fn new(config: aws_sdk_dynamodb::Config, table: impl Into<String>) -> Self {
        let config = config.to_builder().interceptor(RetryQuotas::default());
        Self {
            client: Lazy::new(|| Client::from_conf(config.build())),
            table: table.into(),
        }
    }

    /// The item at a key, or none; one that has expired is none. One consistent read.
    pub(super) async fn get(
        &self,
        pk: impl Into<String>,
        sk: impl Into<String>,
    ) -> Result<Option<Item>> {
        let item = self.get_with_expired(pk, sk).await?;
        Ok(item.filter(|item| !has_expired(item, Timestamp::now())))
    }

    /// As [`Self::get`], one included that has expired and is still there.
    pub(super) async fn get_with_expired(
        &self,
        pk: impl Into<String>,
        sk: impl Into<String>,
    ) -> Result<Option<Item>> {
        let get = self.client.get_item().table_name(&self.table);
        let get = get.key("pk", s(pk)).key("sk", s(sk)).consistent_read(true);
        Ok(get.send().await.map_err(unavailable)?.item)
    }

    /// The item at a key as it was a moment ago, or none. Half of a consistent read.
    pub(super) async fn get_eventually(
        &self,
        pk: impl Into<String>,
        sk: impl Into<String>,
    ) -> Result<Option<Item>> {
        let get = self.client.get_item().table_name(&self.table);
        let get = get.key("pk", s(pk)).key("sk", s(sk));
        Ok(get.send().await.map_err(unavailable)?.item)
    }

    /// Two items of one partition, each or none, those included that have expired and are
    /// still there. One call, two consistent reads.
    pub(super) async fn get_both(&self, pk: &str, sks: [&str; 2]) -> Result<[Option<Item>; 2]> {
        let keys = sks.map(|sk| (pk.to_owned(), sk.to_owned()));
        let mut found = self
            .batch_read(&keys, None, ReadConsistency::Strong)
            .await?;
        Ok(sks.map(|sk| {
            let at = found
                .iter()
                .position(|item| item.str_opt("sk") == Some(sk))?;
            Some(found.swap_remove(at))
        }))
    }

    /// The items at `keys`, in no order; those that are not there, or have expired, are
    /// left out. With `only`, just these attributes of each. Eventually
    /// consistent; one BatchGetItem for each 100.
    pub(super) async fn batch_get(
        &self,
        keys: &[(String, String)],
        only: Option<&str>,
    ) -> Result<Vec<Item>> {
        let found = self.batch_get_with_expired(keys, only).await?;
        Ok(kept(found))
    }

    /// As [`Self::batch_get`], those included that have expired and are still there.
    pub(super) async fn batch_get_with_expired(
        &self,
        keys: &[(String, String)],
        only: Option<&str>,
    ) -> Result<Vec<Item>> {
        self.batch_read(keys, only, ReadConsistency::Eventual).await
    }

    /// As [`Self::batch_get`], of what is there at this moment.
    pub(super) async fn batch_get_consistent(
        &self,
        keys: &[(String, String)],
        only: Option<&str>,
    ) -> Result<Vec<Item>> {
        let found = self.batch_read(keys, only, ReadConsistency::Strong).await?;
        Ok(kept(found))
    }

    async fn batch_read(
        &self,
        keys: &[(String, String)],
        only: Option<&str>,
        consistency: ReadConsistency,
    ) -> Result<Vec<Item>> {
        let mut found = Vec::with_capacity(keys.len());
        // Whether it has expired shows by that, and its name is a word of DynamoDB's own.
        let only = only.map(|only| format!("{only}, #ttl"));
        let names = only
            .is_some()
            .then(|| HashMap::from([("#ttl".to_owned(), "ttl".to_owned())]));
        for chunk in keys.chunks(BATCH_GET_MAX) {
            let key = |(pk, sk): &(String, String)| {
                Item::from([("pk".into(), s(pk)), ("sk".into(), s(sk))])
            };
            let mut keys: Vec<Item> = chunk.iter().map(key).collect();
            for round in 0..BATCH_ROUNDS_MAX {
                if round > 0 {
                    tokio::time::sleep(backoff(UNPROCESSED_WAIT, round)).await;
                }
                let wanted = KeysAndAttributes::builder()
                    .set_keys(Some(keys))
                    .set_projection_expression(only.clone())
                    .set_expression_attribute_names(names.clone())
                    .consistent_read(consistency == ReadConsistency::Strong)
                    .build();
                let output = self
                    .client
                    .batch_get_item()
                    .request_items(&self.table, wanted.map_err(Error::internal)?)
                    .send()
                    .await
                    .map_err(unavailable)?;
                let items = output.responses.unwrap_or_default();
                found.extend(items.into_values().flatten());
                let left = output.unprocessed_keys.unwrap_or_default();
                keys = left.into_values().flat_map(|left| left.keys).collect();
                if keys.is_empty() {
                    break;
                }
            }
            if !keys.is_empty() {
                let source = anyhow::anyhow!("BatchGetItem left {} keys unprocessed", keys.len());
                return Err(Error::Unavailable {
                    what: "the event store",
                    source,
                });
            }
        }
        Ok(found)
    }

    /// An update of the item at a key.
    pub(super) fn update(
        &self,
        pk: impl Into<String>,
        sk: impl Into<String>,
    ) -> UpdateItemFluentBuilder {
        let update = self.client.update_item().table_name(&self.table);
        update.key("pk", s(pk)).key("sk", s(sk))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadConsistency {
    Strong,
    /// At half the read units.
    Eventual,
}

/// The keys of index rows, for [`Dynamo::batch_get`].
pub(super) fn keys_of(rows: &[Item]) -> Result<Vec<(String, String)>> {
    let key = |row: &Item| Ok((row.str("pk")?.to_owned(), row.str("sk")?.to_owned()));
    rows.iter().map(key).collect()
}

/// Sends a conditional update: whether its condition held.
pub(super) async fn update_if(update: UpdateItemFluentBuilder) -> Result<bool> {
    match update.send().await {
        Ok(_) => Ok(true),
        Err(error) if kind(&error) == DynamoErrorKind::Condition => Ok(false),
        Err(error) => Err(unavailable(error)),
    }
}

/// Sends a conditional update: whether its condition held, or did before and this is the
/// same write, sent again by the client since the answer to it was lost. `is_done` sees
/// by the item whether that is so.
pub(super) async fn update_once(
    update: UpdateItemFluentBuilder,
    is_done: impl FnOnce(&Item) -> bool,
) -> Result<bool> {
    Ok(match update_or_seen(update).await? {
        Conditional::Done(_) => true,
        Conditional::Refused(seen) => seen.is_some_and(|seen| is_done(&seen)),
    })
}

/// How a conditional write ended.
pub(super) enum Conditional<T> {
    Done(T),
    /// Its condition did not hold; the item that is there.
    Refused(Option<Item>),
}

/// Sends a conditional update; the attributes it returns, or what is there instead.
pub(super) async fn update_or_seen(
    update: UpdateItemFluentBuilder,
) -> Result<Conditional<Option<Item>>> {
    let all_old = ReturnValuesOnConditionCheckFailure::AllOld;
    let update = update.return_values_on_condition_check_failure(all_old);
    match update.send().await {
        Ok(output) => Ok(Conditional::Done(output.attributes)),
        Err(error) if kind(&error) == DynamoErrorKind::Condition => {
            match error.into_service_error() {
                UpdateItemError::ConditionalCheckFailedException(failed) => {
                    Ok(Conditional::Refused(failed.item))
                }
                other => Err(Error::internal(other)),
            }
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// Sends a conditional put of an item with a [`nonce`]; what is there instead. An item
/// with that nonce is none: the put was done before, its answer lost, and sent again.
pub(super) async fn put_once(
    put: PutItemFluentBuilder,
    nonce: &AttributeValue,
) -> Result<Conditional<()>> {
    let all_old = ReturnValuesOnConditionCheckFailure::AllOld;
    let put = put
        .item(NONCE, nonce.clone())
        .return_values_on_condition_check_failure(all_old);
    match put.send().await {
        Ok(_) => Ok(Conditional::Done(())),
        Err(error) if kind(&error) == DynamoErrorKind::Condition => {
            match error.into_service_error() {
                PutItemError::ConditionalCheckFailedException(failed) => Ok(match failed.item {
                    Some(item) if item.get(NONCE) == Some(nonce) => Conditional::Done(()),
                    seen => Conditional::Refused(seen),
                }),
                other => Err(Error::internal(other)),
            }
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// Puts an item whose key is free, or whose former item has expired: whether it was.
pub(super) async fn put_new(dynamo: &Dynamo, item: Item) -> Result<bool> {
    let put = dynamo.client.put_item().table_name(&dynamo.table);
    let put = put
        .set_item(Some(item))
        .condition_expression(FREE)
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":now_s", now_s(Timestamp::now()));
    let put = put_once(put, &nonce()).await?;
    Ok(matches!(put, Conditional::Done(())))
}

/// The attribute that tells whose write an item is: no two writes have the same.
pub(super) const NONCE: &str = "nonce";

/// A new value of [`NONCE`].
pub(super) fn nonce() -> AttributeValue {
    let mut bytes = [0; 12];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gives random bytes");
    b(bytes)
}

/// Holds where there is no item, or one that has expired: DynamoDB deletes such within
/// days. `#ttl` is the name `ttl`, `:now_s` is [`now_s`].
pub(super) const FREE: &str = "(attribute_not_exists(pk) or #ttl <= :now_s)";
/// Holds where there is an item that has not expired; every such item expires.
pub(super) const KEPT: &str = "(attribute_exists(pk) and #ttl > :now_s)";

/// The seconds by which items expire.
pub(super) fn now_s(now: Timestamp) -> AttributeValue {
    n(now.as_second())
}

/// Whether an item is one that DynamoDB may delete, and only has not yet.
pub(super) fn has_expired(item: &Item, now: Timestamp) -> bool {
    item.num_opt("ttl")
        .is_some_and(|ttl| ttl <= now.as_second())
}

/// Those of `items` that have not expired.
pub(super) fn kept(mut items: Vec<Item>) -> Vec<Item> {
    let now = Timestamp::now();
    items.retain(|item| !has_expired(item, now));
    items
}

/// What an error of DynamoDB means to the caller.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum DynamoErrorKind {
    /// A condition did not hold.
    Condition,
    /// A transaction met another one: the same call may work at once.
    Contention,
    /// The table is not there.
    NoTable,
    /// More was asked for than the table, an index or the account takes: the same call
    /// works a little later.
    Throttled,
    /// Such a request is never taken.
    Invalid,
    /// Everything else: refused, out of reach.
    Other,
}

/// What `error` means.
pub(crate) fn kind<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> DynamoErrorKind {
    match error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
    {
        Some("ConditionalCheckFailedException") => DynamoErrorKind::Condition,
        Some(
            "TransactionConflictException"
            | "TransactionInProgressException"
            | "ReplicatedWriteConflictException",
        ) => DynamoErrorKind::Contention,
        Some(code) if is_throttle(code) => DynamoErrorKind::Throttled,
        Some("ResourceNotFoundException") => DynamoErrorKind::NoTable,
        Some("ValidationException") => DynamoErrorKind::Invalid,
        _ => DynamoErrorKind::Other,
    }
}

/// Whether `code`, of an error or of why a transaction was canceled, says that more was
/// asked for than is taken.
pub(super) fn is_throttle(code: &str) -> bool {
    // Of a canceled transaction without the suffix, of a call with it.
    let name = code.strip_suffix("Exception").unwrap_or(code);
    name.starts_with("Throttl")
        || ["ProvisionedThroughputExceeded", "RequestLimitExceeded"].contains(&name)
}

/// The wait after try number `tries`: `first`, doubled each time, half of it left to
/// chance, so that those that were refused together do not come again together.
pub(super) fn backoff(first: Duration, tries: u32) -> Duration {
    // Seeded anew for each, by the operating system once a thread.
    let random = RandomState::new().build_hasher().finish() >> 32;
    let chance = f64::from(u32::try_from(random).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    let doublings = tries.saturating_sub(1).min(16);
    first
        .saturating_mul(1 << doublings)
        .mul_f64(0.5 + 0.5 * chance)
}

/// `error` as what a request or job answers with.
pub(crate) fn unavailable<E>(error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    // What DynamoDB will never take, such as an item too large.
    let is_defect = kind(&error) == DynamoErrorKind::Invalid;
    let source = aws::error::cause(error);
    if is_defect {
        return Error::Internal(source);
    }
    // Whether the table throttles or is out of reach, all that a caller can do is to
    // try again later.
    Error::Unavailable {
        what: "the event store",
        source,
    }
}

/// An item as DynamoDB gives and takes it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// A string attribute.
pub(crate) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number attribute.
pub(crate) fn n(number: impl Into<i64>) -> AttributeValue {
    AttributeValue::N(number.into().to_string())
}

/// A time as a number of milliseconds.
pub(crate) fn ms(at: Timestamp) -> AttributeValue {
    n(at.as_millisecond())
}

/// A binary attribute.
pub(crate) fn b(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// Typed reads of an [`Item`]. A missing or ill-typed attribute is a defect of
/// what wrote it, and so [`Error::Internal`].
pub(crate) trait ItemExt {
    /// The attribute, if it is a string.
    fn str_opt(&self, name: &str) -> Option<&str>;
    /// The number, if it is one.
    fn num_opt(&self, name: &str) -> Option<i64>;
    /// The bytes, if it is binary.
    fn bytes_opt(&self, name: &str) -> Option<&[u8]>;
    /// The texts of a list attribute; none if it is absent.
    fn texts(&self, name: &str) -> impl Iterator<Item = &str>;

    /// As [`Self::str_opt`], of an attribute that every such item has.
    fn str(&self, name: &str) -> Result<&str> {
        self.str_opt(name).ok_or_else(|| missing(name))
    }
    /// As [`Self::num_opt`], of an attribute that every such item has.
    fn num(&self, name: &str) -> Result<i64> {
        self.num_opt(name).ok_or_else(|| missing(name))
    }
    /// The time that the number of milliseconds stands for.
    fn time(&self, name: &str) -> Result<Timestamp> {
        Timestamp::from_millisecond(self.num(name)?).map_err(Error::internal)
    }
    /// What the string is the text of.
    fn parse<T>(&self, name: &str) -> Result<T>
    where
        T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        self.str(name)?.parse().map_err(Error::internal)
    }
}

impl ItemExt for Item {
    fn str_opt(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_s().ok().map(String::as_str)
    }

    fn num_opt(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_n().ok()?.parse().ok()
    }

    fn bytes_opt(&self, name: &str) -> Option<&[u8]> {
        Some(self.get(name)?.as_b().ok()?.as_ref())
    }

    fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let list = match self.get(name) {
            Some(AttributeValue::L(list)) => list.as_slice(),
            _ => &[],
        };
        list.iter()
            .filter_map(|value| value.as_s().ok().map(String::as_str))
    }
}

fn missing(name: &str) -> Error {
    Error::internal(anyhow::anyhow!(
        "stored item has no readable attribute {name:?}"
    ))
}
