//! The console's pages of events and deliveries: what they show, send, replay, retry and
//! find, and that whatever was published is text on them.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::browser::{Browser, hidden, location, text};
use crate::support::fixtures::{finish_recovery, only_delivery};
use crate::support::harness::{ADMIN_KEY, Answer, Harness, run};
use crate::support::receiver::{Receiver, Reply};

/// No page is longer with its usual number of rows.
const PAGE_BYTES_MAX: usize = 100_000;

/// What would be an element, an attribute or a script, or turn the words around it.
const HOSTILE: &str = "\"><x-planted data-planted='1'></x-planted></textarea></title><script>planted()</script>&amp;\u{202e}";

/// A project's pages, as whoever has a key of it sees them.
struct Pages<'a> {
    browser: Browser<'a>,
    project: String,
}

impl<'a> Pages<'a> {
    async fn of(harness: &'a Harness) -> Self {
        Self::with(harness, &harness.key).await
    }

    async fn with(harness: &'a Harness, key: &str) -> Self {
        let browser = Browser::signed_in(harness, key).await;
        let project = harness.project.clone();
        Self { browser, project }
    }

    fn path(&self, rest: &str) -> String {
        format!("/console/{}/{rest}", self.project)
    }

    async fn get(&mut self, rest: &str) -> Answer {
        let path = self.path(rest);
        let answer = self.browser.get(&path).await;
        assert!(
            answer.bytes.len() <= PAGE_BYTES_MAX,
            "{rest}: {} bytes",
            answer.bytes.len()
        );
        let shown = text(&answer);
        assert!(
            !shown.contains("<x-planted") && !shown.contains("<script>"),
            "{rest}: {shown}"
        );
        answer
    }

    /// The page, which is there.
    async fn page(&mut self, rest: &str) -> String {
        let answer = self.get(rest).await;
        assert_eq!(answer.status, StatusCode::OK, "{rest}: {}", text(&answer));
        text(&answer)
    }

    /// Sends the form of the page, with what makes it be done once.
    async fn submit(&mut self, rest: &str, fields: &[(&str, &str)]) -> Answer {
        let path = self.path(rest);
        let answer = self.browser.post(&path, fields).await;
        let shown = text(&answer);
        assert!(
            !shown.contains("<x-planted") && !shown.contains("<script>"),
            "{rest}: {shown}"
        );
        answer
    }
}

/// Where a form that was done leads to.
fn led_to(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", text(answer));
    location(answer).to_owned()
}

/// The rows of a page, by the events that they are of.
fn rows(page: &str) -> Vec<String> {
    let rows = page.split("<tr id=\"").skip(1);
    rows.map(|row| row.split('"').next().unwrap().to_owned())
        .collect()
}

/// The address of the next page, or of what is newer.
fn linked(page: &str, before: &str, after: &str) -> Option<String> {
    let (begin, rest) = page.split_once(before)?;
    let element = begin.rsplit_once('<').unwrap().1.to_owned() + before + rest.split_once('>')?.0;
    let address = element.split_once(after)?.1.split_once('"')?.0;
    Some(address.replace("&amp;", "&"))
}

/// Without the project's own part of the address.
fn rest_of(address: &str, project: &str) -> String {
    address
        .strip_prefix(&format!("/console/{project}/"))
        .unwrap()
        .to_owned()
}

