//! Signature Version 4 as a service of AWS verifies it: the canonical request built
//! from what came over the wire, by the rules that AWS publishes, and nothing of what
//! signs.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use http::request::Parts;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use ring::{digest, hmac};

/// How far a request's date may be off.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(15);
/// Headers that a request has and that say what it is: they must be signed.
const MUST_BE_SIGNED: &str = "x-amz-";

/// How a service reads the path of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathRule {
    /// S3: decoded and encoded again, with all its slashes and dots.
    EncodedOnce,
    /// All others: normalized as it came, and encoded once more.
    EncodedTwice,
}

/// Who may call a service, and where that is.
#[derive(Debug, Clone)]
pub struct Account {
    pub access_key_id: &'static str,
    pub secret: &'static str,
    pub session_token: Option<&'static str>,
    pub region: &'static str,
    pub service: &'static str,
    pub path_rule: PathRule,
}

/// Whom the doubles know.
pub const KNOWN: Account = Account {
    access_key_id: "AKID",
    secret: "secret",
    session_token: Some("session+/=="),
    region: "us-east-1",
    service: "s3",
    path_rule: PathRule::EncodedOnce,
};

/// Why a request is refused: the status and AWS's error code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub code: &'static str,
    /// What the signature was expected of, if that is why.
    pub canonical_request: String,
}

fn refused(status: u16, code: &'static str) -> Refused {
    Refused {
        status,
        code,
        canonical_request: String::new(),
    }
}

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    access_key_id: &'a str,
    /// `date/region/service/aws4_request`.
    scope: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let rest = header.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let member = |name: &str| {
            let mut members = rest.split(',').map(str::trim);
            members.find_map(|member| member.strip_prefix(name)?.strip_prefix('='))
        };
        let (access_key_id, scope) = member("Credential")?.split_once('/')?;
        Some(Self {
            access_key_id,
            scope,
            signed_headers: member("SignedHeaders")?.split(';').collect(),
            signature: member("Signature")?,
        })
    }
}

impl Account {
    /// The same account at another service.
    pub fn at(service: &'static str) -> Self {
        let path_rule = match service {
            "s3" => PathRule::EncodedOnce,
            _ => PathRule::EncodedTwice,
        };
        Self {
            service,
            path_rule,
            ..KNOWN
        }
    }

    /// What a client signs with.
    pub fn credentials(&self) -> Credentials {
        let token = self.session_token.map(String::from);
        Credentials::from_keys(self.access_key_id, self.secret, token)
    }

