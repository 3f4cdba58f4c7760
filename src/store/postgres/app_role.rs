//! The role that serving processes log in as: made by `millrace migrate`, and given
//! what they need of the schema and no more.
//!
//! It reads and writes the tables, to the audit log it only adds, and it changes the
//! schema nowhere. The grants are given anew with each migration, so that its tables
//! have them too; nothing of them is taken away meanwhile.

use anyhow::{Context, ensure};
use secrecy::{ExposeSecret, SecretString};

use super::session::{Session, SessionTransaction};
use super::sql_error::connect_error;

/// A role to log in as.
#[derive(Debug)]
pub struct AppRole {
    /// Its name.
    pub name: String,
    /// Its password; left as it is if absent.
    pub password: Option<SecretString>,
}

const NAMES: &str = "\
    select quote_ident($1) as role, quote_ident(current_schema()) as schema, \
        quote_ident(current_database()) as database, $1 = current_user as is_own, \
        exists (select from pg_roles where rolname = $1) as is_there";

/// What two migrations at once would change at the same time.
const LOCK: &str = "select pg_advisory_xact_lock(hashtext('millrace app role'))";

const GRANTS: &str = "\
    revoke create on schema {schema} from public, {role}; \
    revoke temporary on database {database} from public, {role}; \
    grant connect on database {database} to {role}; \
    grant usage on schema {schema} to {role}; \
    grant select, insert, update, delete on all tables in schema {schema} to {role}; \
    revoke truncate, references, trigger on all tables in schema {schema} from {role}; \
    revoke update, delete on audit_log from {role}; \
    revoke insert, update, delete on refinery_schema_history from {role}; \
    grant execute on function usage_seen_make_day(date), usage_seen_drop_day(date), \
        usage_seen_forget_day(date, date) to {role};";

/// Whether the role may do in another way what its grants keep from it: by itself, or
/// as a member of the owner or of a role that may.
const EXCESS: &str = "\
    select r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolbypassrls \
        or pg_has_role(r.oid, t.relowner, 'member') \
        or has_table_privilege(r.oid, t.oid, 'update, delete, truncate') \
        or has_schema_privilege(r.oid, t.relnamespace, 'create') \
    from pg_roles r, pg_class t where r.rolname = $1 and t.oid = 'audit_log'::regclass";

/// Names as SQL has them.
struct Names {
    role: String,
    schema: String,
    database: String,
}

impl Names {
    fn fill(&self, statement: &str) -> String {
        statement
            .replace("{role}", &self.role)
            .replace("{schema}", &self.schema)
            .replace("{database}", &self.database)
    }
}

/// Makes the role if it is missing, sets its password if one is given, and grants it
/// what it needs, in one transaction. Doing it again changes nothing.
///
/// # Errors
/// When the database refuses, or the role could do more than it should.
pub(super) async fn prepare(client: &mut Session, app_role: &AppRole) -> anyhow::Result<()> {
    let tx = client.transaction().await.map_err(connect_error)?;
    tx.query(LOCK, &[]).await.map_err(connect_error)?;
    let row = tx.query_one(NAMES, &[&app_role.name]).await;
    let row = row.map_err(connect_error)?;
    ensure!(
        !row.get::<_, bool>("is_own"),
        "expected another role than the one that migrates"
    );
    let names = Names {
        role: row.get("role"),
        schema: row.get("schema"),
        database: row.get("database"),
    };
    if !row.get::<_, bool>("is_there") {
        run(&tx, &names.fill("create role {role} login")).await?;
    }
    if let Some(password) = &app_role.password {
        let text = password.expose_secret().as_bytes();
        // Its hash, since the server may log statements.
        let verifier = postgres_protocol::password::scram_sha_256(text);
        let set = format!("alter role {{role}} login password '{verifier}'");
        run(&tx, &names.fill(&set)).await?;
    }
    run(&tx, &names.fill(GRANTS)).await?;
    let excess = tx.query_one(EXCESS, &[&app_role.name]).await;
    ensure!(
        !excess.map_err(connect_error)?.get::<_, bool>(0),
        "expected a role that cannot change the audit log or the schema, make roles or \
         databases, or become one that can"
    );
    tx.commit().await.map_err(connect_error)?;
    Ok(())
}

async fn run(tx: &SessionTransaction<'_>, statements: &str) -> anyhow::Result<()> {
    let done = tx.batch_execute(statements).await;
    done.map_err(connect_error)
        .context("the role that migrates must own the database and be allowed to create roles")
}

/// Every statement above that has parameters, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[NAMES, LOCK, EXCESS];
