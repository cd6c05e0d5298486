//! Whole numbers with a unit and a range: memory, timeout, storage, concurrency, queue.
//!
//! Fed by manifests (`pilotlight-api`) and by flags. Each type refuses a value outside its range
//! with one error that says range, unit and value. Never rounds or clamps: a wrong number is an
//! error, not a different function.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use thiserror::Error;

/// A number outside the range of its field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("must be a whole number of {unit} from {min} to {max}, got {got}")]
pub struct OutOfRange {
    unit: &'static str,
    min: u32,
    max: u32,
    got: String,
}

macro_rules! limit {
    ($(#[$doc:meta])* $name:ident: $min:literal..=$max:literal $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            pub const MIN: Self = Self($min);
            pub const MAX: Self = Self($max);
            pub const UNIT: &'static str = $unit;

            /// The number, in the type's unit.
            pub fn get(self) -> u32 {
                self.0
            }

            fn refuse(got: impl fmt::Display) -> OutOfRange {
                OutOfRange { unit: $unit, min: $min, max: $max, got: got.to_string() }
            }
        }

        impl TryFrom<i64> for $name {
            type Error = OutOfRange;

            fn try_from(value: i64) -> Result<Self, OutOfRange> {
                match u32::try_from(value) {
                    Ok(number) if ($min..=$max).contains(&number) => Ok(Self(number)),
                    _ => Err(Self::refuse(value)),
                }
            }
        }

        impl FromStr for $name {
            type Err = OutOfRange;

            fn from_str(text: &str) -> Result<Self, OutOfRange> {
                let number: i64 = text.parse().map_err(|_| Self::refuse(format!("`{text}`")))?;
                Self::try_from(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} {}", self.0, $unit)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u32(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            /// Asks for any value rather than a number, so that `128Mi` and `"128"` are told
            /// the unit and the range too. Needs a self-describing format.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Whole(PhantomData))
            }
        }

        impl Limit for $name {
            const EXPECTED: &'static str = concat!(
                "a whole number of ", $unit, " from ", $min, " to ", $max
            );
            fn refuse(got: impl fmt::Display) -> OutOfRange {
                Self::refuse(got)
            }
        }
    };
}
