//! Meters in the data plane's view.

use super::{ConfigProjection, tombstone_ends};
use crate::error::{Error, Result};
use crate::model::id::MeterId;
use crate::model::meter::{Definition, Meter, MeterSpec};
use crate::store::dynamo::{Item, ItemExt, n, s};
use crate::store::keys;
use crate::store::meters::StoredMeter as Row;

impl ConfigProjection {
    /// Projects a meter, unless a later version is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn put_meter(&self, meter: &Row) -> Result<()> {
        let definition = serde_json::to_string(&meter.written).map_err(Error::internal)?;
        let mut item = Item::new();
        item.insert("pk".into(), s(keys::project(&meter.project)));
        item.insert("sk".into(), s(keys::meter(&meter.id)));
        item.insert("version".into(), n(meter.version));
        item.insert("definition".into(), s(definition));
        if let Some(at) = meter.deleted_at {
            item.insert("deleted".into(), n(at.as_millisecond()));
            item.insert("ttl".into(), n(tombstone_ends(at)));
        }
        self.put_newer(item, meter.version).await?;
        self.invalidate(&meter.project).await;
        Ok(())
    }
}

/// Reads the meter `id`, unless it is deleted. One that this version cannot read
/// is left out: it must not keep events from their endpoints, and a back-fill
/// makes up for it.
pub(super) fn read(id: &str, item: &Item) -> Option<Meter> {
    if item.contains_key("deleted") {
        return None;
    }
    let read = || -> Result<Meter> {
        let id: MeterId = id.parse().map_err(Error::internal)?;
        let written: MeterSpec =
            serde_json::from_str(item.str("definition")?).map_err(Error::internal)?;
        let definition = Definition::new(&written)?;
        Ok(Meter { id, definition })
    };
    read()
        .inspect_err(|error| {
            let cause = error.causes();
            tracing::error!(meter.id = id, %error, cause, "meter unreadable: not counted");
        })
        .ok()
}
