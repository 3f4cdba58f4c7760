//! The role that serving processes log in to PostgreSQL as: what it may do is what
//! they do. On a server all tests of the stores run as it, by `stores::shared_postgres`.

use insta::assert_snapshot;
use millrace::store::postgres::{AppRole, Postgres};
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;

use crate::support::harness::run;
use crate::support::stores;

const ROLE: &str = "millrace_app_of_test";

/// Roles are of the whole server, whatever database a test has to itself.
static ROLES: Mutex<()> = Mutex::const_new(());

fn app_role() -> AppRole {
    AppRole {
        name: ROLE.to_owned(),
        password: Some("hunter2-hunter2".into()),
    }
}

/// What becomes of `statement`: its SQLSTATE, or nothing.
async fn outcome(postgres: &Postgres, role: &str, statement: &str) -> Option<SqlState> {
    let client = postgres.get().await.unwrap();
    client
        .batch_execute(&format!("begin; set local role {role}"))
        .await
        .unwrap();
    let done = client.batch_execute(statement).await;
    client.batch_execute("rollback").await.unwrap();
    done.err().map(|error| error.code().unwrap().clone())
}

async fn owner_of(postgres: &Postgres) -> String {
    let client = postgres.get().await.unwrap();
    let row = client.query_one("select current_user::text", &[]).await;
    row.unwrap().get(0)
}

#[test]
fn an_entry_of_the_audit_log_stays_as_it_was_written_whoever_asks() {
    run(async {
        let owner = stores::owner_postgres().await;
        let name = owner_of(&owner).await;
        for statement in [
            "update audit_log set actor = 'nobody'",
            "update audit_log set actor = 'nobody' where id = 0",
            "delete from audit_log",
            "truncate audit_log",
            "insert into audit_log (id, at, actor, action, subject) overriding system value \
                values (-1, now(), 'a', 'b', 'c'); delete from audit_log where id = -1",
        ] {
            let refused = outcome(&owner, &name, statement).await;
            assert_eq!(
                refused,
                Some(SqlState::INSUFFICIENT_PRIVILEGE),
                "{statement}"
            );
        }
    });
}

#[test]
fn the_role_that_serves_adds_to_the_audit_log_and_leaves_the_schema_alone() {
    run(async {
        let _roles = ROLES.lock().await;
        let own = stores::own_postgres().await;
        for _ in 0..2 {
            own.owner.prepare_app_role(&app_role()).await.unwrap();
        }
        let owner = owner_of(&own.owner).await;
        // Not the trigger is what keeps it from that.
        let client = own.owner.get().await.unwrap();
        let off = "alter table audit_log disable trigger audit_log_append_only; \
            insert into projects (id, name, created_at) values ('prj_a', 'a', now()); \
            select usage_seen_make_day('2026-01-31')";
        client.batch_execute(off).await.unwrap();
        drop(client);
        for statement in [
            "update audit_log set actor = 'nobody'",
            "delete from audit_log",
            "truncate audit_log",
            "truncate usage",
            "alter table audit_log disable trigger all",
            "drop trigger audit_log_append_only on audit_log",
            "drop table audit_log",
            "alter table audit_log owner to current_user",
            "alter table projects add column a text",
            "create table a (b int)",
            "create temporary table a (b int)",
            "create index a on usage (bucket)",
            "create schema a",
            "create function a() returns int language sql as 'select 1'",
            "create role a",
            "drop table usage_seen_20260131",
            "create table usage_seen_20260201 partition of usage_seen for values in ('2026-02-01')",
            "delete from refinery_schema_history",
            "update refinery_schema_history set checksum = ''",
            "grant delete on audit_log to millrace_app_of_test; delete from audit_log",
            "set session_replication_role = replica",
        ] {
            let refused = outcome(&own.owner, ROLE, statement).await;
            let expected = [
                SqlState::INSUFFICIENT_PRIVILEGE,
                // Of a schema without the right to create one in it.
                SqlState::INVALID_SCHEMA_NAME,
            ];
            let refused = refused.unwrap_or_else(|| panic!("allowed: {statement}"));
            assert!(expected.contains(&refused), "{statement}: {refused:?}");
        }
        for statement in [
            "insert into audit_log (project_id, at, actor, action, subject) \
                values ('prj_a', now(), 'a', 'b', 'c'); select * from audit_log",
            "insert into audit_log (at, actor, action, subject) values (now(), 'a', 'b', 'c')",
            "select * from refinery_schema_history",
            "update projects set name = 'b'; delete from projects where id = 'prj_b'",
            "select usage_seen_make_day('2026-02-01'); \
                insert into usage_seen values ('m', 'e', '2026-02-01'), ('m', 'f', '2026-01-31') \
                on conflict do nothing; select usage_seen_drop_day('2026-02-01')",
            "insert into outbox (kind, subject_id) values ('endpoint', 'a') returning id",
        ] {
            let refused = outcome(&own.owner, ROLE, statement).await;
            assert_eq!(refused, None, "{statement}");
        }
        assert_eq!(outcome(&own.owner, &owner, "select 1").await, None);
        forget(&own.owner).await;
    });
}

