//! The secrets of endpoints, as both stores hold them.

use jiff::Timestamp;
use secrecy::ExposeSecret;

use crate::error::{Error, Result};
use crate::model::id::EndpointId;
use crate::model::seal::KeyRing;
use crate::model::signature::Secret;

/// A sealed secret and until when it signs.
#[derive(Debug, Clone)]
pub struct SealedSecret {
    /// AES-256-GCM under the key ring, bound to the endpoint's id.
    pub sealed: Vec<u8>,
    /// Absent for the current one.
    pub expires_at: Option<Timestamp>,
}

/// Opens a secret sealed for endpoint `id`.
///
/// # Errors
/// [`Error::Internal`] when the key ring lacks its key or it was sealed for
/// another endpoint.
pub fn open_secret(ring: &KeyRing, id: &EndpointId, sealed: &[u8]) -> Result<Secret> {
    let text = ring
        .open(id.as_str().as_bytes(), sealed)
        .map_err(Error::internal)?;
    let text = std::str::from_utf8(text.expose_secret()).map_err(Error::internal)?;
    Secret::parse(text).map_err(|invalid| Error::internal(anyhow::anyhow!("{invalid}")))
}

/// Seals `secret` for endpoint `id`.
pub fn seal_secret(ring: &KeyRing, nonce: [u8; 12], id: &EndpointId, secret: &Secret) -> Vec<u8> {
    ring.seal(
        nonce,
        id.as_str().as_bytes(),
        secret.to_text().expose_secret().as_bytes(),
    )
}
