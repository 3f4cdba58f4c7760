//! The item of a meter in the configuration projection: its definition.

use crate::error::{Error, Result};
use crate::model::id::MeterId;
use crate::model::meter::{Definition, Meter, MeterSpec};
use crate::store::dynamo::{Item, ItemExt, n, s};
use crate::store::keys;
use crate::store::meters::StoredMeter;

/// The item of a meter, deleted or not.
pub(super) fn write(meter: &StoredMeter) -> Result<Item> {
    let definition = serde_json::to_string(&meter.spec).map_err(Error::internal)?;
    let mut item = Item::new();
    item.insert("pk".into(), s(keys::project(&meter.project)));
    item.insert("sk".into(), s(keys::meter(&meter.id)));
    item.insert("version".into(), n(meter.version));
    item.insert("definition".into(), s(definition));
    if let Some(at) = meter.deleted_at {
        item.insert("deleted".into(), n(at.as_millisecond()));
    }
    Ok(item)
}

/// Reads the meter `id`, unless it is deleted or this version cannot read it.
pub(super) fn read(id: &str, item: &Item) -> Option<Meter> {
    if item.contains_key("deleted") {
        return None;
    }
    let read = || -> Result<Meter> {
        let id: MeterId = id.parse().map_err(Error::internal)?;
        let spec: MeterSpec =
            serde_json::from_str(item.str("definition")?).map_err(Error::internal)?;
        let definition = Definition::new(&spec)?;
        Ok(Meter { id, definition })
    };
    // It must not keep events from their endpoints; a back-fill makes up for it.
    read()
        .inspect_err(|error| {
            let cause = error.causes();
            tracing::error!(meter.id = id, %error, cause, "meter unreadable: not counted");
        })
        .ok()
}
