//! Cursors of lists: each is read in the list that gave it, and in no other.

use http::{Method, StatusCode};
use millrace::app;
use millrace::store::audit_log::record_refused_login;
use serde_json::{Value, json};

use crate::support::harness::{ADMIN_KEY, ALL_SCOPES, Harness, Project, run};
use crate::support::probes::operations;

/// A list: whose key asks for it, and its path with all that selects its rows.
struct List {
    key: String,
    path: String,
}

impl List {
    async fn ask(&self, harness: &Harness, query: &str) -> crate::support::harness::Answer {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{separator}{query}", self.path);
        harness
            .request(Method::GET, &path, &self.key, Value::Null)
            .await
    }
}

/// Makes rows for two pages of every list of the project `of`; the lists, by operation.
async fn lists(harness: &Harness, of: &Project) -> Vec<(&'static str, List)> {
    let as_project = async |method: Method, path: &str, body: Value| {
        harness.request(method, path, &of.key, body).await
    };
    let post = async |path: &str, body: Value| {
        let answer = as_project(Method::POST, path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.json);
        answer.json
    };
    let id = |made: &Value| made["id"].as_str().unwrap().to_owned();
    let mut endpoint = String::new();
    let mut meter = String::new();
    for n in 0..2 {
        let url = format!("http://127.0.0.1:9/{n}");
        endpoint = id(&post("/v1/endpoints", json!({ "url": url, "tenant": "t" })).await);
        let counted = json!({ "name": format!("m{n}"), "event_type": "a", "aggregation": "count", "group_by": ["/n", "/g"] });
        meter = id(&post("/v1/meters", counted).await);
        post("/v1/event-types", json!({ "name": format!("t{n}") })).await;
        for version in 0..2 {
            let schema = json!({ "schema": { "title": format!("{n}.{version}") } });
            let path = format!("/v1/event-types/t{n}");
            as_project(Method::PATCH, &path, schema).await;
        }
    }
    let mut event = String::new();
    for n in 0..2 {
        let body = json!({ "type": "a", "tenant": "t", "subject": "s", "data": { "n": 10 + n } });
        event = id(&post("/v1/events", body).await);
        let path = format!("/v1/endpoints/{endpoint}/recover");
        post(&path, json!({ "since": "2026-01-01T00:00:00Z" })).await;
    }
    for tenant in ["gone", "erased"] {
        let path = format!("/v1/tenants/{tenant}");
        let erased = as_project(Method::DELETE, &path, Value::Null).await;
        erased.expect(StatusCode::ACCEPTED);
    }
    let since = "2026-01-01T00:00:00Z";
    let path = |text: String| List {
        key: of.key.clone(),
        path: text,
    };
    let admins = |text: String| List {
        key: ADMIN_KEY.into(),
        path: text,
    };
    let project = &of.id;
    vec![
        ("listEndpoints", path("/v1/endpoints".into())),
        ("listEndpoints", path("/v1/endpoints?tenant=t".into())),
        ("listEventTypes", path("/v1/event-types".into())),
        (
            "listEventTypeVersions",
            path("/v1/event-types/t0/versions".into()),
        ),
        (
            "listEventTypeVersions",
            path("/v1/event-types/t1/versions".into()),
        ),
        ("listEvents", path("/v1/events".into())),
        ("listEvents", path("/v1/events?type=a".into())),
        ("listEvents", path("/v1/events?tenant=t".into())),
        ("listEvents", path("/v1/events?subject=s".into())),
        ("listDeliveries", path("/v1/deliveries".into())),
        (
            "listDeliveries",
            path("/v1/deliveries?state=pending".into()),
        ),
        ("listDeliveries", path("/v1/deliveries?tenant=t".into())),
        ("listDeliveries", path("/v1/deliveries?type=a".into())),
        (
            "listDeliveries",
            path(format!("/v1/deliveries?endpoint_id={endpoint}")),
        ),
        (
            "listDeliveries",
            path(format!("/v1/deliveries?endpoint_id={endpoint}&tenant=t")),
        ),
        (
            "listDeliveries",
            path(format!("/v1/deliveries?event_id={event}")),
        ),
        ("listMeters", path("/v1/meters".into())),
        (
            "getMeterUsage",
            path(format!("/v1/meters/{meter}/usage?from={since}&group_by=/n")),
        ),
        (
            "getMeterUsage",
            path(format!(
                "/v1/meters/{meter}/usage?from={since}&group_by=/n&window=month"
            )),
        ),
        (
            "getMeterUsage",
            path(format!(
                "/v1/meters/{meter}/usage?from={since}&group_by=/n&tenant=t"
            )),
        ),
        (
            "getMeterUsage",
            path(format!(
                "/v1/meters/{meter}/usage?from={since}&group_by=/n&tenant=t&tenant=u"
            )),
        ),
        (
            "getMeterUsage",
            path(format!(
                "/v1/meters/{meter}/usage?from={since}&group_by=tenant,/n&group[/g]=null"
            )),
        ),
        (
            "listMeterValues",
            path(format!(
                "/v1/meters/{meter}/values?from={since}&dimension=/n"
            )),
        ),
        (
            "listMeterValues",
            path(format!(
                "/v1/meters/{meter}/values?from={since}&dimension=/n&prefix=1"
            )),
        ),
        ("listRecoveries", path("/v1/recoveries".into())),
        ("listErasures", path("/v1/erasures".into())),
        (
            "listProjectErasures",
            admins(format!("/v1/projects/{project}/erasures")),
        ),
        ("listAuditLog", path("/v1/audit-log".into())),
        ("listAuditLog", path("/v1/audit-log?subject=t0".into())),
        (
            "listProjectAuditLog",
            admins(format!("/v1/projects/{project}/audit-log")),
        ),
        (
            "listApiKeys",
            admins(format!("/v1/projects/{project}/keys")),
        ),
        ("listProjects", admins("/v1/projects".into())),
    ]
}

