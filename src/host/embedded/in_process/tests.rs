use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{Credentials, Region};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, KeysAndAttributes,
    Put, PutRequest, ReturnValue, ReturnValuesOnConditionCheckFailure, ScalarAttributeType,
    TableStatus, TimeToLiveSpecification, TransactWriteItem, WriteRequest,
};

use crate::config::Config;
use crate::host::embedded::{EmbeddedDynamo, start_dynamodb};
use crate::store::{dynamo, table};

pub(in crate::host::embedded) const TABLE: &str = "millrace";

pub(in crate::host::embedded) fn client(dynamodb: &EmbeddedDynamo) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version_latest()
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::from_keys("local", "local", None))
        .endpoint_url("http://embedded.invalid")
        .http_client(dynamodb.http_client())
        .build();
    Client::from_conf(config)
}

fn key(name: &str, kind: KeyType) -> (AttributeDefinition, KeySchemaElement) {
    let attribute = AttributeDefinition::builder().attribute_name(name);
    let element = KeySchemaElement::builder().attribute_name(name);
    (
        attribute
            .attribute_type(ScalarAttributeType::S)
            .build()
            .unwrap(),
        element.key_type(kind).build().unwrap(),
    )
}

pub(in crate::host::embedded) async fn create_table(client: &Client) {
    let (pk, hash) = key("pk", KeyType::Hash);
    let (sk, range) = key("sk", KeyType::Range);
    let create = client.create_table().table_name(TABLE);
    let create = create.attribute_definitions(pk).attribute_definitions(sk);
    let create = create.key_schema(hash).key_schema(range);
    create
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
}

pub(in crate::host::embedded) fn text(value: impl ToString) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

fn put(pk: &str) -> Put {
    let put = Put::builder()
        .table_name(TABLE)
        .item("pk", text(pk))
        .item("sk", text("event"));
    put.condition_expression("attribute_not_exists(pk)")
        .build()
        .unwrap()
}

#[tokio::test]
async fn the_sdk_sees_a_dynamodb() {
    let client = client(&EmbeddedDynamo::memory().unwrap());
    create_table(&client).await;
    let described = client
        .describe_table()
        .table_name(TABLE)
        .send()
        .await
        .unwrap();
    assert_eq!(described.table().unwrap().key_schema().len(), 2);
    assert_eq!(
        client.list_tables().send().await.unwrap().table_names(),
        [TABLE]
    );

    let request = PutRequest::builder()
        .item("pk", text("a"))
        .item("sk", text("event"));
    let request = WriteRequest::builder()
        .put_request(request.build().unwrap())
        .build();
    let batch = client
        .batch_write_item()
        .request_items(TABLE, vec![request]);
    batch.send().await.unwrap();
    let update = client
        .update_item()
        .table_name(TABLE)
        .key("pk", text("a"))
        .key("sk", text("event"));
    let update = update
        .update_expression("set n = :n")
        .expression_attribute_values(":n", AttributeValue::N("1".into()));
    let updated = update
        .return_values(ReturnValue::AllNew)
        .send()
        .await
        .unwrap();
    assert_eq!(updated.attributes().unwrap()["n"].as_n().unwrap(), "1");

    let keys = [
        ("pk".to_owned(), text("a")),
        ("sk".to_owned(), text("event")),
    ];
    let keys = KeysAndAttributes::builder()
        .keys(keys.into())
        .build()
        .unwrap();
    let got = client
        .batch_get_item()
        .request_items(TABLE, keys)
        .send()
        .await
        .unwrap();
    assert_eq!(got.responses().unwrap()[TABLE].len(), 1);
    let query = client
        .query()
        .table_name(TABLE)
        .key_condition_expression("pk = :pk");
    let found = query
        .expression_attribute_values(":pk", text("a"))
        .send()
        .await
        .unwrap();
    assert_eq!(found.count(), 1);

    let delete = client.delete_item().table_name(TABLE).key("pk", text("a"));
    delete.key("sk", text("event")).send().await.unwrap();
    let get = client.get_item().table_name(TABLE).key("pk", text("a"));
    assert!(
        get.key("sk", text("event"))
            .send()
            .await
            .unwrap()
            .item()
            .is_none()
    );
}

#[tokio::test]
async fn a_failed_condition_is_the_sdks_error_with_the_old_item() {
    let client = client(&EmbeddedDynamo::memory().unwrap());
    create_table(&client).await;
    let put_once = || {
        let put = client
            .put_item()
            .table_name(TABLE)
            .item("pk", text("a"))
            .item("sk", text("event"));
        let put = put.condition_expression("attribute_not_exists(pk)");
        put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    };
    put_once().send().await.unwrap();
    let error = put_once().send().await.unwrap_err().into_service_error();
    let item = match error {
        PutItemError::ConditionalCheckFailedException(error) => error.item,
        other => panic!("{other:?}"),
    };
    assert_eq!(item.unwrap()["pk"], text("a"));

    let transact = |pk: &str| {
        let item = TransactWriteItem::builder().put(put(pk)).build();
        let repeated = TransactWriteItem::builder().put(put("a")).build();
        client
            .transact_write_items()
            .transact_items(item)
            .transact_items(repeated)
            .send()
    };
    let error = transact("b").await.unwrap_err().into_service_error();
    let reasons = match error {
        TransactWriteItemsError::TransactionCanceledException(error) => error,
        other => panic!("{other:?}"),
    };
    let codes: Vec<_> = reasons
        .cancellation_reasons()
        .iter()
        .map(|r| r.code().unwrap())
        .collect();
    assert_eq!(codes, ["None", "ConditionalCheckFailed"]);
}

