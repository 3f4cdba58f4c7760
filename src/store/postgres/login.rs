//! The login to PostgreSQL: the role with its password, and the authorities that may
//! vouch for the server.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use deadpool_postgres::{ConfigConnectImpl, Connect};
use futures_util::future::BoxFuture;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};
use crate::store::secrets::{CachedSecret, Login};

/// What the pool connects with, fetched before it is asked for a connection: the
/// pool could neither wait for a secret nor report why there is none.
pub(super) struct LoginProvider {
    secret: Option<CachedSecret<Login>>,
    current: RwLock<Option<Arc<Login>>>,
    ca_file: Option<PathBuf>,
    /// None where the URL says `sslmode=disable`.
    tls: OnceCell<Option<MakeRustlsConnect>>,
    mode: SslMode,
}

impl LoginProvider {
    /// Logs in as `secret` says, or else the URL. Reads nothing yet.
    pub(super) fn new(
        secret: Option<CachedSecret<Login>>,
        ca_file: Option<PathBuf>,
        mode: SslMode,
    ) -> Self {
        Self {
            secret,
            current: RwLock::default(),
            ca_file,
            tls: OnceCell::new(),
            mode,
        }
    }

    /// Reads the authorities and fetches the login, unless both are cached.
    ///
    /// # Errors
    /// As [`CachedSecret::get`]; [`Error::Internal`] for a `ca_file` without certificates.
    pub(super) async fn fetch(&self) -> Result<()> {
        self.tls
            .get_or_try_init(async || match self.mode {
                SslMode::Disable => Ok(None),
                _ => tls(self.ca_file.as_deref())
                    .map(Some)
                    .map_err(Error::internal),
            })
            .await?;
        if let Some(secret) = &self.secret {
            self.set(secret.get().await?);
        }
        Ok(())
    }

    /// Fetches the login again after it was refused; false if it is the same.
    ///
    /// # Errors
    /// As [`CachedSecret::get`].
    pub(super) async fn renew(&self) -> Result<bool> {
        let (Some(secret), Some(stale)) = (&self.secret, self.current()) else {
            return Ok(false);
        };
        let renewed = secret.refetch(&stale).await?;
        let is_new = renewed.is_some();
        renewed.into_iter().for_each(|login| self.set(login));
        Ok(is_new)
    }

    fn current(&self) -> Option<Arc<Login>> {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, login: Arc<Login>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(login);
    }
}

/// [`LoginProvider`], as the pool has it.
pub(super) struct LoginConnector(pub(super) Arc<LoginProvider>);

impl Connect for LoginConnector {
    fn connect(
        &self,
        config: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let mut config = config.clone();
        if let Some(login) = self.0.current() {
            config.user(&login.username);
            config.password(login.password.expose_secret());
        }
        let tls = self.0.tls.get().cloned().flatten();
        Box::pin(async move {
            match tls {
                Some(tls) => ConfigConnectImpl { tls }.connect(&config).await,
                None => ConfigConnectImpl { tls: NoTls }.connect(&config).await,
            }
        })
    }
}

/// TLS that checks the server's certificate and that it is for the host asked
/// for (libpq's `verify-full`), always.
fn tls(ca_file: Option<&Path>) -> anyhow::Result<MakeRustlsConnect> {
    let roots = match ca_file {
        Some(file) => roots_of(file)?,
        None => RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        },
    };
    let provider = rustls::crypto::ring::default_provider().into();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn roots_of(file: &Path) -> anyhow::Result<RootCertStore> {
    let unreadable = |error| anyhow::anyhow!("database.ca_file: {}: {error}", file.display());
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable)?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    anyhow::ensure!(
        added > 0,
        "database.ca_file: {}: expected certificates in PEM",
        file.display()
    );
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_certificates_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, "no certificate").unwrap();
        for file in [file, dir.path().join("none")] {
            let error = tls(Some(&file)).err().unwrap().to_string();
            assert!(error.starts_with("database.ca_file: "), "{error}");
            assert!(error.contains(&*file.to_string_lossy()), "{error}");
        }
    }
}
