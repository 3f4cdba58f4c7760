//! The console: web pages, made on the server, in which a person sees and does what the
//! API can.
//!
//! A page reads and changes nothing by itself: it asks the API, in this process, in the
//! name of the session ([`api`]). So no rule is here that is not there, and who may not
//! is refused there. Pages work without script; [`crate::assets`] has the one that makes them
//! live.

pub mod api;
pub mod chart;
mod delivery;
pub mod document;
mod example;
mod export;
pub mod form;
mod inputs;
pub mod json;
pub mod layout;
mod lines;
pub mod link;
mod listing;
pub mod pairs;
pub mod parts;
pub mod refusal;
pub mod sign_in;
pub mod state;
pub mod visit;
mod why;

mod pages {
    pub mod api_explorer;
    pub mod audit_log;
    pub mod deliveries;
    pub mod endpoint;
    pub mod endpoints;
    pub mod erasures;
    pub mod event;
    pub mod event_types;
    pub mod events;
    pub mod find;
    pub mod home;
    pub mod keys;
    pub mod meter;
    pub mod meters;
    pub mod overview;
    pub mod projects;
    pub mod recoveries;
    pub mod replay;
    pub mod retry;
    pub mod send;
    pub mod settings;
}

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};

use crate::app::App;
use crate::assets;

use pages::api_explorer;
use state::Console;

use pages::event_types;
use pages::event_types::edit as event_type_edit;
use pages::home;
use pages::meter::edit as meter_edit;
use pages::overview;
use pages::{audit_log, erasures, keys, projects, settings};
use pages::{deliveries, event, events, find, replay, retry, send};
use pages::{endpoint, endpoints, recoveries};
use pages::{meter, meters};

/// What pages may load and where their forms may go. Text becomes elements by the script's
/// one policy alone.
pub const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types millrace",
);

/// The routes of the console, and of its assets.
///
/// `api` is the API of the same `app`.
pub fn routes(app: &Arc<App>, api: Router) -> Router<Arc<App>> {
    let console = Arc::new(Console::new(app.clone(), api));
    let pages = Router::new()
        .route("/", get(home::home))
        .route("/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/sign-out-everywhere", post(sign_in::sign_out_everywhere))
        .route("/links", post(link::create))
        .route("/api/{operation}", get(api_explorer::of_session))
        .route(
            "/{project}/api/{operation}",
            get(api_explorer::show).post(api_explorer::send),
        )
        .route("/{project}", get(overview::overview))
        .merge(endpoint_routes())
        .merge(meters_and_types())
        .merge(events_and_deliveries())
        .merge(project_routes())
        .fallback(home::unknown)
        .layer(map_response(with_headers));
    Router::new()
        .nest("/console", pages)
        .route("/console/", get(home::home))
        .route("/assets/{file}", get(assets::asset))
        .with_state(console)
}

/// The pages of projects, and of who may do what in one.
fn project_routes() -> Router<Arc<Console>> {
    let revoke = get(keys::ask_to_revoke).post(keys::revoke);
    let new_erasure = get(erasures::new).post(erasures::create);
    let of_project = get(erasures::list_of_project);
    Router::new()
        .route("/projects", get(projects::list).post(projects::create))
        .route("/projects/{project}/erasures", of_project)
        .route("/{project}/keys", get(keys::list))
        .route("/{project}/keys/new", get(keys::new).post(keys::create))
        .route("/{project}/keys/{id}/revoke", revoke)
        .route("/{project}/audit-log", get(audit_log::list))
        .route("/{project}/settings", get(settings::show))
        .route("/{project}/erasures", get(erasures::list))
        .route("/{project}/erasures/new", new_erasure)
}

/// The pages of endpoints and of recoveries.
fn endpoint_routes() -> Router<Arc<Console>> {
    use endpoint::{acts, edit, resend, secret, show, test};
    let of = |rest: &str| format!("/{{project}}/endpoints/{{id}}{rest}");
    Router::new()
        .route("/{project}/endpoints", get(endpoints::list))
        .route(
            "/{project}/endpoints/new",
            get(edit::new).post(edit::create),
        )
        .route(&of(""), get(show))
        .route(&of("/edit"), get(edit::edit).post(edit::update))
        .route(&of("/secret"), get(secret::ask_secret).post(secret::show))
        .route(&of("/rotate"), get(secret::ask_rotate).post(secret::rotate))
        .route(&of("/test"), get(test::show).post(test::send))
        .route(
            &of("/recover"),
            get(resend::ask_recover).post(resend::recover),
        )
        .route(
            &of("/replay-missing"),
            get(resend::ask_replay).post(resend::replay),
        )
        .route(&of("/enable"), get(acts::ask_enable).post(acts::enable))
        .route(&of("/disable"), get(acts::ask_disable).post(acts::disable))
        .route(&of("/delete"), get(acts::ask_delete).post(acts::delete))
        .route("/{project}/recoveries", get(recoveries::list))
        .route("/{project}/recoveries/{id}", get(recoveries::show))
        .route(
            "/{project}/recoveries/{id}/cancel",
            post(recoveries::cancel),
        )
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

/// The pages of what was published and of what became of it.
fn events_and_deliveries() -> Router<Arc<Console>> {
    let replay = get(replay::ask).post(replay::begin);
    let retry_one = get(retry::ask_one).post(retry::one);
    let retry_many = get(retry::ask_many).post(retry::many);
    Router::new()
        .route("/{project}/events", get(events::list))
        .route("/{project}/events.csv", get(events::csv))
        .route("/{project}/events/{id}", get(event::show))
        .route("/{project}/events/{id}/event.json", get(event::json))
        .route("/{project}/events/{id}/replay", replay)
        .route("/{project}/deliveries", get(deliveries::list))
        .route("/{project}/deliveries.csv", get(deliveries::csv))
        .route("/{project}/deliveries/retry", retry_many)
        .route("/{project}/deliveries/{id}", get(deliveries::show))
        .route("/{project}/deliveries/{id}/retry", retry_one)
        .route("/{project}/send", get(send::show).post(send::submit))
        .route("/{project}/find", get(find::find))
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
