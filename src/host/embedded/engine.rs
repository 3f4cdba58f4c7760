//! DynamoDB's operations on SQLite, several calls to one commit.
//!
//! A commit costs more than the call before it: it writes whole pages, and calls
//! that come together change many of the same. The engine below commits each call
//! by itself and offers no other way, so while calls are grouped SQLite's
//! authorizer has it pass over the engine's own `BEGIN`, `COMMIT` and
//! `ROLLBACK`; a savepoint for each call stands in for them. What a call wrote is
//! in the file before the call is answered, grouped or not.
//!
//! The authorizer also keeps a table's description from counting what is in the
//! table and its indexes, which nobody asks for and would read all of it each time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use dynoxide::DynoxideError;
use dynoxide::actions::transact_write_items::TransactWriteItemsRequest;
use dynoxide::actions::vector_lifecycle::VectorIndexLifecycle;
use dynoxide::actions::{
    batch_get_item, batch_write_item, create_table, delete_item, describe_table,
    describe_time_to_live, get_item, list_tables, put_item, query, transact_write_items,
    update_item, update_table, update_time_to_live,
};
use dynoxide::storage::Storage;
use futures_util::FutureExt;
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use serde::Serialize;
use serde::de::DeserializeOwned;

const TARGET_HEADER: &str = "x-amz-target";
const TARGET_PREFIX: &str = "DynamoDB_20120810.";

/// Commits reach the disk at a checkpoint and not each by itself, which could
/// lose the last of them with the power and never the file.
const SETTINGS: &str = "
    pragma synchronous = normal;
    pragma wal_autocheckpoint = 4096;
    pragma cache_size = -32768;
    pragma temp_store = memory;
";
/// Groups between two checkpoints beside the work.
const CHECKPOINT_GROUPS: u32 = 32;

/// The database, for one thread to work on.
pub(super) struct Engine {
    storage: Storage,
    lifecycle: VectorIndexLifecycle,
    /// Whether SQLite passes over what begins and ends a transaction.
    is_grouping: Arc<AtomicBool>,
    /// Whether SQLite refuses to read anything but what the engine knows of tables.
    is_describing: Arc<AtomicBool>,
    checkpoints: Option<Checkpoints>,
}

impl Engine {
    /// Takes `storage`, which is in the file `path` if it is in any, into service.
    ///
    /// # Errors
    /// It is no database, or damaged; or there is no thread to be had.
    pub fn new(storage: Storage, path: Option<&Path>) -> anyhow::Result<Self> {
        storage.conn().execute_batch(SETTINGS)?;
        // A file that is no database, or has lost its head, shows here.
        storage.table_count()?;
        let (is_grouping, is_describing) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (groups, describes) = (is_grouping.clone(), is_describing.clone());
        let authorizer = move |context: AuthContext<'_>| match context.action {
            AuthAction::Transaction { .. } if groups.load(Ordering::Relaxed) => {
                Authorization::Ignore
            }
            // The engine then leaves the figures out. Its own tables begin so.
            AuthAction::Read { table_name, .. }
                if !table_name.starts_with('_') && describes.load(Ordering::Relaxed) =>
            {
                Authorization::Deny
            }
            _ => Authorization::Allow,
        };
        storage.conn().authorizer(Some(authorizer));
        Ok(Self {
            storage,
            lifecycle: VectorIndexLifecycle::new(),
            is_grouping,
            is_describing,
            checkpoints: path.map(Checkpoints::start).transpose()?,
        })
    }

    /// Answers `requests`, each as if it were alone and in their order, once what
    /// they wrote is committed.
    pub fn answer(&mut self, requests: &[&HttpRequest]) -> Vec<HttpResponse> {
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.count_group();
        }
        if let [alone] = requests {
            return vec![respond(self.operate(alone))];
        }
        match self.grouped(requests) {
            Ok(answers) => answers.into_iter().map(respond).collect(),
            Err(error) => {
                // Of what none can tell how far it went, nothing stays.
                let _ = self.storage.conn().execute_batch("rollback");
                let answer = || {
                    let message = format!("the group was not committed: {error}");
                    respond(Err(DynoxideError::InternalServerError(message)))
                };
                requests.iter().map(|_| answer()).collect()
            }
        }
    }

    fn grouped(&self, requests: &[&HttpRequest]) -> rusqlite::Result<Vec<OperationResult>> {
        let conn = self.storage.conn();
        conn.execute_batch("begin immediate")?;
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            conn.execute_batch("savepoint call")?;
            self.is_grouping.store(true, Ordering::Relaxed);
            let operated = self.operate(request);
            self.is_grouping.store(false, Ordering::Relaxed);
            conn.execute_batch(match operated {
                Ok(_) => "release call",
                Err(_) => "rollback to call; release call",
            })?;
            answers.push(operated);
        }
        conn.execute_batch("commit")?;
        Ok(answers)
    }

    /// What the engine has to say, panics included.
    fn operate(&self, request: &HttpRequest) -> OperationResult {
        let (operation, body) = (operation(request), request.body().bytes());
        self.is_describing
            .store(operation == "DescribeTable", Ordering::Relaxed);
        let call = || self.call(operation, body.unwrap_or_default());
        let operated = catch_unwind(AssertUnwindSafe(call));
        operated.unwrap_or_else(|_| {
            let message = "the engine panicked".to_owned();
            Err(DynoxideError::InternalServerError(message))
        })
    }

    fn call(&self, operation: &str, body: &[u8]) -> OperationResult {
        let db = &self.storage;
        match operation {
            "BatchGetItem" => call(body, |request| {
                expect_ready(batch_get_item::execute(db, request))
            }),
            "BatchWriteItem" => call(body, |request| {
                expect_ready(batch_write_item::execute(db, request))
            }),
            "CreateTable" => call(body, |request| {
                expect_ready(create_table::execute(db, request))
            }),
            "DeleteItem" => call(body, |request| {
                expect_ready(delete_item::execute(db, request))
            }),
            "DescribeTable" => call(body, |request| {
                expect_ready(describe_table::execute(db, request, &self.lifecycle))
            }),
            "DescribeTimeToLive" => call(body, |request| {
                expect_ready(describe_time_to_live::execute(db, request))
            }),
            "GetItem" => call(body, |request| expect_ready(get_item::execute(db, request))),
            "ListTables" => call(body, |request| {
                expect_ready(list_tables::execute(db, request))
            }),
            "PutItem" => call(body, |request| expect_ready(put_item::execute(db, request))),
            "Query" => call(body, |request| expect_ready(query::execute(db, request))),
            // The token by which a repeated call is known is passed over: here
            // none is sent again.
            "TransactWriteItems" => call(body, |request: TransactWriteItemsRequest| {
                expect_ready(transact_write_items::execute(db, request))
            }),
            "UpdateItem" => call(body, |request| {
                expect_ready(update_item::execute(db, request))
            }),
            "UpdateTable" => call(body, |request| {
                expect_ready(update_table::execute(db, request, &self.lifecycle))
            }),
            "UpdateTimeToLive" => call(body, |request| {
                expect_ready(update_time_to_live::execute(db, request))
            }),
            other => Err(DynoxideError::UnsupportedCapability(other.to_owned())),
        }
    }
}

