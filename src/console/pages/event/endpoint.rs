//! An endpoint as a page of events names it.

use serde::Deserialize;

use crate::console::listing::shortened;
use crate::model::endpoint::EndpointState;

/// What a page says of an endpoint that it only names.
#[derive(Debug, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub url: String,
    /// A note for people.
    pub description: String,
    /// Its other name.
    pub uid: Option<String>,
    /// Whose it is.
    pub tenant: Option<String>,
    /// Whether it takes events.
    pub state: EndpointState,
}

impl Endpoint {
    /// What people call it.
    pub fn name(&self) -> String {
        match self.description.is_empty() {
            true => shortened(&self.url),
            false => shortened(&self.description),
        }
    }
}
