//! What a command prints: to stdout, for whoever reads it for as long as they do; and
//! the error that ends it, to stderr.

use std::io::{self, ErrorKind, Stdout, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Between two tries of a stream that takes nothing just now.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How long the end of a process waits for its error to be read.
const ERROR_MAX: Duration = Duration::from_secs(1);

/// Stdout, of which no more may be read. A reader that has had enough and is gone,
/// as `head` is, is no failure: the rest is not written. Whatever else keeps it
/// from being written is one.
#[derive(Debug)]
pub struct CommandOutput {
    to: Stdout,
    is_read: bool,
}

impl CommandOutput {
    /// The output of this process.
    pub fn stdout() -> Self {
        Self {
            to: io::stdout(),
            is_read: true,
        }
    }

    /// Whether its reader was there for all that was written so far.
    pub fn is_read(&self) -> bool {
        self.is_read
    }

    fn unless_gone<T>(&mut self, done: io::Result<T>, gone: T) -> io::Result<T> {
        match done {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_read = false;
                Ok(gone)
            }
            done => done,
        }
    }
}

impl Write for CommandOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_read {
            return Ok(bytes.len());
        }
        let written = when_taken(|| self.to.write(bytes));
        self.unless_gone(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.is_read {
            return Ok(());
        }
        let flushed = when_taken(|| self.to.flush());
        self.unless_gone(flushed, ())
    }
}

/// Waits for the reader, as the stream itself does unless another process that
/// shares it has made it non-blocking.
fn when_taken<T>(mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match write() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            done => return done,
        }
    }
}

/// Writes the lines of the error that ends the process to stderr. A reader that is
/// gone or has stopped does not keep it from ending.
pub fn tell_error(lines: &str) {
    let (text, (told, heard)) = (lines.to_owned(), mpsc::channel());
    let write = move || {
        let (mut to, mut left) = (io::stderr(), text.as_bytes());
        while !left.is_empty() {
            match when_taken(|| to.write(left)) {
                Ok(written @ 1..) => left = &left[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // There is no other place to say it.
                _ => break,
            }
        }
        let _ = told.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = heard.recv_timeout(ERROR_MAX);
    }
}
