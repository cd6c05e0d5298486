//! The tokens with which a caller reads on: a place between two records, and the direction.
//!
//! A token is opaque to callers and the same for the same place, so a caller sees that it has come to the end. It opens
//! nothing: whoever sends one needs the right to the log that it is used with.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use pilotlight_logs::entry::Position;
use pilotlight_logs::query::Order;

use super::error::LogsError;

/// The longest token, in bytes.
const LENGTH_MAX: usize = 1024;

/// A place just before the position: all records before it are on one side, it and all others on the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut(Position);

/// Where and in which direction to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) order: Order,
    pub(super) cut: Cut,
}

impl Cut {
    pub(super) fn before(position: Position) -> Self {
        Cut(position)
    }

    pub(super) fn after(mut position: Position) -> Self {
        position.sequence = position.sequence.saturating_add(1);
        Cut(position)
    }

    /// Before all records of this time.
    pub(super) fn at(time: Timestamp) -> Self {
        Cut(Position {
            time,
            instance: String::new(),
            sequence: 0,
        })
    }

    /// The record after which a query reads that begins here. The first sequence number is 1, so the record before the
    /// cut may be one that does not exist.
    pub(super) fn start(&self, order: Order) -> Position {
        let mut start = self.0.clone();
        if order == Order::OldestFirst {
            start.sequence = start.sequence.saturating_sub(1);
        }
        start
    }
}

impl Token {
    pub(super) fn forward(cut: Cut) -> Self {
        let order = Order::OldestFirst;
        Token { order, cut }
    }

    pub(super) fn backward(cut: Cut) -> Self {
        let order = Order::NewestFirst;
        Token { order, cut }
    }

    pub(super) fn write(&self) -> String {
        let Cut(at) = &self.cut;
        let place = format!(
            "{} {} {}",
            at.time.as_microsecond(),
            at.sequence,
            at.instance
        );
        let direction = match self.order {
            Order::OldestFirst => "f",
            Order::NewestFirst => "b",
        };
        format!("{direction}/{}", BASE64_URL_SAFE_NO_PAD.encode(place))
    }

    pub(super) fn read(text: &str) -> Result<Self, LogsError> {
        let read = || {
            let (direction, place) = text.split_once('/')?;
            let order = match direction {
                "f" => Order::OldestFirst,
                "b" => Order::NewestFirst,
                _ => return None,
            };
            let place = BASE64_URL_SAFE_NO_PAD.decode(place).ok()?;
            let place = String::from_utf8(place).ok()?;
            let mut parts = place.splitn(3, ' ');
            let time = parts.next()?.parse().ok()?;
            let cut = Cut(Position {
                time: Timestamp::from_microsecond(time).ok()?,
                sequence: parts.next()?.parse().ok()?,
                instance: parts.next()?.to_owned(),
            });
            Some(Token { order, cut })
        };
        let token = (text.len() <= LENGTH_MAX).then(read).flatten();
        token.ok_or_else(invalid)
    }
}

pub(super) fn invalid() -> LogsError {
    LogsError::invalid("The specified nextToken is invalid.")
}

/// A token for the name after which a list goes on.
pub(super) fn write_name(name: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(name)
}

pub(super) fn read_name(text: &str) -> Result<String, LogsError> {
    let name = (text.len() <= LENGTH_MAX)
        .then(|| BASE64_URL_SAFE_NO_PAD.decode(text).ok())
        .flatten();
    let name = name.and_then(|name| String::from_utf8(name).ok());
    name.ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(sequence: u64) -> Position {
        Position {
            time: "2026-01-31T10:00:00.123456Z".parse().expect("a time"),
            instance: "8f3c 4a1e".to_owned(),
            sequence,
        }
    }

    #[test]
    fn a_token_reads_back_as_written_and_no_other_text_is_one() {
        for token in [
            Token::forward(Cut::after(position(7))),
            Token::backward(Cut::before(position(7))),
            Token::forward(Cut::at(Timestamp::UNIX_EPOCH)),
        ] {
            assert_eq!(Token::read(&token.write()), Ok(token));
        }
        let long = format!("f/{}", "A".repeat(LENGTH_MAX));
        for text in ["", "f/", "x/MSAyIGE", "f/%", "f/eA", &long] {
            assert_eq!(Token::read(text), Err(invalid()), "{text}");
        }
        assert_eq!(read_name(&write_name("hello")), Ok("hello".to_owned()));
        assert_eq!(read_name("%"), Err(invalid()));
    }

    #[test]
    fn a_place_is_the_same_for_what_is_read_from_it_in_both_directions() {
        // Between the records 7 and 8.
        let cut = Cut::after(position(7));
        assert_eq!(cut, Cut::before(position(8)));
        assert_eq!(cut.start(Order::OldestFirst), position(7));
        assert_eq!(cut.start(Order::NewestFirst), position(8));
    }
}
