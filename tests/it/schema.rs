//! The stores' shapes: every statement against the migrated schema, the table
//! against its description.

use millrace::store::{
    api_keys, audit_log, config_projection, endpoints, erasures, event_types, meters, outbox,
    postgres, projects, table, usage,
};

use crate::support::harness::{Harness, run};

#[test]
fn every_statement_prepares_against_the_migrated_schema() {
    run(async {
        let harness = Harness::new().await;
        let client = harness.app.postgres.get().await.unwrap();
        let modules = [
            projects::STATEMENTS,
            endpoints::named::STATEMENTS,
            endpoints::left_behind::STATEMENTS,
            api_keys::STATEMENTS,
            endpoints::STATEMENTS,
            event_types::STATEMENTS,
            outbox::STATEMENTS,
            audit_log::STATEMENTS,
            meters::STATEMENTS,
            &erasures::STATEMENTS.concat(),
            &usage::STATEMENTS.concat(),
            config_projection::check::STATEMENTS,
            postgres::app_role::STATEMENTS,
        ];
        for statement in modules.concat() {
            let prepared = format!("prepare statement as {statement}; deallocate statement");
            if let Err(error) = client.batch_execute(&prepared).await {
                panic!("{error}\n{statement}");
            }
        }
    });
}

#[test]
fn the_table_is_as_described() {
    run(async {
        let harness = Harness::new().await;
        let differences = table::differences(&harness.app.dynamo).await.unwrap();
        assert_eq!(differences, Vec::<String>::new());
        assert!(
            harness
                .app
                .postgres
                .pending_migrations()
                .await
                .unwrap()
                .is_empty()
        );
        assert!(
            harness.app.postgres.migrate().await.unwrap().is_empty(),
            "again changes nothing"
        );
    });
}
