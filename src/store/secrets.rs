//! Secrets that Secrets Manager holds: fetched when first needed, and again
//! when they have changed.
//!
//! The only calls to Secrets Manager. Nothing here is logged or repeated in an
//! error but a secret's ARN and the shape it should have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::aws;
use crate::aws::clients::Lazy;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::api_key;
use crate::model::seal::KeyRing;

/// How long a fetched value is used before it is looked up again, so that a
/// rotation needs no restart.
const CACHE_TTL: Duration = Duration::from_mins(10);
/// Between two fetches of one secret, whatever asks for it.
const PAUSE: Duration = Duration::from_secs(5);

/// The client of Secrets Manager at `config`'s endpoint, or AWS's own.
pub fn connect(config: &Config, aws: &SdkConfig) -> Lazy<Client> {
    let mut builder = aws_sdk_secretsmanager::config::Builder::from(aws);
    if let Some(endpoint) = config.secrets_endpoint() {
        builder = builder.endpoint_url(endpoint);
    }
    Lazy::new(|| Client::from_conf(builder.build()))
}

/// A secret: given from the start, or held by Secrets Manager. Cheap to clone.
pub struct CachedSecret<T>(Arc<SecretSource<T>>);

enum SecretSource<T> {
    Fixed(Arc<T>),
    Remote(Remote<T>),
}

struct Remote<T> {
    client: Lazy<Client>,
    arn: String,
    cached: Mutex<Option<CachedValue<T>>>,
}

struct CachedValue<T> {
    value: Arc<T>,
    fetched: Instant,
}

/// What a secret's text must be.
pub trait ParseSecret: Sized {
    /// In words, for whom it is missing.
    const EXPECTED: &'static str;

    /// Reads it. `None` if it is of another shape.
    fn parse_secret(text: &str) -> Option<Self>;
}

impl<T> Clone for CachedSecret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> std::fmt::Debug for CachedSecret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            SecretSource::Fixed(_) => f.write_str("CachedSecret(fixed)"),
            SecretSource::Remote(held) => write!(f, "CachedSecret({})", held.arn),
        }
    }
}

impl<T> CachedSecret<T> {
    /// One that is known.
    pub fn fixed(value: T) -> Self {
        Self(Arc::new(SecretSource::Fixed(Arc::new(value))))
    }

    /// The one Secrets Manager holds under `arn`. Fetches nothing yet.
    pub fn remote(client: Lazy<Client>, arn: impl Into<String>) -> Self {
        Self(Arc::new(SecretSource::Remote(Remote {
            client,
            arn: arn.into(),
            cached: Mutex::new(None),
        })))
    }
}

impl<T: ParseSecret> CachedSecret<T> {
    /// Its value; fetched if it is not known or known for long. Where that fails
    /// the last known value goes on being used.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Secrets Manager does not answer;
    /// [`Error::Internal`] when the secret has another shape, in words that name
    /// its ARN.
    pub async fn get(&self) -> Result<Arc<T>> {
        let held = match &*self.0 {
            SecretSource::Fixed(value) => return Ok(value.clone()),
            SecretSource::Remote(held) => held,
        };
        // Held while fetching: others wait for it rather than fetch as well.
        let mut kept = held.cached.lock().await;
        match &mut *kept {
            Some(known) if known.fetched.elapsed() < CACHE_TTL => Ok(known.value.clone()),
            Some(known) => {
                known.fetched = Instant::now();
                match held.fetch().await {
                    Ok(value) => known.value = Arc::new(value),
                    Err(error) => {
                        let cause = error.causes();
                        tracing::warn!(secret = held.arn, %error, cause, "secret not refreshed: cached value used");
                    }
                }
                Ok(known.value.clone())
            }
            None => Ok(held.fetch_and_cache(&mut kept).await?),
        }
    }

