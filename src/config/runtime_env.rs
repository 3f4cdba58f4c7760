//! The environment the process runs in, as AWS's own variables tell of it.

/// What AWS's own variables say about where the process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeEnv {
    /// `AWS_LAMBDA_RUNTIME_API` is there: Lambda, or its Web Adapter.
    pub is_lambda: bool,
    /// `ECS_CONTAINER_METADATA_URI_V4` is there.
    pub is_ecs: bool,
    /// `AWS_REGION`, or `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// `AWS_LAMBDA_MAX_CONCURRENCY`, where it is more than one: invocations that
    /// one process of Lambda Managed Instances is given at a time.
    pub lambda_concurrency: Option<usize>,
}

impl RuntimeEnv {
    /// Reads them through `env`, which answers one variable by name.
    pub fn detect(env: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| env(name).filter(|value| !value.is_empty());
        Self {
            is_lambda: set("AWS_LAMBDA_RUNTIME_API").is_some(),
            is_ecs: set("ECS_CONTAINER_METADATA_URI_V4").is_some(),
            region: set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION")),
            lambda_concurrency: set("AWS_LAMBDA_MAX_CONCURRENCY")
                .and_then(|text| text.parse().ok())
                .filter(|concurrency| *concurrency > 1),
        }
    }

    /// Whether AWS runs this process, so that its disk is not there to stay.
    pub fn is_aws(&self) -> bool {
        self.is_lambda || self.is_ecs
    }
}
