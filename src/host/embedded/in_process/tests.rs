use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{Credentials, Region};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, KeysAndAttributes,
    Put, PutRequest, ReturnValue, ReturnValuesOnConditionCheckFailure, ScalarAttributeType,
    TimeToLiveSpecification, TransactWriteItem, WriteRequest,
};

use crate::host::embedded::EmbeddedDynamo;

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
    let dynamodb = EmbeddedDynamo::memory().unwrap();
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
