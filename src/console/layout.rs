//! The frame of every page: the side bar, and the header with what can be done.

use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, html};

use super::document::{document, icons, logo};
use super::form::form_tokens;
use super::parts::{cut, icon};
use super::visit::{View, Visitor};

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
            (icons())
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
            (icons())
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

/// The answer that is `element` alone, in place of one that a page has.
pub fn part(element: Markup) -> Response {
    Html(element.into_string()).into_response()
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