#[test]
fn events_are_listed_filtered_and_paged() {
    run(async {
        let harness = Harness::new().await;
        let mut pages = Pages::of(&harness).await;
        let empty = pages.page("events").await;
        assert!(
            empty.contains("No events yet") && empty.contains("/send"),
            "{empty}"
        );
        assert!(empty.contains("data-live=\"swap\""));
        let mut ids = vec![];
        for n in 0..30 {
            let event_type = if n % 10 == 0 {
                "invoice.paid"
            } else {
                "user.created"
            };
            let body = json!({ "type": event_type, "tenant": format!("t{}", n % 2), "subject": "s/1", "data": n });
            ids.push(harness.publish_body(body).await);
        }
        ids.sort();
        let first = pages.page("events").await;
        assert!(first.contains("data-live=\"rows\""));
        let older = linked(&first, "rel=\"next\"", "href=\"").unwrap();
        let older = pages.page(&rest_of(&older, &harness.project)).await;
        assert!(older.contains("rel=\"prev\""));
        let mut seen = [rows(&first), rows(&older)].concat();
        assert_eq!(rows(&first).len(), 25);
        seen.sort();
        assert_eq!(seen, ids);
        for (query, count) in [
            ("type=invoice.*", 3),
            ("type=user.created&tenant=t1", 15),
            ("subject=s/1&type=invoice.paid", 3),
            ("tenant=nobody", 0),
            ("period=1h&type=invoice.*", 3),
            ("until=2020-01-01T00:00", 0),
        ] {
            let page = pages.page(&format!("events?{query}")).await;
            assert_eq!(rows(&page).len(), count, "{query}");
            assert_eq!(page.contains("No event matches"), count == 0, "{query}");
        }
        // What the API does not take is said, and stays in its field.
        let refused = pages.get("events?type=a*b&tenant=t1").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let refused = text(&refused);
        assert!(
            refused.contains("value=\"a*b\"") && refused.contains("role=\"alert\""),
            "{refused}"
        );
    });
}

#[test]
fn newer_events_are_rows_alone_and_say_where_still_newer_ones_are() {
    run(async {
        let harness = Harness::new().await;
        let mut pages = Pages::of(&harness).await;
        let empty = pages.page("events?type=a.*").await;
        let source = linked(&empty, "data-live=\"swap\"", "data-src=\"").unwrap();
        let first = harness.publish("a.b").await;
        harness.publish("c").await;
        let list = pages.page(&rest_of(&source, &harness.project)).await;
        assert!(
            list.starts_with("<div") && !list.contains("<main"),
            "{list}"
        );
        assert_eq!(rows(&list), std::slice::from_ref(&first));
        let source = linked(&list, "data-live=\"rows\"", "data-src=\"").unwrap();
        let second = harness.publish("a.c").await;
        harness.publish("d").await;
        let newer = pages.page(&rest_of(&source, &harness.project)).await;
        assert!(newer.starts_with("<tbody"), "{newer}");
        let newer_rows = rows(&newer);
        assert!(
            newer_rows.contains(&second) && newer_rows.len() <= 2,
            "{newer}"
        );
        let next = linked(&newer, "data-live=\"rows\"", "data-src=\"").unwrap();
        assert!(
            next.contains("part=rows") && next.contains("since="),
            "{next}"
        );
        assert!(next.contains("type=a.*"), "{next}");
    });
}

#[test]
fn a_list_is_had_as_csv_page_after_page() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        for n in 0..130 {
            let body =
                json!({ "type": "a", "tenant": if n == 0 { "=1+1" } else { "t" }, "data": n });
            harness.publish_body(body).await;
        }
        let mut pages = Pages::of(&harness).await;
        for (list, count) in [
            ("events.csv?tenant=t", 129),
            ("events.csv", 130),
            ("deliveries.csv?state=pending", 130),
        ] {
            let path = pages.path(list);
            let answer = pages.browser.get(&path).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert!(
                answer.headers["content-type"]
                    .to_str()
                    .unwrap()
                    .starts_with("text/csv")
            );
            assert!(
                answer.headers["content-disposition"]
                    .to_str()
                    .unwrap()
                    .contains("attachment")
            );
            assert_eq!(text(&answer).lines().count(), count + 1, "{list}");
        }
        // A spreadsheet computes nothing of it.
        let path = pages.path("events.csv?tenant=%3D1%2B1");
        let answer = text(&pages.browser.get(&path).await);
        assert!(answer.contains("'=1+1"), "{answer}");
        let path = pages.path("events.csv?type=a*b");
        assert_eq!(
            pages.browser.get(&path).await.status,
            StatusCode::BAD_REQUEST
        );
        harness.drain().await;
    });
}

