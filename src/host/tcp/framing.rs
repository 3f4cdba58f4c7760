//! Where the requests of a connection begin, as it is read: told apart so that a length
//! given in two ways is seen.
//!
//! hyper takes `Transfer-Encoding` where there is `Content-Length` too, and drops the
//! other before anybody sees it. A proxy in front may have taken the other one, and
//! then what it takes for a body may be a request here. It decides nothing else: what
//! is no HTTP hyper refuses, and this has lost its place then.

/// Bytes of a head that are looked at: more than hyper reads of one.
const HEAD_BYTES_MAX: usize = 512 * 1024;

/// A place in what a connection is sent.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// Heads that have been read whole.
    heads: u64,
    ambiguous: Option<u64>,
}

#[derive(Debug)]
enum State {
    /// In a head, of which this much has come.
    Head(Vec<u8>),
    /// In a body of which so many bytes are left.
    Body(u64),
    /// In a line with a chunk's size, which is so much so far.
    Size {
        bytes: u64,
        is_over: bool,
    },
    /// In a chunk of which so many bytes are left, with the end of its line.
    Chunk(u64),
    /// In the lines after the last chunk; of this one so many bytes have come.
    Trailers {
        line: usize,
        is_after_cr: bool,
    },
    Lost,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            state: State::Head(Vec::new()),
            heads: 0,
            ambiguous: None,
        }
    }
}

impl Framing {
    /// Goes on by `bytes`.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.step(bytes).min(bytes.len());
            bytes = &bytes[taken..];
        }
    }

    /// Which head, from 0, was the first to give two lengths, or may have been.
    pub fn ambiguous(&self) -> Option<u64> {
        self.ambiguous
    }

    /// Goes on by some of `bytes`, of which there are some: by how many.
    fn step(&mut self, bytes: &[u8]) -> usize {
        match &mut self.state {
            State::Head(head) => match head_step(head, bytes) {
                (taken, None) => {
                    if head.len() > HEAD_BYTES_MAX {
                        self.lose();
                    }
                    taken
                }
                (taken, Some(lengths)) => {
                    self.state = self.after_head(&lengths);
                    self.heads += 1;
                    taken
                }
            },
            State::Body(left) => {
                let taken = skip(left, bytes.len());
                if *left == 0 {
                    self.state = State::Head(Vec::new());
                }
                taken
            }
            State::Chunk(left) => {
                let taken = skip(left, bytes.len());
                if *left == 0 {
                    self.state = SIZE;
                }
                taken
            }
            State::Size {
                bytes: size,
                is_over,
            } => {
                match (bytes[0], char::from(bytes[0]).to_digit(16)) {
                    (b'\n', _) if *size == 0 => self.state = TRAILERS,
                    // With the end of its line.
                    (b'\n', _) => self.state = State::Chunk(size.saturating_add(2)),
                    (_, Some(digit)) if !*is_over => {
                        *size = size.saturating_mul(16).saturating_add(digit.into());
                    }
                    _ => *is_over = true,
                }
                1
            }
            State::Trailers { line, is_after_cr } => {
                let was_after_cr = std::mem::replace(is_after_cr, bytes[0] == b'\r');
                match bytes[0] {
                    // No end of a line to hyper, but to others.
                    b'\n' if !was_after_cr => self.lose(),
                    b'\n' if *line == 0 => self.state = State::Head(Vec::new()),
                    b'\n' => *line = 0,
                    b'\r' => {}
                    _ => *line += 1,
                }
                1
            }
            State::Lost => bytes.len(),
        }
    }

    /// Gives up: where the next head begins is not known, so it is not to be trusted.
    fn lose(&mut self) {
        self.ambiguous.get_or_insert(self.heads);
        self.state = State::Lost;
    }

    fn after_head(&mut self, lengths: &Lengths) -> State {
        if lengths.is_chunked && lengths.bytes.is_some() {
            self.ambiguous.get_or_insert(self.heads);
        }
        match lengths.bytes {
            _ if lengths.is_chunked => SIZE,
            Some(bytes @ 1..) => State::Body(bytes),
            _ => State::Head(Vec::new()),
        }
    }
}

const SIZE: State = State::Size {
    bytes: 0,
    is_over: false,
};

const TRAILERS: State = State::Trailers {
    line: 0,
    is_after_cr: false,
};

