//! Where the log goes: a stream of this process, whose reader may be slow, stopped
//! or gone. None of that holds up or ends the work that is logged: what cannot be
//! written is dropped.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What may wait for a slow reader, in bytes, what is being written among it: some ten
/// thousand lines.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Between two tries of a stream that takes nothing just now.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A stream that takes lines.
pub enum Output {
    /// Lines wait for a thread that writes them: for a process with other work.
    Queued(Arc<Queue>),
    /// Whoever logs writes, and waits for it: for a command that ends by itself,
    /// and on Lambda, which may freeze a process with what a thread has left.
    Direct(Box<Mutex<Stream>>),
}

impl Output {
    /// Lines are written to `stream` by a thread of their own. Once the reader goes
    /// on, `told` is given the number of lines dropped until then.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn queued(
        stream: impl Write + Send + 'static,
        told: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, mut stream) = (Arc::new(Queue::default()), Stream::new(stream));
        let shared = queue.clone();
        let write_all = move || {
            loop {
                shared.write_next(&mut stream, &told);
            }
        };
        thread::Builder::new().name("log".into()).spawn(write_all)?;
        Ok(Self::Queued(queue))
    }

    /// Lines are written to `stream` where they are logged.
    pub fn direct(stream: impl Write + Send + 'static) -> Self {
        Self::Direct(Box::new(Mutex::new(Stream::new(stream))))
    }

    /// Takes whole lines, each with its line feed. Never fails; waits for the reader
    /// only if it is direct.
    pub fn write(&self, lines: &[u8]) {
        // There is no better place to tell of what is lost.
        match self {
            Self::Queued(queue) => queue.push(lines),
            Self::Direct(stream) => drop(write_directly(stream, lines)),
        }
    }

    /// As [`Output::write`], and waits until the lines are written, at most for
    /// `longest` unless it is direct; true if they are. False too if others' were lost
    /// meanwhile.
    pub fn write_within(&self, lines: &[u8], longest: Duration) -> bool {
        match self {
            Self::Queued(queue) => {
                let lost_before = queue.lock().lost;
                queue.push(lines);
                queue.flush(longest) && queue.lock().lost == lost_before
            }
            Self::Direct(stream) => write_directly(stream, lines).is_ok(),
        }
    }

    /// Waits until all lines are written or dropped, at most for `longest`.
    pub fn flush(&self, longest: Duration) {
        if let Self::Queued(queue) = self {
            queue.flush(longest);
        }
    }
}

fn write_directly(stream: &Mutex<Stream>, lines: &[u8]) -> Result<(), u64> {
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    stream.write(lines)
}

/// Lines on their way to a stream.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// All that was there is written.
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that are being written.
    writing: usize,
    /// Lines that had no room, or that the stream did not take.
    dropped: u64,
    /// All that were ever dropped, told of or not.
    lost: u64,
    is_writing: bool,
}

impl State {
    fn drop_lines(&mut self, lines: u64) {
        self.dropped += lines;
        self.lost += lines;
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, lines: &[u8]) {
        let mut state = self.lock();
        if state.writing + state.waiting.len() + lines.len() > WAITING_BYTES_MAX {
            state.drop_lines(count(lines));
            return;
        }
        state.waiting.extend_from_slice(lines);
        drop(state);
        self.filled.notify_one();
    }

    /// Waits for lines, and writes those there are.
    fn write_next(&self, stream: &mut Stream, told: &impl Fn(u64)) {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            let waited = self.filled.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let lines = std::mem::take(&mut state.waiting);
        state.is_writing = true;
        state.writing = lines.len();
        drop(state);
        let written = stream.write(&lines);
        drop(lines);
        let mut state = self.lock();
        state.writing = 0;
        let dropped = match written {
            // Now there is room for a line that says so.
            Ok(()) if state.waiting.len() < WAITING_BYTES_MAX / 2 => {
                std::mem::take(&mut state.dropped)
            }
            Ok(()) => 0,
            Err(lost) => {
                state.drop_lines(lost);
                0
            }
        };
        drop(state);
        if dropped > 0 {
            told(dropped);
        }
        self.lock().is_writing = false;
        self.emptied.notify_all();
    }

