//! The credentials of an endpoint, which requests carry beside the signature: headers
//! of its own, HTTP authentication and a TLS client certificate.
//!
//! All of it is secret: the stores hold it sealed, as one value bound to the
//! endpoint's id, and people see names and a fingerprint. It must not be logged;
//! `Debug` shows no value.

mod sealed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::refusal::shown_name;
use crate::error::Invalid;

/// How many headers an endpoint may have of its own.
pub const HEADERS_MAX: usize = 20;
/// Bytes of all their names and values together.
const HEADERS_BYTES_MAX: usize = 8192;
/// Characters of a header's name.
const NAME_LEN_MAX: usize = 100;
/// Characters of a user name, a password or a token.
const CREDENTIAL_LEN_MAX: usize = 4096;
/// Bytes of a certificate chain in PEM, and of a private key.
const PEM_BYTES_MAX: usize = 16_384;
/// What stands for a value wherever it is shown.
pub const MASK: &str = "********";

/// Names that say something of the connection or the body, or that Millrace sets.
const RESERVED: [&str; 17] = [
    "accept-encoding",
    "connection",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
/// Beginnings of such names.
const RESERVED_PREFIXES: [&str; 4] = ["ce-", "content-", "webhook-", "x-forwarded-"];

/// How requests authenticate.
#[derive(Debug, Clone)]
pub enum Auth {
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user's name.
        username: SecretString,
        /// The password.
        password: SecretString,
    },
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer {
        /// The token.
        token: SecretString,
    },
}

/// A TLS client certificate and its key, both in PEM.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate, then those that it is signed by.
    pub certificate: String,
    /// Its private key.
    pub private_key: SecretString,
}

/// What requests to an endpoint carry beside the signature.
#[derive(Debug, Clone, Default)]
pub struct EndpointCredentials {
    /// By name as it was given, of which no other is the same in another case.
    headers: BTreeMap<String, SecretString>,
    auth: Option<Auth>,
    client_certificate: Option<ClientCertificate>,
}

/// What people may see of [`EndpointCredentials`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedactedCredentials {
    /// The names of its headers.
    #[serde(default)]
    pub headers: Vec<String>,
    /// How it authenticates.
    #[serde(default)]
    pub auth: Option<AuthType>,
    /// SHA-256 of the client certificate, in hexadecimal.
    #[serde(default)]
    pub certificate_sha256: Option<String>,
}

/// A kind of HTTP authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    /// A user name and a password.
    Basic,
    /// A token.
    Bearer,
}

impl EndpointCredentials {
    /// Takes `headers` in place of those it has.
    ///
    /// # Errors
    /// [`Invalid`], which names the header and never shows a value: more than 20
    /// headers or 8 KiB of them, a name that is none or is reserved, a value that
    /// is not visible ASCII with spaces inside.
    pub fn set_headers(&mut self, headers: BTreeMap<String, SecretString>) -> Result<(), Invalid> {
        if headers.len() > HEADERS_MAX {
            let detail = format!("expected at most {HEADERS_MAX} headers");
            return Err(Invalid::new("headers", detail));
        }
        let size =
            |(name, value): (&String, &SecretString)| name.len() + value.expose_secret().len();
        if headers.iter().map(size).sum::<usize>() > HEADERS_BYTES_MAX {
            let detail = format!("expected at most {HEADERS_BYTES_MAX} bytes of names and values");
            return Err(Invalid::new("headers", detail));
        }
        let mut names = BTreeSet::new();
        for (name, value) in &headers {
            let field = format!("headers.{}", shown_name(name));
            let refuse = |detail: &'static str| Invalid::new(field.clone(), detail);
            let lower = name.to_ascii_lowercase();
            check_name(&lower).map_err(refuse)?;
            check_value(value.expose_secret()).map_err(refuse)?;
            if !names.insert(lower) {
                return Err(refuse("expected each header once, whatever its case"));
            }
        }
        self.headers = headers;
        Ok(())
    }

    /// Takes `auth` in place of what it has.
    ///
    /// # Errors
    /// [`Invalid`], which names the field: empty, too long, or with characters the
    /// scheme has no place for.
    pub fn set_auth(&mut self, auth: Option<Auth>) -> Result<(), Invalid> {
        if let Some(auth) = &auth {
            check_auth(auth)?;
        }
        self.auth = auth;
        Ok(())
    }

    /// Takes `certificate` in place of what it has. Whether it is one, and the key
    /// is its key, is for the sender to say.
    ///
    /// # Errors
    /// [`Invalid`] when either part is over 16 KiB.
    pub fn set_client_certificate(
        &mut self,
        certificate: Option<ClientCertificate>,
    ) -> Result<(), Invalid> {
        if let Some(pair) = &certificate {
            for (name, len) in [
                ("certificate", pair.certificate.len()),
                ("private_key", pair.private_key.expose_secret().len()),
            ] {
                if len > PEM_BYTES_MAX {
                    return Err(Invalid::new(
                        format!("client_certificate.{name}"),
                        format!("expected at most {PEM_BYTES_MAX} bytes"),
                    ));
                }
            }
        }
        self.client_certificate = certificate;
        Ok(())
    }

