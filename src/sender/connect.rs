//! The connector: connections to checked addresses only.
//!
//! Owns the look-up of names and the guard against server-side request forgery:
//! each address, literal or looked up, is checked, and the one checked is the one
//! dialled. Called by the HTTP client when its pool has no connection. It must not
//! pass a name on to anything that would look it up again.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::SendError;

/// Looks a host name up.
pub type Resolve = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Connector {
    pub(super) resolver: Resolver,
    /// The guard: whether an address may be dialled.
    pub(super) is_allowed: fn(IpAddr) -> bool,
    /// For the look-up and all addresses together.
    pub(super) timeout: Duration,
}

#[derive(Clone)]
pub(super) enum Resolver {
    System,
    Custom(Arc<Resolve>),
}

impl Resolver {
    async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => {
                let found = tokio::net::lookup_host((host, port)).await?;
                Ok(found.map(|address| address.ip()).collect())
            }
            Self::Custom(resolve) => resolve(host),
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = SendError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, SendError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            match timeout(connector.timeout, connector.connect(&uri)).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_) => Err(connector.timed_out()),
            }
        })
    }
}

impl Connector {
    /// One that dials any address: for what the configuration names.
    pub fn unguarded(timeout: Duration) -> Self {
        Self {
            resolver: Resolver::System,
            is_allowed: |_| true,
            timeout,
        }
    }

    async fn connect(&self, uri: &Uri) -> Result<TcpStream, SendError> {
        let host = uri.host().ok_or(SendError::InvalidUrl)?;
        let is_https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let addresses = self.resolve_allowed(host, port).await?;
        // A share each, or a first address that swallows packets would leave
        // nothing for the second.
        let share = self.timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let mut failure = SendError::Dns;
        for address in addresses {
            match timeout(share, TcpStream::connect((address, port))).await {
                Ok(Ok(stream)) => {
                    // A failure costs latency only.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => failure = SendError::connect(&error),
                Err(_) => failure = self.timed_out(),
            }
        }
        Err(failure)
    }

    /// The addresses of `host` that pass the guard, in the resolver's order.
    async fn resolve_allowed(&self, host: &str, port: u16) -> Result<Vec<IpAddr>, SendError> {
        let mut addresses = match parse_literal(host) {
            Some(address) => vec![address],
            None => {
                let found = self.resolver.look_up(host, port).await;
                found.map_err(|_| SendError::Dns)?
            }
        };
        let first = *addresses.first().ok_or(SendError::Dns)?;
        addresses.retain(|address| (self.is_allowed)(*address));
        if addresses.is_empty() {
            return Err(SendError::Blocked { address: first });
        }
        Ok(addresses)
    }

    fn timed_out(&self) -> SendError {
        SendError::ConnectTimeout {
            after: self.timeout,
        }
    }
}

fn parse_literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}
