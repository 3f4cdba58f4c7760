//! The table of all routes.
//!
//! A process takes methods and paths from the annotations, and nothing else. What
//! they say besides is in `openapi.json`, which [`super::docs`] serves.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, get, on};
use utoipa::Path;
use utoipa::openapi::HttpMethod;

use super::endpoints::{list as endpoint_list, replace, stats};
use super::meters::{backfill, usage, values};
use super::recoveries::preview;
use super::{
    activity, audit_log, deliveries, docs, endpoints, erasures, event_types, events, health, meters,
};
use super::{projects, recoveries, root, source_addresses};
use crate::app::App;

macro_rules! routes {
    ($($module:ident: $($handler:ident),+;)+) => {
        /// All of them, for [`super::with_middleware`].
        pub(super) fn table() -> Router<Arc<App>> {
            let router = Router::new().route("/favicon.ico", get(root::favicon));
            pastey::paste! {
                $($(let router = add::<$module::[<__path_ $handler>], _, _>(router, $module::$handler);)+)+
            }
            router
        }

        /// The methods of the route at `path`, as `Allow` lists them.
        pub(super) fn methods_of(path: &str) -> Vec<&'static str> {
            let mut found = vec![];
            pastey::paste! {
                $($(found.extend(methods_at::<$module::[<__path_ $handler>]>(path));)+)+
            }
            found
        }

        #[cfg(test)]
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($($module::$handler),+),+))]
        pub(super) struct RouteDocs;
    };
}

routes! {
    events: publish, publish_batch, list, get, replay;
    endpoint_list: list;
    endpoints: create, get, update, delete, test, secret, rotate_secret;
    replace: replace;
    stats: stats;
    event_types: create, list, get, update, delete, versions;
    deliveries: list, get, retry;
    recoveries: recover, replay_missing, retry, list, get, cancel;
    preview: preview;
    meters: create, list, get, update, delete;
    usage: usage;
    values: list;
    backfill: start, progress;
    projects: create, list, get, create_key, list_keys, revoke_key;
    audit_log: list, list_of_project, list_of_no_project;
    erasures: erase_event, erase_tenant, erase_project, list, get, list_of_project, get_of_project;
    source_addresses: get;
    activity: get, endpoints;
    health: live, ready;
    docs: openapi, page;
    root: root;
}

fn add<A, H, T>(router: Router<Arc<App>>, handler: H) -> Router<Arc<App>>
where
    A: Path,
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    let methods = A::methods().into_iter().map(filter);
    let methods = methods.reduce(MethodFilter::or);
    let methods = methods.expect("there is a method");
    let path = A::path();
    let router = match path.as_str() {
        "/" => router,
        // A slash too many is nobody's intention.
        path => router.route(&format!("{path}/"), on(methods, handler.clone())),
    };
    router.route(&path, on(methods, handler))
}

fn methods_at<A: Path>(path: &str) -> Vec<&'static str> {
    let form = A::path();
    if path != form && path.strip_suffix('/') != Some(&*form) {
        return vec![];
    }
    let methods = A::methods().into_iter();
    let names = methods.flat_map(|method| match method {
        // Whatever can be read can be asked for without its body.
        HttpMethod::Get => &["GET", "HEAD"][..],
        HttpMethod::Put => &["PUT"],
        HttpMethod::Post => &["POST"],
        HttpMethod::Head => &["HEAD"],
        HttpMethod::Patch => &["PATCH"],
        HttpMethod::Trace => &["TRACE"],
        HttpMethod::Delete => &["DELETE"],
        HttpMethod::Options => &["OPTIONS"],
    });
    names.copied().collect()
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
