//! How long temporary credentials last, in seconds, as the API of STS bounds it.

/// The shortest session that a caller may ask for.
pub const SESSION_MIN: u64 = 900;
/// A session whose length the caller does not name.
pub const SESSION_DEFAULT: u64 = 3_600;
/// The longest session that a caller may ask for.
pub const SESSION_MAX: u64 = 43_200;
