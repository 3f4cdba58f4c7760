//! The control-plane transaction: a change cannot be committed without its audit
//! entry and its outbox row.
//!
//! Every write to what people configure goes through it. What it commits is handed
//! back as [`Committed`], which [`projector`](super::projector) applies to the data
//! plane after the commit.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit_log::{self, NewAuditEntry};
use super::outbox::{self, ChangeKind, ConfigChange, Subject};
use super::postgres::{Postgres, Session, SessionTransaction, classify};
use crate::error::Result;

/// A transaction that changes what people configure. Dropped, it is rolled back.
pub(super) struct Change<'a> {
    tx: SessionTransaction<'a>,
    /// What it changes beside the subject of the commit.
    others: Vec<ConfigChange>,
}

/// A connection for changes, which are announced.
pub(super) struct ChangeSession(Session);

/// What the audit log says of a change.
pub(super) enum Audit<'a> {
    /// That this was done.
    Entry(NewAuditEntry<'a>),
    /// Nothing: the same was done before, and has its entry.
    Repeated,
}

impl<'a> Change<'a> {
    /// Connects for one, and says before to whoever looks for what its process may leave
    /// behind that there may be something: it is looked for only then. No connection is
    /// held meanwhile.
    pub(super) async fn connect(postgres: &Postgres) -> Result<ChangeSession> {
        postgres.announce_change().await;
        postgres.get().await.map(ChangeSession)
    }

    /// Begins one on a connection of its own.
    pub(super) async fn begin(client: &'a mut ChangeSession) -> Result<Self> {
        let tx = client.0.transaction().await.map_err(classify)?;
        Ok(Self { tx, others: vec![] })
    }

    /// Rows that `statement` wrote.
    pub(super) async fn execute(
        &self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64> {
        self.tx.execute(statement, values).await.map_err(classify)
    }

    /// The rows of `statement`.
    pub(super) async fn query(
        &self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        self.tx.query(statement, values).await.map_err(classify)
    }

    /// The one row of `statement`.
    pub(super) async fn query_one(
        &self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Row> {
        self.tx.query_one(statement, values).await.map_err(classify)
    }

    /// The one row of `statement`, if it has any.
    pub(super) async fn query_opt(
        &self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>> {
        self.tx.query_opt(statement, values).await.map_err(classify)
    }

    /// Takes `subject` into the change beside the one of the commit, with an audit entry
    /// and an outbox row of its own.
    pub(super) async fn enlist(&mut self, audit: Audit<'_>, subject: Subject<'_>) -> Result<()> {
        self.record(audit).await?;
        self.others.push(outbox::add(&self.tx, &subject).await?);
        Ok(())
    }

    /// Commits the change with its audit entry and the outbox row of `subject`.
    /// `value` is what the caller is given once the change is projected.
    pub(super) async fn commit<T>(
        self,
        audit: Audit<'_>,
        subject: Subject<'_>,
        value: T,
    ) -> Result<Committed<T>> {
        self.record(audit).await?;
        let mut rows = vec![outbox::add(&self.tx, &subject).await?];
        rows.extend(self.others);
        self.tx.commit().await.map_err(classify)?;
        Ok(Committed { value, rows })
    }

    /// As [`Self::commit`], of a change to many things of one `kind`, named as the
    /// outbox names them.
    pub(super) async fn commit_many<T>(
        self,
        audit: Audit<'_>,
        kind: ChangeKind,
        subjects: &[String],
        value: T,
    ) -> Result<Committed<T>> {
        self.record(audit).await?;
        let rows = outbox::add_many(&self.tx, kind, subjects).await?;
        self.tx.commit().await.map_err(classify)?;
        Ok(Committed { value, rows })
    }

    /// Commits a change of what the data plane knows nothing of, with its audit
    /// entry: a new project has no keys yet.
    pub(super) async fn commit_unprojected(self, audit: Audit<'_>) -> Result<()> {
        self.record(audit).await?;
        self.tx.commit().await.map_err(classify)
    }

    /// Writes an audit entry beside the one of the commit, for what is done as a part
    /// of the change and has an entry of its own elsewhere.
    pub(super) async fn record(&self, audit: Audit<'_>) -> Result<()> {
        match audit {
            Audit::Entry(entry) => audit_log::add(&self.tx, entry).await,
            Audit::Repeated => Ok(()),
        }
    }
}

/// A change that is committed and not projected yet, with what its writer answers:
/// [`projector::apply`](super::projector::apply) gives that out.
#[derive(Debug)]
#[must_use = "a change takes effect when it is projected: projector::apply"]
pub struct Committed<T> {
    value: T,
    /// One for each subject, that of the commit first.
    rows: Vec<ConfigChange>,
}

impl<T> Committed<T> {
    /// What the writer answers, and the rows that are left to be projected.
    pub(super) fn into_parts(self) -> (T, Vec<ConfigChange>) {
        (self.value, self.rows)
    }
}
