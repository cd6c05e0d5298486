//! Splits the bytes that a process writes to one pipe into records: lines, and frames between them.
//!
//! A frame is a record whose text may have several lines. The vendor's clients write frames to the descriptor
//! that `_LAMBDA_TELEMETRY_LOG_FD` names (`process`): four bytes of magic and flags, the message's length, an
//! optional time, the message. Numbers are big-endian. Fed by `output` with untrusted bytes: everything that is
//! not a frame is a line, an unfinished frame ends at the latest with the next invocation, and no text is lost.

/// Bytes of a record; larger ones are split, as on the original platform.
const EVENT_LIMIT: usize = 256 * 1024;

/// The start of a frame, before its flags. The first byte cannot start a character in UTF-8.
const MAGIC: [u8; 3] = [0xa5, 0x5a, 0x00];
/// Bit 0: text or JSON; bit 1: a time is present; bits 2 to 4: the level.
const KNOWN_FLAGS: u8 = 0b0001_1111;
const WITH_TIME: u8 = 0b10;
/// The magic, its flags, and four bytes of length.
const SHORT_HEAD: usize = 8;
const TIME: usize = 8;
/// The largest first byte of a length (256 MiB) and of a time (the year 4253). With a larger one it is no frame.
const LENGTH_FIRST_BYTE: u8 = 0x0f;
const TIME_FIRST_BYTE: u8 = 0;

#[derive(Debug, Default)]
pub(crate) struct Records {
    line: Piece,
    /// Bytes that may be the start of a frame's head.
    head: Vec<u8>,
    frame: Option<Frame>,
}

#[derive(Debug)]
struct Frame {
    left: usize,
    message: Piece,
    /// An invocation has ended since the frame began.
    is_late: bool,
}

/// The part of a record that has arrived and is not emitted yet.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    /// A first part of the record has been emitted.
    is_split: bool,
}

enum Head {
    Incomplete,
    None,
    OfMessage(usize),
}

impl Records {
    pub(crate) fn take(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(&str)) {
        while let Some(first) = bytes.first() {
            if self.frame.is_some() {
                bytes = self.continue_frame(bytes, emit);
            } else if self.head.is_empty() {
                let text = bytes.iter().position(|byte| *byte == MAGIC[0]);
                let (text, rest) = bytes.split_at(text.unwrap_or(bytes.len()));
                self.split(text, emit);
                let head = rest.len().min(1);
                self.head.extend_from_slice(&rest[..head]);
                bytes = &rest[head..];
            } else {
                self.head.push(*first);
                bytes = &bytes[1..];
                self.decide(emit);
            }
        }
    }

    /// Emits the unfinished line when an invocation ends. An unfinished frame may be written by another thread at
    /// this moment, so it is emitted with the next invocation's end only.
    pub(crate) fn end_line(&mut self, emit: &mut impl FnMut(&str)) {
        match &mut self.frame {
            Some(frame) if !frame.is_late => frame.is_late = true,
            _ => self.end_frame(emit),
        }
        if !self.line.bytes.is_empty() || self.line.is_split {
            self.line.end(emit);
        }
    }

    /// Emits everything unfinished, because the process has ended.
    pub(crate) fn end(&mut self, emit: &mut impl FnMut(&str)) {
        self.end_frame(emit);
        self.end_line(emit);
    }

    fn end_frame(&mut self, emit: &mut impl FnMut(&str)) {
        if let Some(mut frame) = self.frame.take() {
            frame.message.end(emit);
        }
        let head = std::mem::take(&mut self.head);
        self.split(&head, emit);
    }

    fn continue_frame<'a>(&mut self, bytes: &'a [u8], emit: &mut impl FnMut(&str)) -> &'a [u8] {
        let Some(frame) = &mut self.frame else {
            return bytes;
        };
        let (message, rest) = bytes.split_at(bytes.len().min(frame.left));
        frame.left -= message.len();
        frame.message.add(message, emit);
        if frame.left == 0 {
            // Some clients end a message with a newline, or with CRLF.
            let bytes = &mut frame.message.bytes;
            if bytes.pop_if(|last| *last == b'\n').is_some() {
                bytes.pop_if(|last| *last == b'\r');
            }
            frame.message.end(emit);
            self.frame = None;
        }
        rest
    }

    fn decide(&mut self, emit: &mut impl FnMut(&str)) {
        match Head::read(&self.head) {
            Head::Incomplete => {}
            Head::OfMessage(0) => {
                self.head.clear();
                emit("");
            }
            Head::OfMessage(left) => {
                self.head.clear();
                self.frame = Some(Frame {
                    left,
                    message: Piece::default(),
                    is_late: false,
                });
            }
            Head::None => {
                let head = std::mem::take(&mut self.head);
                self.split(&head[..1], emit);
                // A later byte may start a frame. The head is at most 16 bytes, and shorter each time.
                self.take(&head[1..], emit);
            }
        }
    }

    fn split(&mut self, text: &[u8], emit: &mut impl FnMut(&str)) {
        for piece in text.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                // The usual case: a whole line, which is not copied.
                Some(line) if self.line.is_fresh() && line.len() <= EVENT_LIMIT => {
                    emit(&String::from_utf8_lossy(line));
                }
                Some(rest) => {
                    self.line.add(rest, emit);
                    self.line.end(emit);
                }
                None => self.line.add(piece, emit),
            }
        }
    }
}

