//! Whether a body or an answer makes progress.
//!
//! Its sender, or its reader, must move a minimum of bytes within each window, so neither a stall nor a trickle
//! holds memory for ever. The clock runs only while the other side is the one who has to act.

use std::time::{Duration, Instant};

/// How slow a sender or a reader may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tempo {
    /// How long it is watched before it is judged.
    pub window: Duration,
    /// Bytes per second, on average over a window.
    pub minimum: u64,
}

/// How often a body and a connection are looked at.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);

const BODY_WINDOW: Duration = Duration::from_secs(10);
const ANSWER_WINDOW: Duration = Duration::from_secs(30);
const SHORT_WINDOW: Duration = Duration::from_secs(4);

/// For the body of a request.
pub const BODY: Tempo = Tempo {
    window: BODY_WINDOW,
    minimum: 4 * 1024,
};

/// For an answer. The window is longer, since the kernel reports progress of a slow reader in large pieces.
pub const ANSWER: Tempo = Tempo {
    window: ANSWER_WINDOW,
    minimum: 4 * 1024,
};

/// For both while a budget is short.
pub const SHORT: Tempo = Tempo {
    window: SHORT_WINDOW,
    minimum: 16 * 1024,
};

/// The progress of one body or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Pace {
            since: now,
            bytes: 0,
        }
    }

    pub fn moved(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Whether too few bytes moved in a window that is over. Otherwise the next window begins.
    pub fn is_too_slow(&mut self, now: Instant, tempo: Tempo) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < tempo.window {
            return false;
        }
        let minimum = u128::from(tempo.minimum) * elapsed.as_millis() / 1000;
        if u128::from(self.bytes) < minimum {
            return true;
        }
        *self = Pace::new(now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_stalls_is_too_slow_once_a_window_without_it_is_over() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        pace.moved(1024 * 1024);
        let mut now = begun;
        let ended = loop {
            now += CHECK_INTERVAL;
            if pace.is_too_slow(now, BODY) {
                break now;
            }
        };
        assert_eq!(ended - begun, 2 * BODY_WINDOW);
    }

    #[test]
    fn a_trickle_is_too_slow_and_the_minimum_is_not() {
        for (each_second, expected) in [(1, true), (4095, true), (4096, false), (8192, false)] {
            let begun = Instant::now();
            let mut pace = Pace::new(begun);
            let is_too_slow = (1..=600).any(|second| {
                pace.moved(each_second);
                pace.is_too_slow(begun + Duration::from_secs(second), BODY)
            });
            assert_eq!(is_too_slow, expected, "{each_second}");
        }
    }

    #[test]
    fn a_shorter_tempo_judges_what_is_under_way() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        assert!(!pace.is_too_slow(begun + SHORT_WINDOW, BODY));
        assert!(!pace.is_too_slow(begun + SHORT_WINDOW - CHECK_INTERVAL, SHORT));
        assert!(pace.is_too_slow(begun + SHORT_WINDOW, SHORT));
    }
}