#[test]
fn what_a_later_migration_makes_is_granted_too() {
    run(async {
        let _roles = ROLES.lock().await;
        let own = stores::own_postgres().await;
        own.owner.prepare_app_role(&app_role()).await.unwrap();
        let client = own.owner.get().await.unwrap();
        client
            .batch_execute("create table later (n int)")
            .await
            .unwrap();
        drop(client);
        let insert = "insert into later values (1)";
        let denied = Some(SqlState::INSUFFICIENT_PRIVILEGE);
        assert_eq!(outcome(&own.owner, ROLE, insert).await, denied);
        own.owner.prepare_app_role(&app_role()).await.unwrap();
        assert_eq!(outcome(&own.owner, ROLE, insert).await, None);

        // And the role begins with the limit on statements, so that none sets it.
        let client = own.owner.get().await.unwrap();
        let settings = "select array_to_string(s.setconfig, ',') from pg_db_role_setting s \
            join pg_roles r on r.oid = s.setrole \
            join pg_database d on d.oid = s.setdatabase \
            where r.rolname = $1 and d.datname = current_database()";
        let row = client.query_one(settings, &[&ROLE]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "statement_timeout=10000");
        let stored = "select rolpassword from pg_authid where rolname = $1";
        let row = client.query_one(stored, &[&ROLE]).await.unwrap();
        let password: &str = row.get(0);
        assert!(password.starts_with("SCRAM-SHA-256$"), "{password}");
        assert!(!password.contains("hunter2"));
        drop(client);
        forget(&own.owner).await;
    });
}

#[test]
fn a_role_that_could_do_more_is_refused() {
    run(async {
        let _roles = ROLES.lock().await;
        let own = stores::own_postgres().await;
        let owner = owner_of(&own.owner).await;
        let refusal = async |name: &str| {
            let role = AppRole {
                name: name.to_owned(),
                password: None,
            };
            let refused = own.owner.prepare_app_role(&role).await;
            format!("{:#}", refused.unwrap_err())
        };
        assert_snapshot!(refusal(&owner).await, @"expected another role than the one that migrates");
        let client = own.owner.get().await.unwrap();
        let roles = format!(
            "create role too_super superuser; create role too_creative createrole; \
            create role too_related in role {owner}; create role too_trusted; \
            grant delete on audit_log to too_trusted; create role too_late in role too_trusted"
        );
        client.batch_execute(&roles).await.unwrap();
        drop(client);
        for name in ["too_super", "too_creative", "too_related", "too_late"] {
            let refused = refusal(name).await;
            assert!(
                refused.starts_with("expected a role that cannot"),
                "{name}: {refused}"
            );
        }
        // What it was granted itself is taken away.
        let trusted = AppRole {
            name: "too_trusted".to_owned(),
            password: None,
        };
        own.owner.prepare_app_role(&trusted).await.unwrap();
        let delete = "delete from audit_log";
        let denied = Some(SqlState::INSUFFICIENT_PRIVILEGE);
        assert_eq!(outcome(&own.owner, "too_trusted", delete).await, denied);
        let client = own.owner.get().await.unwrap();
        let drops = "drop owned by too_trusted, too_late; \
            drop role too_super, too_creative, too_related, too_late, too_trusted";
        client.batch_execute(drops).await.unwrap();
    });
}

/// Drops the role, which is the whole server's.
async fn forget(owner: &Postgres) {
    let client = owner.get().await.unwrap();
    // Another test may have it in a database of its own.
    let _ = client
        .batch_execute(&format!("drop owned by {ROLE}; drop role {ROLE}"))
        .await;
}
