//! The one error type of requests and jobs.
//!
//! Each variant is a thing a client can act on, with a stable code. The HTTP
//! layer turns it into problem+json (RFC 9457); `Unavailable` and `Internal`
//! hold their source for the log, and no answer ever shows it.

use std::borrow::Cow;
use std::time::Duration;

/// What went wrong, in terms of what the client can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 400: the request is malformed; the detail names the field and what was expected.
    #[error("{0}")]
    Invalid(Invalid),
    /// 401: no key, or one that is not known.
    #[error("{0}")]
    Unauthenticated(Cow<'static, str>),
    /// 403: the key lacks a scope.
    #[error("{0}")]
    Forbidden(Cow<'static, str>),
    /// 404: not there, or another project's.
    #[error("{0} not found")]
    NotFound(String),
    /// 409: it contradicts what is stored.
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    /// 413: over a size limit; the detail names the limit.
    #[error("{0}")]
    TooLarge(Cow<'static, str>),
    /// 415: a content type that is not spoken here; the detail lists those that are.
    #[error("{0}")]
    UnsupportedMediaType(Cow<'static, str>),
    /// 429: later.
    #[error("too many requests")]
    RateLimited {
        /// When the next request will be let through.
        retry_after: Duration,
    },
    /// 503: a store or queue is out of reach or overloaded; the same request may work later.
    #[error("{what} is unavailable")]
    Unavailable {
        /// The part that did not answer: "the event store", "the control-plane database".
        what: &'static str,
        /// Why, for the log.
        #[source]
        source: anyhow::Error,
    },
    /// 500: a defect of ours.
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

impl Error {
    /// Whether it only says that a store is out of reach.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A malformed request: what is wrong, and with which field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The attribute, JSON field, header or parameter, as the client wrote it.
    pub field: Option<Cow<'static, str>>,
    /// What was expected.
    pub detail: Cow<'static, str>,
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.detail),
            None => f.write_str(&self.detail),
        }
    }
}

impl Invalid {
    /// `field` is wrong; `detail` says what was expected.
    pub fn new(field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: Some(field.into()),
            detail: detail.into(),
        }
    }

    /// The whole body is wrong.
    pub fn body(detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: None,
            detail: detail.into(),
        }
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl Error {
    /// [`Error::Invalid`] for one field.
    pub fn invalid(
        field: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Invalid(Invalid::new(field, detail))
    }

    /// [`Error::NotFound`] of "endpoint ep_1" and the like.
    pub fn not_found(noun: &str, id: impl std::fmt::Display) -> Self {
        Self::NotFound(format!("{noun} {id}"))
    }

    /// [`Error::Internal`] with its source.
    pub fn internal(source: impl Into<anyhow::Error>) -> Self {
        Self::Internal(source.into())
    }

    /// The stable, machine-readable name: `invalid`, `unauthenticated`, ….
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::TooLarge(_) => "too_large",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unavailable { .. } => "unavailable",
            Self::Internal(_) => "internal",
        }
    }

    /// The HTTP status it answers with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) => 400,
            Self::Unauthenticated(_) => 401,
            Self::Forbidden(_) => 403,
            Self::NotFound(_) => 404,
            Self::Conflict(_) => 409,
            Self::TooLarge(_) => 413,
            Self::UnsupportedMediaType(_) => 415,
            Self::RateLimited { .. } => 429,
            Self::Unavailable { .. } => 503,
            Self::Internal(_) => 500,
        }
    }
}
