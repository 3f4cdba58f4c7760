//! A row of usage, as the API tells it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::time::Time;

/// Usage of a window.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Usage {
    /// When the window begins.
    pub start: Time,
    /// When the next one begins.
    pub end: Time,
    /// The tenant, if one alone was asked for or tenants are told apart; null for events
    /// of none. One of more than 128 characters is `sha256:` and its SHA-256 in
    /// hexadecimal, where it was not asked for by its own name.
    #[schema(required)]
    pub tenant: Option<String>,
    /// The value at each pointer asked for, `{"/plan": "pro"}`; null where groups
    /// are not told apart. `{"…": "other"}` is what came after the meter had as
    /// many groups as it may.
    #[schema(required, value_type = Option<BTreeMap<String, serde_json::Value>>)]
    pub group: Option<BTreeMap<String, Box<RawValue>>>,
    /// A decimal number with all its digits; an average is rounded to 12 places,
    /// half away from zero.
    #[schema(value_type = f64)]
    pub value: Box<RawValue>,
}
