//! Millrace in this process, whose calls are counted, and a project in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sqs::config::Region;
use aws_sdk_sqs::types::QueueAttributeName;
use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use millrace::app::{self, App, Parts};
use millrace::aws::clients;
use millrace::config::{Config, Handler};
use millrace::host::embedded::{EmbeddedPostgres, start_postgres};
use millrace::jobs::{meter, worker};
use millrace::model::seal::KeyRing;
use millrace::queue::{LocalQueue, Queue, SqsOptions, SqsQueue};
use millrace::store::dynamo::Dynamo;
use millrace::store::postgres::{Options, Postgres};
use millrace::store::secrets::{AdminKey, CachedSecret};
use millrace::store::table;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::calls::Calls;
use super::double::Double;

const ADMIN_KEY: &str = "mradmin_0123456789abcdefghijklmnopqrstuv";

pub struct World {
    pub app: Arc<App>,
    pub router: Router,
    pub calls: Calls,
    double: Double,
    queues: Option<Queues>,
    _postgres: EmbeddedPostgres,
    _dir: TempDir,
}

/// The queues as nobody counts it, and those who take from them.
struct Queues {
    client: aws_sdk_sqs::Client,
    urls: [String; 2],
    _workers: JoinSet<()>,
}

impl World {
    /// With an SQS, what it holds is done at once by workers; without, when
    /// [`World::work`] says so. Only `handlers`, if not all, do anything by themselves.
    pub async fn start(
        sqs_url: Option<&str>,
        handlers: Option<&[Handler]>,
    ) -> anyhow::Result<Self> {
        // Failures are part of what is measured; nothing waits, nobody is held.
        let mut config = Config::from_toml(
            "[delivery]\nallow_private_targets = true\nretry_schedule_s = [0, 0]\n\
             breaker_failures = 0",
        )?;
        if let Some(handlers) = handlers {
            config.handlers = handlers.to_vec();
        }
        let (double, dir, calls) = (Double::start()?, tempfile::tempdir()?, Calls::default());
        let server = start_postgres(dir.path()).await?;
        let postgres = Postgres::new(&Options {
            url: server.url().to_owned().into(),
            login: None,
            ca_file: None,
            pool_size: 1,
            connect_timeout: config.database.connect_timeout,
            statement_timeout: config.database.statement_timeout,
        })?;
        postgres.migrate().await?;
        let dynamo = aws_sdk_dynamodb::config::Builder::from(&aws(&double.dynamodb)?)
            .interceptor(calls.clone());
        let dynamo = Dynamo::new(dynamo.build(), &config.dynamodb.table);
        table::create_if_missing(&dynamo).await?;
        let sqs = match sqs_url {
            Some(url) => Some(sqs(url, &config, &calls).await?),
            None => None,
        };
        let (queue, watched) = match sqs {
            Some((sqs, client, urls)) => (Queue::Sqs(sqs), Some((client, urls))),
            None => (Queue::Local(LocalQueue::new((&config).into())), None),
        };
        let key_ring = KeyRing::generate("bench", [7; 32]);
        let key_ring = key_ring.map_err(|invalid| anyhow::anyhow!("{invalid}"))?;
        let parts = Parts {
            dynamo,
            postgres,
            queue,
            admin_key: CachedSecret::fixed(AdminKey::of(ADMIN_KEY)),
            key_ring: CachedSecret::fixed(key_ring),
            archive: None,
        };
        let app = App::new(config, parts)?;
        let queues = watched.map(|(client, urls)| Queues {
            client,
            urls,
            _workers: worker::start(&app, &CancellationToken::new()),
        });
        Ok(Self {
            queues,
            router: millrace::http::router(app.clone()),
            app,
            calls,
            double,
            _postgres: server,
            _dir: dir,
        })
    }

    /// Where webhooks go.
    pub fn receiver(&self) -> &str {
        &self.double.receiver
    }

