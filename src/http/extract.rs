//! Extractors whose refusals are problems that name the field.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::error::{Error, Invalid, Result};

/// A JSON body, in and out.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let is_json = request.headers().get(CONTENT_TYPE).is_some_and(|value| {
            let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("");
            essence.trim().eq_ignore_ascii_case("application/json")
        });
        let body = read_body(request.into_body(), app.config.http.body_bytes_max).await?;
        // A body is asked for where it matters; curl's bare POST has neither.
        if !is_json && !body.is_empty() {
            let detail = "Content-Type: expected application/json";
            return Err(Error::UnsupportedMediaType(detail.into()));
        }
        let body = if body.is_empty() {
            Bytes::from_static(b"{}")
        } else {
            body
        };
        parse(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        field_error(&path, &error.into_inner().to_string())
    })?;
    json.end()
        .map_err(|error| Invalid::body(format!("after the JSON body: {error}")))?;
    Ok(value)
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
        let fields = serde_urlencoded::Deserializer::new(form_urlencoded(query));
        serde_path_to_error::deserialize(fields)
            .map(Self)
            .map_err(|error| {
                let path = error.path().to_string();
                field_error(&path, &error.into_inner().to_string()).into()
            })
    }
}

/// What serde found wrong at `path`, by the field's name: serde puts that of a
/// missing or unknown field in the text alone.
fn field_error(path: &str, detail: &str) -> Invalid {
    // The field says where in the body it is.
    let detail = detail
        .split(" at line ")
        .next()
        .unwrap_or(detail)
        .to_owned();
    let quoted = ["missing field `", "unknown field `"]
        .iter()
        .find_map(|lead| detail.strip_prefix(lead)?.split('`').next());
    match (path, quoted) {
        (".", None) => Invalid::body(format!("the request is not as expected here: {detail}")),
        (".", Some(name)) => Invalid::new(name.to_owned(), detail),
        (path, Some(name)) if !path.ends_with(name) => {
            Invalid::new(format!("{path}.{name}"), detail)
        }
        (path, _) => Invalid::new(path.to_owned(), detail),
    }
}

fn form_urlencoded(query: &str) -> url::form_urlencoded::Parse<'_> {
    url::form_urlencoded::parse(query.as_bytes())
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
            Err(_) => Err(Error::NotFound(parts.uri.path().to_owned())),
        }
    }
}
