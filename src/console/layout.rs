//! The frame of every page: the side bar, the header with what can be done, and what a
//! problem looks like.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{Html, IntoResponse, Response};
use http::header::{HeaderValue, REFRESH};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use moka::future::Cache;

use super::Console;
use super::api::Refusal;
use super::form::form_tokens;
use super::parts::{cut, icon};
use super::visit::{View, Visitor};
use crate::assets;
use crate::error::Error;
use crate::model::id::ProjectId;
use crate::store::projects;

/// Every icon, by the name that [`icon`] takes.
const ICONS: &str = include_str!("assets/icons.svg");
/// Projects whose names are kept, and for how long.
const NAMES_MAX: u64 = 1_000;
const NAMES_TTL: Duration = Duration::from_secs(60);
/// What a name may hold up a page.
const NAME_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a page belongs in the side bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the side bar")]
pub enum Section {
    Overview,
    Events,
    Deliveries,
    Endpoints,
    EventTypes,
    Meters,
    Recoveries,
    Keys,
    AuditLog,
    Settings,
    /// Nowhere in it.
    None,
}

/// A link of the side bar: its section, address, icon, word, and the key that goes there
/// after `g`.
type Link = (
    Section,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const MAIN: [Link; 4] = [
    (Section::Overview, "", "overview", "Overview", "o"),
    (Section::Events, "events", "events", "Events", "e"),
    (
        Section::Deliveries,
        "deliveries",
        "deliveries",
        "Deliveries",
        "d",
    ),
    (
        Section::Endpoints,
        "endpoints",
        "endpoints",
        "Endpoints",
        "n",
    ),
];
const CATALOG: [Link; 3] = [
    (
        Section::EventTypes,
        "event-types",
        "types",
        "Event types",
        "t",
    ),
    (Section::Meters, "meters", "meters", "Meters", "m"),
    (
        Section::Recoveries,
        "recoveries",
        "retry",
        "Recoveries",
        "r",
    ),
];
const PROJECT: [Link; 3] = [
    (Section::Keys, "keys", "keys", "API keys", "k"),
    (Section::AuditLog, "audit-log", "audit", "Audit log", "a"),
    (Section::Settings, "settings", "settings", "Settings", "s"),
];

/// What the toast after a deed says, by the word in the address.
const DONE: [(&str, &str); 23] = [
    ("sent", "Event sent"),
    ("duplicate", "This event was there already"),
    ("replayed", "Replay begun"),
    ("retried", "Retry begun"),
    ("created", "Created"),
    ("saved", "Saved"),
    ("deleted", "Deleted"),
    ("enabled", "Endpoint enabled"),
    ("disabled", "Endpoint disabled"),
    ("tested", "Test event sent"),
    ("rotated", "Secret rotated: the old one signs for 24 h more"),
    ("recovering", "Recovery begun"),
    ("canceled", "Recovery canceled"),
    ("backfilling", "Back-fill begun"),
    ("revoked", "Key revoked"),
    (
        "revoked-endpoints",
        "Key revoked; what it made is among the endpoints",
    ),
    ("erasing", "Erasure begun"),
    ("project", "Project created"),
    ("signed-in", "Signed in"),
    ("tried", "Request sent"),
    ("type", "Event type saved"),
    ("meter", "Meter saved"),
    ("nothing", "Nothing to do"),
];

/// How new what a page shows is, and whether it stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// It says nothing of that.
    No,
    /// It is brought up to date by the script.
    Yes,
}

/// A page, without its frame.
#[derive(Debug)]
pub struct Page<'a> {
    /// Its heading and the beginning of its title.
    pub title: &'a str,
    /// The section it belongs to.
    pub section: Section,
    /// The pages above it: words and addresses.
    pub crumbs: &'a [(&'a str, String)],
    /// What stands below the heading: `<span>`s.
    pub meta: Markup,
    /// What can be done: buttons, one of them primary.
    pub acts: Markup,
    /// Whether it is brought up to date.
    pub live: Live,
    /// The rest.
    pub body: Markup,
}

impl Page<'_> {
    /// An empty one.
    pub fn new(title: &str, section: Section) -> Page<'_> {
        Page {
            title,
            section,
            crumbs: &[],
            meta: html! {},
            acts: html! {},
            live: Live::No,
            body: html! {},
        }
    }
}

/// The answer that shows `page`.
pub fn page(view: &View, page: Page<'_>) -> Response {
    let title = format!("{} · {} · Millrace", page.title, view.project_name);
    let body = html! {
        body.app {
            (PreEscaped(ICONS))
            a.skip href="#main" { "Skip to content" }
            (side(view, page.section))
            main #main tabindex="-1" {
                (head(&page))
                (page.body)
            }
            (toasts(&view.query))
            (keys(view))
        }
    };
    document(&title, view.theme, view.keys, body)
}

