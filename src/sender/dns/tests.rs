//! Look-ups against a name server on loopback.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::*;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// A name server: it never answers for names that begin with `hang`, has none that
/// begin with `none`, and one address for any other.
struct NameServer {
    address: SocketAddr,
    asked: Mutex<HashMap<String, usize>>,
    was_asked: Notify,
}

impl NameServer {
    async fn start() -> Arc<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            address: socket.local_addr().unwrap(),
            asked: Mutex::default(),
            was_asked: Notify::new(),
        });
        let this = server.clone();
        tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                if let Some(answer) = this.answer(&packet[..length]) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        server
    }

    fn answer(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut message = Message::from_vec(packet).unwrap();
        let query = message.queries[0].clone();
        let name = query.name().to_ascii();
        if query.query_type() == RecordType::A {
            *self.asked.lock().unwrap().entry(name.clone()).or_default() += 1;
            self.was_asked.notify_waiters();
        }
        if name.starts_with("hang") {
            return None;
        }
        if name.starts_with("none") {
            message.metadata.response_code = ResponseCode::NXDomain;
        } else if query.query_type() == RecordType::A {
            let record = Record::from_rdata(query.name().clone(), 60, RData::A(ADDRESS.into()));
            message.add_answer(record);
        }
        Some(message.into_response().to_vec().unwrap())
    }

    /// How many different names it was asked for, and how often in all.
    fn asked(&self) -> (usize, usize) {
        let asked = self.asked.lock().unwrap();
        (asked.len(), asked.values().sum())
    }

    /// Waits until it was asked for so many names.
    async fn until_asked(&self, names: usize) {
        loop {
            let was_asked = self.was_asked.notified();
            if self.asked().0 >= names {
                return;
            }
            was_asked.await;
        }
    }

    /// Look-ups by it, of which one that is not answered goes on for a long time.
    fn dns(&self) -> Arc<Dns> {
        let mut server = NameServerConfig::udp(self.address.ip());
        server.connections[0].port = self.address.port();
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        let timeout = Duration::from_secs(300);
        adapt(builder.options_mut(), timeout);
        // A packet that the system drops, as it may of so many, is sent again.
        builder.options_mut().timeout = Duration::from_secs(10);
        builder.options_mut().attempts = 20;
        let servers = Servers {
            resolver: Some(builder.build().unwrap()),
            read: vec![],
        };
        Arc::new(Dns::new(vec![], Some(servers), timeout))
    }
}

