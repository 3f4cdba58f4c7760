//! CloudEvents 1.0.2: whatever form an event arrives in, checked and brought
//! into the one form that is stored and delivered.
//!
//! [`mode`] tells how a request carries its events; [`parse_structured`],
//! [`parse_binary`] and [`parse_plain`] read one event, [`split_batch`] cuts a
//! batch into elements for `parse_structured`; [`to_binary`] takes a stored event
//! apart again; [`differences`] tells whether one comes again. Called by whatever accepts events and, through
//! [`Event::from_stored`], by whatever reads them back.
//! Nothing here knows about projects, HTTP answers or storage.

mod binary;
mod canonical;
mod charset;
mod convert;
mod draft;
mod fingerprint;
mod identity;
mod kept;
mod media;
mod members;
mod plain;
mod rules;
mod structured;
#[cfg(test)]
mod tests;
mod text;

pub use binary::parse_binary;
pub use canonical::{Event, PlainDefaults};
pub use convert::to_binary;
pub use draft::{ATTRIBUTE_BYTES_MAX, BATCH_EVENTS_MAX, BODY_BYTES_MAX, EVENT_BYTES_MAX};
pub use identity::differences;
pub use kept::with_json_data;
pub use media::{Mode, batch_item_mode, check_json, mode};
pub use plain::parse_plain;
pub use rules::{check_event_tenant, check_tenant};
pub use structured::{is_array, parse_structured, split_batch};
