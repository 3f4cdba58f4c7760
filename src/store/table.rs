//! The table's physical shape, described once in `table.json`: created from it
//! here on the laptop, by Terraform in production, and checked by `doctor`.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TableDescription, TimeToLiveSpecification,
};
use serde::Deserialize;

use super::dynamo::{Dynamo, DynamoErrorKind, kind};
use super::keys;
use crate::aws;
use crate::error::Result;

/// The description, as `table.json` has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields of table.json")]
pub struct TableSchema {
    pub key_schema: Vec<KeyAttribute>,
    pub indexes: Vec<Index>,
    /// The attribute with the expiry in seconds since 1970.
    pub ttl_attribute: String,
    /// `PAY_PER_REQUEST` or `PROVISIONED`.
    pub billing: String,
}

/// One attribute of a key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields of table.json")]
pub struct KeyAttribute {
    pub name: String,
    /// `S`, `N` or `B`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `HASH` or `RANGE`.
    pub role: String,
}

/// A global secondary index.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields of table.json")]
pub struct Index {
    pub name: String,
    pub keys: Vec<KeyAttribute>,
    pub projection: IndexProjection,
}

/// What an index has beside keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexProjection {
    /// `INCLUDE`, `ALL` or `KEYS_ONLY`.
    #[serde(rename = "type")]
    pub kind: String,
    /// With `INCLUDE`, which attributes.
    pub attributes: Vec<String>,
}

/// The shape every table of Millrace has.
pub fn table_schema() -> TableSchema {
    serde_json::from_str(include_str!("table.json")).expect("table.json is checked by a test")
}

/// Creates the table with its TTL if it is not there; true if it did. Waits until
/// it is active.
///
/// # Errors
/// When DynamoDB refuses, or the table is not active within a minute.
pub async fn create_if_missing(dynamo: &Dynamo) -> anyhow::Result<bool> {
    if describe(dynamo).await?.is_some() {
        return Ok(false);
    }
    let shape = table_schema();
    let mut create = dynamo
        .client
        .create_table()
        .table_name(&dynamo.table)
        .billing_mode(BillingMode::from(shape.billing.as_str()))
        .set_key_schema(Some(key_schema(&shape.key_schema)?));
    let indexes = shape.indexes.iter().flat_map(|index| &index.keys);
    let mut defined = HashSet::new();
    for key in shape.key_schema.iter().chain(indexes) {
        // Several indexes share a sort key.
        if !defined.insert(&key.name) {
            continue;
        }
        let definition = AttributeDefinition::builder()
            .attribute_name(&key.name)
            .attribute_type(ScalarAttributeType::from(key.kind.as_str()))
            .build()?;
        create = create.attribute_definitions(definition);
    }
    for index in &shape.indexes {
        create = create.global_secondary_indexes(global_index(index)?);
    }
    create.send().await.map_err(aws::error::cause)?;
    wait_until_active(dynamo).await?;
    let ttl = TimeToLiveSpecification::builder()
        .attribute_name(shape.ttl_attribute)
        .enabled(true);
    let update = dynamo
        .client
        .update_time_to_live()
        .table_name(&dynamo.table);
    update
        .time_to_live_specification(ttl.build()?)
        .send()
        .await
        .map_err(aws::error::cause)?;
    Ok(true)
}

fn key_schema(keys: &[KeyAttribute]) -> anyhow::Result<Vec<KeySchemaElement>> {
    keys.iter()
        .map(|key| {
            let element = KeySchemaElement::builder()
                .attribute_name(&key.name)
                .key_type(KeyType::from(key.role.as_str()));
            Ok(element.build()?)
        })
        .collect()
}

fn global_index(index: &Index) -> anyhow::Result<GlobalSecondaryIndex> {
    let attributes = &index.projection.attributes;
    let projection = Projection::builder()
        .projection_type(ProjectionType::from(index.projection.kind.as_str()))
        .set_non_key_attributes((!attributes.is_empty()).then(|| attributes.clone()));
    Ok(GlobalSecondaryIndex::builder()
        .index_name(&index.name)
        .set_key_schema(Some(key_schema(&index.keys)?))
        .projection(projection.build())
        .build()?)
}