    /// True if nothing is left to write, within `longest`.
    fn flush(&self, longest: Duration) -> bool {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self
            .emptied
            .wait_timeout_while(self.lock(), longest, is_busy);
        let waited = waited.unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }
}

/// A stream, and where in a line it is.
pub struct Stream {
    to: Box<dyn Write + Send>,
    /// A line was cut off: the next is to begin with a line feed.
    is_mid_line: bool,
}

impl Stream {
    fn new(to: impl Write + Send + 'static) -> Self {
        let to = Box::new(to);
        Self {
            to,
            is_mid_line: false,
        }
    }

    /// Writes `lines`, however long the reader takes.
    ///
    /// # Errors
    /// With the number of lines the stream did not take whole: its reader is gone,
    /// its disk is full.
    fn write(&mut self, lines: &[u8]) -> Result<(), u64> {
        if self.is_mid_line {
            self.is_mid_line = self.write_bytes(b"\n").is_err();
        }
        self.write_bytes(lines).map_err(|left| {
            let written = &lines[..lines.len() - left];
            self.is_mid_line |= written.last().is_some_and(|last| *last != b'\n');
            count(&lines[lines.len() - left..])
        })
    }

    /// # Errors
    /// With the number of bytes left.
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut left = bytes;
        while !left.is_empty() {
            match self.to.write(left) {
                Ok(0) => return Err(left.len()),
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever shares the terminal or pipe has made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
                Err(_) => return Err(left.len()),
            }
        }
        // Where it is a buffered one.
        self.to.flush().map_err(|_| 0)
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|b| **b == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, pipe};
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    /// Longer than any of this takes.
    const LONG: Duration = Duration::from_secs(20);
    const LINE: &[u8; 1024] = &{
        let mut line = [b'x'; 1024];
        line[1023] = b'\n';
        line
    };

    fn queued() -> (Output, PipeReader, mpsc::Receiver<u64>) {
        let (reader, writer) = pipe().unwrap();
        let (told, heard) = mpsc::channel();
        let output = Output::queued(writer, move |lines| told.send(lines).unwrap()).unwrap();
        (output, reader, heard)
    }

    #[test]
    fn a_reader_that_stops_holds_up_nobody_and_is_told_what_it_missed() {
        let (output, reader, heard) = queued();
        let begun = Instant::now();
        let lines = 2 * WAITING_BYTES_MAX / LINE.len();
        for _ in 0..lines {
            output.write(LINE);
        }
        output.flush(Duration::from_millis(50));
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
        assert!(heard.try_recv().is_err(), "nothing was read yet");
        // It goes on.
        let read = thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map(Result::unwrap);
            lines.take_while(|line| line != "the last").count()
        });
        let dropped = heard.recv_timeout(LONG).unwrap();
        output.write(b"the last\n");
        let read = read.join().unwrap();
        assert!(dropped > 0 && read > 0, "{dropped} dropped, {read} read");
        assert_eq!(read + usize::try_from(dropped).unwrap(), lines);
    }

    /// Says how much it is given to write, and takes it when it is told to.
    struct Gate(mpsc::Sender<usize>, mpsc::Receiver<()>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.len()).unwrap();
            self.1.recv().unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_being_written_waits_too() {
        let ((begun, heard), (open, gate)) = (mpsc::channel(), mpsc::channel());
        let (told, dropped) = mpsc::channel();
        let told = move |lines| told.send(lines).unwrap();
        let output = Output::queued(Gate(begun, gate), told).unwrap();
        output.write(b"\n");
        assert_eq!(heard.recv_timeout(LONG), Ok(1));
        let lines = WAITING_BYTES_MAX / LINE.len() - 1;
        for _ in 0..lines {
            output.write(LINE);
        }
        open.send(()).unwrap();
        assert_eq!(heard.recv_timeout(LONG), Ok(lines * LINE.len()));
        output.write(LINE);
        output.write(LINE);
        open.send(()).unwrap();
        assert_eq!(dropped.recv_timeout(LONG), Ok(1));
        assert_eq!(heard.recv_timeout(LONG), Ok(LINE.len()));
        open.send(()).unwrap();
    }

    #[test]
    fn all_that_is_written_arrives_in_order() {
        let (output, reader, heard) = queued();
        let read = thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map(Result::unwrap);
            lines.take(10_000).collect::<Vec<_>>()
        });
        for n in 0..10_000 {
            output.write(format!("{n}\n").as_bytes());
        }
        output.flush(LONG);
        let expected: Vec<_> = (0..10_000).map(|n| n.to_string()).collect();
        assert_eq!(read.join().unwrap(), expected);
        assert!(heard.try_recv().is_err(), "nothing was dropped");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_stream_that_does_not_block_loses_nothing() {
        use tokio::net::unix::pipe;
        let (writer, reader) = pipe::pipe().unwrap();
        let writer = std::fs::File::from(writer.into_nonblocking_fd().unwrap());
        let output = Output::queued(writer, |_| panic!("nothing was dropped")).unwrap();
        for _ in 0..1000 {
            output.write(LINE);
        }
        output.write(b"the last\n");
        output.flush(Duration::from_millis(100));
        let reader = std::fs::File::from(reader.into_blocking_fd().unwrap());
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        assert_eq!(lines.take_while(|line| line != "the last").count(), 1000);
    }

    #[test]
    fn a_reader_that_is_gone_fails_nobody() {
        let (output, reader, heard) = queued();
        drop(reader);
        let (gone, direct) = pipe().unwrap();
        let direct = Output::direct(direct);
        drop(gone);
        for _ in 0..1000 {
            output.write(LINE);
            direct.write(LINE);
        }
        output.flush(LONG);
        assert!(heard.try_recv().is_err(), "nobody is there to be told");
    }

    #[test]
    fn only_what_is_written_in_time_counts_as_written() {
        let (output, mut reader, _heard) = queued();
        assert!(output.write_within(b"read\n", LONG));
        for _ in 0..100 {
            output.write(LINE);
        }
        // The pipe is full.
        assert!(!output.write_within(b"later\n", Duration::from_millis(50)));
        let mut all = vec![0; 5 + 100 * LINE.len() + 6];
        std::io::Read::read_exact(&mut reader, &mut all).unwrap();
        assert!(all.ends_with(b"later\n"), "it comes when it is read");
        drop(reader);
        assert!(!output.write_within(b"gone\n", LONG));
        let (reader, direct) = pipe().unwrap();
        let direct = Output::direct(direct);
        assert!(direct.write_within(LINE, LONG));
        drop(reader);
        assert!(!direct.write_within(LINE, LONG));
    }

    /// A disk that is full after some bytes, until it has room again.
    struct Disk {
        room: Arc<Mutex<usize>>,
        kept: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut room = self.room.lock().unwrap();
            let taken = bytes.len().min(*room);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            *room -= taken;
            self.kept.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_costs_the_lines_it_has_no_room_for_and_no_other() {
        let (room, kept) = (Arc::new(Mutex::new(9)), Arc::default());
        let disk = Disk {
            room: Arc::clone(&room),
            kept: Arc::clone(&kept),
        };
        let (told, heard) = mpsc::channel();
        let output = Output::queued(disk, move |lines| told.send(lines).unwrap()).unwrap();
        for line in ["first\n", "second\n", "third\n"] {
            output.write(line.as_bytes());
            output.flush(LONG);
        }
        *room.lock().unwrap() = 100;
        output.write(b"fourth\n");
        output.flush(LONG);
        let kept = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
        assert_eq!(kept, "first\nsec\nfourth\n");
        assert_eq!(heard.try_recv(), Ok(2));
    }
}
