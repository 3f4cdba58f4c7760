//! Errors of PostgreSQL's as the log has them.

use tokio_postgres::error::DbError;

/// Why a connection, or a statement on it, failed.
pub(super) fn connect_error(error: tokio_postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(db) => SqlError::from(db).into(),
        None => error.into(),
    }
}

/// An error of PostgreSQL's, for the log: its SQLSTATE and message. Its detail
/// is left out, since that quotes rows.
#[derive(Debug, thiserror::Error)]
#[error("SQLSTATE {code}: {message}")]
pub(super) struct SqlError {
    code: String,
    message: String,
}

impl From<&DbError> for SqlError {
    fn from(error: &DbError) -> Self {
        let mut message = error.message().to_owned();
        // Not in every message, and the most useful part.
        if let Some(constraint) = error.constraint().filter(|name| !message.contains(*name)) {
            message = format!("{message} (constraint {constraint})");
        }
        Self {
            code: error.code().code().to_owned(),
            message,
        }
    }
}
