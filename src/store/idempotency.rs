//! Idempotency keys in DynamoDB: who is at work on a request, and what it was answered.
//!
//! A request with a key reserves it first, for as long as a request may take, and keeps
//! its answer under it when it is done. Whoever comes with the same key meanwhile, or
//! after, is told so. An answer may hold a secret and a body may be one, so what is
//! known of either is sealed, bound to the key it is kept under.

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;

use super::dynamo::{
    Dynamo, DynamoErrorKind, FREE, Item, ItemExt, b, kind, ms, n, now_s, s, unavailable, update_if,
};
use super::keys;
use crate::error::{Error, Result};
use crate::model::seal::KeyRing;

/// How long a key is remembered.
pub const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Bytes of an answer that is kept: an item has room for 400 KB.
const ANSWER_BYTES_MAX: usize = 350_000;
/// Times a key is looked at that is given back or taken over meanwhile.
const ROUNDS_MAX: u32 = 3;

/// A request with an idempotency key.
#[derive(Debug)]
pub struct KeyedRequest<'a> {
    /// Whose key it is: a project's id, that with a tenant's hash, or `admin`.
    pub scope: &'a str,
    /// The key.
    pub key: &'a str,
    /// What tells the request from others: SHA-256 of all that decides its effect.
    pub fingerprint: [u8; 32],
}

/// What a reservation is made of.
pub struct Fresh {
    /// Who makes it, if it is free.
    pub owner: String,
    /// What everything random about the request comes from.
    pub seed: [u8; 32],
    /// Never used before.
    pub nonce: [u8; 12],
}

/// That a request is this caller's to answer.
#[derive(Clone)]
pub struct Reservation {
    pk: String,
    owner: String,
    /// What everything random about the request comes from, each time it is tried.
    pub seed: [u8; 32],
    /// When it was first tried.
    pub at: Timestamp,
    /// Whether it was tried before, and nobody knows how far that came.
    pub is_repeated: bool,
}

/// An answer that was kept.
pub struct KeptAnswer {
    /// Its HTTP status.
    pub status: u16,
    /// Its media type, if it had one.
    pub media_type: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What becomes of a request with a key.
pub enum Reserved {
    /// It is to be answered, and the answer kept.
    Now(Reservation),
    /// It was answered.
    Before(KeptAnswer),
    /// It is being answered.
    UnderWay,
    /// Its key was used for another request.
    ForAnother,
}

/// Reserves the key of `request` until `lease_ends`. One conditional put, and for a key
/// that is known already a read and, if it is taken over, a conditional update.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer; [`Error::Internal`] when what
/// is kept under the key cannot be decrypted.
pub async fn reserve(
    dynamo: &Dynamo,
    key_ring: &KeyRing,
    request: &KeyedRequest<'_>,
    fresh: &Fresh,
    now: Timestamp,
    lease_ends: Timestamp,
) -> Result<Reserved> {
    let pk = keys::idempotency(request.scope, request.key);
    for _ in 0..ROUNDS_MAX {
        if put(dynamo, key_ring, &pk, request, fresh, now, lease_ends).await? {
            return Ok(Reserved::Now(Reservation {
                pk,
                owner: fresh.owner.clone(),
                seed: fresh.seed,
                at: now,
                is_repeated: false,
            }));
        }
        let Some(item) = dynamo.get(&pk, keys::IDEMPOTENCY).await? else {
            continue; // Its time was over, and it is removed.
        };
        if item.time("expires_ms")? <= now {
            continue;
        }
        // By a write of this very request, whose answer was lost.
        let is_own = item.str("lease_owner")? == fresh.owner;
        let known = Known::open(key_ring, &pk, &item)?;
        if known.fingerprint != request.fingerprint {
            return Ok(Reserved::ForAnother);
        }
        if let Some(status) = item.num_opt("http_status") {
            return answer(key_ring, &pk, &item, status).map(Reserved::Before);
        }
        if is_own {
            return Ok(Reserved::Now(Reservation {
                pk,
                owner: fresh.owner.clone(),
                seed: known.seed,
                at: item.time("created_ms")?,
                is_repeated: known.seed != fresh.seed,
            }));
        }
        if item.time("lease_ends")? > now {
            return Ok(Reserved::UnderWay);
        }
        let former = item.str("lease_owner")?;
        let take_over = owned(dynamo, &pk, former)
            .update_expression("set lease_owner = :new, lease_ends = :ends")
            .expression_attribute_values(":new", s(&fresh.owner))
            .expression_attribute_values(":ends", ms(lease_ends));
        if update_if(take_over).await? {
            return Ok(Reserved::Now(Reservation {
                pk,
                owner: fresh.owner.clone(),
                seed: known.seed,
                at: item.time("created_ms")?,
                is_repeated: true,
            }));
        }
    }
    // Others take it, one after the other.
    Ok(Reserved::UnderWay)
}

/// Puts the reservation, unless the key is known and its time not over: items are
/// removed some time after that.
async fn put(
    dynamo: &Dynamo,
    key_ring: &KeyRing,
    pk: &str,
    request: &KeyedRequest<'_>,
    fresh: &Fresh,
    now: Timestamp,
    lease_ends: Timestamp,
) -> Result<bool> {
    let known = [fresh.seed, request.fingerprint].concat();
    let sealed = key_ring.seal(fresh.nonce, &aad(pk, "request"), &known);
    let expires = now.saturating_add(KEPT).map_err(Error::internal)?;
    let put = dynamo.client.put_item().table_name(&dynamo.table);
    let put = put
        .item("pk", s(pk))
        .item("sk", s(keys::IDEMPOTENCY))
        .item("sealed_request", b(sealed))
        .item("lease_owner", s(&fresh.owner))
        .item("lease_ends", ms(lease_ends))
        .item("created_ms", ms(now))
        .item("expires_ms", ms(expires))
        .item("ttl", n(expires.as_second()))
        .condition_expression(format!("{FREE} or expires_ms <= :now"))
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":now_s", now_s(now))
        .expression_attribute_values(":now", ms(now));
    match put.send().await {
        Ok(_) => Ok(true),
        Err(error) if kind(&error) == DynamoErrorKind::Condition => Ok(false),
        Err(error) => Err(unavailable(error)),
    }
}