#[test]
fn an_event_tells_why_it_did_not_arrive_and_what_comes_next() {
    run(async {
        let harness = Harness::new().await;
        let body = r#"{"error":"warehouse-db is not reachable","planted":"<x-planted>"}"#;
        let receiver = Receiver::start([Reply::With {
            status: 503,
            header: ("content-type", "application/json"),
            body: body.to_owned(),
        }])
        .await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("invoice.paid").await;
        let mut pages = Pages::of(&harness).await;
        let pending = pages.page(&format!("events/{event}")).await;
        assert!(
            pending.contains("Pending") && pending.contains("data-live=\"swap\""),
            "{pending}"
        );
        harness.drain().await;
        let page = pages.page(&format!("events/{event}?part=deliveries")).await;
        assert!(!page.contains("<main"));
        for shown in [
            "The server answered 503 Service Unavailable.",
            "warehouse-db is not reachable",
            "their side",
            "Next try at",
            "; then 8 more",
            "Retrying",
            "webhook-id",
            "webhook-signature",
            "class=\"rail\"",
            "<details open>",
        ] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        assert_eq!(page.matches(", failed<").count(), 1);
        assert_eq!(page.matches("<li").count(), 10 + 1);
        // What waits for a person says for what.
        let id = endpoint["id"].as_str().unwrap();
        let off = harness
            .patch(
                &format!("/v1/endpoints/{id}"),
                json!({ "state": "disabled" }),
            )
            .await;
        off.expect(StatusCode::OK);
        let page = pages.page(&format!("events/{event}")).await;
        assert!(
            page.contains("The endpoint is disabled.") && page.contains("Waiting"),
            "{page}"
        );
        let whole = pages.path(&format!("events/{event}/event.json"));
        let whole = pages.browser.get(&whole).await;
        assert_eq!(whole.json["type"], "invoice.paid");
        let none = pages.get(&format!("events/evt_{}", "0".repeat(32))).await;
        assert_eq!(none.status, StatusCode::NOT_FOUND);
        assert_eq!(
            pages.get("events/nonsense").await.status,
            StatusCode::NOT_FOUND
        );
    });
}

