//! Whole numbers with a unit and a range: memory, timeout, storage, concurrency, queue.
//!
//! Fed by manifests (`pilotlight-api`) and by flags. Each type refuses a value outside its range with an
//! error that contains range, unit and value. Never rounds or clamps a number.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use thiserror::Error;

/// The value is not a number within the range of its field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OutOfRange {
    #[error("must be between {min} and {max} {unit}, got {got}")]
    Number {
        min: u32,
        max: u32,
        unit: &'static str,
        got: i128,
    },
    #[error("must be {expected}, got `{got}`")]
    NotANumber { expected: &'static str, got: String },
}

/// Accepts any value instead of only numbers, so that the error for `128Mi` and `"128"` contains the unit
/// and the range as well. The type errors of a format have neither.
struct Whole<T> {
    expected: &'static str,
    limit: PhantomData<T>,
}

impl<T> Whole<T> {
    fn refuse<E: de::Error>(&self, got: impl fmt::Display) -> Result<T, E> {
        Err(E::custom(format_args!(
            "must be {}, got {got}",
            self.expected
        )))
    }
}

impl<'de, T: TryFrom<i128, Error = OutOfRange>> Visitor<'de> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        T::try_from(number.into()).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        T::try_from(number.into()).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.refuse(number)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        self.refuse(value)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        self.refuse(format_args!("the text {text:?}"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        self.refuse("nothing")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<T, A::Error> {
        self.refuse("a list")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<T, A::Error> {
        self.refuse("a mapping")
    }
}

macro_rules! limit {
    ($(#[$doc:meta])* $name:ident, $min:literal to $max:literal $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            const EXPECTED: &'static str =
                concat!("a whole number of ", $unit, " between ", $min, " and ", $max);

            /// The number, in the type's unit.
            pub fn get(self) -> u32 {
                self.0
            }
        }

        impl TryFrom<i128> for $name {
            type Error = OutOfRange;

            fn try_from(got: i128) -> Result<Self, OutOfRange> {
                match u32::try_from(got) {
                    Ok(number) if ($min..=$max).contains(&number) => Ok(Self(number)),
                    _ => Err(OutOfRange::Number { min: $min, max: $max, unit: $unit, got }),
                }
            }
        }

        impl FromStr for $name {
            type Err = OutOfRange;

            fn from_str(text: &str) -> Result<Self, OutOfRange> {
                match text.parse::<i128>() {
                    Ok(number) => Self::try_from(number),
                    Err(_) => Err(OutOfRange::NotANumber {
                        expected: Self::EXPECTED,
                        got: text.to_owned(),
                    }),
                }
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
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Whole {
                    expected: Self::EXPECTED,
                    limit: PhantomData,
                })
            }
        }
    };
    ($(#[$doc:meta])* $name:ident, $min:literal to $max:literal $unit:literal, default $default:literal) => {
        limit!($(#[$doc])* $name, $min to $max $unit);

        impl Default for $name {
            fn default() -> Self {
                const { assert!($min <= $default && $default <= $max) };
                Self($default)
            }
        }
    };
}

limit! {
    /// Memory of one instance, in MiB.
    MemoryMiB, 128 to 10240 "MiB", default 128
}
limit! {
    /// How long one invocation may run, in whole seconds.
    Timeout, 1 to 900 "seconds", default 3
}
limit! {
    /// How long an idle instance stays warm, in whole seconds; 0 ends it after each invocation.
    KeepAlive, 0 to 3600 "seconds", default 600
}
limit! {
    /// Size of one instance's `/tmp`, in MiB.
    EphemeralStorageMiB, 512 to 10240 "MiB", default 512
}
limit! {
    /// Reserved concurrency: instances that only this function may use, and its limit. 0 throttles every
    /// event (contract §7).
    Concurrency, 0 to 10000 "instances"
}
limit! {
    /// How many events may wait while all instances are busy; 0 rejects them at once with 429.
    QueueLimit, 0 to 10000 "events", default 100
}

limit! {
    /// How old an event of an asynchronous call may be when an attempt begins, in whole seconds.
    MaxEventAge, 60 to 21600 "seconds", default 21600
}
limit! {
    /// How many attempts follow a failed one, for an event of an asynchronous call.
    EventRetries, 0 to 2 "retries", default 2
}
limit! {
    /// How long after its time an event of a schedule may be sent, in whole seconds.
    Jitter, 0 to 86400 "seconds", default 0
}

limit! {
    /// How many unclaimed instances a warm pool keeps.
    PoolSize, 0 to 1000 "instances"
}
limit! {
    /// How long the records of a function's log are kept, in whole days.
    LogRetention, 1 to 3653 "days"
}
limit! {
    /// How long a pod stays on a node whose taint evicts it, in whole seconds.
    TolerationSeconds, 0 to 31536000 "seconds"
}

impl LogRetention {
    pub fn duration(self) -> Duration {
        Duration::from_hours(24 * u64::from(self.0))
    }
}

impl Timeout {
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl MaxEventAge {
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl Jitter {
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl KeepAlive {
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_each_range_are_accepted_and_their_neighbours_are_refused() {
        fn check<T: TryFrom<i128, Error = OutOfRange>>(min: i128, max: i128, unit: &str) {
            assert!(T::try_from(min).is_ok() && T::try_from(max).is_ok());
            for got in [min - 1, max + 1, i128::MIN, i128::from(u32::MAX) + 1 + min] {
                let error = T::try_from(got).err().map(|error| error.to_string());
                let text = format!("must be between {min} and {max} {unit}, got {got}");
                assert_eq!(error, Some(text));
            }
        }
        check::<MemoryMiB>(128, 10240, "MiB");
        check::<Timeout>(1, 900, "seconds");
        check::<KeepAlive>(0, 3600, "seconds");
        check::<EphemeralStorageMiB>(512, 10240, "MiB");
        check::<Concurrency>(0, 10_000, "instances");
        check::<QueueLimit>(0, 10_000, "events");
        check::<LogRetention>(1, 3653, "days");
        check::<MaxEventAge>(60, 21_600, "seconds");
        check::<EventRetries>(0, 2, "retries");
        check::<Jitter>(0, 86_400, "seconds");
        check::<PoolSize>(0, 1000, "instances");
        check::<TolerationSeconds>(0, 31_536_000, "seconds");
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        assert_eq!(MemoryMiB::default().to_string(), "128 MiB");
        assert_eq!(Timeout::default().duration(), Duration::from_secs(3));
        assert_eq!(KeepAlive::default().duration(), Duration::from_secs(600));
        assert_eq!(EphemeralStorageMiB::default().get(), 512);
        assert_eq!(QueueLimit::default().get(), 100);
        assert_eq!(MaxEventAge::default().duration(), Duration::from_hours(6));
        assert_eq!(EventRetries::default().get(), 2);
        assert_eq!(Jitter::default().duration(), Duration::ZERO);
    }

    #[test]
    fn a_flag_takes_a_bare_number_and_nothing_else() {
        assert_eq!("900".parse(), Timeout::try_from(900));
        for text in ["", "3s", "3.0", "0x3", " 3"] {
            assert_eq!(
                text.parse::<Timeout>()
                    .expect_err("not a whole number")
                    .to_string(),
                format!("must be a whole number of seconds between 1 and 900, got `{text}`"),
            );
        }
    }
}
