//! Usage as one total, of some tenants and groups, as CSV; and the values to choose from.

use http::{Request, StatusCode};
use millrace::config::Config;
use millrace::model::meter::Aggregation;
use serde_json::{Value, json};

use crate::support::harness::{self, ALL_SCOPES, Answer, Harness, run};

const SPAN: &str = "from=2024-01-31T12:00:00Z&to=2024-03-01T00:00:00Z";

/// A harness whose events may be years late.
async fn harness() -> Harness {
    let mut config = harness::config();
    let toml = "[meters]\nlate_days_max = 3650\n[database]\nurl = \"postgresql://u@db/m\"";
    config.meters = Config::from_toml(toml).unwrap().meters;
    Harness::builder().config(config).build().await
}

async fn new_meter(harness: &Harness, aggregation: &str) -> String {
    let mut body = json!({
        "name": aggregation, "event_type": "a", "aggregation": aggregation,
        "group_by": ["/plan", "/seats"],
    });
    if aggregation != "count" {
        body["value"] = "/n".into();
    }
    harness.new_meter(body).await
}

async fn publish(harness: &Harness, time: &str, tenant: Option<&str>, data: Value) {
    let mut body = json!({ "type": "a", "time": time, "data": data });
    if let Some(tenant) = tenant {
        body["tenant"] = tenant.into();
    }
    harness.publish_body(body).await;
}

/// Events of three tenants in two months.
async fn publish_all(harness: &Harness) {
    for (time, tenant, n, plan, seats) in [
        (
            "2024-01-31T11:59:59Z",
            Some("acme"),
            1_000,
            json!("pro"),
            json!(1),
        ),
        (
            "2024-01-31T12:00:00Z",
            Some("acme"),
            1,
            json!("pro"),
            json!(1),
        ),
        (
            "2024-02-01T00:00:00Z",
            Some("acme"),
            1,
            json!("free"),
            json!("1"),
        ),
        (
            "2024-02-10T00:00:00Z",
            Some("zeta"),
            4,
            json!("pro"),
            json!(1.0),
        ),
        (
            "2024-02-11T00:00:00Z",
            Some("zeta"),
            1,
            json!("pro"),
            json!(2),
        ),
        ("2024-02-29T23:59:59Z", None, 3, Value::Null, json!(true)),
        ("2024-03-01T00:00:00Z", None, 5_000, json!("pro"), json!(1)),
    ] {
        let data = json!({ "n": n, "plan": plan, "seats": seats });
        publish(harness, time, tenant, data).await;
    }
    harness.meter().await;
}

fn describe(rows: &Value) -> String {
    let rows = rows.as_array().unwrap().iter();
    let row = |row: &Value| {
        let time = |name: &str| row[name].as_str().unwrap()[..16].to_owned();
        let (start, end) = (time("start"), time("end"));
        let (tenant, group, value) = (&row["tenant"], &row["group"], &row["value"]);
        format!("{start} {end} {tenant} {group} {value}\n")
    };
    rows.map(row).collect()
}

async fn csv(harness: &Harness, path: &str) -> Answer {
    let request = Request::get(path)
        .header("authorization", format!("Bearer {}", harness.key))
        .header("accept", "text/csv");
    let answer = harness
        .send(request.body(Default::default()).unwrap())
        .await;
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    assert_eq!(answer.status, StatusCode::OK, "{text}");
    let media = answer.headers["content-type"].to_str().unwrap();
    assert!(media.starts_with("text/csv"), "{media}");
    assert_eq!(answer.headers["vary"], "accept");
    answer
}

