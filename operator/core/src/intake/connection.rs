//! One connection of a caller, and when it has to be closed.
//!
//! `pilotlight-net` (`listen`) reports what happens on it, and asks at intervals. A connection is closed if its
//! head does not come, if its reader does not take an answer, or if it is idle and another one needs its place.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::pace::{ANSWER, Pace, SHORT};

/// Until a new connection has sent a whole head, and from the first byte of each further head to its last.
pub const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// The same while connections wait for a place.
pub const SHORT_HEAD_LIMIT: Duration = Duration::from_secs(2);
/// A connection that has been idle for less does not give way.
pub const IDLE_MIN: Duration = Duration::from_secs(1);

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Overdue {
    /// The head of a request did not come in time.
    Head,
    /// The reader takes its answer too slowly, or not at all.
    Answer,
    /// It was idle, and another connection needs its place.
    Idle,
}

/// The name of an answer on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswerId(u64);

/// See the module.
#[derive(Debug)]
pub struct Connection {
    head_since: Option<Instant>,
    idle_since: Instant,
    /// Requests whose answers have not been written whole.
    requests: usize,
    /// The bytes that the kernel has not taken.
    writing: Option<Pace>,
    /// Streams of HTTP/2 whose reader has to take a piece.
    answers: BTreeMap<AnswerId, Pace>,
    next_answer: u64,
}

impl Connection {
    pub fn new(now: Instant) -> Self {
        Connection {
            head_since: Some(now),
            idle_since: now,
            requests: 0,
            writing: None,
            answers: BTreeMap::new(),
            next_answer: 0,
        }
    }

    /// The first byte of a head has come.
    pub fn head_began(&mut self, now: Instant) {
        self.head_since.get_or_insert(now);
    }

    /// A head has come whole.
    pub fn head_ended(&mut self, now: Instant) {
        self.head_since = None;
        self.idle_since = now;
    }

    pub fn request_began(&mut self) {
        self.requests += 1;
    }

    pub fn request_ended(&mut self, now: Instant) {
        self.requests = self.requests.saturating_sub(1);
        self.idle_since = now;
    }

    /// The kernel has taken so many bytes. `is_all`: and nothing waits for it.
    pub fn wrote(&mut self, now: Instant, bytes: usize, is_all: bool) {
        match is_all {
            true => self.writing = None,
            false => self
                .writing
                .get_or_insert_with(|| Pace::new(now))
                .moved(bytes),
        }
    }

    /// The reader of a stream has to take a piece.
    pub fn answer_waits(&mut self, now: Instant) -> AnswerId {
        let id = AnswerId(self.next_answer);
        self.next_answer += 1;
        self.answers.insert(id, Pace::new(now));
        id
    }

    /// It has taken so many bytes, and has to take more.
    pub fn answer_moved(&mut self, now: Instant, id: AnswerId, bytes: usize) {
        let pace = self.answers.entry(id).or_insert_with(|| Pace::new(now));
        pace.moved(bytes);
    }

    /// It has taken all that there is at the moment.
    pub fn answer_taken(&mut self, id: AnswerId) {
        self.answers.remove(&id);
    }

    /// Since when it has been idle; `None` if it is not.
    pub fn idle_since(&self) -> Option<Instant> {
        let has_work = self.requests > 0 || self.head_since.is_some();
        let is_idle = !has_work && self.writing.is_none() && self.answers.is_empty();
        is_idle.then_some(self.idle_since)
    }

    /// Why it has to be closed now. `is_short`: connections wait for a place, or a budget of bytes is short.
    pub fn overdue(&mut self, now: Instant, is_short: bool) -> Option<Overdue> {
        let (head, tempo) = match is_short {
            true => (SHORT_HEAD_LIMIT, SHORT),
            false => (HEAD_LIMIT, ANSWER),
        };
        if let Some(since) = self.head_since
            && now.saturating_duration_since(since) >= head
        {
            return Some(Overdue::Head);
        }
        let mut paces = self.writing.iter_mut().chain(self.answers.values_mut());
        let is_slow = paces.any(|pace| pace.is_too_slow(now, tempo));
        is_slow.then_some(Overdue::Answer)
    }
}

