//! The sealing of an endpoint's credentials, and the JSON that is sealed. Its fields
//! are kept for as long as anything sealed is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{Auth, ClientCertificate, EndpointCredentials};
use crate::model::id::EndpointId;
use crate::model::seal::{KeyRing, OpenError};

impl EndpointCredentials {
    /// Seals it for endpoint `id`; none if there is nothing in it. `nonce` must be
    /// random.
    pub fn seal(&self, ring: &KeyRing, nonce: [u8; 12], id: &EndpointId) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let json = Zeroizing::new(
            serde_json::to_vec(&CredentialsJson::from_credentials(self)).unwrap_or_default(),
        );
        Some(ring.seal(nonce, &aad(id), &json))
    }

    /// Opens what [`EndpointCredentials::seal`] sealed for the same endpoint.
    ///
    /// # Errors
    /// Every [`OpenError`].
    pub fn open(ring: &KeyRing, id: &EndpointId, sealed: &[u8]) -> Result<Self, OpenError> {
        let json = ring.open(&aad(id), sealed)?;
        let written: CredentialsJson<'_> =
            serde_json::from_slice(json.expose_secret()).map_err(|_| OpenError::Malformed)?;
        Ok(written.into_credentials())
    }
}

fn aad(id: &EndpointId) -> Vec<u8> {
    // Not the id alone, which signing secrets are sealed for: one must not be taken
    // for the other.
    format!("{id}/extras").into_bytes()
}

/// [`EndpointCredentials`] as they are sealed.
#[derive(Serialize, Deserialize)]
struct CredentialsJson<'a> {
    #[serde(borrow)]
    headers: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow)]
    auth: Option<AuthJson<'a>>,
    #[serde(borrow)]
    client_certificate: Option<CertificateJson<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AuthJson<'a> {
    Basic {
        username: Cow<'a, str>,
        password: Cow<'a, str>,
    },
    Bearer {
        token: Cow<'a, str>,
    },
}

#[derive(Serialize, Deserialize)]
struct CertificateJson<'a> {
    certificate: Cow<'a, str>,
    private_key: Cow<'a, str>,
}

impl<'a> CredentialsJson<'a> {
    fn from_credentials(credentials: &'a EndpointCredentials) -> Self {
        let headers = credentials.headers.iter();
        Self {
            headers: headers
                .map(|(name, value)| (name.into(), value.expose_secret().into()))
                .collect(),
            auth: credentials.auth.as_ref().map(|auth| match auth {
                Auth::Basic { username, password } => AuthJson::Basic {
                    username: username.expose_secret().into(),
                    password: password.expose_secret().into(),
                },
                Auth::Bearer { token } => AuthJson::Bearer {
                    token: token.expose_secret().into(),
                },
            }),
            client_certificate: credentials.client_certificate.as_ref().map(|pair| {
                CertificateJson {
                    certificate: (&pair.certificate).into(),
                    private_key: pair.private_key.expose_secret().into(),
                }
            }),
        }
    }

    fn into_credentials(self) -> EndpointCredentials {
        let secret = |text: Cow<'_, str>| SecretString::from(text.into_owned());
        let headers = self.headers.into_iter();
        EndpointCredentials {
            headers: headers
                .map(|(name, value)| (name.into_owned(), secret(value)))
                .collect(),
            auth: self.auth.map(|auth| match auth {
                AuthJson::Basic { username, password } => Auth::Basic {
                    username: secret(username),
                    password: secret(password),
                },
                AuthJson::Bearer { token } => Auth::Bearer {
                    token: secret(token),
                },
            }),
            client_certificate: self.client_certificate.map(|pair| ClientCertificate {
                certificate: pair.certificate.into_owned(),
                private_key: secret(pair.private_key),
            }),
        }
    }
}
