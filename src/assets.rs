//! Static assets: files of this build, by names with a hash of what they hold, so that
//! whoever has one keeps it for good.
//!
//! A file lies beside the code of the pages that it is part of. Each is compressed once, when it is first asked for, and not with every answer. The
//! file of an older build is not here: while two builds serve, a page and its assets may
//! be asked of different ones, and then the asset is looked for again.

use std::io::Write;
use std::sync::OnceLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, VARY,
};
use http::{HeaderMap, StatusCode};
use ring::digest;

use crate::model::id::base32;

/// Bytes of a hash that are in a name: enough that no two builds meet in one.
const HASH_BYTES: usize = 10;
/// For good: another content has another name.
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// For as long as two builds may serve beside each other.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

/// A file of this build.
#[derive(Debug)]
pub struct Asset {
    name: &'static str,
    extension: &'static str,
    media_type: &'static str,
    content: &'static [u8],
    made: OnceLock<Made>,
}

#[derive(Debug)]
struct Made {
    path: String,
    gzip: Vec<u8>,
}

/// What every page of the console looks like.
pub static STYLE: Asset = Asset::new(
    "console",
    "css",
    "text/css; charset=utf-8",
    include_bytes!("console/assets/console.css"),
);
/// What pages gain where scripts run.
pub static SCRIPT: Asset = Asset::new(
    "console",
    "js",
    "text/javascript; charset=utf-8",
    include_bytes!("console/assets/console.js"),
);
/// The sign of the product.
pub static ICON: Asset = Asset::new(
    "icon",
    "svg",
    "image/svg+xml",
    include_bytes!("console/assets/icon.svg"),
);

/// What the API's documentation looks like.
pub static DOCS_STYLE: Asset = Asset::new(
    "docs",
    "css",
    "text/css; charset=utf-8",
    include_bytes!("http/docs/page.css"),
);
/// What the API's documentation gains where scripts run: search, and copying.
pub static DOCS_SCRIPT: Asset = Asset::new(
    "docs",
    "js",
    "text/javascript; charset=utf-8",
    include_bytes!("http/docs/page.js"),
);

/// All of them.
pub static ALL: [&Asset; 5] = [&STYLE, &SCRIPT, &ICON, &DOCS_STYLE, &DOCS_SCRIPT];

impl Asset {
    const fn new(
        name: &'static str,
        extension: &'static str,
        media_type: &'static str,
        content: &'static [u8],
    ) -> Self {
        Self {
            name,
            extension,
            media_type,
            content,
            made: OnceLock::new(),
        }
    }

    /// Where it is: `/assets/<name>.<hash>.<extension>`.
    pub fn path(&self) -> &str {
        &self.made().path
    }

    /// Its bytes as they go over the wire.
    pub fn gzip(&self) -> &[u8] {
        &self.made().gzip
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let hash = digest::digest(&digest::SHA256, self.content);
            let hash = base32(&hash.as_ref()[..HASH_BYTES]);
            Made {
                path: format!("/assets/{}.{hash}.{}", self.name, self.extension),
                gzip: gzip(self.content),
            }
        })
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.expect("memory takes what is written")
}

/// Answers `GET /assets/{file}`.
pub async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Response {
    let of_name = |asset: &&&Asset| asset.path().strip_prefix("/assets/") == Some(&*file);
    let Some(asset) = ALL.iter().find(of_name) else {
        return (StatusCode::NOT_FOUND, [(CACHE_CONTROL, NOT_KEPT)]).into_response();
    };
    let common: [(HeaderName, HeaderValue); 3] = [
        (CONTENT_TYPE, HeaderValue::from_static(asset.media_type)),
        (CACHE_CONTROL, FOREVER),
        (VARY, HeaderValue::from_static("accept-encoding")),
    ];
    if takes_gzip(&headers) {
        let coding = [(CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
        (common, coding, asset.gzip()).into_response()
    } else {
        (common, asset.content).into_response()
    }
}

/// Whether `Accept-Encoding` names gzip and does not refuse it (RFC 9110 §12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let is_refused = weight.is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0));
        name.eq_ignore_ascii_case("gzip") && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_gzip_decides() {
        for (accepted, gzip) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip;q=0.0, br", false),
            ("br", false),
            ("xgzip", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(accepted);
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value)]);
            assert_eq!(takes_gzip(&headers), gzip, "{accepted}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn style_and_script_are_small_on_the_wire() {
        for page in [[&STYLE, &SCRIPT], [&DOCS_STYLE, &DOCS_SCRIPT]] {
            let bytes: usize = page.iter().map(|asset| asset.gzip().len()).sum();
            assert!(bytes < 40_000, "{bytes}");
        }
    }
}