    /// The same, as clients of AWS want it.
    pub fn provider(&self) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(self.credentials())
    }

    /// Whether a request that came to `host` at `now` is of this account.
    ///
    /// # Errors
    /// With what AWS refuses it by.
    pub fn verify(
        &self,
        parts: &Parts,
        body: &[u8],
        host: &str,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let header = |name: &str| {
            let value = parts.headers.get(name)?;
            Some(value.to_str().unwrap())
        };
        let authorization = header("authorization").ok_or_else(|| refused(403, "AccessDenied"))?;
        let malformed = || refused(400, "AuthorizationHeaderMalformed");
        let authorization = Authorization::parse(authorization).ok_or_else(malformed)?;
        if authorization.access_key_id != self.access_key_id {
            return Err(refused(403, "InvalidAccessKeyId"));
        }
        if header("x-amz-security-token") != self.session_token {
            return Err(refused(400, "InvalidToken"));
        }
        let date = header("x-amz-date").ok_or_else(malformed)?;
        let at = DateTime::strptime("%Y%m%dT%H%M%SZ", date).map_err(|_| malformed())?;
        let at = at.to_zoned(TimeZone::UTC).unwrap().timestamp();
        if at.duration_since(now).abs() > SKEW_MAX {
            return Err(refused(403, "RequestTimeTooSkewed"));
        }
        let scope = format!(
            "{}/{}/{}/aws4_request",
            &date[..8],
            self.region,
            self.service
        );
        if authorization.scope != scope {
            return Err(malformed());
        }
        self.check_headers(parts, &authorization, host)?;
        let hash = hex(digest::digest(&digest::SHA256, body).as_ref());
        match header("x-amz-content-sha256") {
            None if self.service == "s3" => return Err(refused(400, "InvalidRequest")),
            Some(said) if said != hash => return Err(refused(400, "XAmzContentSHA256Mismatch")),
            _ => {}
        }
        let canonical_request = self.canonical_request(parts, &authorization, &hash);
        let expected = self.signature(&canonical_request, date, &scope);
        if authorization.signature != expected {
            return Err(Refused {
                canonical_request,
                ..refused(403, "SignatureDoesNotMatch")
            });
        }
        Ok(())
    }

    fn check_headers(
        &self,
        parts: &Parts,
        authorization: &Authorization<'_>,
        host: &str,
    ) -> Result<(), Refused> {
        let signed = &authorization.signed_headers;
        let is_signed = |name: &str| signed.contains(&name);
        let names = parts.headers.keys().map(http::HeaderName::as_str);
        let mut of_aws = names.filter(|name| name.starts_with(MUST_BE_SIGNED));
        if !signed.is_sorted() || !is_signed("host") || !of_aws.all(is_signed) {
            return Err(refused(403, "AccessDenied"));
        }
        if parts.headers.get_all("host").iter().ne([host]) {
            return Err(refused(403, "SignatureDoesNotMatch"));
        }
        Ok(())
    }

    fn canonical_request(
        &self,
        parts: &Parts,
        authorization: &Authorization<'_>,
        hash: &str,
    ) -> String {
        let mut headers = String::new();
        for name in &authorization.signed_headers {
            let values = parts.headers.get_all(*name).iter();
            let values: Vec<_> = values.map(|value| trimmed(value.as_bytes())).collect();
            headers += &format!("{name}:{}\n", values.join(","));
        }
        [
            parts.method.as_str(),
            &canonical_path(parts.uri.path(), self.path_rule),
            &canonical_query(parts.uri.query().unwrap_or_default()),
            &headers,
            &authorization.signed_headers.join(";"),
            hash,
        ]
        .join("\n")
    }

    fn signature(&self, canonical_request: &str, date: &str, scope: &str) -> String {
        let hash = digest::digest(&digest::SHA256, canonical_request.as_bytes());
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(hash.as_ref()));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/') {
            key = keyed_hash(&key, part);
        }
        hex(&keyed_hash(&key, &to_sign))
    }
}

fn keyed_hash(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A header's value without the spaces around it, and with one where there are several.
fn trimmed(value: &[u8]) -> String {
    let text = String::from_utf8(value.to_vec()).unwrap();
    let words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn canonical_path(path: &str, rule: PathRule) -> String {
    let encoded = |text: &[u8]| encode(text, "/");
    match rule {
        PathRule::EncodedOnce => encoded(&decode(path)),
        PathRule::EncodedTwice => {
            let mut kept: Vec<&str> = vec![];
            let segments: Vec<_> = path.split('/').collect();
            for segment in &segments {
                match *segment {
                    "" | "." => {}
                    ".." => drop(kept.pop()),
                    other => kept.push(other),
                }
            }
            let ends_with_slash = matches!(segments.last(), Some(&("" | "." | "..")));
            let mut path = format!("/{}", kept.join("/"));
            if ends_with_slash && path != "/" {
                path.push('/');
            }
            encoded(path.as_bytes())
        }
    }
}

fn canonical_query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encode(&decode(name), ""), encode(&decode(value), ""))
        })
        .collect();
    pairs.sort();
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join("&")
}

/// The bytes that `text` stands for; a plus sign is one.
pub fn decode(text: &str) -> Vec<u8> {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        rest = match escaped {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                &after[2..]
            }
            None => {
                bytes.push(*first);
                after
            }
        };
    }
    bytes
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

fn encode(bytes: &[u8], kept: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut text = String::new();
    for byte in bytes {
        if unreserved(*byte) || kept.as_bytes().contains(byte) {
            text.push(char::from(*byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}