/// The answer that shows `page` to who is in no project.
pub fn page_of_no_project(visitor: &Visitor, page: Page<'_>) -> Response {
    let title = format!("{} · Millrace", page.title);
    let body = html! {
        body.app {
            (PreEscaped(ICONS))
            a.skip href="#main" { "Skip to content" }
            div.side {
                header { (logo(Some("/console/projects"))) }
                nav aria-label="Console" { div #more { (foot(visitor, "/console/sign-out")) } }
            }
            main #main tabindex="-1" {
                (head(&page))
                (page.body)
            }
            (toasts(&visitor.query))
        }
    };
    document(&title, visitor.theme, visitor.keys, body)
}

/// The answer that shows `main` on a page of its own, as at the door.
pub fn door(title: &str, theme: Option<&str>, main: Markup, foot: Markup) -> Response {
    let body = html! {
        body.door {
            (PreEscaped(ICONS))
            header { (logo(None)) }
            main.card { (main) }
            footer.small.faint { (foot) }
        }
    };
    document(&format!("{title} · Millrace"), theme, false, body)
}

/// The page of a refusal.
pub fn problem(refusal: &Refusal) -> Response {
    let main = html! {
        div {
            h1 { (refusal.title) }
            p.small.soft role="alert" {
                @if let Some(field) = &refusal.field { bdi { (field) } ": " }
                (refusal.detail) "."
            }
        }
        a.btn href="/console" { "To the console" }
    };
    let foot = html! {
        @if let Some(id) = &refusal.request_id { "Request " code { (id) } }
    };
    let mut response = door(&refusal.title, None, main, foot);
    *response.status_mut() = refusal.status_code();
    if refusal.status == 503 {
        let again = HeaderValue::from_static("10");
        response.headers_mut().insert(REFRESH, again);
    }
    response
}

fn document(title: &str, theme: Option<&str>, keys: bool, body: Markup) -> Response {
    let keys = (!keys).then_some("off");
    let document = html! {
        (DOCTYPE)
        html lang="en" data-theme=[theme] data-keys=[keys] {
            head {
                meta charset="utf-8";
                title { (title) }
                meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover";
                meta name="color-scheme" content="light dark";
                link rel="icon" href=(assets::ICON.path()) type="image/svg+xml";
                link rel="stylesheet" href=(assets::STYLE.path());
                script src=(assets::SCRIPT.path()) defer {}
            }
            (body)
        }
    };
    Html(document.into_string()).into_response()
}

/// The answer that is `element` alone, in place of one that a page has.
pub fn part(element: Markup) -> Response {
    Html(element.into_string()).into_response()
}

fn logo(to: Option<&str>) -> Markup {
    let sign = html! {
        svg viewBox="0 0 22 22" aria-hidden="true" {
            rect.mark width="22" height="22" rx="6" {}
            circle.drop cx="11" cy="6.2" r="1.9" {}
            path.wave d="M4 11.6c1.75-1.7 3.5-1.7 5.25 0s3.5 1.7 5.25 0q1.75-1.7 3.5-.4M4 15.8c1.75-1.7 3.5-1.7 5.25 0s3.5 1.7 5.25 0q1.75-1.7 3.5-.4" {}
        }
        span { "Millrace" }
    };
    html! {
        @match to {
            Some(to) => a.logo href=(to) aria-label="Millrace, overview" { (sign) },
            None => div.logo { (sign) },
        }
    }
}

fn side(view: &View, section: Section) -> Markup {
    html! {
        div.side {
            header {
                (logo(Some(&view.path(""))))
                details.menu name="menu" {
                    summary.btn.quiet.slim aria-label={ "Project: " (view.project_name) } {
                        (cut(&view.project_name)) (icon("down"))
                    }
                    ul {
                        li { a href=(view.path("")) aria-current="true" { (icon("check")) (cut(&view.project_name)) } }
                        @if view.is_admin() {
                            li { a href="/console/projects" { span.i {} "All projects" } }
                        }
                    }
                }
                form.find role="search" aria-label="Find" action=(view.path("find")) {
                    (icon("search"))
                    input name="q" type="search" placeholder="Find an id or URL" aria-label="Find by id, URL or tenant" autocomplete="off";
                    kbd aria-hidden="true" { "/" }
                }
            }
            nav aria-label="Console" {
                (links(view, section, &MAIN))
                button.more type="button" popovertarget="more" { (icon("menu")) "More" }
                div #more popover {
                    h2 { "Catalog" }
                    (links(view, section, &CATALOG))
                    h2 { "Project" }
                    (links(view, section, &PROJECT))
                    (foot(view, "/console/sign-out"))
                }
            }
        }
    }
}

fn links(view: &View, section: Section, links: &[Link]) -> Markup {
    html! {
        ul.nav {
            @for (of, rest, sign, word, key) in links {
                @let current = (*of == section).then_some("page");
                li { a href=(view.path(rest)) data-key=(key) aria-current=[current] { (icon(sign)) (word) } }
            }
        }
    }
}

