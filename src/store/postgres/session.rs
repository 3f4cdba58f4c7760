//! A session with PostgreSQL: what statements it is asked, and that they leave nothing
//! behind in it.
//!
//! RDS Proxy lends a connection to the database for one transaction, unless the session
//! holds a state of its own: then it keeps the connection until its client goes, and
//! connects no more clients than the database itself would. A named prepared statement
//! is such a state. So each statement is parsed unnamed and run in the same message,
//! which saves a round trip as well; the types of its values, of which the server would
//! tell only in a message of its own, are those of the values. This is the only way to
//! the pool's connections.

use bytes::BytesMut;
use deadpool_postgres::{Object, Transaction};
use tokio_postgres::types::{ToSql, Type, WrongType};
use tokio_postgres::{Client, Error, IsolationLevel, Row};

/// What values may be, the frequent ones first. Each Rust type that is stored is one of
/// them alone, but for JSON, which is `jsonb`.
const TYPES: [Type; 18] = [
    Type::TEXT,
    Type::INT8,
    Type::TIMESTAMPTZ,
    Type::INT4,
    Type::BOOL,
    Type::TEXT_ARRAY,
    Type::JSONB,
    Type::BYTEA,
    Type::DATE,
    Type::INT8_ARRAY,
    Type::INT4_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::BOOL_ARRAY,
    Type::DATE_ARRAY,
    Type::JSONB_ARRAY,
    Type::BYTEA_ARRAY,
    Type::INT2,
    Type::FLOAT8,
];

/// A value of a statement.
type Value<'a> = &'a (dyn ToSql + Sync);

/// A connection of the pool.
#[derive(Debug)]
pub struct Session(Object);

/// A transaction. Dropped, it is rolled back.
pub struct SessionTransaction<'a>(Transaction<'a>);

/// The ways to run one statement.
macro_rules! statements {
    ($session:ty) => {
        impl $session {
            /// The rows of `statement`.
            ///
            /// # Errors
            /// When the database refuses, or does not answer.
            pub async fn query(
                &self,
                statement: &str,
                values: &[Value<'_>],
            ) -> Result<Vec<Row>, Error> {
                self.0.query_typed(statement, &typed(values)).await
            }

            /// The one row of `statement`.
            ///
            /// # Errors
            /// As [`Self::query`]; when there is none, or another.
            pub async fn query_one(
                &self,
                statement: &str,
                values: &[Value<'_>],
            ) -> Result<Row, Error> {
                self.0.query_typed_one(statement, &typed(values)).await
            }

            /// The one row of `statement`, if it has any.
            ///
            /// # Errors
            /// As [`Self::query`]; when there is another.
            pub async fn query_opt(
                &self,
                statement: &str,
                values: &[Value<'_>],
            ) -> Result<Option<Row>, Error> {
                self.0.query_typed_opt(statement, &typed(values)).await
            }

            /// How many rows `statement` wrote.
            ///
            /// # Errors
            /// As [`Self::query`].
            pub async fn execute(
                &self,
                statement: &str,
                values: &[Value<'_>],
            ) -> Result<u64, Error> {
                self.0.execute_typed(statement, &typed(values)).await
            }

            /// Runs statements without values, each until the next semicolon.
            ///
            /// # Errors
            /// As [`Self::query`].
            pub async fn batch_execute(&self, statements: &str) -> Result<(), Error> {
                self.0.batch_execute(statements).await
            }
        }
    };
}

statements!(Session);
statements!(SessionTransaction<'_>);

impl Session {
    pub(super) fn new(connection: Object) -> Self {
        Self(connection)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn transaction(&mut self) -> Result<SessionTransaction<'_>, Error> {
        self.0.transaction().await.map(SessionTransaction)
    }

    /// Begins a transaction that reads all as of one moment, and writes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn snapshot(&mut self) -> Result<SessionTransaction<'_>, Error> {
        let begun = self
            .0
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true);
        begun.start().await.map(SessionTransaction)
    }

    /// The connection as it is, for migrations: they go to the database itself.
    pub(super) fn connection(&mut self) -> &mut Client {
        &mut self.0
    }
}

impl SessionTransaction<'_> {
    /// Commits it.
    ///
    /// # Errors
    /// When the database refuses, or does not answer: then it may be committed or not.
    pub async fn commit(self) -> Result<(), Error> {
        self.0.commit().await
    }
}

fn typed<'a>(values: &[Value<'a>]) -> Vec<(Value<'a>, Type)> {
    let values = values.iter();
    values.map(|value| (*value, type_of(*value))).collect()
}

/// The type that `value` is stored as. One that is none of [`TYPES`] is refused as a text
/// when it is written.
fn type_of(value: Value<'_>) -> Type {
    let mut written = BytesMut::new();
    let takes = |kind: &&Type| match value.to_sql_checked(kind, &mut written) {
        Ok(_) => true,
        // It is one of that type, which cannot be written.
        Err(error) => !error.is::<WrongType>(),
    };
    TYPES.iter().find(takes).unwrap_or(&Type::TEXT).clone()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::civil::Date;

    use super::*;

    #[test]
    fn a_value_has_the_type_that_it_is_stored_as() {
        let (text, texts, now) = ("a".to_owned(), vec!["a"], Timestamp::UNIX_EPOCH);
        let (bytes, numbers, times) = (b"a".as_slice(), vec![1_i64], vec![now]);
        let (some, hashes) = (vec![Some("a"), None], vec![Some(bytes), None]);
        let cases: [(Value<'_>, Type); 20] = [
            (&"a", Type::TEXT),
            (&text, Type::TEXT),
            (&None::<&str>, Type::TEXT),
            (&1_i64, Type::INT8),
            (&None::<i64>, Type::INT8),
            (&1_i32, Type::INT4),
            (&true, Type::BOOL),
            (&now, Type::TIMESTAMPTZ),
            (&None::<Timestamp>, Type::TIMESTAMPTZ),
            (&Date::ZERO, Type::DATE),
            (&serde_json::Value::Null, Type::JSONB),
            (&None::<serde_json::Value>, Type::JSONB),
            (&bytes, Type::BYTEA),
            (&texts, Type::TEXT_ARRAY),
            (&some, Type::TEXT_ARRAY),
            (&numbers, Type::INT8_ARRAY),
            (&times, Type::TIMESTAMPTZ_ARRAY),
            (&hashes, Type::BYTEA_ARRAY),
            (&1_i16, Type::INT2),
            (&0.5_f64, Type::FLOAT8),
        ];
        for (value, expected) in cases {
            assert_eq!(type_of(value), expected, "{value:?}");
        }
    }
}