/// What a head says of its body.
#[derive(Debug, Default)]
struct Lengths {
    is_chunked: bool,
    bytes: Option<u64>,
}

fn skip(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).map_or(available, |left| left.min(available));
    *left -= taken as u64;
    taken
}

/// Takes what `bytes` has of the head; what it says, if it ends there.
fn head_step(head: &mut Vec<u8>, bytes: &[u8]) -> (usize, Option<Lengths>) {
    let mut taken = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let begins = head.last().is_none_or(|byte| *byte == b'\n');
        taken += line.len();
        let is_blank = |line: &[u8]| matches!(line, b"\n" | b"\r\n");
        let ends = is_blank(line) && begins || line == b"\n" && head.ends_with(b"\n\r");
        let is_begun = head.iter().any(|byte| !byte.is_ascii_whitespace());
        match (ends, is_begun) {
            // Before a request they are skipped.
            (true, false) => head.clear(),
            (true, true) => return (taken, Some(lengths(head))),
            (false, _) => head.extend_from_slice(line),
        }
    }
    (taken, None)
}

fn lengths(head: &[u8]) -> Lengths {
    let mut found = Lengths::default();
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            found.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(value).unwrap_or_default();
            found.bytes = Some(value.parse().unwrap_or(0));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const BOTH: &str = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n";

    /// Heads that were seen, and which was ambiguous: the same in pieces of any size.
    fn read(text: &str) -> (u64, Option<u64>) {
        let whole = [text.len(), 1, 2, 3, 7].map(|step| {
            let mut framing = Framing::default();
            text.as_bytes()
                .chunks(step)
                .for_each(|bytes| framing.read(bytes));
            (framing.heads, framing.ambiguous())
        });
        assert!(
            whole.iter().all(|found| *found == whole[0]),
            "{text:?}: {whole:?}"
        );
        whole[0]
    }

    #[test]
    fn requests_are_told_apart_whatever_their_bodies_hold() {
        let sized = "POST / HTTP/1.1\r\ncontent-length: 60\r\n\r\n";
        let sized = format!("{sized}{BOTH:.60}");
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n";
        let data = format!("{:x};a=\"b\"\r\n{BOTH}\r\n", BOTH.len());
        let trailers = "0\r\nA: b\r\n\r\n";
        for (text, heads) in [
            (BARE.to_owned(), 1),
            (BARE.replace("\r\n", "\n"), 1),
            (format!("\r\n\r\n{BARE}\r\n{BARE}"), 2),
            (format!("{sized}{BARE}"), 2),
            (format!("{chunked}{data}0\r\n\r\n{BARE}"), 2),
            (
                format!("{chunked}{data}{data}{trailers}{BARE}{sized}{BARE}"),
                4,
            ),
            (format!("{chunked}{data}"), 1),
            (BARE[..BARE.len() - 1].to_owned(), 0),
        ] {
            assert_eq!(read(&text), (heads, None), "{text:?}");
        }
    }

    #[test]
    fn two_lengths_are_seen_in_either_order_and_behind_any_request() {
        let other =
            "POST / HTTP/1.1\r\nCONTENT-LENGTH:5\r\nX: y\r\ntransfer-encoding :chunked\r\n\r\n";
        let other = other.replace(" :", ":");
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        let sized = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        for both in [BOTH, &other] {
            assert_eq!(read(both), (1, Some(0)), "{both:?}");
            let last = format!("{BARE}{chunked}{sized}{both}0\r\n\r\n");
            assert_eq!(read(&last), (4, Some(3)), "{last:?}");
        }
    }

    #[test]
    fn a_bare_line_feed_in_trailers_hides_no_two_lengths() {
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        for trailers in ["X: a\n\nY: b\r\n\r\n", "\nY: b\r\n\r\n", "X: a\n\r\n\r\n"] {
            let text = format!("{BARE}{chunked}{trailers}{BOTH}0\r\n\r\n");
            assert_eq!(read(&text), (2, Some(2)), "{text:?}");
        }
        let text = format!("{chunked}X: a\r\nY: b\r\n\r\n{BOTH}");
        assert_eq!(read(&text), (2, Some(1)), "{text:?}");
    }

    #[test]
    fn what_is_no_head_is_not_kept() {
        let mut framing = Framing::default();
        for _ in 0..100 {
            framing.read(&[b'a'; 10_000]);
        }
        assert!(matches!(framing.state, State::Lost));
    }
}
