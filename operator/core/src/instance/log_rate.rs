//! How much of what a function prints is logged: a limit of bytes a second for each instance.
//!
//! Fed by the supervisor with each line before it is logged. A function that prints without end would otherwise fill the
//! disk of its node with log files, and take the processors of what reads them. Lines of the platform are not
//! limited. Knows no line's text.

use std::time::{Duration, Instant};

/// The bytes of this time may come at once, so that the traces of a crash or a large event are whole.
const BURST: u64 = 10;
/// After a line was dropped, lines are dropped until the bytes of this time are free again. So lines are dropped in
/// blocks, and each count of them stands for a block.
const RESUME_AFTER: Duration = Duration::from_secs(1);
/// The bytes that a record counts besides its text.
const RECORD: u64 = 80;

/// Whether lines are logged, and how many were not.
#[derive(Clone, Debug)]
pub struct LogRate {
    /// `None`: no limit.
    bytes_per_second: Option<u32>,
    /// Bytes that may be logged at `at`.
    free: u64,
    at: Option<Instant>,
    is_dropping: bool,
    dropped: u64,
}

impl LogRate {
    pub fn new(bytes_per_second: Option<u32>) -> Self {
        LogRate {
            bytes_per_second,
            free: 0,
            at: None,
            is_dropping: false,
            dropped: 0,
        }
    }

    /// Whether a line of this length is logged now.
    pub fn admits(&mut self, now: Instant, length: usize) -> bool {
        let Some(rate) = self.bytes_per_second else {
            return true;
        };
        self.refill(now, u64::from(rate));
        let bytes = RECORD + u64::try_from(length).unwrap_or(u64::MAX - RECORD);
        let rest = self.free.checked_sub(bytes);
        if self.is_dropping && self.free >= u64::from(rate) * RESUME_AFTER.as_secs() {
            self.is_dropping = false;
        }
        match rest {
            Some(rest) if !self.is_dropping => self.free = rest,
            _ => {
                self.is_dropping = true;
                self.dropped += 1;
            }
        }
        !self.is_dropping
    }

    /// The text for the log about the lines that were dropped since the last such text; `None` if none was.
    pub fn report(&mut self) -> Option<String> {
        let rate = self.bytes_per_second?;
        let dropped = self.take_dropped();
        (dropped > 0).then(|| {
            format!(
                "{dropped} log lines were dropped: the function logs more than {rate} bytes a second"
            )
        })
    }

    /// The number of lines that were dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn refill(&mut self, now: Instant, rate: u64) {
        let most = rate * BURST;
        let Some(at) = self.at.replace(now) else {
            self.free = most;
            return;
        };
        let passed = now.saturating_duration_since(at);
        let bytes = passed.as_nanos() * u128::from(rate) / 1_000_000_000;
        if bytes == 0 {
            // Less than a byte: it counts the next time.
            self.at = Some(at);
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.free = self.free.saturating_add(bytes).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 10_000;
    /// A line that takes a tenth of a second.
    const LINE: usize = 920;

    fn printed(rate: &mut LogRate, now: Instant, lines: usize) -> usize {
        (0..lines).filter(|_| rate.admits(now, LINE)).count()
    }

    #[test]
    fn ten_seconds_worth_of_lines_may_come_at_once_and_the_rest_is_counted() {
        let (mut rate, now) = (LogRate::new(Some(RATE)), Instant::now());
        assert_eq!(printed(&mut rate, now, 130), 100);
        let told = rate.report().expect("a count");
        assert_eq!(
            told,
            "30 log lines were dropped: the function logs more than 10000 bytes a second"
        );
        assert_eq!(rate.report(), None, "it is told once");
    }

    #[test]
    fn a_function_that_prints_within_the_rate_loses_no_line() {
        let (mut rate, mut now) = (LogRate::new(Some(RATE)), Instant::now());
        for _ in 0..10_000 {
            now += Duration::from_millis(100);
            assert!(rate.admits(now, LINE));
        }
        assert_eq!(rate.report(), None);
    }

    #[test]
    fn lines_are_dropped_in_blocks_of_a_second() {
        let (mut rate, mut now) = (LogRate::new(Some(RATE)), Instant::now());
        printed(&mut rate, now, 101);
        let mut turns = 0;
        let mut was_printed = false;
        let lines = 20_000;
        let mut all = 0;
        for _ in 0..lines {
            now += Duration::from_millis(1);
            let is_printed = rate.admits(now, LINE);
            turns += usize::from(is_printed != was_printed);
            all += usize::from(is_printed);
            was_printed = is_printed;
        }
        // 20 s: 200 lines fit, and each second has one block of printed lines at most.
        assert!((180..=200).contains(&all), "{all}");
        assert!(turns <= 40, "{turns}");
    }

    #[test]
    fn time_that_passes_in_small_steps_counts_as_well() {
        let (mut rate, mut now) = (LogRate::new(Some(1000)), Instant::now());
        while rate.admits(now, LINE) {}
        for _ in 0..2_000_000 {
            now += Duration::from_micros(1);
            rate.refill(now, 1000);
        }
        assert!(rate.admits(now, LINE));
    }

    #[test]
    fn without_a_limit_every_line_is_printed() {
        let (mut rate, now) = (LogRate::new(None), Instant::now());
        assert_eq!(printed(&mut rate, now, 100_000), 100_000);
        assert_eq!(rate.report(), None);
    }

    /// A line of 256 KiB, the largest record, fits whatever rate an installation may choose.
    #[test]
    fn the_longest_line_fits_the_burst_of_the_lowest_rate() {
        let lowest = 64 * 1024;
        let mut rate = LogRate::new(Some(lowest));
        assert!(rate.admits(Instant::now(), 256 * 1024));
    }
}