/// Which connection gives its place to another one: the one that has been idle for the longest time.
pub fn gives_way<Id: Copy + Ord>(
    now: Instant,
    idle: impl Iterator<Item = (Id, Instant)>,
) -> Option<Id> {
    let (id, since) = idle.min_by_key(|(id, since)| (*since, *id))?;
    (now.saturating_duration_since(since) >= IDLE_MIN).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_head_has_a_deadline_from_the_start_and_from_its_first_byte() {
        let start = Instant::now();
        let mut connection = Connection::new(start);
        assert_eq!(connection.overdue(start + SHORT_HEAD_LIMIT, false), None);
        let short = connection.overdue(start + SHORT_HEAD_LIMIT, true);
        assert_eq!(short, Some(Overdue::Head));
        connection.head_began(start + 9 * SECOND);
        let late = connection.overdue(start + HEAD_LIMIT, false);
        assert_eq!(late, Some(Overdue::Head), "more bytes give no more time");

        connection.head_ended(start + SECOND);
        let later = start + 3600 * SECOND;
        assert_eq!(connection.overdue(later, true), None, "it is idle");
        connection.head_began(later);
        connection.head_began(later + SECOND);
        let late = connection.overdue(later + HEAD_LIMIT, false);
        assert_eq!(late, Some(Overdue::Head));
    }

    #[test]
    fn a_reader_that_takes_nothing_is_overdue_and_one_that_takes_all_is_not() {
        let start = Instant::now();
        let mut connection = Connection::new(start);
        connection.head_ended(start);
        connection.wrote(start, 100, true);
        let end = start + ANSWER.window;
        assert_eq!(connection.overdue(end, false), None);
        connection.wrote(end, 100, false);
        assert_eq!(connection.overdue(end + SHORT.window, false), None);
        let short = connection.overdue(end + SHORT.window, true);
        assert_eq!(short, Some(Overdue::Answer));
        let late = connection.overdue(end + ANSWER.window, false);
        assert_eq!(late, Some(Overdue::Answer));
        connection.wrote(end, 100, true);
        assert_eq!(connection.overdue(end + ANSWER.window, true), None);
    }

    #[test]
    fn one_stream_that_stalls_is_overdue_beside_one_that_moves() {
        let start = Instant::now();
        let mut connection = Connection::new(start);
        connection.head_ended(start);
        let (moves, stalls) = (
            connection.answer_waits(start),
            connection.answer_waits(start),
        );
        let end = start + ANSWER.window;
        connection.answer_moved(end, moves, 1024 * 1024);
        assert_eq!(connection.idle_since(), None);
        assert_eq!(connection.overdue(end, false), Some(Overdue::Answer));
        connection.answer_taken(stalls);
        assert_eq!(connection.overdue(end, false), None);
        connection.answer_taken(moves);
        assert_eq!(connection.overdue(end + 3600 * SECOND, true), None);
    }

    #[test]
    fn the_connection_that_was_idle_for_the_longest_time_gives_way() {
        let start = Instant::now();
        let idle = |at: &[u64]| {
            let at = at.iter().enumerate();
            let idle = at.map(|(id, at)| (id, start + Duration::from_secs(*at)));
            gives_way(start + 10 * SECOND, idle)
        };
        assert_eq!(idle(&[5, 3, 9]), Some(1));
        assert_eq!(idle(&[4, 4]), Some(0));
        assert_eq!(idle(&[10, 10]), None, "it was used a moment ago");
        assert_eq!(idle(&[]), None);
    }

    #[test]
    fn a_connection_with_a_request_or_a_head_is_not_idle() {
        let start = Instant::now();
        let mut connection = Connection::new(start);
        assert_eq!(connection.idle_since(), None);
        connection.head_ended(start);
        connection.request_began();
        assert_eq!(connection.idle_since(), None);
        connection.request_ended(start + SECOND);
        assert_eq!(connection.idle_since(), Some(start + SECOND));
        connection.wrote(start + SECOND, 1, false);
        assert_eq!(connection.idle_since(), None, "its answer is being written");
        connection.wrote(start + SECOND, 1, true);
        connection.head_began(start + 2 * SECOND);
        assert_eq!(connection.idle_since(), None);
    }
}
