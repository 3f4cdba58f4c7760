//! The JSON that is sealed. Its fields are kept for as long as anything sealed is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{Auth, ClientCertificate, EndpointCredentials};

/// Its JSON, which is sealed at once.
#[derive(Serialize, Deserialize)]
pub(super) struct CredentialsJson<'a> {
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
    pub(super) fn from_credentials(extras: &'a EndpointCredentials) -> Self {
        let headers = extras.headers.iter();
        Self {
            headers: headers
                .map(|(name, value)| (name.into(), value.expose_secret().into()))
                .collect(),
            auth: extras.auth.as_ref().map(|auth| match auth {
                Auth::Basic { username, password } => AuthJson::Basic {
                    username: username.expose_secret().into(),
                    password: password.expose_secret().into(),
                },
                Auth::Bearer { token } => AuthJson::Bearer {
                    token: token.expose_secret().into(),
                },
            }),
            client_certificate: extras
                .client_certificate
                .as_ref()
                .map(|pair| CertificateJson {
                    certificate: (&pair.certificate).into(),
                    private_key: pair.private_key.expose_secret().into(),
                }),
        }
    }

    pub(super) fn into_credentials(self) -> EndpointCredentials {
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
