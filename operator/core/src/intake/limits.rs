//! The budgets of a gateway, derived from the memory that it may use.
//!
//! A quarter holds events, a quarter answers, a quarter the buffers of connections, a sixteenth the log records that no
//! store has yet, a sixty-fourth those that wait to be exported. The rest is for the program, its functions and what these cost beyond their bytes.

/// The least memory that the limits can be derived from, in bytes: the largest event fits, even if it comes without a
/// length and takes twice its size.
pub const MEMORY_MIN: usize = 128 * 1024 * 1024;
/// The memory of a gateway that was given no limit, in bytes; also that of the chart.
pub const MEMORY_DEFAULT: usize = 1024 * 1024 * 1024;
/// The most that the buffers of one connection take, in bytes.
pub const CONNECTION_BYTES: usize = 64 * 1024;
/// The least number of connections of callers.
const CONNECTIONS_MIN: usize = 64;
/// Connections for probes and metrics.
const STATUS_CONNECTIONS: usize = 64;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeLimits {
    /// Bytes of events that are read, wait or run.
    pub event_bytes: usize,
    /// Bytes of answers that are read from instances or wait for their readers.
    pub answer_bytes: usize,
    /// Bytes of log records that wait for their store.
    pub log_bytes: usize,
    /// Bytes of log records that wait for a receiver of OTLP. Records that wait for the store too count there as well, and
    /// lie in memory once.
    pub log_export_bytes: usize,
    /// Open connections of callers.
    pub api_connections: usize,
    /// Open connections of other gateways and controllers.
    pub parts_connections: usize,
    /// Open connections for probes and metrics.
    pub status_connections: usize,
}

impl IntakeLimits {
    /// `memory`: in bytes, at least [`MEMORY_MIN`]. `files`: how many files the process may have open; half of them
    /// are for instances and for calls to other gateways.
    pub fn of(memory: usize, files: usize) -> Self {
        let quarter = memory.max(MEMORY_MIN) / 4;
        let connections = (quarter / CONNECTION_BYTES).min(files / 2);
        // Two parts for callers, one for gateways and controllers.
        let api_connections = (connections / 3 * 2).max(CONNECTIONS_MIN);
        IntakeLimits {
            event_bytes: quarter,
            answer_bytes: quarter,
            log_bytes: quarter / 4,
            log_export_bytes: quarter / 16,
            api_connections,
            parts_connections: api_connections / 2,
            status_connections: STATUS_CONNECTIONS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::failure::PAYLOAD_LIMIT;
    use crate::intake::bytes::ByteBudget;

    #[test]
    fn the_default_memory_is_divided_into_quarters() {
        let limits = IntakeLimits::of(MEMORY_DEFAULT, usize::MAX);
        let mib = 1024 * 1024;
        assert_eq!(limits.event_bytes, 256 * mib);
        assert_eq!(limits.answer_bytes, 256 * mib);
        assert_eq!(limits.log_bytes, 64 * mib);
        assert_eq!(limits.log_export_bytes, 16 * mib);
        assert_eq!(limits.api_connections, 2730);
        assert_eq!(limits.parts_connections, 1365);
        let all = limits.api_connections + limits.parts_connections;
        assert!(all * CONNECTION_BYTES <= 256 * mib);
    }

    #[test]
    fn files_bound_the_connections() {
        assert_eq!(IntakeLimits::of(MEMORY_DEFAULT, 1024).api_connections, 340);
        let least = IntakeLimits::of(MEMORY_DEFAULT, 0);
        assert_eq!(least.api_connections, CONNECTIONS_MIN);
    }

    #[test]
    fn the_largest_event_and_the_largest_answer_fit_the_least_memory() {
        let limits = IntakeLimits::of(0, usize::MAX);
        for bytes in [limits.event_bytes, limits.answer_bytes] {
            assert!(ByteBudget::new(bytes).take(2 * PAYLOAD_LIMIT).is_some());
        }
    }
}
