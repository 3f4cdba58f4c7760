//! stub
use super::dynamo::Dynamo;
use crate::error::Result;
use crate::model::session::{Session, SessionToken};
use jiff::Timestamp;
pub async fn find(_d: &Dynamo, _t: &SessionToken, _n: Timestamp) -> Result<Option<Session>> {
    Ok(None)
}