async fn wait_until_active(dynamo: &Dynamo) -> anyhow::Result<()> {
    use aws_sdk_dynamodb::types::TableStatus;
    for _ in 0..120 {
        let table = describe(dynamo).await?;
        if table.is_some_and(|table| table.table_status() == Some(&TableStatus::Active)) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    anyhow::bail!(
        "dynamodb.table: {} was created and is not active after a minute",
        dynamo.table
    )
}

async fn describe(dynamo: &Dynamo) -> anyhow::Result<Option<TableDescription>> {
    match dynamo
        .client
        .describe_table()
        .table_name(&dynamo.table)
        .send()
        .await
    {
        Ok(output) => Ok(output.table),
        Err(error) if kind(&error) == DynamoErrorKind::NoTable => Ok(None),
        Err(error) => Err(aws::error::cause(error).context("describing the DynamoDB table")),
    }
}

/// Whether the table is read from. One eventually consistent read of an item that is
/// never there: what serving needs, and nothing of DynamoDB's control plane.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer, there is no such table, or it may not be read.
pub async fn ping(dynamo: &Dynamo) -> Result<()> {
    let read = dynamo.get_eventually(keys::SENTINEL, keys::SENTINEL);
    read.await.map(drop)
}

/// Where the table differs from its description, in words; empty if nowhere.
///
/// # Errors
/// When DynamoDB does not answer.
pub async fn differences(dynamo: &Dynamo) -> anyhow::Result<Vec<String>> {
    let Some(table) = describe(dynamo).await? else {
        return Ok(vec![format!("there is no table {:?}", dynamo.table)]);
    };
    let shape = table_schema();
    let mut found = Vec::new();
    compare_keys(
        "the table",
        &shape.key_schema,
        table.key_schema(),
        &mut found,
    );
    for index in &shape.indexes {
        let there = table
            .global_secondary_indexes()
            .iter()
            .find(|there| there.index_name() == Some(&index.name));
        match there {
            None => found.push(format!("index {:?} is missing", index.name)),
            Some(there) => {
                let what = format!("index {:?}", index.name);
                compare_keys(&what, &index.keys, there.key_schema(), &mut found);
                compare_projection(&what, index, there.projection(), &mut found);
            }
        }
    }
    let ttl = dynamo
        .client
        .describe_time_to_live()
        .table_name(&dynamo.table)
        .send()
        .await
        .map_err(aws::error::cause)?;
    let ttl = ttl
        .time_to_live_description()
        .and_then(|ttl| ttl.attribute_name());
    if ttl != Some(&shape.ttl_attribute) {
        found.push(format!(
            "time to live is {ttl:?} instead of {:?}",
            shape.ttl_attribute
        ));
    }
    Ok(found)
}

fn compare_keys(
    what: &str,
    wanted: &[KeyAttribute],
    there: &[KeySchemaElement],
    found: &mut Vec<String>,
) {
    let wanted: Vec<_> = wanted
        .iter()
        .map(|k| (k.name.as_str(), k.role.as_str()))
        .collect();
    let there: Vec<_> = there
        .iter()
        .map(|k| (k.attribute_name(), k.key_type().as_str()))
        .collect();
    if wanted != there {
        found.push(format!(
            "{what} has the key {there:?} instead of {wanted:?}"
        ));
    }
}

fn compare_projection(
    what: &str,
    wanted: &Index,
    there: Option<&Projection>,
    found: &mut Vec<String>,
) {
    let mut names: Vec<_> = there
        .map(|p| p.non_key_attributes().to_vec())
        .unwrap_or_default();
    let all = there.and_then(Projection::projection_type) == Some(&ProjectionType::All);
    let mut missing = wanted.projection.attributes.clone();
    names.sort();
    missing.retain(|name| !all && names.binary_search(name).is_err());
    if !missing.is_empty() {
        found.push(format!("{what} does not hold {missing:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys::Listing;

    #[test]
    fn the_description_is_readable_and_every_key_is_a_string() {
        let shape = table_schema();
        let indexes = shape.indexes.iter().flat_map(|index| &index.keys);
        assert!(
            shape
                .key_schema
                .iter()
                .chain(indexes)
                .all(|key| key.kind == "S")
        );
        let listings = [
            Listing::Timeline,
            Listing::Type,
            Listing::Tenant,
            Listing::Detail,
        ];
        for listing in listings {
            let index = shape.indexes.iter().find(|i| i.name == listing.index());
            assert_eq!(index.unwrap().keys[0].name, listing.attribute());
        }
        assert_eq!(shape.indexes.len(), listings.len() + 1);
    }
}