fn foot(visitor: &Visitor, sign_out: &str) -> Markup {
    html! {
        div.foot {
            form #out method="post" action=(sign_out) hidden {
                (super::form::csrf_field(&visitor.csrf_token()))
            }
            form #out-everywhere method="post" action="/console/sign-out-everywhere" hidden {
                (super::form::csrf_field(&visitor.csrf_token()))
            }
            details.menu.up name="menu" {
                summary.btn.quiet.slim { (icon("user")) (cut(&visitor.session.name())) }
                ul {
                    li { button type="button" data-theme-set="" { "Theme: as the system" } }
                    li { button type="button" data-theme-set="light" { "Theme: light" } }
                    li { button type="button" data-theme-set="dark" { "Theme: dark" } }
                    li { button type="button" data-dialog="keys" { "Keyboard shortcuts" } }
                    li { a href="/docs" { "API documentation" } }
                    li { button form="out" { "Sign out" } }
                    li { button form="out-everywhere" { "Sign out everywhere" } }
                }
            }
        }
    }
}

fn head(page: &Page<'_>) -> Markup {
    html! {
        header.head {
            div {
                @if !page.crumbs.is_empty() {
                    nav aria-label="Breadcrumb" {
                        ol.crumbs {
                            @for (word, to) in page.crumbs { li { a.plain href=(to) { bdi { (word) } } } }
                        }
                    }
                }
                div.title {
                    h1 { bdi { (page.title) } }
                    @if page.live == Live::Yes { span.live hidden { "Live" } }
                }
                p.meta { (page.meta) }
            }
            div.acts { (page.acts) }
        }
    }
}

/// The region of toasts, with the one of what was just done.
fn toasts(query: &super::pairs::Pairs) -> Markup {
    let done = query.get("done");
    let done = done.and_then(|word| DONE.iter().find(|(known, _)| *known == word));
    html! {
        div.toasts aria-live="polite" {
            @if let Some((_, text)) = done { p.toast { (text) } }
        }
    }
}

const KEYS: [(&str, &str); 19] = [
    ("/", "Find an id, URL or tenant"),
    ("f", "First filter"),
    ("j", "Next row"),
    ("k", "Previous row"),
    ("n", "Older page"),
    ("p", "Newer page"),
    ("c", "Copy the id"),
    ("l", "Pause or resume live"),
    ("s", "Send an event"),
    ("g o", "Overview"),
    ("g e", "Events"),
    ("g d", "Deliveries"),
    ("g n", "Endpoints"),
    ("g t", "Event types"),
    ("g m", "Meters"),
    ("g r", "Recoveries"),
    ("g k", "API keys"),
    ("g a", "Audit log"),
    ("g s", "Settings"),
];

fn keys(view: &View) -> Markup {
    let switch = if view.keys { "Turn off" } else { "Turn on" };
    html! {
        dialog #keys aria-labelledby="keys-title" {
            header { h2 #keys-title { "Keyboard shortcuts" } }
            div.in {
                dl.kv {
                    @for (key, does) in KEYS {
                        dt { @for part in key.split(' ') { kbd { (part) } " " } }
                        dd { (does) }
                    }
                }
            }
            footer {
                button.btn type="button" data-keys { (switch) }
                form method="dialog" { button.btn.primary { "Close" } }
            }
        }
    }
}

/// The names of projects as [`project_name`] keeps them.
pub(super) fn names() -> Cache<ProjectId, Arc<str>> {
    Cache::builder()
        .max_capacity(NAMES_MAX)
        .time_to_live(NAMES_TTL)
        .build()
}

/// What `project` is called, if there is one; its id while the control plane's database
/// does not answer.
pub(super) async fn project_name(console: &Console, project: &ProjectId) -> Option<Arc<str>> {
    if let Some(name) = console.names.get(project).await {
        return Some(name);
    }
    let found = projects::get(&console.app.postgres, project);
    let name: Arc<str> = match tokio::time::timeout(NAME_TIMEOUT, found).await {
        Ok(Ok(row)) => row.name.into(),
        Ok(Err(Error::NotFound(_))) => return None,
        _ => return Some(project.to_string().into()),
    };
    console.names.insert(project.clone(), name.clone()).await;
    Some(name)
}

/// The answer that sends a browser to `to`, where the toast says what was `done`.
pub fn see_other(to: &str, done: &str) -> Response {
    let (page, place) = to
        .split_once('#')
        .map_or((to, None), |(page, place)| (page, Some(place)));
    let mut address = match page.contains('?') {
        true => format!("{page}&done={done}"),
        false => format!("{page}?done={done}"),
    };
    if let Some(place) = place {
        address = format!("{address}#{place}");
    }
    axum::response::Redirect::to(&address).into_response()
}

/// A form that changes something: its tokens and `fields`, sent to `action`.
pub fn form(view: &View, action: &str, fields: Markup) -> Markup {
    html! {
        form.form method="post" action=(action) { (form_tokens(view)) (fields) }
    }
}
