//! A document: what is around every page, in the frame of a project or at the door.

use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::assets;

/// Every icon, by the name that `parts::icon` takes.
const ICONS: &str = include_str!("assets/icons.svg");

/// The signs that [`logo`] and `parts::icon` show.
pub fn icons() -> Markup {
    PreEscaped(ICONS.to_owned())
}

/// The answer that shows `main` on a page of its own, as at the door.
pub fn door(title: &str, theme: Option<&str>, main: Markup, foot: Markup) -> Response {
    let body = html! {
        body.door {
            (icons())
            header { (logo(None)) }
            main.card { (main) }
            footer.small.faint { (foot) }
        }
    };
    document(&format!("{title} · Millrace"), theme, false, body)
}

/// The answer that is `body` with what every page has.
pub fn document(title: &str, theme: Option<&str>, keys: bool, body: Markup) -> Response {
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

/// The sign of the product, a link to where one begins if that is somewhere.
pub fn logo(to: Option<&str>) -> Markup {
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