impl Head {
    fn read(bytes: &[u8]) -> Self {
        let magic = bytes.len().min(MAGIC.len());
        let flags = bytes.get(MAGIC.len()).copied().unwrap_or_default();
        let time = if flags & WITH_TIME == 0 { 0 } else { TIME };
        let length = bytes.get(MAGIC.len() + 1).copied().unwrap_or_default();
        let since = bytes.get(SHORT_HEAD).filter(|_| time > 0);
        if bytes[..magic] != MAGIC[..magic]
            || flags & !KNOWN_FLAGS != 0
            || length > LENGTH_FIRST_BYTE
            || since.is_some_and(|first| *first > TIME_FIRST_BYTE)
        {
            return Head::None;
        }
        match bytes.get(MAGIC.len() + 1..SHORT_HEAD) {
            Some(length) if bytes.len() == SHORT_HEAD + time => {
                let length = length.iter();
                Head::OfMessage(length.fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
            }
            _ => Head::Incomplete,
        }
    }
}

impl Piece {
    fn is_fresh(&self) -> bool {
        self.bytes.is_empty() && !self.is_split
    }

    fn add(&mut self, mut more: &[u8], emit: &mut impl FnMut(&str)) {
        while self.bytes.len() + more.len() > EVENT_LIMIT {
            let (now, rest) = more.split_at(EVENT_LIMIT - self.bytes.len());
            self.bytes.extend_from_slice(now);
            let next = rest.first().copied().unwrap_or_default();
            let end = end_of_character(&self.bytes, next);
            emit(&String::from_utf8_lossy(&self.bytes[..end]));
            self.bytes.drain(..end);
            self.is_split = true;
            more = rest;
        }
        self.bytes.extend_from_slice(more);
    }

