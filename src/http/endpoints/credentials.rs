//! How an endpoint is called, as requests say it and answers show it: headers,
//! credentials and certificates go in and never come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::credentials::{
    Auth, AuthType, ClientCertificate, EndpointCredentials, MASK, RedactedCredentials,
};
use crate::model::seal::KeyRing;
use crate::sender;
use crate::store::endpoints::Endpoint as Row;

/// A secret text, which no error repeats.
#[derive(Debug)]
pub struct SecretText(SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(text) => Ok(Self(text.into())),
            _ => Err(de::Error::custom("expected a string")),
        }
    }
}

/// HTTP authentication to use.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum NewAuth {
    /// A user name and a password (RFC 7617).
    Basic {
        /// Without colons.
        #[schema(value_type = String)]
        username: SecretText,
        /// Sent as UTF-8.
        #[schema(value_type = String)]
        password: SecretText,
    },
    /// A token (RFC 6750).
    Bearer {
        /// Visible ASCII without spaces.
        #[schema(value_type = String)]
        token: SecretText,
    },
}

/// A TLS client certificate to use, for a receiver that asks for one.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCertificate {
    /// In PEM: the certificate, then those it is signed by.
    certificate: String,
    /// In PEM, not encrypted.
    #[schema(value_type = String)]
    private_key: SecretText,
}

/// Headers by name.
pub type NewHeaders = BTreeMap<String, SecretText>;

/// What is to change of what requests carry; what is absent stays.
#[derive(Debug, Default)]
pub struct CredentialsChange {
    /// In place of all headers.
    pub headers: Option<NewHeaders>,
    /// In place of the authentication.
    pub auth: Option<Option<NewAuth>>,
    /// In place of the certificate.
    pub client_certificate: Option<Option<NewCertificate>>,
}

/// The authentication used; its values are never shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ShownAuth)]
pub struct RedactedAuth {
    /// Its kind.
    #[serde(rename = "type")]
    kind: AuthType,
}

/// The client certificate used; its key is never shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ShownCertificate)]
pub struct RedactedCertificate {
    /// SHA-256 of the PEM text as it was given, in hexadecimal.
    sha256: String,
}

/// The three as they are shown.
pub fn redacted(
    redacted: RedactedCredentials,
) -> (
    BTreeMap<String, &'static str>,
    Option<RedactedAuth>,
    Option<RedactedCertificate>,
) {
    let headers = redacted.headers.into_iter().map(|name| (name, MASK));
    (
        headers.collect(),
        redacted.auth.map(|kind| RedactedAuth { kind }),
        redacted
            .certificate_sha256
            .map(|sha256| RedactedCertificate { sha256 }),
    )
}

impl CredentialsChange {
    fn is_none(&self) -> bool {
        self.headers.is_none() && self.auth.is_none() && self.client_certificate.is_none()
    }

    fn is_whole(&self) -> bool {
        self.headers.is_some() && self.auth.is_some() && self.client_certificate.is_some()
    }
}

/// A change that is ready to be made in a transaction: nothing is waited for there.
pub struct Sealing {
    change: CredentialsChange,
    key_ring: Arc<KeyRing>,
    nonce: [u8; 12],
}

/// Gets what `change` takes to be sealed; none if there is nothing to change.
///
/// # Errors
/// When the key ring is not to be had.
pub async fn sealing(app: &App, change: CredentialsChange) -> Result<Option<Sealing>> {
    if change.is_none() {
        return Ok(None);
    }
    Ok(Some(Sealing {
        change,
        key_ring: app.key_ring.get().await?,
        nonce: app.random(),
    }))
}

impl Sealing {
    /// Makes the change to `row`.
    ///
    /// # Errors
    /// [`Error::Invalid`], which names the field; [`Error::Internal`] when what is
    /// there and stays cannot be opened.
    pub fn apply(self, row: &mut Row) -> Result<()> {
        let mut credentials = match &row.credentials_sealed {
            Some(sealed) if !self.change.is_whole() => {
                EndpointCredentials::open(&self.key_ring, &row.id, sealed)
                    .map_err(Error::internal)?
            }
            _ => EndpointCredentials::default(),
        };
        change(&mut credentials, self.change)?;
        row.credentials_sealed = credentials.seal(&self.key_ring, self.nonce, &row.id);
        row.credentials_redacted = credentials.redacted();
        Ok(())
    }
}

fn change(credentials: &mut EndpointCredentials, change: CredentialsChange) -> Result<()> {
    if let Some(headers) = change.headers {
        let headers = headers.into_iter().map(|(name, value)| (name, value.0));
        credentials.set_headers(headers.collect())?;
    }
    if let Some(auth) = change.auth {
        credentials.set_auth(auth.map(auth_of))?;
    }
    if let Some(certificate) = change.client_certificate {
        let certificate = certificate.map(|new| ClientCertificate {
            certificate: new.certificate,
            private_key: new.private_key.0,
        });
        credentials.set_client_certificate(certificate)?;
        if let Some(certificate) = credentials.client_certificate() {
            sender::check_certificate(certificate)?;
        }
    }
    Ok(credentials.check()?)
}

fn auth_of(new: NewAuth) -> Auth {
    match new {
        NewAuth::Basic { username, password } => Auth::Basic {
            username: username.0,
            password: password.0,
        },
        NewAuth::Bearer { token } => Auth::Bearer { token: token.0 },
    }
}
