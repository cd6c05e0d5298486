//! The time zones that schedules may name. Their database is part of the program.

use jiff_of_croner::tz::TimeZone;
use thiserror::Error;

/// The name of a time zone in the IANA database, such as `Europe/Zurich`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(pub(super) TimeZone);

/// There is no such time zone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no time zone: use a name of the IANA database, such as `Europe/Zurich` or `UTC`")]
pub struct InvalidZone(String);

impl Zone {
    /// # Errors
    /// If the database does not have the name.
    pub fn parse(name: &str) -> Result<Self, InvalidZone> {
        let zone = TimeZone::get(name).map_err(|_| InvalidZone(name.to_owned()))?;
        Ok(Zone(zone))
    }

    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    pub fn utc() -> Self {
        Zone(TimeZone::UTC)
    }
}
