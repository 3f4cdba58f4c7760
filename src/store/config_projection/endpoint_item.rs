//! The items of an endpoint in the configuration projection: how it is called, and
//! its run of failures.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use crate::error::{Error, Result, causes};
use crate::model::credentials::EndpointCredentials;
use crate::model::endpoint::{
    BodyFormat, ContentType, DeliverySettings, EndpointState, ExpiringSecret, Target,
};
use crate::model::failure_streak::{FailureStreak, LatestStreak};
use crate::model::filter::Filter;
use crate::model::id::EndpointId;
use crate::model::seal::KeyRing;
use crate::store::dynamo::{Item, ItemExt, b, ms, n, s};
use crate::store::endpoints::{Endpoint, SealedEndpoint, open_secret};
use crate::store::keys;

/// What a deleted endpoint has in place of its URL, where every version expects one.
const NO_URL: &str = "https://deleted.invalid/";

/// The item of an endpoint with its sealed secrets; of a deleted one, that it is.
pub(super) fn write(sealed: &SealedEndpoint) -> Item {
    let endpoint = &sealed.endpoint;
    if endpoint.state == EndpointState::Deleted {
        return tombstone(endpoint);
    }
    let mut item = Item::new();
    item.insert("pk".into(), s(keys::project(&endpoint.project)));
    item.insert("sk".into(), s(keys::endpoint(&endpoint.id)));
    item.insert("version".into(), n(endpoint.version));
    item.insert("url".into(), s(&endpoint.url));
    let types = endpoint.event_types.iter().map(s).collect();
    item.insert("event_types".into(), AttributeValue::L(types));
    if let Some(tenant) = &endpoint.tenant {
        item.insert("tenant".into(), s(tenant));
    }
    if let Some(uid) = &endpoint.uid {
        item.insert("uid".into(), s(uid.as_str()));
    }
    item.insert("state".into(), s(endpoint.state.as_str()));
    let secrets = sealed.secrets.iter().map(|secret| {
        let mut map = HashMap::from([("sealed".to_owned(), b(secret.sealed.clone()))]);
        if let Some(at) = secret.expires_at {
            map.insert("expires".into(), ms(at));
        }
        AttributeValue::M(map)
    });
    item.insert("secrets".into(), AttributeValue::L(secrets.collect()));
    put_delivery_settings(&mut item, endpoint);
    item
}

/// What is left of a deleted endpoint: nothing of its owner's.
fn tombstone(endpoint: &Endpoint) -> Item {
    Item::from([
        ("pk".into(), s(keys::project(&endpoint.project))),
        ("sk".into(), s(keys::endpoint(&endpoint.id))),
        ("version".into(), n(endpoint.version)),
        ("url".into(), s(NO_URL)),
        ("event_types".into(), AttributeValue::L(vec![s("*")])),
        ("state".into(), s(endpoint.state.as_str())),
        ("secrets".into(), AttributeValue::L(vec![])),
    ])
}

/// Writes how the endpoint is called; what is as by default is left out.
fn put_delivery_settings(item: &mut Item, endpoint: &Endpoint) {
    let numbers = [
        ("rate_limit", endpoint.delivery_settings.rate_limit),
        (
            "max_concurrency",
            endpoint.delivery_settings.max_concurrency,
        ),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            item.insert(name.into(), n(number));
        }
    }
    if endpoint.delivery_settings.body_format != BodyFormat::default() {
        item.insert(
            "body_format".into(),
            s(endpoint.delivery_settings.body_format.as_str()),
        );
    }
    if endpoint.delivery_settings.content_type != ContentType::default() {
        item.insert(
            "content_type".into(),
            s(endpoint.delivery_settings.content_type.as_str()),
        );
    }
    if let Some(sealed) = &endpoint.credentials_sealed {
        item.insert("extras".into(), b(sealed.clone()));
    }
    item.insert("enabled".into(), ms(endpoint.enabled_at));
}