    /// A new project, whose key may do everything.
    pub async fn project(&self) -> anyhow::Result<Project<'_>> {
        let name = format!("cost {}", jiff::Timestamp::now());
        let project = self
            .post(ADMIN_KEY, "/v1/projects", &json!({ "name": name }))
            .await?;
        let path = format!("/v1/projects/{}/keys", text(&project, "id")?);
        let scopes = ["events:write", "endpoints:write", "meters:write"];
        let key = json!({ "name": "cost", "scopes": scopes });
        let key = self.post(ADMIN_KEY, &path, &key).await?;
        Ok(Project {
            world: self,
            id: text(&project, "id")?,
            key: text(&key, "key")?,
        })
    }

    /// Runs all jobs there are, or waits until they are done.
    pub async fn work(&self) -> anyhow::Result<()> {
        if let Some(queues) = &self.queues {
            return queues.empty().await;
        }
        let failed = worker::drain(&self.app, app::now()).await;
        ensure!(failed.is_empty(), "jobs failed: {failed:?}");
        Ok(())
    }

    /// Counts all that is to be counted.
    pub async fn meter(&self) -> anyhow::Result<()> {
        while meter::meter(&self.app, app::now()).await?.found > 0 {}
        Ok(())
    }

    async fn post(&self, key: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(request(key, path, body.to_string())?).await
    }

    async fn send(&self, request: Request<Body>) -> anyhow::Result<Value> {
        let path = request.uri().path().to_owned();
        let (parts, body) = self.router.clone().oneshot(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        ensure!(
            parts.status.is_success(),
            "{path}: {} {body:?}",
            parts.status
        );
        Ok(serde_json::from_slice(&body)?)
    }
}

/// A project and its key.
pub struct Project<'a> {
    world: &'a World,
    pub id: String,
    pub key: String,
}

impl Project<'_> {
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.world.post(&self.key, path, body).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let mut request = request(&self.key, path, body.to_string())?;
        *request.method_mut() = Method::PATCH;
        self.world.send(request).await
    }

    /// Publishes the event `id`: about 400 bytes, as they are kept.
    pub async fn publish(&self, id: &str) -> anyhow::Result<()> {
        self.post("/v1/events", &event(id)).await.map(drop)
    }
}

pub fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/orders", "type": "order.paid",
        "data": { "order": id, "note": "x".repeat(200) },
    })
}

pub fn request(key: &str, path: &str, body: String) -> anyhow::Result<Request<Body>> {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json");
    Ok(request.body(body.into())?)
}

impl Queues {
    async fn empty(&self) -> anyhow::Result<()> {
        let mut left = usize::MAX;
        while left > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            left = 0;
            for url in &self.urls {
                let asked = self.client.get_queue_attributes().queue_url(url);
                let asked = asked
                    .attribute_names(QueueAttributeName::All)
                    .send()
                    .await?;
                let counts = asked.attributes.unwrap_or_default();
                let counts = counts.iter().filter(|(name, _)| is_count(name));
                left += counts
                    .filter_map(|(_, count)| count.parse::<usize>().ok())
                    .sum::<usize>();
            }
        }
        Ok(())
    }
}

/// Of messages: those that wait, are in hand or come later.
fn is_count(name: &QueueAttributeName) -> bool {
    name.as_str().starts_with("ApproximateNumberOfMessages")
}

/// What reaches a double of AWS at `url`.
fn aws(url: &str) -> anyhow::Result<SdkConfig> {
    let credentials = Credentials::from_keys("test", "test", None);
    Ok(SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(url)
        .http_client(clients::http_client(Path::new(""))?)
        .build())
}

type Connected = (SqsQueue, aws_sdk_sqs::Client, [String; 2]);

async fn sqs(url: &str, config: &Config, calls: &Calls) -> anyhow::Result<Connected> {
    let builder = aws_sdk_sqs::config::Builder::from(&aws(url)?);
    let client = aws_sdk_sqs::Client::from_conf(builder.clone().build());
    let made = async |kind: &str| {
        let name = format!("cost-{kind}-{}", app::now().as_microsecond());
        let made = client.create_queue().queue_name(name).send().await?;
        anyhow::Ok(made.queue_url.unwrap_or_default())
    };
    let urls = [made("fan-out").await?, made("deliver").await?];
    let options = SqsOptions {
        fan_out_url: urls[0].clone(),
        deliver_url: urls[1].clone(),
        ingest_url: String::new(),
        parked_url: None,
        lease: config.sweep.sqs_lease,
        visibility: Duration::from_mins(1),
        wait: Duration::from_secs(20),
    };
    let sqs = SqsQueue::new(builder.interceptor(calls.clone()), options);
    Ok((sqs, client, urls))
}

pub fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    let found = value[name].as_str();
    ensure!(found.is_some(), "no {name} in {value}");
    Ok(found.unwrap_or_default().to_owned())
}
