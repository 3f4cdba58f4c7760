//! Client certificates: read, checked, and a client for each.
//!
//! A connection made with one endpoint's certificate must never carry another
//! endpoint's webhook, so each certificate has a connection pool of its own. They
//! are few and made when first needed; of too many, the one unused for longest
//! goes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ring::digest::{Context, SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::ExposeSecret;

use super::client::Clients;
use super::error::SendError;
use crate::error::Invalid;
use crate::model::credentials::ClientCertificate;

/// Certificates whose connections are kept.
const CLIENTS_MAX: usize = 256;
/// Certificates of a chain.
const CHAIN_MAX: usize = 10;

/// Checks that a client certificate is one and that the key is its key.
///
/// # Errors
/// [`Invalid`], which names the part and never shows it.
pub fn check_certificate(pair: &ClientCertificate) -> Result<(), Invalid> {
    parse_certificate(pair).map(|_| ())
}

pub(super) fn parse_certificate(pair: &ClientCertificate) -> Result<CertifiedKey, Invalid> {
    let refuse = |part: &str, detail: &'static str| {
        Invalid::new(format!("client_certificate.{part}"), detail)
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect();
    let chain = chain
        .ok()
        .filter(|chain| (1..=CHAIN_MAX).contains(&chain.len()))
        .ok_or_else(|| refuse("certificate", "expected 1 to 10 certificates in PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(pair.private_key.expose_secret().as_bytes())
        .map_err(|_| refuse("private_key", "expected an unencrypted private key in PEM"))?;
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|_| {
        let detail = "expected an RSA, P-256, P-384 or Ed25519 key";
        refuse("private_key", detail)
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let detail = "expected the key of the first certificate";
            Err(refuse("private_key", detail))
        }
        Err(_) => Err(refuse("certificate", "expected X.509 certificates")),
    }
}

/// The clients that have a certificate, by what it and its key hash to.
#[derive(Default)]
pub(super) struct CertificateClients(Mutex<ClientCache>);

#[derive(Default)]
struct ClientCache {
    clients: HashMap<[u8; 32], CachedClients>,
    uses: u64,
}

struct CachedClients {
    clients: Clients,
    /// Which of the cache's uses was its last.
    used: u64,
}

impl CertificateClients {
    /// The client for `pair`, made by `connect` if there is none.
    pub fn get(
        &self,
        pair: &ClientCertificate,
        connect: impl FnOnce(CertifiedKey) -> Clients,
    ) -> Result<Clients, SendError> {
        let hash = hash(pair);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let use_now = kept.uses;
        if let Some(cached) = kept.clients.get_mut(&hash) {
            cached.used = use_now;
            return Ok(cached.clients.clone());
        }
        let certified = parse_certificate(pair).map_err(|_| SendError::Tls {
            reason: "the client certificate cannot be used",
            cause: None,
        })?;
        if kept.clients.len() >= CLIENTS_MAX {
            let oldest = kept.clients.iter().min_by_key(|(_, cached)| cached.used);
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                kept.clients.remove(&oldest);
            }
        }
        let clients = connect(certified);
        let cached = CachedClients {
            clients: clients.clone(),
            used: use_now,
        };
        kept.clients.insert(hash, cached);
        Ok(clients)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.lock().map_or(0, |kept| kept.clients.len())
    }
}

fn hash(pair: &ClientCertificate) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(pair.certificate.as_bytes());
    context.update(b"\0");
    context.update(pair.private_key.expose_secret().as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::sender::tests::config;
    use crate::sender::{Resolver, Sender, is_public};

    fn pair() -> ClientCertificate {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
        ClientCertificate {
            certificate: params.self_signed(&key).unwrap().pem(),
            private_key: key.serialize_pem().into(),
        }
    }

    #[test]
    fn there_is_a_client_for_each_certificate_and_a_bound_on_them() {
        let sender = Sender::guarded(config(), Resolver::System, is_public);
        let clients = &sender.inner.certificate_clients;
        let connect = |certified| sender.inner.clients(Some(certified));
        let (first, second) = (pair(), pair());
        for certificate in [&first, &second, &first] {
            clients.get(certificate, connect).unwrap();
        }
        assert_eq!(clients.len(), 2);
        for _ in 0..CLIENTS_MAX {
            clients.get(&pair(), connect).unwrap();
            clients.get(&first, connect).unwrap();
        }
        assert_eq!(clients.len(), CLIENTS_MAX);
        let kept = clients.0.lock().unwrap();
        assert!(kept.clients.contains_key(&hash(&first)), "it is used");
        assert!(!kept.clients.contains_key(&hash(&second)));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_when_sending_too() {
        let sender = Sender::guarded(config(), Resolver::System, is_public);
        let mixed = ClientCertificate {
            private_key: pair().private_key,
            ..pair()
        };
        assert!(check_certificate(&mixed).is_err());
        let connect = |certified| sender.inner.clients(Some(certified));
        let refused = sender.inner.certificate_clients.get(&mixed, connect);
        assert!(matches!(refused, Err(SendError::Tls { .. })));
    }
}
