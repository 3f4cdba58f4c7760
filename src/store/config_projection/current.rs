//! The configuration as it is at this moment, past the cache: for what is decided for
//! good, or by a person's word, and not again when another view comes.

use std::sync::Arc;
use std::time::Duration;

use super::{ConfigProjection, endpoint_item};
use crate::config::Config;
use crate::error::Result;
use crate::model::endpoint::Target;
use crate::model::id::{EndpointId, ProjectId};
use crate::model::project_config::ProjectConfig;
use crate::store::keys;

/// How long a view may be in use after it is of no use any more: by the request that has
/// it.
const VIEW_MARGIN: Duration = Duration::from_secs(1);

/// How long a process may act on a view of the configuration after that has changed: the
/// one place that says so. Whatever waits until every process knows waits for this.
pub fn view_age_max(config: &Config) -> Duration {
    config.cache.staleness_max() + VIEW_MARGIN
}

impl ConfigProjection {
    /// The endpoint `id` as its item has it now, a deleted one included, and without
    /// what needs the key ring; none if there is no item, which may yet come. One
    /// consistent read.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::error::Error::Internal) when this version cannot read
    /// it; [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does
    /// not answer.
    pub async fn current_endpoint(
        &self,
        project: &ProjectId,
        id: &EndpointId,
    ) -> Result<Option<Target>> {
        let (pk, sk) = (keys::project(project), keys::endpoint(id));
        let item = self.dynamo.get(pk, sk).await?;
        let read = |item| endpoint_item::read(None, id, item);
        item.as_ref().map(read).transpose()
    }

    /// The configuration of `project` as it is now; the cache has it as it was. Cost: all
    /// items of the project's configuration, read consistently.
    ///
    /// # Errors
    /// As [`ConfigProjection::project_config`].
    pub async fn current_project_config(&self, project: &ProjectId) -> Result<Arc<ProjectConfig>> {
        Ok(self.read_project_config(project).await?.config)
    }

    /// Forgets what is cached of `project`, since a newer view was seen: whoever asks
    /// next reads.
    pub fn forget(&self, project: &ProjectId) {
        self.invalidate(project);
    }
}