#[test]
fn an_event_is_shown_exactly_and_within_bounds() {
    run(async {
        let harness = Harness::new().await;
        let mut pages = Pages::of(&harness).await;
        let exact = r#"{"type":"a","data":{"big":12345678901234567890.123456789,"e":1E30,"nul":"\u0000","s":"\u202e"}}"#;
        let deep = format!(
            r#"{{"type":"a","data":{}1{}}}"#,
            "[".repeat(100),
            "]".repeat(100)
        );
        let large = format!(r#"{{"type":"a","data":{}}}"#, json!(vec!["\"<>&"; 30_000]));
        let binary = r#"{"specversion":"1.0","type":"a","source":"/s","id":"1","datacontenttype":"application/octet-stream","data_base64":"AAECAwQ="}"#;
        let mut ids = vec![];
        for body in [exact, &deep, &large, binary] {
            let request = http::Request::post("/v1/events")
                .header("authorization", format!("Bearer {}", harness.key));
            let media_type = if body == binary {
                "application/cloudevents+json"
            } else {
                "application/json"
            };
            let request = request.header("content-type", media_type);
            let answer = harness
                .send(request.body(body.to_owned().into()).unwrap())
                .await;
            let answer = answer.expect(StatusCode::ACCEPTED);
            ids.push(answer["id"].as_str().unwrap().to_owned());
        }
        let mut shown = vec![];
        for id in &ids {
            shown.push(pages.page(&format!("events/{id}")).await);
        }
        assert!(shown[0].contains("12345678901234567890.123456789") && shown[0].contains("1E30"));
        assert!(shown[0].contains("Copy as curl") && shown[0].contains("$MILLRACE_KEY"));
        assert!(shown[2].contains("the rest is not shown") && !shown[2].contains("Copy as curl"));
        assert!(shown[3].contains("AAECAwQ="));
        for page in &shown {
            assert!(!page.contains(&harness.key));
        }
    });
}

#[test]
fn what_was_typed_is_sent_once_as_it_is() {
    run(async {
        let harness = Harness::new().await;
        let mut pages = Pages::of(&harness).await;
        let page = pages.page("send").await;
        let once = hidden(&page, "once").unwrap();
        let data = "{\"total\": 12345678901234567890.10}";
        let fields = [
            ("once", &*once),
            ("type", "invoice.paid"),
            ("tenant", "quillmere"),
            ("subject", "in/1"),
            ("data", data),
            ("source", "/console"),
            ("id", ""),
            ("time", ""),
        ];
        let first = led_to(&pages.submit("send", &fields).await);
        let again = led_to(&pages.submit("send", &fields).await);
        assert!(
            first.contains("/events/evt_") && first.contains("done=sent"),
            "{first}"
        );
        assert_eq!(first, again);
        let listed = harness.get("/v1/events").await.expect(StatusCode::OK);
        assert_eq!(listed["data"].as_array().unwrap().len(), 1);
        assert_eq!(listed["data"][0]["tenant"], "quillmere");
        let page = pages.page(&rest_of(&first, &harness.project)).await;
        assert!(
            page.contains("12345678901234567890.10") && page.contains("Event sent"),
            "{page}"
        );
        // The same event by its own id, from another form.
        let named = [
            ("type", "a"),
            ("id", "mine"),
            ("source", "/here"),
            ("data", "1"),
        ];
        assert!(led_to(&pages.submit("send", &named).await).contains("done=sent"));
        assert!(led_to(&pages.submit("send", &named).await).contains("done=duplicate"));
    });
}

#[test]
fn a_refused_event_keeps_what_was_typed_and_marks_its_line() {
    run(async {
        let harness = Harness::new().await;
        let schema = json!({
            "type": "object",
            "properties": { "items": { "type": "array", "items": { "properties": { "price": { "type": "number" } } } } },
            "examples": [{ "items": [{ "price": 1.5 }] }]
        });
        let of_type = json!({ "name": "order.placed", "schema": schema });
        harness
            .post("/v1/event-types", of_type)
            .await
            .expect(StatusCode::CREATED);
        let mut pages = Pages::of(&harness).await;
        let page = pages.page("send?type=order.placed&tenant=quillmere").await;
        assert!(page.contains("value=\"order.placed\"") && page.contains("value=\"quillmere\""));
        assert!(page.contains("&quot;price&quot;: 1.5"), "{page}");
        let data =
            "{\r\n \"items\": [\r\n  {\"price\": 1},\r\n  {\"price\":\r\n   \"much\"}\r\n ]\r\n}";
        let fields = [
            ("type", "order.placed"),
            ("tenant", HOSTILE),
            ("data", data),
        ];
        let refused = pages
            .submit(
                "send",
                &[("type", "order.placed"), ("tenant", "t"), ("data", data)],
            )
            .await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let page = text(&refused);
        assert!(
            page.contains("data/items/1/price") && page.contains("data-line=\"5\""),
            "{page}"
        );
        assert!(page.contains("<li class=\"is-bad\">5</li>") && page.contains("role=\"alert\""));
        assert!(page.contains("&quot;much&quot;") && page.contains("value=\"t\""));
        for (fields, status, field) in [
            (&fields[..], StatusCode::BAD_REQUEST, "href=\"#"),
            (
                &[("type", ""), ("data", "{}")],
                StatusCode::BAD_REQUEST,
                "href=\"#type\"",
            ),
            (
                &[("type", "a"), ("data", "1, \"tenant\": \"smuggled\"")],
                StatusCode::BAD_REQUEST,
                "href=\"#data\"",
            ),
            (
                &[("type", "a"), ("data", "{\n\n,}")],
                StatusCode::BAD_REQUEST,
                "data-line=\"3\"",
            ),
            (
                &[("type", "a"), ("data", "{}"), ("time", "noon")],
                StatusCode::BAD_REQUEST,
                "href=\"#time\"",
            ),
        ] {
            let refused = pages.submit("send", fields).await;
            assert_eq!(refused.status, status, "{fields:?}: {}", text(&refused));
            assert!(
                text(&refused).contains(field),
                "{fields:?}: {}",
                text(&refused)
            );
        }
        let listed = harness
            .get("/v1/events?type=*")
            .await
            .expect(StatusCode::OK);
        assert_eq!(listed["data"], json!([]));
        // The example replaces what is there, and nothing is sent.
        let fields = [
            ("type", "order.placed"),
            ("data", "zzz-typed"),
            ("use", "example"),
        ];
        let filled = pages.submit("send", &fields).await;
        assert_eq!(filled.status, StatusCode::OK);
        assert!(
            text(&filled).contains("&quot;price&quot;: 1.5")
                && !text(&filled).contains("zzz-typed")
        );
    });
}

#[test]
fn events_are_replayed_and_deliveries_retried_from_their_pages() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let endpoint = endpoint["id"].as_str().unwrap();
        let event = harness.publish("a").await;
        harness.drain().await;
        let mut pages = Pages::of(&harness).await;
        let replay = format!("events/{event}/replay");
        let page = pages.page(&replay).await;
        assert!(
            page.contains("Replay this event?") && page.contains(endpoint),
            "{page}"
        );
        let once = hidden(&page, "once").unwrap();
        for endpoint in ["", endpoint] {
            let once = if endpoint.is_empty() { &*once } else { "" };
            let to = led_to(
                &pages
                    .submit(&replay, &[("once", once), ("endpoint_id", endpoint)])
                    .await,
            );
            assert!(to.contains(&event) && to.contains("done=replayed"), "{to}");
            harness.drain().await;
        }
        // Done once, however often it comes.
        led_to(
            &pages
                .submit(&replay, &[("once", &once), ("endpoint_id", "")])
                .await,
        );
        harness.drain().await;
        assert_eq!(receiver.received().len(), 3);
        let refused = pages.submit(&replay, &[("endpoint_id", "ep_none")]).await;
        assert!(refused.status.is_client_error());
        assert!(text(&refused).contains("role=\"alert\""));
        let delivery = only_delivery(&harness, &event).await;
        let delivery = delivery["id"].as_str().unwrap();
        let shown = pages.get(&format!("deliveries/{delivery}")).await;
        let to = led_to(&shown);
        assert!(to.ends_with(&format!("#{delivery}")), "{to}");
        let page = pages
            .page(&rest_of(to.split('#').next().unwrap(), &harness.project))
            .await;
        assert!(page.contains(&format!("id=\"{delivery}\"")), "{page}");
        assert!(
            pages
                .page(&format!("deliveries/{delivery}/retry"))
                .await
                .contains("Retry this delivery?")
        );
        let to = led_to(
            &pages
                .submit(&format!("deliveries/{delivery}/retry"), &[])
                .await,
        );
        assert!(to.contains("done=retried"), "{to}");
        harness.drain().await;
        assert_eq!(receiver.received().len(), 4);
    });
}

