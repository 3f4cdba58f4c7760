//! A request's body, whole: within its limits, and out of its content coding.
//!
//! Called by extractors, handlers and `idempotency`, after they know who asks. What is
//! refused for what its headers say is refused before the first byte is asked for, so
//! that a client that sent `Expect: 100-continue` never sends it.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use flate2::write::MultiGzDecoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::error::{Error, Invalid, Result};

/// Reads a whole body, which `headers` describe, of up to `bytes_max` as it is sent and
/// as many once it is decoded. Decoding stops at that many, whatever is left.
///
/// # Errors
/// [`Error::UnsupportedContentEncoding`]; [`Error::TooLarge`]; [`Error::Invalid`] when
/// the connection breaks off or the body is not coded as it is said to be.
pub async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes> {
    let coding = Coding::of(headers)?;
    let announced = usize::try_from(body.size_hint().lower());
    if announced.is_ok_and(|bytes| bytes <= bytes_max) {
        let body = Limited::new(body, bytes_max);
        match coding {
            Coding::Identity => collect(body, bytes_max).await,
            Coding::Gzip => gunzip(body, bytes_max).await,
        }
    } else {
        Err(too_large(bytes_max))
    }
}

/// Makes `headers` those of the body that [`read`] gave.
pub fn describe_decoded(headers: &mut HeaderMap) {
    headers.remove(CONTENT_ENCODING);
    headers.remove(CONTENT_LENGTH);
}

/// Whether there is or may be a body.
pub fn is_announced(body: &Body) -> bool {
    !body.is_end_stream()
}

/// What has been done to a body (RFC 9110 §8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    /// The one coding that `headers` name. Codings upon codings would multiply what a
    /// small body may cost, and nobody has a use for them.
    fn of(headers: &HeaderMap) -> Result<Self> {
        let mut found = Self::Identity;
        for value in headers.get_all(CONTENT_ENCODING) {
            let names = value.to_str().map_err(|_| unsupported())?;
            let names = names.split(',').map(str::trim);
            for name in names.filter(|name| !name.is_empty()) {
                match (found, Self::from_name(name)) {
                    (_, Some(Self::Identity)) => {}
                    (Self::Identity, Some(Self::Gzip)) => found = Self::Gzip,
                    _ => return Err(unsupported()),
                }
            }
        }
        Ok(found)
    }

    fn from_name(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else {
            is("identity").then_some(Self::Identity)
        }
    }
}

fn unsupported() -> Error {
    let detail = "Content-Encoding: expected gzip, once, or no coding";
    Error::UnsupportedContentEncoding(detail.into())
}

fn too_large(bytes_max: usize) -> Error {
    Error::TooLarge(format!("the body is larger than {bytes_max} bytes").into())
}

async fn collect(body: Limited<Body>, bytes_max: usize) -> Result<Bytes> {
    let collected = body.collect().await;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| unread(&*error, bytes_max))
}

fn unread(error: &(dyn std::error::Error + 'static), bytes_max: usize) -> Error {
    if error.is::<LengthLimitError>() {
        too_large(bytes_max)
    } else {
        Invalid::body("the body broke off").into()
    }
}

/// Decodes what comes as it comes: no more is kept than the limit, and nothing is
/// decoded beyond it.
async fn gunzip(mut body: Limited<Body>, bytes_max: usize) -> Result<Bytes> {
    let mut decoder = MultiGzDecoder::new(Decoded::of_at_most(bytes_max));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unread(&*error, bytes_max))?;
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        if decoder.write_all(&bytes).is_err() {
            return Err(undecoded(decoder.get_ref(), bytes_max));
        }
    }
    if decoder.try_finish().is_err() {
        return Err(undecoded(decoder.get_ref(), bytes_max));
    }
    Ok(std::mem::take(&mut decoder.get_mut().bytes).into())
}

fn undecoded(decoded: &Decoded, bytes_max: usize) -> Error {
    if decoded.is_over {
        let detail = format!("the body is larger than {bytes_max} bytes once it is decoded");
        Error::TooLarge(detail.into())
    } else {
        let detail = "the body: expected gzip, as Content-Encoding says, whole and with \
             nothing behind it";
        Invalid::body(detail).into()
    }
}

/// What has been decoded, up to a limit.
struct Decoded {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// There is more than that.
    is_over: bool,
}

impl Decoded {
    fn of_at_most(bytes_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            bytes_max,
            is_over: false,
        }
    }
}

impl Write for Decoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.bytes_max - self.bytes.len() {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::{StreamExt, stream};
    use http::HeaderValue;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn coded(names: &[&str]) -> HeaderMap {
        let named = names.iter().map(|name| {
            let value = HeaderValue::from_bytes(name.as_bytes()).unwrap();
            (CONTENT_ENCODING, value)
        });
        let mut headers = HeaderMap::new();
        for (name, value) in named {
            headers.append(name, value);
        }
        headers
    }