/// Checkpoints beside the work, by a thread with a connection of its own.
///
/// A checkpoint waits for the disk. Done here most of it holds nobody up; what
/// is left for the engine's connection, which SQLite has do one every 16 MiB, is
/// little, and without it the log would never start anew under constant writes.
struct Checkpoints {
    wake: SyncSender<()>,
    groups: u32,
}

impl Checkpoints {
    fn start(path: &Path) -> anyhow::Result<Self> {
        let (wake, woken) = mpsc::sync_channel(1);
        let conn = Connection::open(path)?;
        thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                for () in woken {
                    // Busy means that the engine's connection is at it.
                    let _ = conn.execute_batch("pragma wal_checkpoint(passive)");
                }
            })?;
        Ok(Self { wake, groups: 0 })
    }

    fn count_group(&mut self) {
        self.groups += 1;
        if self.groups >= CHECKPOINT_GROUPS {
            self.groups = 0;
            // One that is asked for twice is done once.
            let _ = self.wake.try_send(());
        }
    }
}

/// The JSON of an answer, or why there is none.
type OperationResult = dynoxide::Result<Vec<u8>>;

/// The DynamoDB operation that `request` asks for.
pub(super) fn operation(request: &HttpRequest) -> &str {
    let target = request.headers().get(TARGET_HEADER).unwrap_or_default();
    target.strip_prefix(TARGET_PREFIX).unwrap_or(target)
}

fn expect_ready<T>(operated: impl Future<Output = T>) -> T {
    operated.now_or_never().expect("SQLite does not await")
}

fn call<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    operate: impl FnOnce(Q) -> dynoxide::Result<A>,
) -> OperationResult {
    let request = serde_json::from_slice(body).map_err(|error| refused(&error))?;
    let answer = operate(request)?;
    serde_json::to_vec(&answer)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// The engine's request types put the class of a refusal before its text.
fn refused(error: &serde_json::Error) -> DynoxideError {
    let text = error.to_string();
    match text.split_once(':') {
        Some(("SERIALIZATION" | "SERIALIZATION_AS_READ", rest)) => {
            DynoxideError::SerializationException(rest.to_owned())
        }
        Some(("VALIDATION" | "VALIDATION_REQUEST" | "VALIDATION_AS_READ", rest)) => {
            DynoxideError::ValidationException(rest.to_owned())
        }
        _ => DynoxideError::ValidationException(text),
    }
}

fn respond(operated: OperationResult) -> HttpResponse {
    let (status, body): (u16, SdkBody) = match operated {
        Ok(body) => (200, body.into()),
        Err(error) => (error.status_code(), error.to_json().into()),
    };
    // The engine's codes are literals: 200, 400, 500 and 501.
    let status = StatusCode::try_from(status).expect("a valid HTTP status");
    let mut response = HttpResponse::new(status, body);
    let headers = response.headers_mut();
    headers.insert("content-type", "application/x-amz-json-1.0");
    response
}
