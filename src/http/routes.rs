//! The table of all routes.
//!
//! A process takes methods and paths from the annotations, and nothing else. What
//! they say besides is in `openapi.json`, which [`super::docs`] serves.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use utoipa::Path;
use utoipa::openapi::HttpMethod;

use super::endpoints::stats;
use super::meters::{backfill, usage};
use super::{audit_log, deliveries, docs, endpoints, event_types, events, health, meters};
use super::{projects, recoveries};
use crate::app::App;

macro_rules! routes {
    ($($module:ident: $($handler:ident),+;)+) => {
        /// All of them, for [`super::with_middleware`].
        pub(super) fn table() -> Router<Arc<App>> {
            let router = Router::new();
            pastey::paste! {
                $($(let router = add::<$module::[<__path_ $handler>], _, _>(router, $module::$handler);)+)+
            }
            router
        }

        #[cfg(test)]
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($($module::$handler),+),+))]
        pub(super) struct RouteDocs;
    };
}

routes! {
    events: publish, publish_batch, list, get, replay;
    endpoints: create, list, get, update, delete, test, secret, rotate_secret;
    stats: stats;
    event_types: create, list, get, update, delete, versions;
    deliveries: list, get, retry;
    recoveries: recover, replay_missing, retry, list, get, cancel;
    meters: create, list, get, update, delete;
    usage: usage;
    backfill: start, progress;
    projects: create, list, get, create_key, list_keys, revoke_key;
    audit_log: list, list_of_project;
    health: live, ready;
    docs: openapi, page;
}

fn add<A, H, T>(router: Router<Arc<App>>, handler: H) -> Router<Arc<App>>
where
    A: Path,
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    let methods = A::methods().into_iter().map(filter);
    let methods = methods.reduce(MethodFilter::or);
    router.route(&A::path(), on(methods.expect("there is a method"), handler))
}

fn filter(method: HttpMethod) -> MethodFilter {
    match method {
        HttpMethod::Get => MethodFilter::GET,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Head => MethodFilter::HEAD,
        HttpMethod::Patch => MethodFilter::PATCH,
        HttpMethod::Trace => MethodFilter::TRACE,
        HttpMethod::Delete => MethodFilter::DELETE,
        HttpMethod::Options => MethodFilter::OPTIONS,
    }
}
