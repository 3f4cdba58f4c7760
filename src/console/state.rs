//! What every page is given: the application, the API that pages ask, and the names of
//! projects, which are on every page.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use moka::future::Cache;

use crate::app::App;
use crate::error::Error;
use crate::model::id::ProjectId;
use crate::store::projects;

/// Projects whose names are kept, and for how long.
const NAMES_MAX: u64 = 1_000;
const NAMES_TTL: Duration = Duration::from_secs(60);
/// What a name may hold up a page.
const NAME_TIMEOUT: Duration = Duration::from_secs(1);

/// What every page is given.
pub struct Console {
    /// The application, for sessions and the configuration.
    pub app: Arc<App>,
    /// The API with the frame around its routes.
    pub(super) api: Router,
    names: Cache<ProjectId, Arc<str>>,
}

impl Console {
    /// One that asks `api`, which is the API of the same `app`.
    pub fn new(app: Arc<App>, api: Router) -> Self {
        let names = Cache::builder()
            .max_capacity(NAMES_MAX)
            .time_to_live(NAMES_TTL)
            .build();
        Self { app, api, names }
    }

    /// What `project` is called, if there is one; its id while the control plane's
    /// database does not answer.
    pub(super) async fn project_name(&self, project: &ProjectId) -> Option<Arc<str>> {
        if let Some(name) = self.names.get(project).await {
            return Some(name);
        }
        let found = projects::get(&self.app.postgres, project);
        let name: Arc<str> = match tokio::time::timeout(NAME_TIMEOUT, found).await {
            Ok(Ok(row)) => row.name.into(),
            Ok(Err(Error::NotFound(_))) => return None,
            _ => return Some(project.to_string().into()),
        };
        self.names.insert(project.clone(), name.clone()).await;
        Some(name)
    }
}
