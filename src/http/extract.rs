//! Extractors whose refusals are problems that name the field.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::error::{Error, Invalid, Result};
use crate::model::{event, parse_error};

/// A JSON body, in and out.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let body = read_body(body, app.config.http.body_bytes_max).await?;
        // A body is asked for where it matters; curl's bare POST has neither.
        if body.is_empty() {
            return Ok(Self(parse_error::from_body(b"{}")?));
        }
        event::check_json(&parts.headers)?;
        Ok(Self(parse_error::from_body(&body)?))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Reads a whole body of up to `bytes_max`.
///
/// # Errors
/// [`Error::TooLarge`]; [`Error::Invalid`] when the connection breaks off.
pub async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes> {
    let limited = http_body_util::Limited::new(body, bytes_max);
    match http_body_util::BodyExt::collect(limited).await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Error::TooLarge(
            format!("the body is larger than {bytes_max} bytes").into(),
        )),
        Err(_) => Err(Invalid::body("the body broke off").into()),
    }
}

/// Query parameters, each a field of `T`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(parse_error::from_query(query)?))
    }
}

/// The id in the path. One that is no id of its kind names nothing: 404.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, app).await;
        match path {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            // Its form alone: in place of an id there may be a secret.
            Err(_) => {
                let route = parts.extensions.get::<MatchedPath>();
                let form = route.map_or("the path", MatchedPath::as_str);
                Err(Error::NotFound(form.to_owned()))
            }
        }
    }
}
