//! The credentials of an endpoint in requests and answers: headers, authentication
//! and client certificate, of which no secret is ever shown.

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
#[derive(Debug, utoipa::ToSchema)]
#[schema(as = EndpointAuthInput)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum NewAuth {
    /// A user name and a password (RFC 7617).
    #[schema(title = "BasicAuth")]
    Basic {
        /// Without colons.
        #[schema(value_type = String)]
        username: SecretText,
        /// Sent as UTF-8.
        #[schema(value_type = String)]
        password: SecretText,
    },
    /// A token (RFC 6750).
    #[schema(title = "BearerAuth")]
    Bearer {
        /// Visible ASCII without spaces.
        #[schema(value_type = String)]
        token: SecretText,
    },
}

/// The fields of every kind of [`NewAuth`], read one by one so that an error names
/// its field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthFields {
    r#type: AuthType,
    username: Option<SecretText>,
    password: Option<SecretText>,
    token: Option<SecretText>,
}

impl<'de> Deserialize<'de> for NewAuth {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const BASIC: [&str; 3] = ["type", "username", "password"];
        const BEARER: [&str; 2] = ["type", "token"];
        let missing = <D::Error as de::Error>::missing_field;
        let fields = AuthFields::deserialize(from)?;
        match (
            fields.r#type,
            fields.username,
            fields.password,
            fields.token,
        ) {
            (AuthType::Basic, _, _, Some(_)) => Err(de::Error::unknown_field("token", &BASIC)),
            (AuthType::Basic, username, password, None) => Ok(Self::Basic {
                username: username.ok_or_else(|| missing("username"))?,
                password: password.ok_or_else(|| missing("password"))?,
            }),
            (AuthType::Bearer, Some(_), _, _) => Err(de::Error::unknown_field("username", &BEARER)),
            (AuthType::Bearer, _, Some(_), _) => Err(de::Error::unknown_field("password", &BEARER)),
            (AuthType::Bearer, None, None, token) => Ok(Self::Bearer {
                token: token.ok_or_else(|| missing("token"))?,
            }),
        }
    }
}

/// A TLS client certificate to use, for a receiver that asks for one.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = ClientCertificateInput)]
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

/// A change of an endpoint's credentials; what is absent stays.
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
#[schema(as = EndpointAuth)]
pub struct RedactedAuth {
    /// Its kind.
    #[serde(rename = "type")]
    kind: AuthType,
}

/// The client certificate used; its key is never shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ClientCertificate)]
pub struct RedactedCertificate {
    /// SHA-256 of the PEM text as it was given, in hexadecimal.
    sha256: String,
}

/// All of them, as an endpoint shows them.
pub struct ShownCredentials {
    /// Masked values by header name.
    pub headers: BTreeMap<String, &'static str>,
    /// The kind of authentication.
    pub auth: Option<RedactedAuth>,
    /// The certificate's fingerprint.
    pub client_certificate: Option<RedactedCertificate>,
}

impl From<RedactedCredentials> for ShownCredentials {
    fn from(redacted: RedactedCredentials) -> Self {
        let headers = redacted.headers.into_iter().map(|name| (name, MASK));
        let certificate = redacted.certificate_sha256;
        Self {
            headers: headers.collect(),
            auth: redacted.auth.map(|kind| RedactedAuth { kind }),
            client_certificate: certificate.map(|sha256| RedactedCertificate { sha256 }),
        }
    }
}

impl CredentialsChange {
    fn is_empty(&self) -> bool {
        self.headers.is_none() && self.auth.is_none() && self.client_certificate.is_none()
    }

    fn replaces_all(&self) -> bool {
        self.headers.is_some() && self.auth.is_some() && self.client_certificate.is_some()
    }
}

/// A change with what it takes to be sealed, fetched before the transaction that
/// makes it: that waits for nothing but the database.
pub struct Sealing {
    change: CredentialsChange,
    key_ring: Arc<KeyRing>,
    nonce: [u8; 12],
}

/// Fetches what `change` takes to be sealed; none if there is nothing to change.
///
/// # Errors
/// [`Error::Unavailable`] when the key ring cannot be fetched.
pub async fn sealing(app: &App, change: CredentialsChange) -> Result<Option<Sealing>> {
    if change.is_empty() {
        return Ok(None);
    }
    Ok(Some(Sealing {
        change,
        key_ring: app.key_ring.get().await?,
        nonce: app.random(),
    }))
}

/// Refuses a change, or none, that leaves any of the credentials that an endpoint has,
/// `kept`, as it is: each is for the receiver that it was given for.
///
/// # Errors
/// [`Error::Invalid`], which names all that are to be given again.
pub fn check_given_again(kept: &RedactedCredentials, change: Option<&Sealing>) -> Result<()> {
    let change = change.map(|sealing| &sealing.change);
    let is_given = |given: fn(&CredentialsChange) -> bool| change.is_some_and(given);
    let parts = [
        (
            "headers",
            !kept.headers.is_empty() && !is_given(|change| change.headers.is_some()),
        ),
        (
            "auth",
            kept.auth.is_some() && !is_given(|change| change.auth.is_some()),
        ),
        (
            "client_certificate",
            kept.certificate_sha256.is_some()
                && !is_given(|change| change.client_certificate.is_some()),
        ),
    ];
    let missing = parts.into_iter().filter(|(_, is_missing)| *is_missing);
    let missing: Vec<_> = missing.map(|(name, _)| name).collect();
    let Some(first) = missing.first() else {
        return Ok(());
    };
    let detail = format!(
        "expected again with a url of another scheme, host or port, or null for none: {}",
        missing.join(", ")
    );
    Err(Error::invalid(*first, detail))
}

impl Sealing {
    /// Makes the change to `row`.
    ///
    /// # Errors
    /// [`Error::Invalid`], which names the field; [`Error::Internal`] when what
    /// stays cannot be decrypted.
    pub fn apply(self, row: &mut Row) -> Result<()> {
        let mut credentials = match &row.credentials_sealed {
            Some(sealed) if !self.change.replaces_all() => {
                EndpointCredentials::open(&self.key_ring, &row.id, sealed)
                    .map_err(Error::internal)?
            }
            _ => EndpointCredentials::default(),
        };
        apply_to(&mut credentials, self.change)?;
        row.credentials_sealed = credentials.seal(&self.key_ring, self.nonce, &row.id);
        row.credentials_redacted = credentials.redacted();
        Ok(())
    }
}

fn apply_to(credentials: &mut EndpointCredentials, change: CredentialsChange) -> Result<()> {
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
