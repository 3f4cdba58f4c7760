//! The console's pages of meters and event types: what they show, what their forms do,
//! and what they refuse.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use millrace::app;
use millrace::model::api_key::Scope;
use millrace::model::session::{Person, Reach, Role, Session, SessionToken};
use millrace::store::sessions;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::support::harness::{Answer, Harness, run};

/// Markup, a quote of each kind, bidirectional controls and an emoji: nothing of it may
/// become a part of a page.
const HOSTILE: &str = "\"><script>alert(1)</script>'&amp;\u{202e}\u{1f9ea}";

/// Somebody who is signed in.
struct Visitor<'a> {
    harness: &'a Harness,
    token: SessionToken,
}

impl<'a> Visitor<'a> {
    async fn with(harness: &'a Harness, session: Session, random: u8) -> Self {
        let token = SessionToken::new(&session, [random; 32]);
        sessions::put(&harness.app.dynamo, &token, &session)
            .await
            .unwrap();
        Self { harness, token }
    }

    async fn of_role(harness: &'a Harness, role: Role) -> Self {
        let session = Session::with_role(Person::Link, role, app::now());
        Self::with(harness, session, role as u8).await
    }

    /// The address of a page of the harness's project.
    fn at(&self, rest: &str) -> String {
        format!("/console/{}/{rest}", self.harness.project)
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("cookie", format!("millrace={}", self.token.expose()));
        self.harness
            .send(request.body(Body::from(body)).unwrap())
            .await
    }

    async fn get(&self, rest: &str) -> Answer {
        self.ask(Method::GET, &self.at(rest), String::new()).await
    }

    /// The page's HTML.
    async fn page(&self, rest: &str) -> String {
        let answer = self.get(rest).await;
        assert_eq!(answer.status, StatusCode::OK, "{rest}: {}", text(&answer));
        text(&answer)
    }

    async fn post(&self, rest: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("csrf", &self.token.csrf_token())
            .extend_pairs(fields);
        self.ask(Method::POST, &self.at(rest), form.finish()).await
    }

    /// Where a form leads that does what it is for.
    async fn done(&self, rest: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.post(rest, fields).await;
        assert_eq!(
            answer.status,
            StatusCode::SEE_OTHER,
            "{rest}: {}",
            text(&answer)
        );
        answer.headers["location"].to_str().unwrap().to_owned()
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.bytes).into_owned()
}

