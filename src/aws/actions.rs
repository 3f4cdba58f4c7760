//! Every call of an AWS service, the IAM actions it needs and which process
//! makes it: what a policy has to allow, and no more.
//!
//! `tests/it/layers.rs` compares this with the code, so that a new call cannot
//! be forgotten here; policies are compared with this.

use std::collections::BTreeSet;

use Role::{Api, Laptop, Migrate, Worker};

/// What a process is for, as policies tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The handler `http`.
    Api,
    /// The handlers `fan_out`, `deliver`, `ingest`, `sweep` and `meter`.
    Worker,
    /// `millrace migrate` and `millrace doctor` on a table that is there.
    Migrate,
    /// What only creates a missing table: the laptop's start, and nothing that
    /// is deployed.
    Laptop,
}

/// A method of an SDK's client.
#[derive(Debug, Clone, Copy)]
pub struct AwsCall {
    /// The method, as the SDK's client has it.
    pub method: &'static str,
    /// The IAM actions it needs.
    pub actions: &'static [&'static str],
    /// The processes that make it.
    pub roles: &'static [Role],
}

const fn call(
    method: &'static str,
    actions: &'static [&'static str],
    roles: &'static [Role],
) -> AwsCall {
    AwsCall {
        method,
        actions,
        roles,
    }
}

/// Calls of Secrets Manager, on the secrets that the configuration names.
pub const SECRETS_MANAGER: &[AwsCall] = &[call(
    "get_secret_value",
    &["secretsmanager:GetSecretValue"],
    &[Api, Worker, Migrate],
)];

/// Calls of DynamoDB, on the table; queries are made of its indexes too.
pub const DYNAMODB: &[AwsCall] = &[
    call("get_item", &["dynamodb:GetItem"], &[Api, Worker]),
    call("batch_get_item", &["dynamodb:BatchGetItem"], &[Api, Worker]),
    call("batch_write_item", &["dynamodb:BatchWriteItem"], &[Worker]),
    call("query", &["dynamodb:Query"], &[Api, Worker]),
    // Migrating wakes the sweepers, and writes that item alone: `deploy/iam.tf`.
    call("put_item", &["dynamodb:PutItem"], &[Api, Worker, Migrate]),
    call("update_item", &["dynamodb:UpdateItem"], &[Api, Worker]),
    call("delete_item", &["dynamodb:DeleteItem"], &[Worker]),
    // A transaction is allowed by what it is made of.
    call(
        "transact_write_items",
        &["dynamodb:PutItem", "dynamodb:UpdateItem"],
        &[Api, Worker],
    ),
    // No process that serves: it is of DynamoDB's control plane, which may be out of
    // reach while items are read and written.
    call("describe_table", &["dynamodb:DescribeTable"], &[Migrate]),
    call(
        "describe_time_to_live",
        &["dynamodb:DescribeTimeToLive"],
        &[Migrate],
    ),
    call("create_table", &["dynamodb:CreateTable"], &[Laptop]),
    call(
        "update_time_to_live",
        &["dynamodb:UpdateTimeToLive"],
        &[Laptop],
    ),
];

/// Calls of SQS. A batch is allowed by the action on one message.
pub const SQS: &[AwsCall] = &[
    call("send_message_batch", &["sqs:SendMessage"], &[Api, Worker]),
    // To the queue for parked messages.
    call("send_message", &["sqs:SendMessage"], &[Worker]),
    call("receive_message", &["sqs:ReceiveMessage"], &[Worker]),
    call("delete_message_batch", &["sqs:DeleteMessage"], &[Worker]),
    call(
        "change_message_visibility_batch",
        &["sqs:ChangeMessageVisibility"],
        &[Worker],
    ),
];

/// What sending traces to X-Ray's OTLP endpoint needs: a plain request, signed,
/// and no SDK's call.
pub const XRAY: &[&str] = &[
    "xray:PutSpans",
    "xray:PutSpansForIndexing",
    "xray:PutTraceSegments",
];

/// What writing the archive needs, and taking out of it what is erased, on its bucket:
/// plain requests, signed.
pub const S3: &[&str] = &[
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:ListBucket",
    "s3:PutObject",
];

/// What Lambda itself does, with the function's role, for a queue it is mapped to.
pub const SQS_MAPPING: &[&str] = &[
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
];

/// The IAM actions that `role` needs.
pub fn of(role: Role) -> BTreeSet<&'static str> {
    let calls = DYNAMODB.iter().chain(SQS).chain(SECRETS_MANAGER);
    let made = calls.filter(|call| call.roles.contains(&role));
    let traces = match role {
        Api | Worker => XRAY,
        Migrate | Laptop => &[],
    };
    let archive = match role {
        Worker => S3,
        Api | Migrate | Laptop => &[],
    };
    let signed = traces.iter().chain(archive);
    let actions = made.flat_map(|call| call.actions).chain(signed);
    actions.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_deployed_may_create_or_drop() {
        for role in [Api, Worker, Migrate] {
            let forbidden = |action: &&str| {
                ["Create", "DeleteTable", "Purge", "Scan", "*"]
                    .iter()
                    .any(|word| action.contains(word))
            };
            assert_eq!(of(role).into_iter().find(forbidden), None, "{role:?}");
        }
        assert!(of(Worker).contains("sqs:ReceiveMessage"));
        assert!(!of(Api).contains("sqs:ReceiveMessage"));
    }
}
