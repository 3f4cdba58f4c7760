//! The console: web pages, made on the server, in which a person sees and does what the
//! API can.
//!
//! A page reads and changes nothing by itself: it asks the API, in this process, in the
//! name of the session ([`api`]). So no rule is here that is not there, and who may not
//! is refused there. Pages work without script; [`crate::assets`] has the one that makes them
//! live.

pub mod api;
pub mod chart;
mod example;
pub mod form;
mod inputs;
pub mod json;
pub mod layout;
pub mod link;
pub mod pairs;
pub mod parts;
pub mod sign_in;
pub mod visit;

mod pages {
    pub mod api_explorer;
    pub mod event_types;
    pub mod home;
    pub mod meter;
    pub mod meters;
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
use crate::assets;
use crate::model::id::ProjectId;

use pages::api_explorer;
use pages::event_types;
use pages::event_types::edit as event_type_edit;
use pages::home;
use pages::meter::edit as meter_edit;
use pages::{meter, meters};

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
    let explorer = get(api_explorer::show).post(api_explorer::send);
    let pages = Router::new()
        .route("/", get(home::home))
        .route("/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/sign-out-everywhere", post(sign_in::sign_out_everywhere))
        .route("/links", post(link::create))
        .route("/api/{operation}", get(api_explorer::of_session))
        .route("/{project}/api/{operation}", explorer)
        .route("/{project}", get(home::overview))
        .merge(meters_and_types())
        .fallback(home::unknown)
        .layer(map_response(with_headers));
    Router::new()
        .nest("/console", pages)
        .route("/console/", get(home::home))
        .route("/assets/{file}", get(assets::asset))
        .with_state(console)
}

/// The pages of meters and of the catalog of event types.
fn meters_and_types() -> Router<Arc<Console>> {
    let new_meter = get(meter_edit::new).post(meter_edit::create);
    let edit_meter = get(meter_edit::edit).post(meter_edit::save);
    let delete_meter = get(meter_edit::ask_to_delete).post(meter_edit::delete);
    let backfill = get(meter_edit::ask_to_backfill).post(meter_edit::begin_backfill);
    let new_type = get(event_type_edit::new).post(event_type_edit::create);
    let edit_type = get(event_type_edit::edit).post(event_type_edit::save);
    let delete_type = get(event_type_edit::ask_to_delete).post(event_type_edit::delete);
    Router::new()
        .route("/{project}/meters", get(meters::list))
        .route("/{project}/meters/new", new_meter)
        .route("/{project}/meters/{id}", get(meter::show))
        .route("/{project}/meters/{id}/usage.csv", get(meter::csv))
        .route("/{project}/meters/{id}/edit", edit_meter)
        .route("/{project}/meters/{id}/delete", delete_meter)
        .route("/{project}/meters/{id}/backfill", backfill)
        .route("/{project}/event-types", get(event_types::list))
        .route("/{project}/event-types/new", new_type)
        .route("/{project}/event-types/{name}", get(event_types::show))
        .route("/{project}/event-types/{name}/edit", edit_type)
        .route("/{project}/event-types/{name}/delete", delete_type)
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