fn read_delivery_settings(item: &Item) -> Result<DeliverySettings> {
    let number = |name| item.num_opt(name).map(u32::try_from).transpose();
    Ok(DeliverySettings {
        rate_limit: number("rate_limit").map_err(Error::internal)?,
        max_concurrency: number("max_concurrency").map_err(Error::internal)?,
        body_format: match item.str_opt("body_format") {
            Some(_) => item.parse("body_format")?,
            None => BodyFormat::default(),
        },
        content_type: match item.str_opt("content_type") {
            Some(_) => item.parse("content_type")?,
            None => ContentType::default(),
        },
    })
}

/// What its requests carry beside the signature. Without it, because it cannot be
/// decrypted, deliveries are deferred.
fn read_credentials(
    key_ring: Option<&KeyRing>,
    id: &EndpointId,
    item: &Item,
) -> Option<EndpointCredentials> {
    let Some(sealed) = item.bytes_opt("extras") else {
        return Some(EndpointCredentials::default());
    };
    EndpointCredentials::open(key_ring?, id, sealed)
        .inspect_err(|error| {
            let cause = causes(error);
            tracing::error!(endpoint.id = %id, %error, cause, "failed to decrypt endpoint credentials: deliveries deferred");
        })
        .ok()
}

/// What deliveries need of the endpoint `id`. Its run of failures is an item of its
/// own: [`read_failure_streak`].
pub(super) fn read(key_ring: Option<&KeyRing>, id: &EndpointId, item: &Item) -> Result<Target> {
    let event_types: Vec<_> = item.texts("event_types").collect();
    let secrets = match item.get("secrets") {
        Some(AttributeValue::L(list)) => list.as_slice(),
        _ => &[],
    };
    let secrets = secrets.iter().filter_map(|value| value.as_m().ok());
    Ok(Target {
        id: id.clone(),
        uid: item.str_opt("uid").and_then(|uid| uid.parse().ok()),
        version: item.num("version")?,
        url: item.parse("url")?,
        filter: Filter::new(&event_types, item.str_opt("tenant"))?,
        state: item.parse("state")?,
        // Events match without any; a delivery that nothing signs is deferred.
        secrets: secrets
            .filter_map(|secret| match open(key_ring?, id, secret) {
                Ok(secret) => Some(secret),
                Err(error) => {
                    let cause = error.causes();
                    tracing::error!(endpoint.id = %id, %error, cause, "failed to decrypt signing secret");
                    None
                }
            })
            .collect(),
        delivery_settings: read_delivery_settings(item)?,
        credentials: read_credentials(key_ring, id, item),
        enabled_at: match item.num_opt("enabled") {
            Some(_) => item.time("enabled")?,
            // An older version wrote it, and no runs of failures either.
            None => Timestamp::UNIX_EPOCH,
        },
        failure_streak: LatestStreak::default(),
    })
}

fn open(key_ring: &KeyRing, id: &EndpointId, secret: &Item) -> Result<ExpiringSecret> {
    let sealed = secret
        .bytes_opt("sealed")
        .ok_or_else(|| Error::internal(anyhow::anyhow!("a secret of {id} has no bytes")))?;
    let expires_at = secret.num_opt("expires").map(Timestamp::from_millisecond);
    Ok(ExpiringSecret {
        secret: open_secret(key_ring, id, sealed)?,
        expires_at: expires_at.transpose().map_err(Error::internal)?,
    })
}

/// The endpoint and its run of failures, if `item` is one.
pub(super) fn read_failure_streak(item: &Item) -> Option<(EndpointId, FailureStreak)> {
    let id = keys::endpoint_of_health_sort(item.str_opt("sk")?)?
        .parse()
        .ok()?;
    let since = item.time("failing_since").ok()?;
    // An older version notes the first failure alone, and leaves what is there of the
    // run before.
    let noted = item.time("failed_at").ok();
    let failing = FailureStreak {
        since,
        noted: noted.unwrap_or(since).max(since),
        warned: item
            .get("told")
            .is_some_and(|told| told.as_bool() == Ok(&true)),
    };
    Some((id, failing))
}
