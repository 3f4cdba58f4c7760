//! `millrace console`: a link that signs in to the console once, as the admin, for
//! whoever is at the machine.
//!
//! The process that has the data directory is asked for one, with the admin key. Where
//! the stores are other machines', it is put into them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::{Method, StatusCode};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::data_dir::{self, DataDirStatus};
use super::keys::admin_keys;
use super::running;
use super::start;
use crate::config::Config;
use crate::console::link;

/// Longest that a process that begins to serve is waited for.
const START_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a link and gives its address; without the host where that is not known.
///
/// # Errors
/// No Millrace serves on the data directory, or none that takes the admin key; or a store
/// is out of reach.
pub async fn create(config: Config) -> anyhow::Result<String> {
    if !config.uses_embedded_dynamodb() {
        let (dynamo, _) = start::remote_stores(&config).await?;
        let mut random = [0; 32];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| anyhow::anyhow!("the operating system gives no random bytes"))?;
        return Ok(link::make(&dynamo, random).await?.path);
    }
    let address = serving_at(&config).await?;
    for admin_key in admin_keys(&config)? {
        let key = Some(admin_key.expose_secret());
        let asked = running::ask(
            address,
            Method::POST,
            link::PATH,
            key,
            &Value::Null,
            ANSWER_TIMEOUT,
        );
        let answer = asked
            .await
            .with_context(|| format!("the Millrace that runs does not answer at {address}"))?;
        match answer.status {
            StatusCode::OK => {
                let path = answer.body["path"]
                    .as_str()
                    .context("its answer is no link")?;
                return Ok(running::url(address, path));
            }
            StatusCode::UNAUTHORIZED => continue,
            status => bail!("the Millrace that runs answers {status} and gives no link"),
        }
    }
    bail!(
        "the Millrace that runs has another admin key than this configuration's; set \
         MILLRACE_ADMIN_KEY as for that one"
    )
}

/// Where the process listens that has the data directory.
async fn serving_at(config: &Config) -> anyhow::Result<SocketAddr> {
    let (path, begun) = (&config.data_dir, Instant::now());
    loop {
        let DataDirStatus::InUse(pid) = data_dir::look(path)? else {
            bail!(
                "data_dir: no Millrace serves on {}; start one, which prints a link",
                path.display()
            );
        };
        if let Some(address) = data_dir::address(path) {
            return Ok(address);
        }
        if begun.elapsed() > START_MAX {
            let path = path.display();
            bail!(
                "data_dir: {path} is in use by another Millrace (pid {pid}), which does not serve"
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}
