//! The item of an event type in the configuration projection, with its schema if
//! events are validated.

use std::sync::Arc;

use moka::future::Cache;
use ring::digest;

use crate::error::Result;
use crate::model::event_type::{EventTypeSchema, ValidationMode};
use crate::model::schema::Schema;
use crate::store::dynamo::{Item, ItemExt, n, s};
use crate::store::event_types::EventType;
use crate::store::keys;

/// Bytes of schemas cached, as they are given; compiled they take some times as
/// much.
const SCHEMA_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Schemas by their SHA-256: one that has not changed when its project is read
/// again is not compiled again.
pub(super) type SchemaCache = Cache<[u8; 32], Arc<Schema>>;

/// An empty one.
pub(super) fn schema_cache() -> SchemaCache {
    let weigh =
        |_: &[u8; 32], schema: &Arc<Schema>| u32::try_from(schema.text().len()).unwrap_or(u32::MAX);
    Cache::builder()
        .weigher(weigh)
        .max_capacity(SCHEMA_BYTES_MAX)
        .build()
}

/// The item of an event type, deleted or not.
pub(super) fn write(event_type: &EventType) -> Item {
    let mut item = Item::new();
    item.insert("pk".into(), s(keys::project(&event_type.project)));
    item.insert("sk".into(), s(keys::event_type(&event_type.name)));
    item.insert("version".into(), n(event_type.version));
    let spec = &event_type.spec;
    match (event_type.deleted_at, &spec.schema) {
        // A schema that nothing is held against is not read for every event.
        (None, Some(schema)) if spec.validate != ValidationMode::Off => {
            item.insert("validate".into(), s(spec.validate.as_str()));
            item.insert("schema".into(), s(schema));
            let number = event_type.schema_version.unwrap_or_default();
            item.insert("schema_version".into(), n(number));
        }
        _ => {
            item.insert("validate".into(), s(ValidationMode::Off.as_str()));
        }
    }
    item
}

/// What events of the type in `item` must satisfy, if anything. Compiles nothing.
pub(super) async fn read(cache: &SchemaCache, item: &Item) -> Result<Option<EventTypeSchema>> {
    let validate: ValidationMode = item.parse("validate")?;
    if validate == ValidationMode::Off {
        return Ok(None);
    }
    let text = item.str("schema")?;
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let schema = cache.get_with(hash, async { Arc::new(Schema::new(text)) });
    Ok(Some(EventTypeSchema {
        validate,
        schema: schema.await,
        schema_version: item.num("schema_version")?,
    }))
}
