//! The item of an event type in the configuration projection, with its schema if
//! events are validated.

use std::sync::Arc;

use crate::error::Result;
use crate::model::event_type::{EventTypeSchema, ValidationMode};
use crate::model::schema::Schema;
use crate::store::dynamo::{Item, ItemExt, n, s};
use crate::store::event_types::EventType;
use crate::store::keys;

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
pub(super) fn read(item: &Item) -> Result<Option<EventTypeSchema>> {
    let validate: ValidationMode = item.parse("validate")?;
    if validate == ValidationMode::Off {
        return Ok(None);
    }
    Ok(Some(EventTypeSchema {
        validate,
        schema: Arc::new(Schema::new(item.str("schema")?)),
        schema_version: item.num("schema_version")?,
    }))
}