    /// Its value after `stale` was refused: a new one, or none if it is still the
    /// same, or was fetched a moment ago.
    ///
    /// # Errors
    /// As [`CachedSecret::get`].
    pub async fn refetch(&self, stale: &Arc<T>) -> Result<Option<Arc<T>>> {
        let SecretSource::Remote(held) = &*self.0 else {
            return Ok(None);
        };
        let mut kept = held.cached.lock().await;
        match &*kept {
            // Somebody else was refused and has fetched it since.
            Some(known) if !Arc::ptr_eq(&known.value, stale) => Ok(Some(known.value.clone())),
            Some(known) if known.fetched.elapsed() < PAUSE => Ok(None),
            _ => held.fetch_and_cache(&mut kept).await.map(Some),
        }
    }
}

impl<T: ParseSecret> Remote<T> {
    async fn fetch_and_cache(&self, kept: &mut Option<CachedValue<T>>) -> Result<Arc<T>> {
        let value = Arc::new(self.fetch().await?);
        let fetched = Instant::now();
        *kept = Some(CachedValue {
            value: value.clone(),
            fetched,
        });
        Ok(value)
    }

    async fn fetch(&self) -> Result<T> {
        let output = self
            .client
            .get_secret_value()
            .secret_id(&self.arn)
            .send()
            .await;
        let output = output.map_err(|error| Error::Unavailable {
            what: "the secret store",
            source: aws::error::cause(error).context(format!("secret {}", self.arn)),
        })?;
        output
            .secret_string()
            .and_then(T::parse_secret)
            .ok_or_else(|| {
                Error::internal(anyhow::anyhow!(
                    "secret {}: expected {}",
                    self.arn,
                    T::EXPECTED
                ))
            })
    }
}

/// The hash of the admin key: the key itself is not needed again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AdminKey(pub [u8; 32]);

impl AdminKey {
    /// Of the key's text.
    pub fn of(text: &str) -> Self {
        Self(api_key::hash(text))
    }
}

impl ParseSecret for AdminKey {
    const EXPECTED: &'static str = "plain text of at least 32 characters";

    fn parse_secret(text: &str) -> Option<Self> {
        let text = text.trim();
        (text.chars().count() >= 32).then(|| Self::of(text))
    }
}

impl ParseSecret for KeyRing {
    const EXPECTED: &'static str =
        "JSON {\"primary\": \"<key id>\", \"keys\": {\"<key id>\": \"<base64 of 32 bytes>\"}}";

    fn parse_secret(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

/// Who logs in to the database, as RDS keeps it.
#[derive(Debug, Deserialize)]
pub struct Login {
    /// The role.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

impl ParseSecret for Login {
    const EXPECTED: &'static str = "JSON with \"username\" and \"password\", as RDS writes it";

    fn parse_secret(text: &str) -> Option<Self> {
        let login: Self = serde_json::from_str(text).ok()?;
        let whole = !login.username.is_empty() && !login.password.expose_secret().is_empty();
        whole.then_some(login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_or_refused_whole() {
        assert!(AdminKey::parse_secret("short").is_none());
        let text = "mradmin_0123456789abcdefghijklmnop";
        assert!(AdminKey::parse_secret(&format!("{text}\n")) == Some(AdminKey::of(text)));
        assert!(KeyRing::parse_secret("{}").is_none());
        let login = r#"{"engine":"postgres","username":"m","password":"p","port":5432}"#;
        assert_eq!(Login::parse_secret(login).unwrap().username, "m");
        assert!(Login::parse_secret(r#"{"username":"m"}"#).is_none());
        assert!(Login::parse_secret(r#"{"username":"m","password":""}"#).is_none());
        assert!(Login::parse_secret("postgresql://m:p@h/d").is_none());
    }

    #[tokio::test]
    async fn a_given_secret_is_never_renewed() {
        let secret = CachedSecret::fixed(AdminKey::of("a"));
        let value = secret.get().await.unwrap();
        assert!(secret.refetch(&value).await.unwrap().is_none());
    }
}
