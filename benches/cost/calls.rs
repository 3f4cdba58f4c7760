//! Counting the calls of the AWS clients, and what DynamoDB says they consumed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::operation::batch_get_item::{BatchGetItemInput, BatchGetItemOutput};
use aws_sdk_dynamodb::operation::batch_write_item::{BatchWriteItemInput, BatchWriteItemOutput};
use aws_sdk_dynamodb::operation::delete_item::{DeleteItemInput, DeleteItemOutput};
use aws_sdk_dynamodb::operation::get_item::{GetItemInput, GetItemOutput};
use aws_sdk_dynamodb::operation::put_item::{PutItemInput, PutItemOutput};
use aws_sdk_dynamodb::operation::query::{QueryInput, QueryOutput};
use aws_sdk_dynamodb::operation::transact_write_items::{
    TransactWriteItemsInput, TransactWriteItemsOutput,
};
use aws_sdk_dynamodb::operation::update_item::{UpdateItemInput, UpdateItemOutput};
use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};
use aws_sdk_sqs::operation::receive_message::ReceiveMessageOutput;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextMut, FinalizerInterceptorContextRef, Input, Output,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// Dollars per million in Ireland, on demand.
const WRITE_UNITS: f64 = 0.705;
const READ_UNITS: f64 = 0.141;
const SQS_REQUESTS: f64 = 0.40;

/// What was called since it was last asked.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<Tally>>);

impl Calls {
    /// And begins anew.
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Calls by their names.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<String, Count>);

#[derive(Debug, Default)]
struct Count {
    calls: u64,
    units: f64,
}

/// Whose a call is, and what its units are.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Kind {
    Write,
    Read,
    Sqs,
    /// A poll that found nothing: as many as time passes.
    Empty,
}

fn kind(name: &str) -> Kind {
    match name {
        _ if name.ends_with("nothing") => Kind::Empty,
        "GetItem" | "BatchGetItem" | "Query" => Kind::Read,
        _ if name.contains("Message") => Kind::Sqs,
        _ => Kind::Write,
    }
}

impl Tally {
    fn calls(&self, of: impl Fn(Kind) -> bool) -> u64 {
        let counts = self.0.iter().filter(|(name, _)| of(kind(name)));
        counts.map(|(_, count)| count.calls).sum()
    }

    fn units(&self, of: Kind) -> f64 {
        let counts = self.0.iter().filter(|(name, _)| kind(name) == of);
        let units = counts.map(|(_, count)| count.units);
        // A sum of none is -0.
        units.fold(0.0, |sum, units| sum + units)
    }

    fn dollars(&self) -> f64 {
        let sqs = self.calls(|kind| matches!(kind, Kind::Sqs | Kind::Empty)) as f64;
        let (writes, reads) = (self.units(Kind::Write), self.units(Kind::Read));
        (writes * WRITE_UNITS + reads * READ_UNITS + sqs * SQS_REQUESTS) / 1e6
    }

    /// The columns of one event of `events`. Polls that found nothing are left out.
    pub fn row(&self, events: u64) -> String {
        let each = |sum: f64| sum / events as f64;
        let dynamo = self.calls(|kind| matches!(kind, Kind::Write | Kind::Read));
        let sqs = self.calls(|kind| kind == Kind::Sqs);
        let empty = self.calls(|kind| kind == Kind::Empty) as f64 * SQS_REQUESTS / 1e6;
        format!(
            "{:.2} | {:.2} | {:.2} | {:.2} | {:.2}",
            each(dynamo as f64),
            each(self.units(Kind::Write)),
            each(self.units(Kind::Read)),
            each(sqs as f64),
            each(self.dollars() - empty) * 1e6,
        )
    }

    /// Requests and units of DynamoDB, in words.
    pub fn dynamo(&self) -> String {
        let requests = self.calls(|kind| matches!(kind, Kind::Write | Kind::Read));
        let (writes, reads) = (self.units(Kind::Write), self.units(Kind::Read));
        format!("{requests} DynamoDB requests, {writes:.0} write units, {reads:.0} read units")
    }

    /// All of it, `times` over.
    pub fn bill(&self, times: f64) -> String {
        let dynamo = self.calls(|kind| matches!(kind, Kind::Write | Kind::Read));
        let sqs = self.calls(|kind| matches!(kind, Kind::Sqs | Kind::Empty));
        format!(
            "{:.2} million DynamoDB requests, {:.2} million read units, {:.2} million \
             write units, {:.2} million SQS requests, ${:.2}",
            dynamo as f64 * times / 1e6,
            self.units(Kind::Read) * times / 1e6,
            self.units(Kind::Write) * times / 1e6,
            sqs as f64 * times / 1e6,
            self.dollars() * times,
        )
    }

    /// Each call, for one of `events`.
    pub fn lines(&self, events: u64) -> impl Iterator<Item = String> {
        let each = move |sum: f64| sum / events as f64;
        self.0.iter().map(move |(name, count)| {
            let (calls, units) = (each(count.calls as f64), each(count.units));
            format!("{name}: {calls:.2} calls, {units:.2} units")
        })
    }
}

impl Intercept for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        ask_for_units(context.input_mut());
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut name = bag
            .load::<Metadata>()
            .map_or("?", Metadata::name)
            .to_owned();
        let mut units = 0.0;
        match context.output_or_error() {
            Some(Ok(output)) => {
                units = consumed(output);
                let received = output.downcast_ref::<ReceiveMessageOutput>();
                if received.is_some_and(|received| received.messages().is_empty()) {
                    name += " of nothing";
                }
            }
            _ => name += " refused",
        }
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = tally.0.entry(name).or_default();
        count.calls += 1;
        count.units += units;
        Ok(())
    }
}

fn ask_for_units(input: &mut Input) {
    macro_rules! ask {
        ($($type:ty),+) => {
            $(if let Some(input) = input.downcast_mut::<$type>() {
                input.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
            })+
        };
    }
    ask!(
        GetItemInput,
        BatchGetItemInput,
        QueryInput,
        PutItemInput,
        UpdateItemInput,
        DeleteItemInput,
        BatchWriteItemInput,
        TransactWriteItemsInput
    );
}

fn consumed(output: &Output) -> f64 {
    let units = |consumed: &ConsumedCapacity| consumed.capacity_units().unwrap_or_default();
    macro_rules! of_one {
        ($($type:ty),+) => {
            $(if let Some(output) = output.downcast_ref::<$type>() {
                return output.consumed_capacity().map(units).unwrap_or_default();
            })+
        };
    }
    macro_rules! of_many {
        ($($type:ty),+) => {
            $(if let Some(output) = output.downcast_ref::<$type>() {
                return output.consumed_capacity().iter().map(units).sum();
            })+
        };
    }
    of_one!(
        GetItemOutput,
        QueryOutput,
        PutItemOutput,
        UpdateItemOutput,
        DeleteItemOutput
    );
    of_many!(
        BatchGetItemOutput,
        BatchWriteItemOutput,
        TransactWriteItemsOutput
    );
    0.0
}