/// What stands between `begin` and `end`, without tags.
fn words(page: &str, begin: &str, end: &str) -> String {
    let from = page
        .find(begin)
        .unwrap_or_else(|| panic!("no {begin}: {page}"));
    let rest = &page[from..];
    let rest = &rest[..rest.find(end).unwrap_or_else(|| panic!("no {end}: {rest}"))];
    let mut words = String::new();
    let mut is_tag = false;
    for letter in rest.chars() {
        match letter {
            '<' => is_tag = true,
            '>' => {
                is_tag = false;
                words.push(' ');
            }
            letter if !is_tag => words.push(letter),
            _ => {}
        }
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn new_meter(harness: &Harness, name: &str, aggregation: &str) -> String {
    let mut body = json!({
        "name": name, "event_type": "used", "aggregation": aggregation, "group_by": ["/plan"],
    });
    if aggregation != "count" {
        body["value"] = "/units".into();
    }
    harness.new_meter(body).await
}

async fn publish(harness: &Harness, tenant: Option<&str>, plan: &str, units: Value) {
    let mut body = json!({ "type": "used", "data": { "plan": plan, "units": units } });
    if let Some(tenant) = tenant {
        body["tenant"] = tenant.into();
    }
    harness.publish_body(body).await;
}

#[test]
fn a_meter_is_made_shown_changed_and_deleted_by_hand() {
    run(async {
        let harness = Harness::new().await;
        let visitor = Visitor::of_role(&harness, Role::Operator).await;
        assert!(visitor.page("meters").await.contains("No meters yet"));
        let fields = [
            ("name", "Units"),
            ("description", ""),
            ("event_type", "used"),
            ("aggregation", "sum"),
            ("value", "/units"),
            ("group_by", "/plan\r\n\r\n/region"),
            ("filters", r#"[{"pointer": "/test", "exists": false}]"#),
        ];
        let to = visitor.done("meters/new", &fields).await;
        let id = to.rsplit('/').next().unwrap().split('?').next().unwrap();
        let made = harness
            .get(&format!("/v1/meters/{id}"))
            .await
            .expect(StatusCode::OK);
        assert_eq!(made["group_by"], json!(["/plan", "/region"]));
        assert_eq!(
            made["filters"],
            json!([{ "pointer": "/test", "exists": false }])
        );
        publish(&harness, Some("acme"), "pro", json!(40.5)).await;
        publish(&harness, Some("acme"), "pro", json!("none")).await;
        harness.meter().await;
        let list = visitor.page("meters").await;
        assert!(
            words(&list, "<tbody>", "</tbody>").ends_with("sum of /units used 40.5"),
            "{list}"
        );
        let page = visitor.page(&format!("meters/{id}")).await;
        for part in [
            "40.5 <small>units</small>",
            "1 event was not counted",
            "is not there",
            "acme",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }

        let to = visitor
            .done(
                &format!("meters/{id}/edit"),
                &[("name", "Usage"), ("description", "of all")],
            )
            .await;
        assert!(to.ends_with("?done=meter"));
        let page = visitor.page(&format!("meters/{id}?done=meter")).await;
        assert!(
            page.contains("Meter saved") && page.contains("<bdi>Usage</bdi>"),
            "{page}"
        );
        // Its name must be typed.
        let kept = visitor
            .post(&format!("meters/{id}/delete"), &[("confirm", "usage")])
            .await;
        assert_eq!(kept.status, StatusCode::BAD_REQUEST);
        harness
            .get(&format!("/v1/meters/{id}"))
            .await
            .expect(StatusCode::OK);
        visitor
            .done(&format!("meters/{id}/delete"), &[("confirm", "Usage")])
            .await;
        assert_eq!(
            harness.get(&format!("/v1/meters/{id}")).await.status,
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            visitor.get(&format!("meters/{id}")).await.status,
            StatusCode::NOT_FOUND
        );
    });
}

#[test]
fn usage_is_shown_as_it_is_asked_for() {
    run(async {
        let harness = Harness::new().await;
        let visitor = Visitor::of_role(&harness, Role::Viewer).await;
        let sum = new_meter(&harness, "sum", "sum").await;
        let average = new_meter(&harness, "average", "average").await;
        let unique = new_meter(&harness, "unique", "unique_count").await;
        for n in 0..8 {
            let tenant = format!("t{n}");
            publish(
                &harness,
                Some(&tenant),
                if n % 2 == 0 { "pro" } else { "free" },
                json!(1000 * (n + 1)),
            )
            .await;
        }
        publish(&harness, None, "pro", json!(1000)).await;
        harness.meter().await;
        let page =
            async |meter: &str, query: &str| visitor.page(&format!("meters/{meter}?{query}")).await;
        let rows = |page: &str| words(page, "<tbody><tr><td class=\"lead\"", "</tbody>");

        // Five that have most, and one column of all others.
        let whole = page(&sum, "").await;
        assert!(whole.contains("37,000 <small>units</small>"), "{whole}");
        assert!(
            rows(&whole).starts_with("t7 8,000 21.6 % none t6 7,000"),
            "{}",
            rows(&whole)
        );
        assert!(
            rows(&whole).contains("none 1,000 2.7 % none"),
            "{}",
            rows(&whole)
        );
        assert_eq!(
            words(&whole, "<ul class=\"legend\">", "</ul>"),
            "t7 t6 t5 t4 t3 4 others"
        );
        assert!(whole.len() < 100_000, "{} bytes", whole.len());
        let by_plan = page(&sum, "by=/plan&period=24h").await;
        assert_eq!(
            rows(&by_plan),
            "free 20,000 54.1 % none pro 17,000 45.9 % none"
        );
        let of_one = page(&sum, "tenant=t1&tenant=t3&tenant=&group[/plan]=free").await;
        assert_eq!(rows(&of_one), "t3 4,000 66.7 % none t1 2,000 33.3 % none");
        let unsplit = page(&sum, "by=none").await;
        assert!(unsplit.contains("37,000 <small>") && !unsplit.contains("<h2>By "));
        // What does not add up is neither shared out nor stacked.
        let averages = page(&average, "").await;
        assert!(
            averages.contains("4,111.111111111111 <small>units, average</small>"),
            "{averages}"
        );
        assert!(!averages.contains("others") && !rows(&averages).contains('%'));
        let different = page(&unique, "by=/plan").await;
        assert!(
            different.contains("8 <small>different units</small>"),
            "{different}"
        );
        assert_eq!(rows(&different), "free 4 none pro 4 none");
        // Nothing at all, and what cannot be asked.
        let none = page(&sum, "tenant=nobody").await;
        assert!(none.contains("Nothing was counted"), "{none}");
        let refused = page(&sum, "by=/colour").await;
        assert!(
            refused.contains("role=\"alert\"") && refused.contains("group_by"),
            "{refused}"
        );
        for odd in [
            "period=custom",
            "period=custom&from=0001-01-01&to=9999-12-31",
            "tz=Nowhere/Else",
            "window=minute",
            "period=x",
        ] {
            page(&sum, odd).await;
        }
        // A viewer has nothing to press.
        for word in ["Edit", "Delete", "Count older events", "New meter"] {
            assert!(
                !whole.contains(word) && !visitor.page("meters").await.contains(word),
                "{word}"
            );
        }
    });
}

#[test]
fn a_meters_usage_is_downloaded_whole() {
    run(async {
        let harness = Harness::new().await;
        let visitor = Visitor::of_role(&harness, Role::Viewer).await;
        let meter = new_meter(&harness, "sum", "sum").await;
        // More than the API gives at once.
        let tenants = 1_005;
        for at in (0..tenants).step_by(67) {
            let event = |n: usize| {
                json!({
                    "specversion": "1.0", "id": format!("{n}"), "source": "/s", "type": "used",
                    "tenant": format!("={n:04}"), "data": { "units": n, "plan": "p" }
                })
            };
            let batch: Vec<Value> = (at..at + 67).map(event).collect();
            let request = Request::post("/v1/events")
                .header("authorization", format!("Bearer {}", harness.key))
                .header("content-type", "application/cloudevents-batch+json");
            let sent = harness
                .send(request.body(json!(batch).to_string().into()).unwrap())
                .await;
            assert_eq!(sent.status, StatusCode::ACCEPTED);
        }
        harness.meter().await;
        let answer = visitor
            .get(&format!("meters/{meter}/usage.csv?by=tenant&window=month"))
            .await;
        assert_eq!(answer.status, StatusCode::OK);
        let disposition = answer.headers["content-disposition"].to_str().unwrap();
        assert!(disposition.starts_with("attachment"));
        let file = text(&answer);
        let lines: Vec<&str> = file.lines().collect();
        assert_eq!(lines.len(), tenants + 1);
        assert_eq!(lines[0], "start,end,tenant,value");
        assert_eq!(
            lines
                .iter()
                .filter(|line| line.starts_with("start"))
                .count(),
            1
        );
        assert!(
            lines[tenants].ends_with(",'=1004,1004"),
            "{}",
            lines[tenants]
        );
        let refused = visitor
            .get(&format!("meters/{meter}/usage.csv?by=/colour"))
            .await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    });
}

#[test]
fn a_back_fill_is_asked_for_and_followed() {
    run(async {
        let mut harness = Harness::new().await;
        harness.leaves_jobs = true;
        let visitor = Visitor::of_role(&harness, Role::Operator).await;
        let meter = new_meter(&harness, "sum", "sum").await;
        let path = format!("meters/{meter}/backfill");
        assert!(visitor.page(&path).await.contains("Count older events?"));
        let refused = visitor.post(&path, &[("since", "yesterday")]).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let refused = text(&refused);
        assert!(
            refused.contains("value=\"yesterday\"") && refused.contains("id=\"since-e\""),
            "{refused}"
        );
        let once = [
            ("since", ""),
            ("until", ""),
            ("once", "abcdefghjkmnpqrstvwxyz0123"),
        ];
        let to = visitor.done(&path, &once).await;
        assert!(to.ends_with("?done=backfilling#backfill"), "{to}");
        // The same form again begins no other.
        visitor.done(&path, &once).await;
        let page = visitor.page(&format!("meters/{meter}")).await;
        assert!(
            page.contains("data-live=\"swap\"") && page.contains("Running"),
            "{page}"
        );
        let part = visitor.page(&format!("meters/{meter}?part=backfill")).await;
        assert!(
            part.starts_with("<section class=\"card\" id=\"backfill\""),
            "{part}"
        );
        assert!(!part.contains("<html"));
        // One runs at a time.
        let other = visitor.post(&path, &[("since", "")]).await;
        assert_eq!(other.status, StatusCode::CONFLICT);
    });
}

#[test]
fn an_event_type_is_registered_shown_changed_and_deleted_by_hand() {
    run(async {
        let harness = Harness::new().await;
        let visitor = Visitor::of_role(&harness, Role::Operator).await;
        assert!(
            visitor
                .page("event-types")
                .await
                .contains("No event types yet")
        );
        harness.endpoint("http://127.0.0.1:9/all", &["*"]).await;
        harness
            .endpoint("http://127.0.0.1:9/other", &["invoice.*"])
            .await;
        harness
            .endpoint("http://127.0.0.1:9/not", &["order.*"])
            .await;
        new_meter(&harness, "Used", "count").await;
        let body = json!({ "name": "Paid", "event_type": "invoice.paid", "aggregation": "count" });
        harness.new_meter(body).await;
        let schema = r#"{"z": 1, "type": "object", "properties": {"total": {"type": "number", "minimum": 12345678901234567890.5}}}"#;
        let fields = [
            ("name", "invoice.paid"),
            ("description", "Paid"),
            ("schema", schema),
            ("validate", ""),
        ];
        let to = visitor.done("event-types/new", &fields).await;
        assert!(to.ends_with("/event-types/invoice.paid?done=type"), "{to}");
        let made = harness.get("/v1/event-types/invoice.paid").await;
        // As it was typed: no digit and no order is lost.
        assert!(
            text(&made).contains("12345678901234567890.5"),
            "{}",
            text(&made)
        );
        let page = visitor.page("event-types/invoice.paid").await;
        let takers = words(&page, "id=\"who\"", "</section>");
        for (part, is_there) in [
            ("/all", true),
            ("/other", true),
            ("/not", false),
            ("Paid count", true),
            ("Used", false),
        ] {
            assert_eq!(takers.contains(part), is_there, "{part}: {takers}");
        }
        for part in [
            "Schema, version 1",
            "Example of its data",
            "is refused",
            "Version 1",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }

        let edit = "event-types/invoice.paid/edit";
        assert!(visitor.page(edit).await.contains("12345678901234567890.5"));
        let fields = [
            ("description", ""),
            ("schema", r#"{"type": "string"}"#),
            ("validate", "warn"),
        ];
        visitor.done(edit, &fields).await;
        let page = visitor.page("event-types/invoice.paid").await;
        assert!(
            page.contains("Schema, version 2") && page.contains("accepted, and told"),
            "{page}"
        );
        let older = visitor.page("event-types/invoice.paid?version=1").await;
        assert!(older.contains("Schema, version 1, not in force"), "{older}");
        let list = visitor.page("event-types").await;
        assert!(list.contains("version 2, warns"), "{list}");
        for (fields, field, kept) in [
            ([("schema", "{"), ("validate", "")], "schema", "{"),
            (
                [("schema", r#"{"type": "nonsense"}"#), ("validate", "")],
                "schema",
                "nonsense",
            ),
            ([("schema", ""), ("validate", "reject")], "validate", ""),
        ] {
            let refused = visitor.post(edit, &fields).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{fields:?}");
            let page = text(&refused);
            assert!(
                page.contains(&format!("id=\"{field}-e\"")) && page.contains(kept),
                "{page}"
            );
        }
        let kept = visitor
            .post("event-types/invoice.paid/delete", &[("confirm", "invoice")])
            .await;
        assert_eq!(kept.status, StatusCode::BAD_REQUEST);
        visitor
            .done(
                "event-types/invoice.paid/delete",
                &[("confirm", "invoice.paid")],
            )
            .await;
        assert_eq!(
            visitor.get("event-types/invoice.paid").await.status,
            StatusCode::NOT_FOUND
        );
    });
}

#[test]
fn a_refused_form_keeps_what_was_typed_and_names_the_field() {
    run(async {
        let harness = Harness::new().await;
        let visitor = Visitor::of_role(&harness, Role::Operator).await;
        new_meter(&harness, "Taken", "count").await;
        let right = [
            ("name", "New"),
            ("event_type", "used"),
            ("aggregation", "sum"),
            ("value", "/n"),
            ("group_by", ""),
            ("filters", ""),
        ];
        for (name, value, status, field) in [
            ("name", "Taken", 409, None),
            ("name", "", 400, Some("name")),
            ("event_type", "us*", 400, Some("event_type")),
            ("value", "n", 400, Some("value")),
            ("aggregation", "median", 400, Some("aggregation")),
            ("group_by", "/a\n/a", 400, Some("group_by")),
            ("filters", "[", 400, Some("filters")),
            ("filters", r#"[{"pointer": "/a"}]"#, 400, Some("filters")),
            ("filters", "5", 400, Some("filters")),
            ("description", "marked\u{0}", 400, Some("description")),
        ] {
            let mut fields: Vec<_> = right
                .into_iter()
                .filter(|(other, _)| *other != name)
                .collect();
            fields.push((name, value));
            let answer = visitor.post("meters/new", &fields).await;
            let page = text(&answer);
            assert_eq!(answer.status.as_u16(), status, "{name}={value:?}: {page}");
            assert!(page.contains("role=\"alert\""), "{page}");
            if let Some(field) = field {
                let is_marked = page.contains(&format!("id=\"{field}-e\""))
                    || page.contains(&format!("#{field}"));
                assert!(is_marked, "{name}={value:?}: {page}");
            }
            if name != "event_type" {
                assert!(
                    page.contains("value=\"used\""),
                    "what was typed is gone: {page}"
                );
            }
        }
        let meters = harness.get("/v1/meters").await.expect(StatusCode::OK);
        assert_eq!(meters["data"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn what_people_named_stays_text_on_every_page() {
    run(async {
        let harness = Harness::new().await;
        let visitor = Visitor::of_role(&harness, Role::Operator).await;
        let meter = harness
            .new_meter(json!({
                "name": HOSTILE, "description": HOSTILE, "event_type": "used", "aggregation": "sum",
                "value": format!("/{HOSTILE}"), "group_by": ["/plan", "/<b>"],
                "filters": [{ "pointer": "/x", "equals": HOSTILE }, { "pointer": "/<i>", "exists": false }]
            }))
            .await;
        let other = new_meter(&harness, "plain", "sum").await;
        publish(
            &harness,
            Some("<img src=x onerror=alert(1)>"),
            HOSTILE,
            json!(1),
        )
        .await;
        harness.meter().await;
        let body = json!({
            "name": "used", "description": HOSTILE,
            "schema": { "title": HOSTILE, "examples": [HOSTILE], "properties": { HOSTILE: { "const": HOSTILE } } }
        });
        harness
            .post("/v1/event-types", body)
            .await
            .expect(StatusCode::CREATED);
        let query = form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect::<String>();
        let mut pages = vec![
            "meters".to_owned(),
            "event-types".into(),
            "event-types/used".into(),
            "event-types/used/edit".into(),
            "event-types/used/delete".into(),
            format!("event-types/new?name={query}&description={query}&schema={query}"),
            format!("meters/{other}?by=/plan"),
            format!(
                "meters/{other}?tenant={query}&group[/plan]={query}&tz={query}&by={query}&period={query}&window={query}&done={query}"
            ),
        ];
        for rest in ["", "/edit", "/delete", "/backfill"] {
            pages.push(format!("meters/{meter}{rest}"));
        }
        for path in &pages {
            let page = visitor.page(path).await;
            for part in ["<script>alert", "<img src=x", "/<b>", "/<i>"] {
                assert!(!page.contains(part), "{path}: {part} in {page}");
            }
            assert!(page.len() < 100_000, "{path}: {} bytes", page.len());
        }
        let refused = visitor
            .post(
                "meters/new",
                &[
                    ("name", HOSTILE),
                    ("event_type", HOSTILE),
                    ("filters", HOSTILE),
                ],
            )
            .await;
        assert!(!text(&refused).contains("<script>alert"));
    });
}

#[test]
fn what_a_session_does_not_reach_is_not_there() {
    run(async {
        let harness = Harness::new().await;
        let meter = new_meter(&harness, "theirs", "sum").await;
        let body = json!({ "name": "used" });
        harness
            .post("/v1/event-types", body)
            .await
            .expect(StatusCode::CREATED);
        publish(&harness, Some("acme"), "pro", json!(5)).await;
        publish(&harness, Some("zeta"), "free", json!(7)).await;
        harness.meter().await;
        let pages = [
            "meters".to_owned(),
            "meters/new".into(),
            format!("meters/{meter}"),
            format!("meters/{meter}/usage.csv"),
            format!("meters/{meter}/edit"),
            format!("meters/{meter}/delete"),
            format!("meters/{meter}/backfill"),
            "event-types".into(),
            "event-types/new".into(),
            "event-types/used".into(),
            "event-types/used/edit".into(),
            "event-types/used/delete".into(),
        ];
        // Of another project: neither its own pages of what is here, nor those here.
        let elsewhere = harness.new_project(&["meters:read", "meters:write"]).await;
        let elsewhere: millrace::model::id::ProjectId = elsewhere.id.parse().unwrap();
        let scopes: Arc<[Scope]> = Role::Operator.scopes().into();
        let reach = Reach::Project(elsewhere.clone());
        let session = Session::new(Person::Link, reach, scopes.clone(), app::now());
        let stranger = Visitor::with(&harness, session, 11).await;
        for path in &pages {
            assert_eq!(
                stranger.get(path).await.status,
                StatusCode::NOT_FOUND,
                "{path}"
            );
            let theirs = format!("/console/{elsewhere}/{path}");
            let answer = stranger.ask(Method::GET, &theirs, String::new()).await;
            assert!(!text(&answer).contains("theirs"), "{path}");
            assert!(!text(&answer).contains("acme"), "{path}");
            let nobody = Request::get(format!("/console/{}/{path}", harness.project))
                .header("host", "localhost");
            let nobody = harness.send(nobody.body(Body::empty()).unwrap()).await;
            assert_eq!(nobody.status, StatusCode::SEE_OTHER, "{path}");
        }
        // A viewer's forms change nothing, whoever made them.
        let viewer = Visitor::of_role(&harness, Role::Viewer).await;
        for (path, fields) in [
            (
                "meters/new".to_owned(),
                vec![("name", "x"), ("event_type", "x"), ("aggregation", "count")],
            ),
            (format!("meters/{meter}/edit"), vec![("name", "x")]),
            (
                format!("meters/{meter}/delete"),
                vec![("confirm", "theirs")],
            ),
            (format!("meters/{meter}/backfill"), vec![]),
            ("event-types/new".into(), vec![("name", "x")]),
            ("event-types/used/edit".into(), vec![("description", "x")]),
            ("event-types/used/delete".into(), vec![("confirm", "used")]),
        ] {
            let answer = viewer.post(&path, &fields).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
            let forged = viewer
                .ask(Method::POST, &viewer.at(&path), "csrf=forged".into())
                .await;
            assert_eq!(forged.status, StatusCode::FORBIDDEN, "{path}");
        }
        // A customer sees its own usage alone.
        let reach = Reach::Tenant(harness.project.parse().unwrap(), "acme".into());
        let session = Session::new(Person::Customer, reach, scopes, app::now());
        let customer = Visitor::with(&harness, session, 12).await;
        for path in [
            format!("meters/{meter}?by=tenant"),
            format!("meters/{meter}?by=/plan"),
            "meters".into(),
        ] {
            let page = customer.page(&path).await;
            assert!(
                !page.contains("zeta") && !page.contains("7 <small>"),
                "{path}: {page}"
            );
        }
        let file = text(&customer.get(&format!("meters/{meter}/usage.csv")).await);
        assert!(file.contains(",acme,5") && !file.contains("zeta"), "{file}");
        let other = customer.page(&format!("meters/{meter}?tenant=zeta")).await;
        assert!(
            other.contains("role=\"alert\"") && !other.contains("7 <small>"),
            "{other}"
        );
    });
}