    fn end(&mut self, emit: &mut impl FnMut(&str)) {
        let Piece { bytes, is_split } = std::mem::take(self);
        if !bytes.is_empty() || !is_split {
            emit(&String::from_utf8_lossy(&bytes));
        }
    }
}

/// The length to cut at without splitting a character. `next`: the byte that follows.
fn end_of_character(bytes: &[u8], next: u8) -> usize {
    let is_inside = |byte: u8| (0x80..0xc0).contains(&byte);
    if !is_inside(next) {
        return bytes.len();
    }
    // A character has four bytes at most.
    let begun = bytes
        .iter()
        .rev()
        .take(3)
        .position(|byte| !is_inside(*byte));
    begun.map_or(bytes.len(), |back| bytes.len() - back - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flags: u8, message: &str) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[flags]].concat();
        bytes.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
        if flags & WITH_TIME != 0 {
            bytes.extend(1_767_225_600_000_000_u64.to_be_bytes());
        }
        bytes.extend(message.as_bytes());
        bytes
    }

    /// The records of these bytes, read in parts of this size.
    fn records_of(bytes: &[u8], part: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut emit = |text: &str| found.push(text.to_owned());
        let mut records = Records::default();
        for part in bytes.chunks(part) {
            records.take(part, &mut emit);
        }
        records.end(&mut emit);
        found
    }

    fn read(bytes: &[u8]) -> Vec<String> {
        let whole = records_of(bytes, usize::MAX);
        for part in [1, 2, 3, 5, 7, 13] {
            assert_eq!(records_of(bytes, part), whole, "in parts of {part}");
        }
        whole
    }

    #[test]
    fn a_frame_is_one_record_whatever_it_contains_and_keeps_its_place_between_lines() {
        let all = [
            b"one\n".to_vec(),
            frame(0x03, "[ERROR] ValueError\nTraceback:\n\u{a0}\u{a0}File\n"),
            frame(0x17, "no newline"),
            b"two\n".to_vec(),
            frame(0x01, "without a time"),
            frame(0x16, "{\"level\":\"ERROR\"}\r\n"),
            frame(0x03, ""),
            b"three".to_vec(),
        ];
        let expected = [
            "one",
            "[ERROR] ValueError\nTraceback:\n\u{a0}\u{a0}File",
            "no newline",
            "two",
            "without a time",
            "{\"level\":\"ERROR\"}",
            "",
            "three",
        ];
        assert_eq!(read(&all.concat()), expected);
    }

    #[test]
    fn a_line_that_a_frame_interrupts_continues_after_it() {
        let all = [b"a ".to_vec(), frame(0x03, "frame\n"), b"line\n".to_vec()];
        assert_eq!(read(&all.concat()), ["frame", "a line"]);
    }

    #[test]
    fn bytes_that_only_begin_like_a_frame_are_text() {
        let text = "¥Z\0\u{7f} ¥¥Z ¥\nZ\n".as_bytes();
        assert_eq!(read(text), ["¥Z\0\u{7f} ¥¥Z ¥", "Z"]);
        assert_eq!(read(b"\xa5\xa5\x5a\n\x00"), ["\u{fffd}\u{fffd}Z", "\0"]);
        assert_eq!(read(b"\xa5\x5a\x00\xff\n"), ["\u{fffd}Z\0\u{fffd}"]);
        let long = b"\xa5\x5a\x00\x03\x7f\xff\xff\xff long\n";
        assert_eq!(
            read(long),
            ["\u{fffd}Z\0\u{3}\u{7f}\u{fffd}\u{fffd}\u{fffd} long"]
        );
        let late = [&b"\xa5\x5a\x00\x03\x00\x00\x00\x01"[..], b"\x01 late\n"].concat();
        assert_eq!(read(&late), ["\u{fffd}Z\0\u{3}\0\0\0\u{1}\u{1} late"]);
        assert_eq!(
            read(b"end \xa5\x5a\x00\x03\0\0"),
            ["end \u{fffd}Z\0\u{3}\0\0"]
        );
    }

    #[test]
    fn a_frame_after_the_beginning_of_another_is_read() {
        let whole = frame(0x03, "whole");
        // Six bytes and the other's two make a length.
        for size in [1, 2, 3, 4, 5, 7] {
            let found = read(&[&whole[..size], &whole].concat());
            assert_eq!(found[0], "whole", "behind {size} bytes");
            assert_eq!(found.len(), 2);
        }
    }

    #[test]
    fn an_unfinished_frame_is_emitted_with_the_end_of_the_next_invocation() {
        let (mut found, mut records) = (Vec::new(), Records::default());
        let mut emit = |text: &str| found.push(text.to_owned());
        let bytes = frame(0x03, "a message that is never completed");
        records.take(&bytes[..30], &mut emit);
        records.end_line(&mut emit);
        records.take(b"1\n", &mut emit);
        records.end_line(&mut emit);
        records.take(b"2\n", &mut emit);
        records.end_line(&mut emit);
        assert_eq!(found, ["a message that1\n", "2"]);
    }

    #[test]
    fn a_large_record_is_split_and_no_byte_is_lost() {
        for (text, sizes) in [
            ("x".repeat(EVENT_LIMIT), vec![EVENT_LIMIT]),
            ("x".repeat(EVENT_LIMIT + 1), vec![EVENT_LIMIT, 1]),
            (
                "x".repeat(700_000),
                vec![EVENT_LIMIT, EVENT_LIMIT, 700_000 - 2 * EVENT_LIMIT],
            ),
            // Three bytes each, so that the limit is within a character.
            (
                "€".repeat(100_000),
                vec![EVENT_LIMIT - 1, 300_000 - EVENT_LIMIT + 1],
            ),
        ] {
            let line = format!("{text}\nnext\n");
            let framed = [frame(0x03, &format!("{text}\n")), b"next\n".to_vec()].concat();
            for bytes in [line.as_bytes(), &framed] {
                for part in [1000, 64 * 1024, usize::MAX] {
                    let found = records_of(bytes, part);
                    let (next, parts) = found.split_last().expect("records");
                    assert_eq!(next, "next");
                    assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), sizes);
                    assert_eq!(parts.concat(), text);
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_split_anywhere() {
        let bytes = vec![0x80; EVENT_LIMIT + 5];
        let found = records_of(&bytes, usize::MAX);
        assert_eq!(found.concat(), "\u{fffd}".repeat(EVENT_LIMIT + 5));
    }
}