fn owner(number: u8) -> Option<ProjectId> {
    Some(ProjectId::new(0, [number; 10]))
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_kept() {
    let server = NameServer::start().await;
    let dns = server.dns();
    let all = (0..20).map(|_| dns.look_up("Hooks.example.com", owner(1)));
    for found in futures_util::future::join_all(all).await {
        assert_eq!(found.unwrap(), [IpAddr::from(ADDRESS)]);
    }
    assert!(dns.look_up("hooks.EXAMPLE.com", owner(2)).await.is_ok());
    assert_eq!(server.asked(), (1, 1));
    // Its address cannot be reached any more.
    dns.forget("hooks.example.com").await;
    assert!(dns.look_up("hooks.example.com", owner(1)).await.is_ok());
    assert_eq!(server.asked(), (1, 2));
}

#[tokio::test]
async fn it_is_kept_that_a_name_has_no_address() {
    let server = NameServer::start().await;
    let dns = server.dns();
    assert!(dns.look_up("none.example.com", owner(1)).await.is_err());
    let (_, first) = server.asked();
    for _ in 0..20 {
        assert!(dns.look_up("none.example.com", owner(1)).await.is_err());
    }
    assert_eq!(server.asked(), (1, first));
}

#[tokio::test]
async fn names_that_nobody_answers_for_hold_up_no_other() {
    let server = NameServer::start().await;
    let dns = server.dns();
    let hanging: Vec<_> = (0..OWNER_LOOK_UPS_MAX - 1)
        .map(|n| {
            let dns = dns.clone();
            tokio::spawn(
                async move { dns.look_up(&format!("hang{n}.example.com"), owner(1)).await },
            )
        })
        .collect();
    server.until_asked(OWNER_LOOK_UPS_MAX - 1).await;
    let found = dns.look_up("hooks.example.com", owner(1)).await;
    assert!(found.is_ok(), "of the same project");
    assert!(hanging.iter().all(|hanging| !hanging.is_finished()));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_project_that_has_used_up_its_share_leaves_anothers() {
    let server = NameServer::start().await;
    let dns = server.dns();
    let hanging: Vec<_> = (0..2 * LOOK_UPS_MAX)
        .map(|n| {
            let dns = dns.clone();
            tokio::spawn(
                async move { dns.look_up(&format!("hang{n}.example.com"), owner(1)).await },
            )
        })
        .collect();
    server.until_asked(OWNER_LOOK_UPS_MAX).await;
    assert!(dns.look_up("hooks.example.com", owner(2)).await.is_ok());
    assert_eq!(server.asked().0, OWNER_LOOK_UPS_MAX + 1);
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn nobody_waits_for_a_place_in_anothers_share() {
    let server = NameServer::start().await;
    let dns = server.dns();
    let look_up = |host: String| {
        let dns = dns.clone();
        async move { dns.look_up(&host, owner(1)).await }
    };
    let hanging: Vec<_> = (0..OWNER_LOOK_UPS_MAX)
        .map(|n| tokio::spawn(look_up(format!("hang{n}.example.com"))))
        .collect();
    server.until_asked(OWNER_LOOK_UPS_MAX).await;
    let mut waiting = Box::pin(look_up("hooks.example.com".to_owned()));
    // It is the first to ask for the name, and gets no place.
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert!(dns.look_up("hooks.example.com", owner(2)).await.is_ok());
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(waiting.await.is_ok());
}

#[tokio::test]
async fn a_name_takes_one_place_of_a_project_however_many_ask_for_it() {
    let server = NameServer::start().await;
    let dns = server.dns();
    let mut asking: Vec<_> = (0..2 * OWNER_LOOK_UPS_MAX)
        .map(|_| Box::pin(dns.look_up("hang.example.com", owner(1))))
        .collect();
    for asking in &mut asking {
        assert!(futures_util::poll!(asking).is_pending());
    }
    assert!(dns.look_up("hooks.example.com", owner(1)).await.is_ok());
}

#[tokio::test]
async fn what_is_no_name_is_not_asked_for() {
    let server = NameServer::start().await;
    let dns = server.dns();
    for host in [&*"x".repeat(64), "a..b"] {
        assert!(dns.look_up(host, owner(1)).await.is_err(), "{host}");
    }
    assert_eq!(server.asked(), (0, 0));
    assert!(dns.look_up("under_score.example.com", None).await.is_ok());
}

#[tokio::test]
async fn a_laptops_own_name_needs_no_server() {
    let server = NameServer::start().await;
    let dns = server.dns();
    let found = dns.look_up("localhost", owner(1)).await.unwrap();
    assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    assert_eq!(server.asked(), (0, 0));
}

#[test]
fn what_is_kept_is_bounded() {
    assert_eq!(kept_for(&NetError::Timeout), FAILURE_KEPT);
    let query = hickory_resolver::proto::op::Query::query(Name::root(), RecordType::A);
    let mut none = hickory_resolver::net::NoRecords::new(query, ResponseCode::NXDomain);
    none.negative_ttl = Some(86_400);
    assert_eq!(
        kept_for(&NetError::Dns(DnsError::NoRecordsFound(none.clone()))),
        NONE_KEPT.1
    );
    none.negative_ttl = Some(0);
    assert_eq!(
        kept_for(&NetError::Dns(DnsError::NoRecordsFound(none))),
        NONE_KEPT.0
    );
}
