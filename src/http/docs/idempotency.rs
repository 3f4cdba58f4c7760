//! What the OpenAPI document says of idempotency keys, for every route that takes one.

use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, OpenApi as Document, Ref, RefOr, Required};

use crate::http::idempotency::ROUTES;

const KEY: &str = "A key of your own for this request, 1 to 255 printable ASCII characters; \
    a random UUID will do. For 24 hours the same request with the same key is answered as \
    the first was, and done once; another one is 422, and 409 is the answer while the first \
    is under way. What is refused is not kept: its key is free. Should Millrace die between \
    what it does and keeping its answer, the same request finds what it made; a replay or a \
    retry may then begin twice.";
/// Spaces at either end are no part of a header.
const PRINTABLE: &str = "^[!-~]([ -~]*[!-~])?$";
const REPLAYED: &str = "`true`, if this is the answer to an earlier request with the same key.";
/// At the beginning of a description, and after others.
const IN_USE: (&str, &str) = (
    "The first request with the same `Idempotency-Key` is under way",
    "the first request with the same `Idempotency-Key` is under way",
);
const REUSED: &str = "The `Idempotency-Key` was used for another request";

/// Adds the header, its answer's header and its refusal to the routes that take it.
pub(super) fn describe(document: &mut Document) {
    for (path, _) in ROUTES {
        let operation = document.paths.paths.get_mut(path);
        let operation = operation.and_then(|item| item.post.as_mut());
        let operation = operation.expect("each is a POST that is described");
        let text = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        let key = text()
            .min_length(Some(1))
            .max_length(Some(255))
            .pattern(Some(PRINTABLE))
            .build();
        let parameter = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(KEY))
            .schema(Some(key));
        let parameters = operation.parameters.get_or_insert_default();
        parameters.push(RefOr::T(parameter.build()));
        for (status, response) in &mut operation.responses.responses {
            if let (true, RefOr::T(response)) = (status.starts_with('2'), response) {
                let header = HeaderBuilder::new()
                    .schema(Some(text().build()))
                    .description(Some(REPLAYED));
                let header = RefOr::T(header.build());
                response
                    .headers
                    .insert("Idempotent-Replayed".to_owned(), header);
            }
        }
        let responses = &mut operation.responses.responses;
        responses.insert("422".to_owned(), RefOr::T(problem(REUSED)));
        match responses.get_mut("409") {
            Some(RefOr::T(conflict)) => {
                conflict.description = format!("{}, or {}", conflict.description, IN_USE.1);
            }
            _ => {
                responses.insert("409".to_owned(), RefOr::T(problem(IN_USE.0)));
            }
        }
    }
}

fn problem(description: &str) -> Response {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content)
        .build()
}
