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
use crate::model::extras::{Auth, AuthType, ClientCertificate, Extras, MASK, Shown};
use crate::model::seal::KeyRing;
use crate::sender;
use crate::store::endpoints::Endpoint as Row;

/// A secret text, which no error repeats.
#[derive(Debug)]
pub struct Hidden(SecretString);

impl<'de> Deserialize<'de> for Hidden {
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
        username: Hidden,
        /// Sent as UTF-8.
        #[schema(value_type = String)]
        password: Hidden,
    },
    /// A token (RFC 6750).
    Bearer {
        /// Visible ASCII without spaces.
        #[schema(value_type = String)]
        token: Hidden,
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
    private_key: Hidden,
}

/// Headers by name.
pub type NewHeaders = BTreeMap<String, Hidden>;

/// What is to change of what requests carry; what is absent stays.
#[derive(Debug, Default)]
pub struct ExtrasChange {
    /// In place of all headers.
    pub headers: Option<NewHeaders>,
    /// In place of the authentication.
    pub auth: Option<Option<NewAuth>>,
    /// In place of the certificate.
    pub client_certificate: Option<Option<NewCertificate>>,
}

/// The authentication used; its values are never shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShownAuth {
    /// Its kind.
    #[serde(rename = "type")]
    kind: AuthType,
}

/// The client certificate used; its key is never shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShownCertificate {
    /// SHA-256 of the PEM text as it was given, in hexadecimal.
    sha256: String,
}

/// The three as they are shown.
pub fn shown(
    shown: Shown,
) -> (
    BTreeMap<String, &'static str>,
    Option<ShownAuth>,
    Option<ShownCertificate>,
) {
    let headers = shown.headers.into_iter().map(|name| (name, MASK));
    (
        headers.collect(),
        shown.auth.map(|kind| ShownAuth { kind }),
        shown
            .certificate_sha256
            .map(|sha256| ShownCertificate { sha256 }),
    )
}

impl ExtrasChange {
    fn is_none(&self) -> bool {
        self.headers.is_none() && self.auth.is_none() && self.client_certificate.is_none()
    }

    fn is_whole(&self) -> bool {
        self.headers.is_some() && self.auth.is_some() && self.client_certificate.is_some()
    }
}

/// A change that is ready to be made in a transaction: nothing is waited for there.
pub struct Sealing {
    change: ExtrasChange,
    key_ring: Arc<KeyRing>,
    nonce: [u8; 12],
}

/// Gets what `change` takes to be sealed; none if there is nothing to change.
///
/// # Errors
/// When the key ring is not to be had.
pub async fn sealing(app: &App, change: ExtrasChange) -> Result<Option<Sealing>> {
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
        let mut extras = match &row.extras_sealed {
            Some(sealed) if !self.change.is_whole() => {
                Extras::open(&self.key_ring, &row.id, sealed).map_err(Error::internal)?
            }
            _ => Extras::default(),
        };
        change(&mut extras, self.change)?;
        row.extras_sealed = extras.seal(&self.key_ring, self.nonce, &row.id);
        row.extras_shown = extras.shown();
        Ok(())
    }
}

fn change(extras: &mut Extras, change: ExtrasChange) -> Result<()> {
    if let Some(headers) = change.headers {
        let headers = headers.into_iter().map(|(name, value)| (name, value.0));
        extras.set_headers(headers.collect())?;
    }
    if let Some(auth) = change.auth {
        extras.set_auth(auth.map(auth_of))?;
    }
    if let Some(certificate) = change.client_certificate {
        let certificate = certificate.map(|new| ClientCertificate {
            certificate: new.certificate,
            private_key: new.private_key.0,
        });
        extras.set_client_certificate(certificate)?;
        if let Some(certificate) = extras.client_certificate() {
            sender::check_certificate(certificate)?;
        }
    }
    Ok(extras.check()?)
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
