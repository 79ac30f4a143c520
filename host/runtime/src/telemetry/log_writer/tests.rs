//! The queue against sinks that block, fail and recover.

use std::sync::Mutex;

use super::*;

/// What a sink does with the next writes, and what was written.
#[derive(Clone)]
struct Sink {
    written: Arc<Mutex<Vec<u8>>>,
    /// Each write takes one answer; when there is none left, it takes everything.
    answers: Arc<Mutex<Vec<io::Result<usize>>>>,
    /// Writes wait for it.
    gate: Arc<Mutex<()>>,
}

impl Sink {
    fn new(answers: Vec<io::Result<usize>>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter().rev().collect()));
        Self { written: Arc::default(), answers, gate: Arc::default() }
    }

    fn text(&self) -> String {
        String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.gate.lock().unwrap();
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Ok(bytes.len()))?;
        let length = answer.min(bytes.len());
        self.written.lock().unwrap().extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(writer: &LogWriter, line: &str) {
    writer.make_writer().write_all(line.as_bytes()).unwrap();
}

/// Waits until this was written, because the end waits no longer than [`FLUSH_TIMEOUT`].
fn until_written(sink: &Sink, text: &str) {
    let begin = Instant::now();
    while sink.text() != text {
        assert!(begin.elapsed() < Duration::from_mins(1), "{:?}", sink.text());
        thread::sleep(Duration::from_millis(1));
    }
}

fn full() -> io::Result<usize> {
    Err(ErrorKind::StorageFull.into())
}

#[test]
fn what_was_logged_before_the_end_is_written_at_the_end() {
    let lines: Vec<String> = (0..1000).map(|n| format!("{n}\n")).collect();
    // On a busy machine the end may not have waited for the thread.
    for _ in 0..10 {
        let sink = Sink::new(vec![]);
        let (writer, thread) = start_with(sink.clone()).unwrap();
        for line in &lines {
            write(&writer, line);
        }
        let begin = Instant::now();
        drop(thread);
        if begin.elapsed() < FLUSH_TIMEOUT {
            assert_eq!(sink.text(), lines.concat());
            assert_eq!(writer.dropped().get(), 0);
            return;
        }
    }
    panic!("the end waited for {FLUSH_TIMEOUT:?} each time");
}

#[test]
fn a_sink_that_blocks_blocks_neither_the_callers_nor_the_end() {
    let sink = Sink::new(vec![]);
    let closed = sink.gate.lock().unwrap();
    let (writer, thread) = start_with(sink.clone()).unwrap();
    let line = format!("{}\n", "x".repeat(1023));
    // One more than fit: the queue takes so many, the thread holds one.
    let fit = MAX_BYTES / line.len() + 1;
    (0..fit + 10).for_each(|_| write(&writer, &line));
    assert!((10..=11).contains(&writer.dropped().get()), "{}", writer.dropped().get());
    let begin = Instant::now();
    drop(thread);
    assert!(begin.elapsed() < 5 * FLUSH_TIMEOUT, "{:?}", begin.elapsed());
    drop(closed);
}

#[test]
fn many_short_lines_are_bounded_as_well() {
    let sink = Sink::new(vec![]);
    let closed = sink.gate.lock().unwrap();
    let (writer, _thread) = start_with(sink.clone()).unwrap();
    (0..MAX_LINES + 100).for_each(|_| write(&writer, "\n"));
    assert!((99..=100).contains(&writer.dropped().get()), "{}", writer.dropped().get());
    drop(closed);
}

#[test]
fn a_line_that_cannot_be_written_is_counted_and_the_next_is_whole() {
    let broken = || Err(ErrorKind::BrokenPipe.into());
    let sink = Sink::new(vec![Ok(2), full(), broken(), Ok(1), Ok(usize::MAX)]);
    let (writer, thread) = start_with(sink.clone()).unwrap();
    for line in ["first\n", "second\n", "third\n"] {
        write(&writer, line);
    }
    until_written(&sink, "fi\nthird\n");
    drop(thread);
    assert_eq!(sink.text(), "fi\nthird\n");
    assert_eq!(writer.dropped().get(), 2);
}

#[test]
fn a_sink_that_is_not_ready_is_asked_again() {
    let later = |kind: ErrorKind| Err(kind.into());
    let sink = Sink::new(vec![later(ErrorKind::WouldBlock), later(ErrorKind::Interrupted), Ok(3)]);
    let (writer, thread) = start_with(sink.clone()).unwrap();
    write(&writer, "whole\n");
    until_written(&sink, "whole\n");
    drop(thread);
    assert_eq!(sink.text(), "whole\n");
    assert_eq!(writer.dropped().get(), 0);
}