#[tokio::test]
async fn a_description_reads_no_items() {
    let dir = tempfile::tempdir().unwrap();
    let dynamodb = start_dynamodb(dir.path()).unwrap();
    let dynamo = dynamo::connect_embedded(&Config::from_toml("").unwrap(), dynamodb.http_client());
    table::create_if_missing(&dynamo).await.unwrap();
    let put = dynamo.client.put_item().table_name(&dynamo.table);
    let put = put.item("pk", text("a")).item("sk", text("event"));
    // In every index.
    let keys = [
        "detail_pk",
        "due_pk",
        "due_sk",
        "tenant_pk",
        "tl_pk",
        "tl_sk",
        "type_pk",
    ];
    let put = keys.iter().fold(put, |put, key| put.item(*key, text("b")));
    put.send().await.unwrap();

    let described = dynamo.client.describe_table().table_name(&dynamo.table);
    let described = described.send().await.unwrap();
    let table = described.table().unwrap();
    assert_eq!(table.table_status(), Some(&TableStatus::Active));
    // Counted, it would be one item here and in the indexes.
    assert_eq!((table.item_count(), table.table_size_bytes()), (None, None));
    let indexes = table.global_secondary_indexes();
    assert!(!indexes.is_empty());
    for index in indexes {
        assert_eq!((index.item_count(), index.index_size_bytes()), (None, None));
    }
}

#[tokio::test]
async fn other_errors_keep_their_code_and_what_is_not_spoken_says_so() {
    let client = client(&EmbeddedDynamo::memory().unwrap());
    let missing = client
        .describe_table()
        .table_name("absent")
        .send()
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Some("ResourceNotFoundException"));
    create_table(&client).await;
    let invalid = client
        .put_item()
        .table_name(TABLE)
        .item("pk", text(""))
        .send()
        .await
        .unwrap_err();
    assert_eq!(invalid.code(), Some("ValidationException"));
    let scan = client.scan().table_name(TABLE).send().await.unwrap_err();
    assert!(
        scan.message().unwrap().contains("'Scan' is not supported"),
        "{scan:?}"
    );
}

#[tokio::test]
async fn what_has_expired_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let dynamodb = start_dynamodb(dir.path()).unwrap();
    let client = client(&dynamodb);
    create_table(&client).await;
    let ttl = TimeToLiveSpecification::builder()
        .attribute_name("ttl")
        .enabled(true);
    let ttl = ttl.build().unwrap();
    let update = client.update_time_to_live().table_name(TABLE);
    update.time_to_live_specification(ttl).send().await.unwrap();
    for (pk, ttl) in [("old", "1"), ("new", "99999999999")] {
        let put = client
            .put_item()
            .table_name(TABLE)
            .item("pk", text(pk))
            .item("sk", text("event"));
        put.item("ttl", AttributeValue::N(ttl.into()))
            .send()
            .await
            .unwrap();
    }
    assert_eq!(dynamodb.sweep_ttl().await.unwrap(), 1);
    assert_eq!(dynamodb.sweep_ttl().await.unwrap(), 0);
}

#[tokio::test]
async fn calls_that_come_together_are_each_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dynamodb = start_dynamodb(dir.path()).unwrap();
    let client = client(&dynamodb);
    create_table(&client).await;
    // Each twice: one of the two finds the other's item, and leaves nothing of its
    // own behind.
    let twice = (0..200).map(|n| {
        let own = TransactWriteItem::builder()
            .put(put(&format!("own {n}")))
            .build();
        let shared = TransactWriteItem::builder()
            .put(put(&format!("shared {}", n / 2)))
            .build();
        client
            .transact_write_items()
            .transact_items(own)
            .transact_items(shared)
            .send()
    });
    let done: Vec<_> = futures_util::future::join_all(twice).await;
    let kept = done.iter().filter(|one| one.is_ok()).count();
    assert_eq!(kept, 100);
    drop((client, dynamodb));

    let client = self::client(&start_dynamodb(dir.path()).unwrap());
    let mut found = 0;
    for (n, one) in done.iter().enumerate() {
        let get = client
            .get_item()
            .table_name(TABLE)
            .key("pk", text(format!("own {n}")));
        let item = get.key("sk", text("event")).send().await.unwrap().item;
        assert_eq!(item.is_some(), one.is_ok(), "{n}");
        found += usize::from(item.is_some());
    }
    assert_eq!(found, 100);
}