#[test]
fn deliveries_are_listed_by_state_and_all_that_match_retried() {
    run(async {
        let mut config = crate::support::harness::config();
        config.delivery.retry_schedule = vec![std::time::Duration::ZERO];
        let harness = Harness::builder().config(config).build().await;
        let receiver =
            Receiver::start([Reply::Status(500), Reply::Status(500), Reply::Status(500)]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let endpoint = endpoint["id"].as_str().unwrap();
        let mut pages = Pages::of(&harness).await;
        assert!(pages.page("deliveries").await.contains("No deliveries yet"));
        for _ in 0..3 {
            harness.publish("invoice.paid").await;
        }
        harness.drain().await;
        let delivered = harness.publish("user.created").await;
        harness.drain().await;
        for (query, count) in [
            ("", 4),
            ("?state=failed", 3),
            ("?state=delivered", 1),
            ("?type=user.*", 1),
            ("?state=failed&type=user.*", 0),
            ("?tenant=nobody", 0),
        ] {
            let page = pages.page(&format!("deliveries{query}")).await;
            assert_eq!(rows(&page).len(), count, "{query}");
        }
        let page = pages
            .page(&format!("deliveries?endpoint_id={endpoint}&event_id="))
            .await;
        assert_eq!(rows(&page).len(), 4);
        assert_eq!(
            rows(
                &pages
                    .page(&format!("deliveries?event_id={delivered}"))
                    .await
            )
            .len(),
            1
        );
        for query in ["state=lost", "endpoint_id=ep_none", "since=yesterday"] {
            let refused = pages.get(&format!("deliveries?{query}")).await;
            assert!(refused.status.is_client_error(), "{query}");
            assert!(text(&refused).contains("role=\"alert\""), "{query}");
        }
        let failed = pages.page("deliveries?state=failed").await;
        assert!(failed.contains("Retry all that match"), "{failed}");
        assert!(
            pages
                .page("deliveries/retry?state=failed")
                .await
                .contains("Show how many")
        );
        let query = format!("deliveries/retry?state=failed&endpoint_id={endpoint}");
        let page = pages.page(&query).await;
        assert!(page.contains("Retry 3<"), "{page}");
        let (once, since) = (
            hidden(&page, "once").unwrap(),
            hidden(&page, "since").unwrap(),
        );
        let fields = [
            ("once", &*once),
            ("state", "failed"),
            ("endpoint_id", endpoint),
            ("since", &since),
        ];
        let to = led_to(&pages.submit("deliveries/retry", &fields).await);
        assert!(to.contains("/recoveries/rec_"), "{to}");
        assert_eq!(led_to(&pages.submit("deliveries/retry", &fields).await), to);
        let recovery = to.split("/rec_").nth(1).unwrap().split('?').next().unwrap();
        finish_recovery(&harness, &json!({ "id": format!("rec_{recovery}") })).await;
        harness.drain().await;
        assert_eq!(
            rows(&pages.page("deliveries?state=delivered").await).len(),
            4
        );
        assert!(pages.page(&query).await.contains("No delivery matches"));
    });
}

#[test]
fn an_id_is_found_by_itself_and_other_words_where_they_stand() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let url = receiver.url.clone();
        let body = json!({ "url": url, "uid": "ledger-1", "tenant": "quillmere", "description": "Ledger sync" });
        let endpoint = harness
            .post("/v1/endpoints", body)
            .await
            .expect(StatusCode::CREATED);
        let endpoint = endpoint["id"].as_str().unwrap();
        let event = harness
            .publish_body(
                json!({ "type": "a", "tenant": "quillmere", "subject": "in/1", "data": 1 }),
            )
            .await;
        harness.drain().await;
        let delivery = only_delivery(&harness, &event).await;
        let delivery = delivery["id"].as_str().unwrap().to_owned();
        let mut pages = Pages::of(&harness).await;
        for (wanted, part) in [
            (&*event, format!("events/{event}")),
            (&*delivery, format!("#{delivery}")),
            (endpoint, format!("endpoints/{endpoint}")),
            (&format!("%20{event}%20"), format!("events/{event}")),
        ] {
            let to = led_to(&pages.get(&format!("find?q={wanted}")).await);
            assert!(to.ends_with(&part), "{wanted}: {to}");
        }
        for wanted in ["ledger-1", "quillmere", "Ledger", "127.0.0.1"] {
            assert!(
                pages
                    .page(&format!("find?q={wanted}"))
                    .await
                    .contains(endpoint),
                "{wanted}"
            );
        }
        for wanted in ["quillmere", "in/1", "a"] {
            assert!(
                pages
                    .page(&format!("find?q={wanted}"))
                    .await
                    .contains(&event),
                "{wanted}"
            );
        }
        let hostile: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
        for wanted in [
            "",
            "nothing-like-it",
            "evt_1",
            &hostile,
            &"x".repeat(10_000),
        ] {
            let page = pages.page(&format!("find?q={wanted}")).await;
            assert_eq!(
                page.contains("Nothing found"),
                !wanted.is_empty(),
                "{wanted}"
            );
        }
    });
}

