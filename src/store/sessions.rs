//! Sessions of the console in DynamoDB, and the links that sign in once.
//!
//! A session lies under the hash of its token, which nobody can turn back. From when on
//! all sessions of a person are void is an item of its own, which is read together with
//! the session. Nothing but signing in and the console's pages needs any of it.

use aws_sdk_dynamodb::types::ReturnValue;
use jiff::{SignedDuration, Timestamp};

use super::dynamo::{
    Conditional, Dynamo, Item, ItemExt, KEPT, ms, n, nonce, now_s, s, unavailable, update_if,
    update_or_seen,
};
use super::keys;
use crate::error::{Error, Result};
use crate::model::session::{AGE_MAX, Session, SessionToken};

/// How long an item is kept after its session is over, so that a clock that is behind
/// ends none early.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// Keeps a new session under its token. One write; doing it again changes nothing.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn put(dynamo: &Dynamo, token: &SessionToken, session: &Session) -> Result<()> {
    let put = dynamo.client.put_item().table_name(&dynamo.table);
    let put = put
        .item("pk", s(keys::session(&token.hash())))
        .item("sk", s(keys::SESSION))
        .item("session", s(text_of(session)?))
        .item("last_seen_ms", ms(session.last_seen))
        .item("ttl", n(kept_until(session.lasts_until(session.last_seen))));
    put.send().await.map(drop).map_err(unavailable)
}

/// The session of that token at `now`; none if there is none, or it is over, ended, or
/// void as all of its person's are. One call, two consistent reads.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn find(
    dynamo: &Dynamo,
    token: &SessionToken,
    now: Timestamp,
) -> Result<Option<Session>> {
    let at = [
        (keys::session(&token.hash()), keys::SESSION.to_owned()),
        (keys::sessions_of(token.person()), keys::VOID.to_owned()),
    ];
    let items = dynamo.batch_get_consistent(&at, None).await?;
    let of_sort = |sort| items.iter().find(|item| item.str_opt("sk") == Some(sort));
    let Some(item) = of_sort(keys::SESSION) else {
        return Ok(None);
    };
    let Some(mut session) = session_of(item)? else {
        return Ok(None);
    };
    session.last_seen = item.time("last_seen_ms")?;
    let void_ms = of_sort(keys::VOID).and_then(|item| item.num_opt("void_ms"));
    let is_void = void_ms.is_some_and(|ms| session.created.as_millisecond() <= ms);
    let is_ended = item.contains_key("ended_ms");
    Ok(Some(session).filter(|session| !is_void && !is_ended && !session.is_over(now)))
}

/// Notes that `session` was seen at `now`, unless it has ended or was seen later. One
/// conditional write.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn touch(
    dynamo: &Dynamo,
    token: &SessionToken,
    session: &Session,
    now: Timestamp,
) -> Result<()> {
    let update = dynamo
        .update(keys::session(&token.hash()), keys::SESSION)
        .update_expression("set last_seen_ms = :now, #ttl = :ttl")
        .condition_expression(format!(
            "{KEPT} and attribute_not_exists(ended_ms) and last_seen_ms < :now"
        ))
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":now_s", now_s(Timestamp::now()))
        .expression_attribute_values(":now", ms(now))
        .expression_attribute_values(":ttl", n(kept_until(session.lasts_until(now))));
    update_if(update).await.map(drop)
}

/// Ends the session of that token, if there is one. One conditional write.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn revoke(dynamo: &Dynamo, token: &SessionToken, now: Timestamp) -> Result<()> {
    let update = dynamo
        .update(keys::session(&token.hash()), keys::SESSION)
        .update_expression("set ended_ms = :now")
        .condition_expression("attribute_exists(pk)")
        .expression_attribute_values(":now", ms(now));
    update_if(update).await.map(drop)
}

/// Ends all sessions of whoever is meant by `subject` ([`Session::subject`]) that began
/// by `now`. One conditional write.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn revoke_all(dynamo: &Dynamo, subject: &str, now: Timestamp) -> Result<()> {
    let person = SessionToken::person_of(subject);
    let longest = now.saturating_add(AGE_MAX).map_err(Error::internal)?;
    let update = dynamo
        .update(keys::sessions_of(&person), keys::VOID)
        .update_expression("set void_ms = :now, #ttl = :ttl")
        .condition_expression("attribute_not_exists(void_ms) or void_ms < :now")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":now", ms(now))
        .expression_attribute_values(":ttl", n(kept_until(longest)));
    update_if(update).await.map(drop)
}

/// Keeps a link that signs in as `session` says, once and until `ends`, under the hash of
/// its token. One write; doing it again changes nothing.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn put_link(
    dynamo: &Dynamo,
    hash: &[u8; 32],
    session: &Session,
    ends: Timestamp,
) -> Result<()> {
    let put = dynamo.client.put_item().table_name(&dynamo.table);
    let put = put
        .item("pk", s(keys::link(hash)))
        .item("sk", s(keys::LINK))
        .item("session", s(text_of(session)?))
        .item("ends_ms", ms(ends))
        .item("ttl", n(kept_until(ends)));
    put.send().await.map(drop).map_err(unavailable)
}

/// Uses the link of that hash up: the session that it begins at `now`. None if there is
/// none, its time is over, or it was used. One conditional write, which is known again
/// where its answer was lost.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn take_link(
    dynamo: &Dynamo,
    hash: &[u8; 32],
    now: Timestamp,
) -> Result<Option<Session>> {
    let taker = nonce();
    let update = dynamo
        .update(keys::link(hash), keys::LINK)
        .update_expression("set claimed_by = :taker")
        .condition_expression(format!(
            "{KEPT} and attribute_not_exists(claimed_by) and ends_ms > :now"
        ))
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":taker", taker.clone())
        .expression_attribute_values(":now_s", now_s(Timestamp::now()))
        .expression_attribute_values(":now", ms(now))
        .return_values(ReturnValue::AllNew);
    let item = match update_or_seen(update).await? {
        Conditional::Done(item) => item,
        Conditional::Refused(seen) => seen.filter(|seen| seen.get("claimed_by") == Some(&taker)),
    };
    let session = item.as_ref().map_or(Ok(None), session_of)?;
    Ok(session.map(|session| session.begun_at(now)))
}

fn text_of(session: &Session) -> Result<String> {
    serde_json::to_string(session).map_err(Error::internal)
}

/// The session that an item holds. One that a newer version wrote and this cannot read is
/// none: its person signs in again.
fn session_of(item: &Item) -> Result<Option<Session>> {
    Ok(serde_json::from_str(item.str("session")?).ok())
}

fn kept_until(at: Timestamp) -> i64 {
    let until = at.saturating_add(MARGIN).unwrap_or(Timestamp::MAX);
    until.as_second()
}
