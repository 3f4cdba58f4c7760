//! The one error type of requests and jobs.
//!
//! Each variant is a thing a client can act on, with a stable code. The HTTP
//! layer turns it into problem+json (RFC 9457); `Unavailable` and `Internal`
//! hold their source for the log, and no answer ever shows it.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

/// What went wrong, in terms of what the client can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 400: the request is malformed; the detail names the field and what was expected.
    #[error("{0}")]
    Invalid(Invalid),
    /// 400: a batch of which no event was accepted.
    #[error("none of the {} events of the batch was accepted; errors says why of each", .0.len())]
    InvalidBatch(Vec<Error>),
    /// 401: no key, or one that is not known.
    #[error("{0}")]
    Unauthenticated(Cow<'static, str>),
    /// 403: the key lacks a scope, or is of another kind.
    #[error("{0}")]
    Forbidden(Cow<'static, str>),
    /// 404: not there, or another project's.
    #[error("{0} not found")]
    NotFound(String),
    /// 409: it contradicts what is stored.
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    /// 409: the first request with its idempotency key is not answered yet.
    #[error("a request with this Idempotency-Key is under way: send the same again for its answer")]
    IdempotencyKeyInUse,
    /// 422: its idempotency key was used for another request.
    #[error(
        "this Idempotency-Key was used for another request, of another path or body: \
         use a new key for a new request"
    )]
    IdempotencyKeyReused,
    /// 413: over a size limit; the detail names the limit.
    #[error("{0}")]
    TooLarge(Cow<'static, str>),
    /// 415: a content type that is not spoken here; the detail lists those that are.
    #[error("{0}")]
    UnsupportedMediaType(Cow<'static, str>),
    /// 429: over a rate limit.
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
    /// Why, for the log: see [`causes`].
    pub fn causes(&self) -> Option<String> {
        causes(self)
    }

    /// Whether it only says that a store is out of reach.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// A `Result` whose error is an [`Error`], unless it says otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What lies behind `error`, for the log: every source, the nearest first, on one
/// line of at most `CAUSES_CHARS_MAX` characters; none if it has no source.
///
/// A source that only repeats the end of what holds it is left out. What stores
/// answer is described where it is classified (`aws::error`,
/// `store::postgres`), so that no secret reaches this.
pub fn causes(error: &dyn std::error::Error) -> Option<String> {
    let mut text = String::new();
    let mut said = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if said.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
        said = cause;
    }
    (!text.is_empty()).then(|| one_line(&text, CAUSES_CHARS_MAX))
}

/// What [`causes`] may take of a log line.
const CAUSES_CHARS_MAX: usize = 1000;

/// At most `chars_max` characters of `text`, none of which ends a line.
pub fn one_line(text: &str, chars_max: usize) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(chars_max).map(printable).collect()
}

/// The names of errors in problems: all that there are, for whoever matches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: see [`Error::Invalid`].
    Invalid,
    /// 401: see [`Error::Unauthenticated`].
    Unauthenticated,
    /// 403: see [`Error::Forbidden`].
    Forbidden,
    /// 404: see [`Error::NotFound`].
    NotFound,
    /// 409: see [`Error::Conflict`].
    Conflict,
    /// 409: see [`Error::IdempotencyKeyInUse`].
    IdempotencyKeyInUse,
    /// 422: see [`Error::IdempotencyKeyReused`].
    IdempotencyKeyReused,
    /// 413: see [`Error::TooLarge`].
    TooLarge,
    /// 415: see [`Error::UnsupportedMediaType`].
    UnsupportedMediaType,
    /// 429: see [`Error::RateLimited`].
    RateLimited,
    /// 503: see [`Error::Unavailable`].
    Unavailable,
    /// 500: see [`Error::Internal`].
    Internal,
}

impl std::fmt::Display for ErrorCode {
    /// As in JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

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

    /// [`Error::NotFound`] of "endpoint ep_1" and the like: of an id that was read as one,
    /// never of a text that may be anything.
    pub fn not_found(noun: &str, id: impl std::fmt::Display) -> Self {
        Self::NotFound(format!("{noun} {id}"))
    }

    /// [`Error::Internal`] with its source.
    pub fn internal(source: impl Into<anyhow::Error>) -> Self {
        Self::Internal(source.into())
    }

    /// The stable, machine-readable name.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) | Self::InvalidBatch(_) => ErrorCode::Invalid,
            Self::Unauthenticated(_) => ErrorCode::Unauthenticated,
            Self::Forbidden(_) => ErrorCode::Forbidden,
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::Conflict(_) => ErrorCode::Conflict,
            Self::IdempotencyKeyInUse => ErrorCode::IdempotencyKeyInUse,
            Self::IdempotencyKeyReused => ErrorCode::IdempotencyKeyReused,
            Self::TooLarge(_) => ErrorCode::TooLarge,
            Self::UnsupportedMediaType(_) => ErrorCode::UnsupportedMediaType,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::Unavailable { .. } => ErrorCode::Unavailable,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }

    /// The HTTP status it answers with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) | Self::InvalidBatch(_) => 400,
            Self::Unauthenticated(_) => 401,
            Self::Forbidden(_) => 403,
            Self::NotFound(_) => 404,
            Self::Conflict(_) | Self::IdempotencyKeyInUse => 409,
            Self::IdempotencyKeyReused => 422,
            Self::TooLarge(_) => 413,
            Self::UnsupportedMediaType(_) => 415,
            Self::RateLimited { .. } => 429,
            Self::Unavailable { .. } => 503,
            Self::Internal(_) => 500,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn unavailable(source: anyhow::Error) -> Error {
        let what = "the event store";
        Error::Unavailable { what, source }
    }

    #[test]
    fn causes_are_the_whole_chain_on_one_line() {
        let refused = std::io::Error::other("connection refused");
        let chain = Err::<(), _>(refused).context("dispatch failure");
        let error = unavailable(chain.context("secret arn:1").unwrap_err());
        let expected = "secret arn:1: dispatch failure: connection refused";
        assert_eq!(error.causes().as_deref(), Some(expected));
        let lines = unavailable(anyhow::anyhow!("one\r\ntwo\u{1b}[31m"));
        assert_eq!(lines.causes().as_deref(), Some("one  two [31m"));
        let long = unavailable(anyhow::anyhow!("\u{e9}".repeat(5000)));
        assert_eq!(long.causes().unwrap().chars().count(), CAUSES_CHARS_MAX);
    }

    #[test]
    fn what_has_no_cause_and_what_repeats_itself_say_nothing_more() {
        assert_eq!(Error::NotFound("endpoint ep_1".into()).causes(), None);
        let inner = anyhow::anyhow!("down");
        let repeated = inner.context("the queue: down");
        assert_eq!(unavailable(repeated).causes().unwrap(), "the queue: down");
    }
}
