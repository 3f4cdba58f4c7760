//! The URIs of a bucket, spelled as S3 spells them when it verifies a signature.
//!
//! S3 decodes what it was sent and encodes it anew, every byte but the unreserved ones
//! of RFC 3986, and expects the signature of that. The signature here is of what is
//! sent, so that has to be spelled so from the start: `=` and `+` too, which a URL may
//! hold as they are. Nothing is normalized: `a//b` and `a/../b` are names of their own.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use url::{ParseError, Position, Url};

/// All but the unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The same in a path, whose slashes are slashes of the name.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Where a bucket is, with a slash at the end.
#[derive(Debug)]
pub(super) struct BucketUri(String);

impl BucketUri {
    /// The bucket at `url`, which ends with a slash.
    ///
    /// # Errors
    /// When it is no URL.
    pub(super) fn parse(url: &str) -> Result<Self, ParseError> {
        let url: Url = url.parse()?;
        let path: Vec<u8> = percent_decode_str(url.path()).collect();
        let path = percent_encode(&path, RESERVED_IN_PATH);
        Ok(Self(format!("{}{path}", &url[..Position::BeforePath])))
    }

    /// That of the object `key`.
    pub(super) fn object(&self, key: &str) -> String {
        let key = percent_encode(key.as_bytes(), RESERVED_IN_PATH);
        format!("{}{key}", self.0)
    }

    /// That of the bucket, asked by `query`.
    pub(super) fn query(&self, query: &[(&str, &str)]) -> String {
        let encoded = |text: &str| percent_encode(text.as_bytes(), RESERVED).to_string();
        let pairs = query.iter();
        let pairs: Vec<_> = pairs
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        format!("{}?{}", self.0, pairs.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_character_is_encoded_and_no_other() {
        let bucket = BucketUri::parse("https://b.s3.eu-west-1.amazonaws.com/").unwrap();
        let sent = |key: &str| {
            let uri = bucket.object(key);
            let (_, path) = uri.split_once(".com/").unwrap();
            path.to_owned()
        };
        for (key, path) in [
            (
                "events/project=prj_1/day=2026-01-01/part-00001.jsonl.gz",
                "events/project%3Dprj_1/day%3D2026-01-01/part-00001.jsonl.gz",
            ),
            ("a b+c&d'e~f*g%h", "a%20b%2Bc%26d%27e~f%2Ag%25h"),
            ("ü/日", "%C3%BC/%E6%97%A5"),
            ("a//b/../c/./d", "a//b/../c/./d"),
            ("/a?b#c:@", "/a%3Fb%23c%3A%40"),
            ("%3D", "%253D"),
        ] {
            assert_eq!(sent(key), path);
        }
        let query = bucket.query(&[("list-type", "2"), ("prefix", "a b=+&~*/ü")]);
        let (_, query) = query.split_once('?').unwrap();
        assert_eq!(query, "list-type=2&prefix=a%20b%3D%2B%26~%2A%2F%C3%BC");
    }

    #[test]
    fn a_bucket_below_a_path_is_spelled_the_same_way() {
        let bucket = BucketUri::parse("http://127.0.0.1:9000/a=b/c d/").unwrap();
        assert_eq!(bucket.object("e"), "http://127.0.0.1:9000/a%3Db/c%20d/e");
        assert!(BucketUri::parse("bucket/").is_err());
    }
}
