//! The types of operational events.

/// The types of operational events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationalEventKind {
    /// An endpoint was created.
    EndpointCreated,
    /// An endpoint was changed.
    EndpointUpdated,
    /// An endpoint that was disabled was turned on.
    EndpointEnabled,
    /// An endpoint has begun to fail.
    EndpointUnhealthy,
    /// An endpoint has failed for so long that it is about to be disabled.
    EndpointFailing,
    /// An endpoint was disabled: it failed for days, answered 410, or a person did it.
    EndpointDisabled,
    /// An endpoint was deleted.
    EndpointDeleted,
    /// A delivery failed for good.
    DeliveryExhausted,
    /// An API key was created.
    KeyCreated,
    /// An event's data did not satisfy the schema of its type.
    SchemaRejected,
}

impl OperationalEventKind {
    /// Every one: [`CATALOG`](super::CATALOG) says of each what it holds.
    pub const ALL: [Self; 10] = [
        Self::EndpointCreated,
        Self::EndpointUpdated,
        Self::EndpointEnabled,
        Self::EndpointUnhealthy,
        Self::EndpointFailing,
        Self::EndpointDisabled,
        Self::EndpointDeleted,
        Self::DeliveryExhausted,
        Self::KeyCreated,
        Self::SchemaRejected,
    ];

    /// The CloudEvents `type`.
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::EndpointCreated => "millrace.endpoint.created",
            Self::EndpointUpdated => "millrace.endpoint.updated",
            Self::EndpointEnabled => "millrace.endpoint.enabled",
            Self::EndpointUnhealthy => "millrace.endpoint.unhealthy",
            Self::EndpointFailing => "millrace.endpoint.failing",
            Self::EndpointDisabled => "millrace.endpoint.disabled",
            Self::EndpointDeleted => "millrace.endpoint.deleted",
            Self::DeliveryExhausted => "millrace.delivery.exhausted",
            Self::KeyCreated => "millrace.key.created",
            Self::SchemaRejected => "millrace.schema.rejected",
        }
    }
}