#[test]
fn a_cursor_is_read_in_its_own_list_alone() {
    run(async {
        let mut harness = Harness::new().await;
        harness.leaves_jobs = true;
        let mut all = vec![];
        for _ in 0..2 {
            let project = harness.new_project(&ALL_SCOPES).await;
            harness.new_key(&project.id, &ALL_SCOPES).await;
            all.extend(lists(&harness, &project).await);
        }
        // That of all projects is one.
        all.pop();
        for _ in 0..2 {
            let refused = json!({ "refused": 1 });
            let written = record_refused_login(&harness.app.postgres, app::now(), refused);
            written.await.unwrap();
        }
        let of_no_project = List {
            key: ADMIN_KEY.into(),
            path: "/v1/admin/audit-log".into(),
        };
        all.push(("listAdminAuditLog", of_no_project));
        for operation in operations() {
            let mut places = operation.places().into_iter();
            let has_cursor =
                places.any(|place| matches!(place, crate::support::probes::Place::Query("cursor")));
            let is_tried = all.iter().any(|(id, _)| *id == operation.id);
            assert_eq!(has_cursor, is_tried, "{}", operation.id);
        }
        harness.meter().await;
        let mut cursors = vec![];
        for (id, list) in &all {
            let page = list.ask(&harness, "limit=1").await.expect(StatusCode::OK);
            let cursor = page["next_cursor"].as_str();
            let cursor = cursor.unwrap_or_else(|| panic!("{id} {}: {page}", list.path));
            cursors.push(cursor.to_owned());
        }
        for (of, cursor) in cursors.iter().enumerate() {
            for (at, (id, list)) in all.iter().enumerate() {
                let answer = list.ask(&harness, &format!("cursor={cursor}")).await;
                let what = format!("{} of {id} {}", all[of].1.path, list.path);
                if of == at {
                    assert_eq!(answer.status, StatusCode::OK, "{what}: {}", answer.json);
                } else {
                    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what}");
                    assert_eq!(answer.json["field"], "cursor", "{what}");
                }
            }
        }
    });
}

#[test]
fn how_many_rows_and_from_when_may_change_from_page_to_page() {
    run(async {
        let mut harness = Harness::new().await;
        harness.leaves_jobs = true;
        for _ in 0..3 {
            harness.publish("a").await;
        }
        let page = harness
            .get("/v1/events?limit=1")
            .await
            .expect(StatusCode::OK);
        let cursor = page["next_cursor"].as_str().unwrap();
        let path = format!("/v1/events?limit=2&since=2026-01-01T00:00:00Z&cursor={cursor}");
        let rest = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(rest["data"].as_array().unwrap().len(), 2);
    });
}
