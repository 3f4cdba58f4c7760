//! The connector: connections to checked addresses only.
//!
//! Owns the look-up of names and the guard against server-side request forgery:
//! each address, literal or looked up, is checked, and the one checked is the one
//! dialled. Called by the HTTP client when its pool has no connection. It must not
//! pass a name on to anything that would look it up again.
//!
//! Webhooks' names are looked up by DNS (`dns`); those of services that the
//! configuration names, which are few, as the system does.

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

use super::dns::{self, Dns};
use super::error::SendError;
use crate::model::id::ProjectId;

/// Addresses of a name that are tried, at most: each has its share of the time.
const ADDRESSES_MAX: usize = 4;

tokio::task_local! {
    /// In whose share names are looked up while a request is sent.
    pub(super) static LOOK_UP_OWNER: Option<ProjectId>;
}

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
    Dns(Arc<Dns>),
    Custom(Arc<Resolve>),
}

impl Resolver {
    async fn look_up(&self, host: &str, owner: Option<ProjectId>) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => dns::look_up_by_system(host).await,
            Self::Dns(dns) => dns.look_up(host, owner).await,
            Self::Custom(resolve) => resolve(host),
        }
    }

    /// None of the addresses that were found can be reached: they may be old.
    async fn forget(&self, host: &str) {
        if let Self::Dns(dns) = self {
            dns.forget(host).await;
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
        // The request's task makes the call; what it connects may go on without it.
        let owner = LOOK_UP_OWNER.try_with(Clone::clone).ok().flatten();
        Box::pin(async move {
            match timeout(connector.timeout, connector.connect(&uri, owner)).await {
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

    async fn connect(&self, uri: &Uri, owner: Option<ProjectId>) -> Result<TcpStream, SendError> {
        let host = uri.host().ok_or(SendError::InvalidUrl)?;
        let is_https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let addresses = self.resolve_allowed(host, owner).await?;
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
        self.resolver.forget(host).await;
        Err(failure)
    }

    /// The first addresses of `host` that pass the guard, in the resolver's order.
    async fn resolve_allowed(
        &self,
        host: &str,
        owner: Option<ProjectId>,
    ) -> Result<Vec<IpAddr>, SendError> {
        let mut addresses = match parse_literal(host) {
            Some(address) => vec![address],
            None => {
                let found = self.resolver.look_up(host, owner).await;
                found.map_err(|_| SendError::Dns)?
            }
        };
        let first = *addresses.first().ok_or(SendError::Dns)?;
        addresses.retain(|address| (self.is_allowed)(*address));
        if addresses.is_empty() {
            return Err(SendError::Blocked { address: first });
        }
        keep_first(&mut addresses);
        Ok(addresses)
    }

    fn timed_out(&self) -> SendError {
        SendError::ConnectTimeout {
            after: self.timeout,
        }
    }
}

/// Keeps as many as are tried, the first of either family among them.
fn keep_first(addresses: &mut Vec<IpAddr>) {
    let is_other = |address: &IpAddr| address.is_ipv4() != addresses[0].is_ipv4();
    let other = addresses.iter().position(is_other);
    if let Some(other) = other.filter(|other| *other >= ADDRESSES_MAX) {
        addresses.swap(ADDRESSES_MAX - 1, other);
    }
    addresses.truncate(ADDRESSES_MAX);
}

fn parse_literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tried(found: &[&str]) -> Vec<String> {
        let found: Vec<IpAddr> = found.iter().map(|ip| ip.parse().unwrap()).collect();
        let connector = Connector {
            resolver: Resolver::Custom(Arc::new(move |_| Ok(found.clone()))),
            is_allowed: |address| address != IpAddr::from([10, 0, 0, 1]),
            timeout: Duration::from_secs(5),
        };
        let tried = connector.resolve_allowed("hooks.example.com", None).await;
        tried.unwrap().iter().map(IpAddr::to_string).collect()
    }

    #[tokio::test]
    async fn however_many_addresses_a_name_has_few_are_tried_of_either_family() {
        let v4: Vec<_> = (1..=64).map(|n| format!("192.0.2.{n}")).collect();
        let mut found: Vec<_> = v4.iter().map(String::as_str).collect();
        found.insert(0, "10.0.0.1");
        assert_eq!(tried(&found).await, v4[..4]);
        found.extend(["2001:db8::1", "2001:db8::2"]);
        let mixed = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"];
        assert_eq!(tried(&found).await, mixed);
        let both = ["2001:db8::1", "192.0.2.1", "192.0.2.2"];
        assert_eq!(tried(&both).await, both);
    }
}