#[test]
fn whatever_was_published_is_text_and_never_long() {
    run(async {
        let harness = Harness::new().await;
        let answer = Reply::With {
            status: 500,
            header: ("content-type", "text/html"),
            body: HOSTILE.repeat(40),
        };
        let receiver = Receiver::start(vec![answer; 30]).await;
        let body = json!({ "url": receiver.url, "description": HOSTILE, "event_types": ["*"] });
        harness
            .post("/v1/endpoints", body)
            .await
            .expect(StatusCode::CREATED);
        let long = format!("{HOSTILE}{}", "\"".repeat(9_000));
        let mut event = String::new();
        for n in 0..26 {
            let tenant: String = HOSTILE.chars().filter(|c| !c.is_control()).collect();
            let mut body = json!({
                "type": long, "subject": long, "tenant": tenant, "source": "/s", "id": format!("{n}{long}"),
                "specversion": "1.0", "data": { HOSTILE: [HOSTILE, long] }
            });
            for length in [10_000, 255, 100] {
                let cut: String = long.chars().take(length).collect();
                body["tenant"] = cut.clone().into();
                let answer = harness.post("/v1/events", body.clone()).await;
                if answer.status == StatusCode::ACCEPTED {
                    event = answer.json["id"].as_str().unwrap().to_owned();
                    break;
                }
                body["type"] = Value::from(cut);
            }
        }
        assert!(!event.is_empty(), "nothing of it was taken");
        harness.drain().await;
        let mut pages = Pages::of(&harness).await;
        for path in [
            "events".to_owned(),
            format!("events/{event}"),
            format!("events/{event}/replay"),
            "deliveries".to_owned(),
            "deliveries/retry?state=failed".to_owned(),
        ] {
            let page = pages.page(&path).await;
            assert!(page.contains("&lt;x-planted"), "{path} shows nothing of it");
        }
        let hostile: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
        for path in ["events", "deliveries", "deliveries/retry", "send"] {
            let query = [
                "type",
                "tenant",
                "subject",
                "since",
                "until",
                "state",
                "endpoint_id",
                "cursor",
                "done",
                "period",
            ];
            let query = query.map(|name| format!("{name}={hostile}")).join("&");
            let answer = pages.get(&format!("{path}?{query}")).await;
            assert!(answer.status.as_u16() < 500, "{path}: {}", text(&answer));
        }
    });
}

#[test]
fn who_may_only_read_is_offered_nothing_else_and_refused_it() {
    run(async {
        let harness = Harness::new().await;
        let event = harness.publish("a").await;
        let key = harness
            .new_key(&harness.project, &["events:read", "endpoints:read"])
            .await;
        let mut pages = Pages::with(&harness, &key).await;
        for path in [
            "events".to_owned(),
            format!("events/{event}"),
            "deliveries".to_owned(),
        ] {
            let page = pages.page(&path).await;
            assert!(
                !page.contains("Replay</a>") && !page.contains("Send event"),
                "{path}: {page}"
            );
        }
        for path in ["send".to_owned(), format!("events/{event}/replay")] {
            let refused = pages.submit(&path, &[("type", "a"), ("data", "1")]).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        }
        // Another project's pages are not there.
        let other = harness.new_project(&["events:read"]).await;
        let mut pages = Pages::with(&harness, &other.key).await;
        for path in ["events", "deliveries", "send", "find?q=a"] {
            assert_eq!(
                pages.get(path).await.status,
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
        let mut pages = Pages::with(&harness, ADMIN_KEY).await;
        pages.page("events").await;
        harness.drain().await;
    });
}