/// What the item of a key says of its first request.
struct Known {
    seed: [u8; 32],
    fingerprint: [u8; 32],
}

impl Known {
    fn open(key_ring: &KeyRing, pk: &str, item: &Item) -> Result<Self> {
        let opened = open(key_ring, pk, item, "request")?;
        let (seed, fingerprint) = opened
            .split_at_checked(32)
            .ok_or_else(|| Error::internal(anyhow::anyhow!("a reservation is cut short")))?;
        Ok(Self {
            seed: seed.try_into().map_err(Error::internal)?,
            fingerprint: fingerprint.try_into().map_err(Error::internal)?,
        })
    }
}

fn aad(pk: &str, what: &str) -> Vec<u8> {
    format!("{pk}#{what}").into_bytes()
}

fn open(key_ring: &KeyRing, pk: &str, item: &Item, what: &str) -> Result<Vec<u8>> {
    let name = format!("sealed_{what}");
    let sealed = item.bytes_opt(&name);
    let sealed = sealed.ok_or_else(|| Error::internal(anyhow::anyhow!("no {name} is kept")))?;
    let opened = key_ring.open(&aad(pk, what), sealed);
    Ok(opened.map_err(Error::internal)?.expose_secret().to_vec())
}

fn answer(key_ring: &KeyRing, pk: &str, item: &Item, status: i64) -> Result<KeptAnswer> {
    Ok(KeptAnswer {
        status: u16::try_from(status).map_err(Error::internal)?,
        media_type: item.str_opt("media_type").map(str::to_owned),
        body: open(key_ring, pk, item, "answer")?,
    })
}

/// An update of the key's item, as long as `owner` has it and no answer is kept.
fn owned(dynamo: &Dynamo, pk: &str, owner: &str) -> UpdateItemFluentBuilder {
    dynamo
        .update(pk, keys::IDEMPOTENCY)
        .condition_expression("lease_owner = :owner and attribute_not_exists(http_status)")
        .expression_attribute_values(":owner", s(owner))
}

impl Reservation {
    /// Keeps the answer, to be given again; not if another has taken the request over.
    /// One conditional write.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn keep(
        &self,
        dynamo: &Dynamo,
        key_ring: &KeyRing,
        nonce: [u8; 12],
        answer: &KeptAnswer,
    ) -> Result<()> {
        if answer.body.len() > ANSWER_BYTES_MAX {
            return self.suspend(dynamo).await;
        }
        let sealed = key_ring.seal(nonce, &aad(&self.pk, "answer"), &answer.body);
        let mut set = "set http_status = :status, sealed_answer = :answer".to_owned();
        let mut keep = owned(dynamo, &self.pk, &self.owner)
            .expression_attribute_values(":status", n(answer.status))
            .expression_attribute_values(":answer", b(sealed));
        if let Some(media_type) = &answer.media_type {
            set.push_str(", media_type = :media_type");
            keep = keep.expression_attribute_values(":media_type", s(media_type));
        }
        update_if(keep.update_expression(set)).await.map(drop)
    }

    /// Gives the key back, as nothing was done: its time is over. One conditional write.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn release(&self, dynamo: &Dynamo) -> Result<()> {
        let release = owned(dynamo, &self.pk, &self.owner)
            .update_expression("set expires_ms = :ends")
            .expression_attribute_values(":ends", n(0));
        update_if(release).await.map(drop)
    }

    /// Lets the same request be tried again at once, as nobody knows how far this one
    /// came. One conditional write.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn suspend(&self, dynamo: &Dynamo) -> Result<()> {
        let suspend = owned(dynamo, &self.pk, &self.owner)
            .update_expression("set lease_ends = :ends")
            .expression_attribute_values(":ends", n(0));
        update_if(suspend).await.map(drop)
    }
}