    /// Checks the parts against each other.
    ///
    /// # Errors
    /// [`Invalid`] when both `auth` and a header say `authorization`.
    pub fn check(&self) -> Result<(), Invalid> {
        let mut names = self.headers.keys();
        if self.auth.is_some()
            && names.any(|name| name.eq_ignore_ascii_case(AUTHORIZATION.as_str()))
        {
            return Err(Invalid::new(
                "headers.authorization",
                "expected either this or auth, got both",
            ));
        }
        Ok(())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.auth.is_none() && self.client_certificate.is_none()
    }

    /// The client certificate, if it has one.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.client_certificate.as_ref()
    }

    /// The headers to send, each marked sensitive.
    pub fn header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.headers.len() + 1);
        let own = self.headers.iter();
        let own = own.map(|(name, value)| (name.parse::<HeaderName>(), value.expose_secret()));
        for (name, value) in own {
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                map.insert(name, sensitive(value));
            }
        }
        if let Some(value) = self.auth.as_ref().and_then(Auth::header) {
            map.insert(AUTHORIZATION, value);
        }
        map
    }

    /// The names of its headers that are not in lower case, as they were given.
    pub fn spelled_names(&self) -> Vec<String> {
        let has_upper = |name: &&String| name.bytes().any(|b| b.is_ascii_uppercase());
        self.headers.keys().filter(has_upper).cloned().collect()
    }

    /// What people may see.
    pub fn redacted(&self) -> RedactedCredentials {
        RedactedCredentials {
            headers: self.headers.keys().cloned().collect(),
            auth: self.auth.as_ref().map(Auth::kind),
            certificate_sha256: self
                .client_certificate
                .as_ref()
                .map(ClientCertificate::fingerprint),
        }
    }
}

impl Auth {
    fn kind(&self) -> AuthType {
        match self {
            Self::Basic { .. } => AuthType::Basic,
            Self::Bearer { .. } => AuthType::Bearer,
        }
    }

    fn header(&self) -> Option<HeaderValue> {
        let text = Zeroizing::new(match self {
            Self::Basic { username, password } => {
                let (username, password) = (username.expose_secret(), password.expose_secret());
                let pair = Zeroizing::new(format!("{username}:{password}"));
                format!("Basic {}", BASE64.encode(pair.as_bytes()))
            }
            Self::Bearer { token } => format!("Bearer {}", token.expose_secret()),
        });
        HeaderValue::from_str(&text).ok().map(sensitive)
    }
}

impl ClientCertificate {
    /// SHA-256 of its text, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        let hash = digest(&SHA256, self.certificate.as_bytes());
        hash.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Whether it is a token of RFC 9110 §5.1, in lower case.
fn is_name(name: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&name.len()) && HeaderName::from_lowercase(name.as_bytes()).is_ok()
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let reserved = RESERVED.contains(&name)
        || RESERVED_PREFIXES
            .iter()
            .any(|start| name.starts_with(start));
    match (is_name(name), reserved) {
        (false, _) => Err("expected the name of a header, up to 100 characters"),
        (true, true) => Err(
            "expected a header that says nothing of the connection or the body, nor is set by Millrace",
        ),
        (true, false) => Ok(()),
    }
}

fn check_value(value: &str) -> Result<(), &'static str> {
    let visible = |b: u8| (0x20..0x7f).contains(&b) || b == b'\t';
    if value == MASK {
        return Err("expected the value itself, not what stands for it");
    }
    if value.is_empty() || value.trim() != value || !value.bytes().all(visible) {
        return Err("expected visible ASCII characters, and spaces only between them");
    }
    Ok(())
}

fn check_auth(auth: &Auth) -> Result<(), Invalid> {
    let sized = |text: &str| (1..=CREDENTIAL_LEN_MAX).contains(&text.len()) && text != MASK;
    let plain = |text: &str| !text.chars().any(char::is_control);
    match auth {
        Auth::Basic { username, .. }
            if !sized(username.expose_secret())
                || !plain(username.expose_secret())
                || username.expose_secret().contains(':') =>
        {
            Err(Invalid::new(
                "auth.username",
                "expected 1 to 4096 bytes without control characters and colons",
            ))
        }
        Auth::Basic { password, .. }
            if !sized(password.expose_secret()) || !plain(password.expose_secret()) =>
        {
            Err(Invalid::new(
                "auth.password",
                "expected 1 to 4096 bytes without control characters",
            ))
        }
        Auth::Bearer { token }
            if !sized(token.expose_secret())
                || !token.expose_secret().bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Err(Invalid::new(
                "auth.token",
                "expected 1 to 4096 visible ASCII characters without spaces",
            ))
        }
        _ => Ok(()),
    }
}