    /// In pieces of `step` bytes, without saying how many there are.
    fn in_pieces(bytes: &[u8], step: usize) -> Body {
        let pieces: Vec<_> = bytes.chunks(step).map(Bytes::copy_from_slice).collect();
        Body::from_stream(stream::iter(pieces).map(Ok::<_, Infallible>))
    }

    async fn decoded(bytes: &[u8], step: usize) -> Result<Bytes> {
        read(&coded(&["gzip"]), in_pieces(bytes, step), 1000).await
    }

    #[test]
    fn a_coding_is_gzip_or_none() {
        for (names, expected) in [
            (&[] as &[&str], Some(Coding::Identity)),
            (&[""], Some(Coding::Identity)),
            (&["identity"], Some(Coding::Identity)),
            (&["IDENTITY"], Some(Coding::Identity)),
            (&["gzip"], Some(Coding::Gzip)),
            (&["GZip"], Some(Coding::Gzip)),
            (&["x-gzip"], Some(Coding::Gzip)),
            (&[" gzip ,"], Some(Coding::Gzip)),
            (&["gzip, gzip"], None),
            (&["gzip", "gzip"], None),
            (&["gzip, br"], None),
            (&["br"], None),
            (&["deflate"], None),
            (&["zstd"], None),
            (&["compress"], None),
            (&["*"], None),
            (&["gzip;q=1"], None),
            (&["\u{e9}"], None),
        ] {
            assert_eq!(Coding::of(&coded(names)).ok(), expected, "{names:?}");
        }
    }

    #[tokio::test]
    async fn members_of_gzip_are_one_body_however_they_come() {
        let whole = [gzip(b"{\"a\":"), gzip(b""), gzip(b"1}")].concat();
        for step in [1, 7, 1000] {
            assert_eq!(decoded(&whole, step).await.unwrap(), "{\"a\":1}", "{step}");
        }
    }

    #[tokio::test]
    async fn what_is_not_whole_gzip_is_refused() {
        let whole = gzip(b"{\"a\":1}");
        for end in 0..whole.len() {
            let error = decoded(&whole[..end], 5).await.unwrap_err();
            assert_eq!(error.status(), 400, "cut off at {end}");
        }
        let mut wrong_sum = whole.clone();
        let sum = wrong_sum.len() - 8;
        wrong_sum[sum] ^= 1;
        for wrong in [
            wrong_sum,
            [&*whole, b"\0"].concat(),
            [&*whole, b"garbage"].concat(),
            [&*whole, &whole[..9]].concat(),
            b"{\"a\":1}".to_vec(),
        ] {
            let error = decoded(&wrong, 5).await.unwrap_err().to_string();
            assert!(error.starts_with("the body: expected gzip"), "{error}");
        }
    }

    #[tokio::test]
    async fn both_sizes_are_bounded_at_their_edge() {
        let fits = gzip(&[b'a'; 1000]);
        assert_eq!(decoded(&fits, 9).await.unwrap().len(), 1000);
        let over = gzip(&[b'a'; 1001]);
        assert_eq!(decoded(&over, 9).await.unwrap_err().status(), 413);
        // Members that decode to nothing, of more bytes than may be sent.
        let long = gzip(b"").repeat(51);
        assert!(long.len() > 1000);
        assert_eq!(decoded(&long, 9).await.unwrap_err().status(), 413);
    }

    #[tokio::test]
    async fn a_bomb_costs_no_more_than_the_limit() {
        let bomb = gzip(&vec![0; 50_000_000]);
        let taken = Arc::new(AtomicUsize::new(0));
        let pieces: Vec<_> = bomb.chunks(100).map(Bytes::copy_from_slice).collect();
        let count = taken.clone();
        let pieces = stream::iter(pieces).map(move |piece| {
            count.fetch_add(piece.len(), Ordering::Relaxed);
            Ok::<_, Infallible>(piece)
        });
        let headers = coded(&["gzip"]);
        let read = read(&headers, Body::from_stream(pieces), 100_000);
        assert_eq!(read.await.unwrap_err().status(), 413);
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken < 2000, "{taken} of {} bytes were read", bomb.len());
        // Nor is more kept than that, within the one piece that goes beyond it.
        let mut sink = MultiGzDecoder::new(Decoded::of_at_most(100_000));
        assert!(sink.write_all(&bomb).is_err());
        assert!(sink.get_ref().is_over && sink.get_ref().bytes.capacity() < 300_000);
    }

    #[tokio::test]
    async fn a_length_beyond_the_limit_is_refused_unread() {
        struct Announced;
        impl http_body::Body for Announced {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<std::result::Result<http_body::Frame<Bytes>, Infallible>>>
            {
                panic!("it is read")
            }

            fn size_hint(&self) -> http_body::SizeHint {
                http_body::SizeHint::with_exact(1001)
            }
        }
        for names in [&[] as &[&str], &["gzip"]] {
            let refused = read(&coded(names), Body::new(Announced), 1000).await;
            assert_eq!(refused.unwrap_err().status(), 413);
        }
        let refused = read(&coded(&["br"]), Body::new(Announced), 10_000).await;
        assert_eq!(refused.unwrap_err().status(), 415);
    }
}
