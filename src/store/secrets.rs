//! Secrets in Secrets Manager: fetched when first needed, and again when they have
//! changed.
//!
//! The only calls to Secrets Manager. Of a secret, its ARN and the format expected
//! are logged or repeated in an error, and nothing else.

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

/// How long a fetched value is used before it is fetched again, so that a rotation
/// needs no restart.
const CACHE_TTL: Duration = Duration::from_mins(10);
/// Between two fetches of one secret, however often its value is refused.
const REFETCH_INTERVAL_MIN: Duration = Duration::from_secs(5);

/// The client of Secrets Manager at `config`'s endpoint, or AWS's own.
pub fn connect(config: &Config, aws: &SdkConfig) -> Lazy<Client> {
    let mut builder = aws_sdk_secretsmanager::config::Builder::from(aws);
    if let Some(endpoint) = config.secrets_endpoint() {
        builder = builder.endpoint_url(endpoint);
    }
    Lazy::new(|| Client::from_conf(builder.build()))
}

/// A secret: fixed from the start, or in Secrets Manager. Cheap to clone.
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

/// How a secret's text is read.
pub trait ParseSecret: Sized {
    /// The format expected, for the error when it is another.
    const EXPECTED: &'static str;

    /// Reads it. `None` if it is of another format.
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
            SecretSource::Remote(remote) => write!(f, "CachedSecret({})", remote.arn),
        }
    }
}

impl<T> CachedSecret<T> {
    /// One whose value is known and never fetched.
    pub fn fixed(value: T) -> Self {
        Self(Arc::new(SecretSource::Fixed(Arc::new(value))))
    }

    /// The one in Secrets Manager under `arn`. Fetches nothing yet.
    pub fn remote(client: Lazy<Client>, arn: impl Into<String>) -> Self {
        Self(Arc::new(SecretSource::Remote(Remote {
            client,
            arn: arn.into(),
            cached: Mutex::new(None),
        })))
    }
}

impl<T> CachedSecret<T> {
    /// Its value, if it is known: as it was fetched last, and none while it is being
    /// fetched. Fetches nothing and waits for nobody.
    pub fn peek(&self) -> Option<Arc<T>> {
        match &*self.0 {
            SecretSource::Fixed(value) => Some(value.clone()),
            SecretSource::Remote(remote) => {
                let slot = remote.cached.try_lock().ok()?;
                slot.as_ref().map(|cached| cached.value.clone())
            }
        }
    }
}

impl<T: ParseSecret> CachedSecret<T> {
    /// Its value; fetched if it is not cached, or was cached long ago (`CACHE_TTL`).
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Secrets Manager does not answer;
    /// [`Error::Internal`], which names the ARN, when the secret is of another
    /// format.
    pub async fn get(&self) -> Result<Arc<T>> {
        let remote = match &*self.0 {
            SecretSource::Fixed(value) => return Ok(value.clone()),
            SecretSource::Remote(remote) => remote,
        };
        // Locked while fetching: others wait for it rather than fetch as well.
        let mut slot = remote.cached.lock().await;
        match &mut *slot {
            Some(cached) if cached.fetched.elapsed() < CACHE_TTL => Ok(cached.value.clone()),
            Some(cached) => {
                cached.fetched = Instant::now();
                match remote.fetch().await {
                    Ok(value) => cached.value = Arc::new(value),
                    // The last known value goes on being used.
                    Err(error) => {
                        let cause = error.causes();
                        tracing::warn!(secret = remote.arn, %error, cause, "secret not refreshed: cached value used");
                    }
                }
                Ok(cached.value.clone())
            }
            None => Ok(remote.fetch_and_cache(&mut slot).await?),
        }
    }

    /// Its value after `stale` was refused: a new one, or none if it is still the
    /// same, or was fetched a moment ago.
    ///
    /// # Errors
    /// As [`CachedSecret::get`].
    pub async fn refetch(&self, stale: &Arc<T>) -> Result<Option<Arc<T>>> {
        let SecretSource::Remote(remote) = &*self.0 else {
            return Ok(None);
        };
        let mut slot = remote.cached.lock().await;
        match &*slot {
            // Somebody else was refused and has fetched it since.
            Some(cached) if !Arc::ptr_eq(&cached.value, stale) => Ok(Some(cached.value.clone())),
            Some(cached) if cached.fetched.elapsed() < REFETCH_INTERVAL_MIN => Ok(None),
            _ => remote.fetch_and_cache(&mut slot).await.map(Some),
        }
    }
}

impl<T: ParseSecret> Remote<T> {
    async fn fetch_and_cache(&self, slot: &mut Option<CachedValue<T>>) -> Result<Arc<T>> {
        let value = Arc::new(self.fetch().await?);
        let fetched = Instant::now();
        *slot = Some(CachedValue {
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
    /// The hash of the key `text`.
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

/// Who logs in to the database, as RDS stores it.
#[derive(Debug, Deserialize)]
pub struct Login {
    /// The role that logs in.
    pub username: String,
    /// The role's password.
    pub password: SecretString,
}

impl ParseSecret for Login {
    const EXPECTED: &'static str = "JSON with \"username\" and \"password\", as RDS writes it";

    fn parse_secret(text: &str) -> Option<Self> {
        let login: Self = serde_json::from_str(text).ok()?;
        let is_complete = !login.username.is_empty() && !login.password.expose_secret().is_empty();
        is_complete.then_some(login)
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

    #[test]
    fn a_look_at_a_secret_fetches_nothing() {
        let fixed = CachedSecret::fixed(AdminKey::of("a"));
        assert!(fixed.peek().is_some_and(|key| *key == AdminKey::of("a")));
        let client = Lazy::new(|| unreachable!("no client is needed"));
        let remote = CachedSecret::<AdminKey>::remote(client, "arn");
        assert!(remote.peek().is_none());
    }

    #[tokio::test]
    async fn a_given_secret_is_never_renewed() {
        let secret = CachedSecret::fixed(AdminKey::of("a"));
        let value = secret.get().await.unwrap();
        assert!(secret.refetch(&value).await.unwrap().is_none());
    }
}