#[test]
fn a_total_is_no_sum_of_days() {
    run(async {
        let harness = harness().await;
        let mut meters = vec![];
        for aggregation in Aggregation::ALL {
            let name = aggregation.as_str();
            meters.push((name, new_meter(&harness, name).await));
        }
        publish_all(&harness).await;
        let mut text = String::new();
        for (name, meter) in &meters {
            for more in ["", "&group_by=tenant"] {
                let query = format!("{SPAN}&window=total{more}");
                let rows = describe(&harness.usage(meter, &query).await);
                text.push_str(&format!("{name}{more}\n{rows}"));
            }
        }
        insta::assert_snapshot!(text, @r#"
        count
        2024-01-31T12:00 2024-03-01T00:00 null null 5
        count&group_by=tenant
        2024-01-31T12:00 2024-03-01T00:00 null null 1
        2024-01-31T12:00 2024-03-01T00:00 "acme" null 2
        2024-01-31T12:00 2024-03-01T00:00 "zeta" null 2
        sum
        2024-01-31T12:00 2024-03-01T00:00 null null 10
        sum&group_by=tenant
        2024-01-31T12:00 2024-03-01T00:00 null null 3
        2024-01-31T12:00 2024-03-01T00:00 "acme" null 2
        2024-01-31T12:00 2024-03-01T00:00 "zeta" null 5
        average
        2024-01-31T12:00 2024-03-01T00:00 null null 2
        average&group_by=tenant
        2024-01-31T12:00 2024-03-01T00:00 null null 3
        2024-01-31T12:00 2024-03-01T00:00 "acme" null 1
        2024-01-31T12:00 2024-03-01T00:00 "zeta" null 2.5
        min
        2024-01-31T12:00 2024-03-01T00:00 null null 1
        min&group_by=tenant
        2024-01-31T12:00 2024-03-01T00:00 null null 3
        2024-01-31T12:00 2024-03-01T00:00 "acme" null 1
        2024-01-31T12:00 2024-03-01T00:00 "zeta" null 1
        max
        2024-01-31T12:00 2024-03-01T00:00 null null 4
        max&group_by=tenant
        2024-01-31T12:00 2024-03-01T00:00 null null 3
        2024-01-31T12:00 2024-03-01T00:00 "acme" null 1
        2024-01-31T12:00 2024-03-01T00:00 "zeta" null 4
        unique_count
        2024-01-31T12:00 2024-03-01T00:00 null null 3
        unique_count&group_by=tenant
        2024-01-31T12:00 2024-03-01T00:00 null null 1
        2024-01-31T12:00 2024-03-01T00:00 "acme" null 1
        2024-01-31T12:00 2024-03-01T00:00 "zeta" null 2
        latest
        2024-01-31T12:00 2024-03-01T00:00 null null 3
        latest&group_by=tenant
        2024-01-31T12:00 2024-03-01T00:00 null null 3
        2024-01-31T12:00 2024-03-01T00:00 "acme" null 1
        2024-01-31T12:00 2024-03-01T00:00 "zeta" null 1
        "#);
        let (_, meter) = &meters[0];
        let whole = harness
            .usage(meter, "from=0001-01-02T00:00:00Z&window=total")
            .await;
        assert_eq!(whole[0]["value"], 7, "however long it is");
        let none = "from=2023-01-01T00:00:00Z&to=2023-02-01T00:00:00Z&window=total";
        assert_eq!(harness.usage(meter, none).await, json!([]));
        // Whole quarters of an hour, which the row tells.
        let part = "from=2024-01-31T11:59:00Z&to=2024-01-31T12:00:01Z&window=total";
        insta::assert_snapshot!(describe(&harness.usage(meter, part).await), @"2024-01-31T11:45 2024-01-31T12:15 null null 2");
    });
}

#[test]
fn usage_is_of_the_tenants_and_groups_asked_for() {
    run(async {
        let harness = harness().await;
        let sum = new_meter(&harness, "sum").await;
        let unique = new_meter(&harness, "unique_count").await;
        publish_all(&harness).await;
        let mut text = String::new();
        for query in [
            "tenant=acme&tenant=zeta",
            "tenant=zeta&tenant=zeta",
            "tenant=acme&tenant=",
            "tenant=acme&tenant=zeta&group_by=tenant",
            "group[/plan]=pro",
            "group[/plan]=%22pro%22&group[/seats]=1",
            "group[/seats]=%221%22&group_by=/seats",
            "group[/seats]=1.0&group_by=/seats",
            "group[/seats]=true",
            "group[/plan]=null",
            "group[/plan]=%22null%22",
            "group[/plan]=free&tenant=zeta",
            "group%5B/plan%5D=pro&tenant=zeta&group_by=tenant,/plan",
            "group[%E2%80%A6]=other",
        ] {
            let path = format!("{SPAN}&window=total&{query}");
            let rows = describe(&harness.usage(&sum, &path).await);
            let unique = describe(&harness.usage(&unique, &path).await);
            let unique = unique.lines().map(|line| line.rsplit(' ').next().unwrap());
            let unique: Vec<_> = unique.collect();
            text.push_str(&format!("{query} {unique:?}\n{rows}"));
        }
        insta::assert_snapshot!(text, @r#"
        tenant=acme&tenant=zeta ["2"]
        2024-01-31T12:00 2024-03-01T00:00 null null 7
        tenant=zeta&tenant=zeta ["2"]
        2024-01-31T12:00 2024-03-01T00:00 "zeta" null 5
        tenant=acme&tenant= ["2"]
        2024-01-31T12:00 2024-03-01T00:00 null null 5
        tenant=acme&tenant=zeta&group_by=tenant ["1", "2"]
        2024-01-31T12:00 2024-03-01T00:00 "acme" null 2
        2024-01-31T12:00 2024-03-01T00:00 "zeta" null 5
        group[/plan]=pro ["2"]
        2024-01-31T12:00 2024-03-01T00:00 null null 6
        group[/plan]=%22pro%22&group[/seats]=1 ["2"]
        2024-01-31T12:00 2024-03-01T00:00 null null 5
        group[/seats]=%221%22&group_by=/seats ["1"]
        2024-01-31T12:00 2024-03-01T00:00 null {"/seats":"1"} 1
        group[/seats]=1.0&group_by=/seats ["2"]
        2024-01-31T12:00 2024-03-01T00:00 null {"/seats":1} 5
        group[/seats]=true ["1"]
        2024-01-31T12:00 2024-03-01T00:00 null null 3
        group[/plan]=null ["1"]
        2024-01-31T12:00 2024-03-01T00:00 null null 3
        group[/plan]=%22null%22 []
        group[/plan]=free&tenant=zeta []
        group%5B/plan%5D=pro&tenant=zeta&group_by=tenant,/plan ["2"]
        2024-01-31T12:00 2024-03-01T00:00 "zeta" {"/plan":"pro"} 5
        group[%E2%80%A6]=other []
        "#);
    });
}

#[test]
fn what_came_beyond_the_bound_on_groups_is_found_by_its_name() {
    run(async {
        let mut config = harness::config();
        config.meters.groups_max = 1;
        let harness = Harness::builder().config(config).build().await;
        let meter = new_meter(&harness, "count").await;
        for plan in ["pro", "free", "more"] {
            let body = json!({ "type": "a", "data": { "plan": plan } });
            harness.publish_body(body).await;
            harness.meter().await;
        }
        let span = "from=2026-01-01T00:00:00Z&window=total";
        let values = async |query: &str| {
            let rows = harness.usage(&meter, &format!("{span}&{query}")).await;
            let rows = rows.as_array().unwrap().iter();
            rows.map(|row| row["value"].as_i64().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(values("group[/plan]=pro").await, [1]);
        assert_eq!(values("group[/plan]=free").await, [0; 0]);
        assert_eq!(values("group[%E2%80%A6]=other").await, [2]);
        let path = format!("/v1/meters/{meter}/usage?{span}&group_by=/plan&group[%E2%80%A6]=other");
        let text = String::from_utf8(csv(&harness, &path).await.bytes.to_vec()).unwrap();
        assert!(text.ends_with(",,…,2\r\n"), "{text}");
        let path = format!("/v1/meters/{meter}/values?from=2026-01-01T00:00:00Z&dimension=/plan");
        let found = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(found["data"], json!([{ "value": "pro" }]));
    });
}

#[test]
fn a_selection_that_cannot_be_made_says_why() {
    run(async {
        let harness = harness().await;
        let meter = new_meter(&harness, "count").await;
        let body = json!({ "name": "plain", "event_type": "a", "aggregation": "count" });
        let plain = harness.new_meter(body).await;
        let many: String = (0..101).map(|n| format!("&tenant={n}")).collect();
        let mut refusals = String::new();
        for (path, query) in [
            ("usage", "group[/colour]=blue"),
            ("usage", "group[]=blue"),
            ("usage", "group=blue"),
            ("usage", "group[/plan=blue"),
            ("usage", "group[/plan]=a&group[/plan]=b"),
            ("usage", "tenant=a&tenant=%00"),
            ("usage", &many[1..]),
            ("values", "dimension=/colour"),
            ("values", "dimension="),
            ("values", "limit=5"),
            ("values", "dimension=tenant&prefix=%00"),
            ("values", "dimension=tenant&limit=101"),
            ("values", "dimension=tenant&cursor=AAAA"),
            ("values", "dimension=tenant&to=2024-01-31T12:00:00Z"),
        ] {
            let span = "from=2024-01-31T12:00:00Z";
            let path = format!("/v1/meters/{meter}/{path}?{span}&{query}");
            let answer = harness.get(&path).await;
            refusals.push_str(&format!("{}\n", answer.problem(400)));
        }
        let path = format!("/v1/meters/{plain}/usage?{SPAN}&group[/plan]=pro");
        refusals.push_str(&harness.get(&path).await.problem(400));
        insta::assert_snapshot!(refusals, @"
        invalid: group: expected one of /plan, /seats in the brackets
        invalid: group: expected one of /plan, /seats in the brackets
        invalid: group: expected a pointer in brackets, as group[/plan]=pro
        invalid: …: a name that is not known here, expected one of from, to, window, tenant, group, group_by, time_zone, limit, cursor
        invalid: group: expected each pointer once
        invalid: tenant: expected no NUL
        invalid: tenant: expected it up to 100 times
        invalid: dimension: expected one of tenant, /plan, /seats
        invalid: dimension: expected one of tenant, /plan, /seats
        invalid: dimension: expected a value, got nothing: it is required
        invalid: prefix: expected no NUL
        invalid: limit: expected 1 to 100
        invalid: cursor: expected the next_cursor of a former page of this list, asked for alike
        invalid: from: expected a time before to
        invalid: group: expected none: the meter has no group_by
        ");
        // A refusal is no table.
        let request = Request::get(format!("/v1/meters/{meter}/usage"))
            .header("authorization", format!("Bearer {}", harness.key))
            .header("accept", "text/csv");
        let answer = harness
            .send(request.body(Default::default()).unwrap())
            .await;
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    });
}

#[test]
fn the_values_of_a_dimension_are_listed_by_what_they_begin_with() {
    run(async {
        let harness = harness().await;
        let meter = new_meter(&harness, "unique_count").await;
        publish_all(&harness).await;
        for (tenant, plan) in [("a,\"b", "p%"), ("Ä", "p_"), ("acme", "\u{1}x")] {
            let data = json!({ "n": 1, "plan": plan, "seats": -1.5 });
            publish(&harness, "2024-02-02T00:00:00Z", Some(tenant), data).await;
        }
        harness.meter().await;
        let path = |query: &str| format!("/v1/meters/{meter}/values?{SPAN}&{query}");
        let all = async |query: &str| {
            let mut values = vec![];
            let mut cursor = String::new();
            loop {
                let page = harness.get(&format!("{}{cursor}", path(query))).await;
                let page = page.expect(StatusCode::OK);
                let rows = page["data"].as_array().unwrap().iter();
                values.extend(rows.map(|row| row["value"].to_string()));
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            values.sort();
            values.join(" ")
        };
        let mut text = String::new();
        for query in [
            "dimension=tenant",
            "dimension=tenant&limit=1",
            "dimension=tenant&prefix=a",
            "dimension=/plan&limit=2",
            "dimension=/plan&prefix=p",
            "dimension=/plan&prefix=p%25",
            "dimension=/plan&prefix=null",
            "dimension=/seats",
            "dimension=/seats&prefix=-1",
        ] {
            text.push_str(&format!("{query}: [{}]\n", all(query).await));
        }
        insta::assert_snapshot!(text, @r#"
        dimension=tenant: ["a,\"b" "acme" "zeta" "Ä" null]
        dimension=tenant&limit=1: ["a,\"b" "acme" "zeta" "Ä" null]
        dimension=tenant&prefix=a: ["a,\"b" "acme"]
        dimension=/plan&limit=2: ["\u0001x" "free" "p%" "p_" "pro" null]
        dimension=/plan&prefix=p: ["p%" "p_" "pro"]
        dimension=/plan&prefix=p%25: ["p%"]
        dimension=/plan&prefix=null: []
        dimension=/seats: ["1" -1.5 1 2 true]
        dimension=/seats&prefix=-1: [-1.5]
        "#);
        let later = "from=2024-03-01T00:00:00Z&to=2024-03-02T00:00:00Z&dimension=tenant";
        let path = format!("/v1/meters/{meter}/values?{later}");
        let found = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(found["data"], json!([{ "value": null }]));
    });
}

#[test]
fn a_table_is_what_the_rows_say_and_computes_nothing() {
    run(async {
        let harness = harness().await;
        let meter = new_meter(&harness, "sum").await;
        for (tenant, plan, n) in [
            (Some("=1+1"), json!("+pro"), json!(-5)),
            (Some("a,\"b\"c"), json!(-1), json!("0.10")),
            (Some("-x"), json!("line\r\nbreak"), json!(1)),
            (Some("-y"), json!(""), json!(1)),
            (None, Value::Null, json!(2)),
            (Some("@é"), json!(false), json!(3)),
        ] {
            let data = json!({ "n": n, "plan": plan });
            publish(&harness, "2024-02-02T00:00:00Z", tenant, data).await;
        }
        harness.meter().await;
        let path = format!("/v1/meters/{meter}/usage?{SPAN}&window=total&group_by=tenant,/plan");
        let whole = csv(&harness, &path).await;
        assert!(!whole.headers.contains_key("link"));
        let whole = String::from_utf8(whole.bytes.to_vec()).unwrap();
        insta::assert_snapshot!(whole.replace("\r\n", "|\n"), @r#"
        start,end,tenant,/plan,value|
        2024-01-31T12:00:00.000Z,2024-03-01T00:00:00.000Z,,,2|
        2024-01-31T12:00:00.000Z,2024-03-01T00:00:00.000Z,'-x,"line|
        break",1|
        2024-01-31T12:00:00.000Z,2024-03-01T00:00:00.000Z,'-y,"",1|
        2024-01-31T12:00:00.000Z,2024-03-01T00:00:00.000Z,'=1+1,'+pro,-5|
        2024-01-31T12:00:00.000Z,2024-03-01T00:00:00.000Z,'@é,false,3|
        2024-01-31T12:00:00.000Z,2024-03-01T00:00:00.000Z,"a,""b""c",-1,0.1|
        "#);
        // The next page is where the header says, until there is none.
        let mut lines = vec![];
        let mut next = Some(format!("{path}&limit=2"));
        while let Some(path) = next {
            let page = csv(&harness, &path).await;
            let text = String::from_utf8(page.bytes.to_vec()).unwrap();
            let (header, rows) = text.split_once("\r\n").unwrap();
            assert_eq!(header, "start,end,tenant,/plan,value");
            lines.push(rows.to_owned());
            let link = page.headers.get("link").map(|link| link.to_str().unwrap());
            next = link.map(|link| {
                let path = link.strip_prefix('<').unwrap();
                path.strip_suffix(">; rel=\"next\"").unwrap().to_owned()
            });
        }
        assert_eq!(lines.len(), 3);
        assert_eq!(
            format!("start,end,tenant,/plan,value\r\n{}", lines.concat()),
            whole
        );
        let plain = harness.get(&path).await;
        assert_eq!(plain.headers["content-type"], "application/json");
        assert_eq!(plain.headers["vary"], "accept");
    });
}

#[test]
fn a_tenants_key_sees_its_own_values_and_totals() {
    run(async {
        let harness = harness().await;
        let meter = new_meter(&harness, "sum").await;
        publish_all(&harness).await;
        let path = format!("/v1/projects/{}/keys", harness.project);
        let body = json!({ "name": "acme", "tenant": "acme", "scopes": ALL_SCOPES });
        let made = harness.as_admin(http::Method::POST, &path, body).await;
        let key = made.expect(StatusCode::CREATED)["key"]
            .as_str()
            .unwrap()
            .to_owned();
        let get = async |path: String| {
            harness
                .request(http::Method::GET, &path, &key, Value::Null)
                .await
        };
        let usage = |query: &str| format!("/v1/meters/{meter}/usage?{SPAN}&window=total{query}");
        let own = get(usage("&group_by=tenant")).await.expect(StatusCode::OK);
        assert_eq!(own["data"].as_array().unwrap().len(), 1);
        assert_eq!(
            (&own["data"][0]["tenant"], &own["data"][0]["value"]),
            (&json!("acme"), &json!(2))
        );
        for other in ["&tenant=zeta", "&tenant=acme&tenant=zeta", "&tenant="] {
            assert_eq!(
                get(usage(other)).await.status,
                StatusCode::FORBIDDEN,
                "{other}"
            );
        }
        for (dimension, values) in [
            ("tenant", json!([{ "value": "acme" }])),
            ("/plan", json!([{ "value": "free" }, { "value": "pro" }])),
            ("/seats", json!([{ "value": "1" }, { "value": 1 }])),
        ] {
            let path = format!("/v1/meters/{meter}/values?{SPAN}&dimension={dimension}");
            let found = get(path).await.expect(StatusCode::OK);
            assert_eq!(found["data"], values, "{dimension}");
        }
    });
}
