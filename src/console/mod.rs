//! The console: web pages, made on the server, in which a person sees and does what the
//! API can.
//!
//! A page reads and changes nothing by itself: it asks the API, in this process, in the
//! name of the session ([`api`]). So no rule is here that is not there, and who may not
//! is refused there. Pages work without script; [`assets`] has the one that makes them
//! live.

pub mod api;
pub mod assets;
pub mod chart;
pub mod form;
pub mod json;
pub mod layout;
pub mod link;
pub mod pairs;
pub mod parts;
pub mod sign_in;
pub mod visit;

mod pages {
    pub mod audit_log;
    pub mod erasures;
    pub mod home;
    pub mod keys;
    pub mod projects;
    pub mod settings;
}

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};
use moka::future::Cache;

use crate::app::App;
use crate::model::id::ProjectId;

use pages::{audit_log, erasures, home, keys, projects, settings};

/// What pages may load and where their forms may go. Text becomes elements by the script's
/// one policy alone.
pub const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types millrace",
);

/// What every page is given.
pub struct Console {
    /// The application, for sessions and the configuration.
    pub app: Arc<App>,
    /// The API with the frame around its routes.
    api: Router,
    /// Projects' names, which are on every page.
    names: Cache<ProjectId, Arc<str>>,
}

/// The routes of the console, and of its assets.
///
/// `api` is the API of the same `app`.
pub fn routes(app: &Arc<App>, api: Router) -> Router<Arc<App>> {
    let console = Arc::new(Console {
        app: app.clone(),
        api,
        names: layout::names(),
    });
    let pages = Router::new()
        .route("/", get(home::home))
        .route("/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/sign-out-everywhere", post(sign_in::sign_out_everywhere))
        .route("/links", post(link::create))
        .route("/{project}", get(home::overview))
        .route("/projects", get(projects::list).post(projects::create))
        .route(
            "/projects/{project}/erasures",
            get(erasures::list_of_project),
        )
        .route("/{project}/keys", get(keys::list))
        .route("/{project}/keys/new", get(keys::new).post(keys::create))
        .route(
            "/{project}/keys/{id}/revoke",
            get(keys::ask_to_revoke).post(keys::revoke),
        )
        .route("/{project}/audit-log", get(audit_log::list))
        .route("/{project}/settings", get(settings::show))
        .route("/{project}/erasures", get(erasures::list))
        .route(
            "/{project}/erasures/new",
            get(erasures::new).post(erasures::create),
        )
        .fallback(home::unknown)
        .layer(map_response(with_headers));
    Router::new()
        .nest("/console", pages)
        .route("/console/", get(home::home))
        .route("/assets/{file}", get(assets::asset))
        .with_state(console)
}

/// `page`, as browsers are to take it.
async fn with_headers(mut page: Response) -> Response {
    let headers = page.headers_mut();
    let set: [(HeaderName, HeaderValue); 3] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ];
    for (name, value) in set {
        headers.entry(name).or_insert(value);
    }
    page
}
