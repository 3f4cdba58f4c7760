//! The addresses that webhooks come from.

use http::{Method, StatusCode};
use millrace::config::Config;
use serde_json::{Value, json};

use crate::support::harness::{self, Harness, run};

#[test]
fn whoever_reads_endpoints_is_told_where_webhooks_come_from() {
    run(async {
        let mut config = harness::config();
        let given = [
            "203.0.113.7",
            "203.0.113.7/32",
            "2001:DB8::/64",
            "::ffff:192.0.2.1",
        ];
        config.delivery.source_addresses = given.map(str::to_owned).to_vec();
        let harness = Harness::builder().config(config).build().await;
        let told = harness.get("/v1/source-addresses").await;
        assert_eq!(
            told.expect(StatusCode::OK),
            json!({ "addresses": ["203.0.113.7", "2001:db8::/64", "192.0.2.1"] })
        );
        let writer = harness.new_key(&harness.project, &["events:write"]).await;
        for (key, status) in [("", 401), ("mrk_of_nobody", 401), (writer.as_str(), 403)] {
            let path = "/v1/source-addresses";
            let refused = harness.request(Method::GET, path, key, Value::Null).await;
            refused.problem(status);
        }
    });
}

#[test]
fn where_they_are_not_known_there_are_none() {
    run(async {
        let told = Harness::new().await.get("/v1/source-addresses").await;
        assert_eq!(told.expect(StatusCode::OK), json!({ "addresses": [] }));
    });
}

#[test]
fn what_is_no_address_is_refused_at_the_start() {
    for wrong in ["nat.example.com", "203.0.113.256", "203.0.113.0/33", ""] {
        let toml = format!("[delivery]\nsource_addresses = [{wrong:?}]");
        let refused = Config::from_toml(&toml).unwrap_err().to_string();
        assert!(refused.contains("delivery.source_addresses"), "{refused}");
        assert!(refused.contains("such as 203.0.113.7"), "{refused}");
    }
    let toml = "[delivery]\nsource_addresses = [\"203.0.113.0/24\", \"2001:db8::1\"]";
    assert!(Config::from_toml(toml).is_ok());
}
