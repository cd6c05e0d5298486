//! The requests and limits of one instance on its node: processors and local storage.
//!
//! Fed by the controller with the function's memory and with what the installation allows. The controller's `build`
//! writes the numbers into pods, and Kubernetes enforces them. Memory has its own file, `memory`.

use std::str::FromStr;

use thiserror::Error;

use crate::function::MemoryMiB;

/// The memory in MiB that comes with one whole processor. Processors are proportional to memory.
const MIB_PER_CPU: u32 = 1769;
/// The range of a fixed limit, in thousandths of a processor.
const FIXED_MIN: u32 = 100;
const FIXED_MAX: u32 = 999_999;

/// The most that a volume of a config map holds, since an API server stores no larger one, in MiB.
pub const CONFIG_MAP_MIB: u32 = 1;

/// Whether instances may use processors that nobody else uses at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CpuLimit {
    /// No limit. The request alone decides how processors are divided when several instances want them.
    #[default]
    None,
    /// The same as the request, which is proportional to the instance's memory. This slows inits down, because they use far
    /// more processors than the events that follow.
    Proportional,
    /// The same for each instance, in thousandths of a processor.
    Fixed(u32),
}

/// Thousandths of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    pub request: u32,
    /// `None`: no limit.
    pub limit: Option<u32>,
}

impl CpuLimit {
    pub fn of(self, memory: MemoryMiB) -> Cpu {
        let proportional = (memory.get() * 1000).div_ceil(MIB_PER_CPU);
        match self {
            CpuLimit::None => Cpu {
                request: proportional,
                limit: None,
            },
            CpuLimit::Proportional => Cpu {
                request: proportional,
                limit: Some(proportional),
            },
            // A pod whose requests are its limits is of another quality of service, which no resize may change.
            // With a request below its limit each instance is of the same quality, whatever its memory, so the pod
            // of a pool can be resized for the function that has claimed it.
            CpuLimit::Fixed(limit) => Cpu {
                request: proportional.min(limit - 1),
                limit: Some(limit),
            },
        }
    }
}

/// The text is no limit of processors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "must be `none`, `proportional`, or a number of processors between 0.1 and 999 such as `2` or `500m`, got `{0}`"
)]
pub struct InvalidCpuLimit(String);

impl FromStr for CpuLimit {
    type Err = InvalidCpuLimit;

    fn from_str(text: &str) -> Result<Self, InvalidCpuLimit> {
        match text {
            "none" => return Ok(CpuLimit::None),
            "proportional" => return Ok(CpuLimit::Proportional),
            _ => {}
        }
        let fixed = milli(text).filter(|milli| (FIXED_MIN..=FIXED_MAX).contains(milli));
        let fixed = fixed.ok_or_else(|| InvalidCpuLimit(text.to_owned()))?;
        Ok(CpuLimit::Fixed(fixed))
    }
}

/// Reads `500m`, `2` and `1.5`, as Kubernetes spells processors.
fn milli(text: &str) -> Option<u32> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(milli) = text.strip_suffix('m') {
        return is_number(milli).then(|| milli.parse().ok())?;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 3 {
        return None;
    }
    let fraction: u32 = format!("{fraction:0<3}").parse().ok()?;
    whole
        .parse::<u32>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limit: &str, memory: i128) -> (u32, Option<u32>) {
        let limit: CpuLimit = limit.parse().expect("a limit");
        let cpu = limit.of(memory.try_into().expect("a size"));
        (cpu.request, cpu.limit)
    }

    #[test]
    fn processors_are_proportional_to_memory_and_limited_only_where_that_was_asked_for() {
        assert_eq!(of("none", 1769), (1000, None));
        assert_eq!(of("none", 128), (73, None));
        assert_eq!(of("proportional", 128), (73, Some(73)));
        assert_eq!(of("2", 128), (73, Some(2000)));
    }

    #[test]
    fn no_instance_gets_more_than_a_fixed_limit_and_none_requests_all_of_it() {
        assert_eq!(of("2", 10240), (1999, Some(2000)));
        // 1769 MiB would request exactly one processor.
        assert_eq!(of("1", 1769), (999, Some(1000)));
        assert_eq!(of("1", 1768), (999, Some(1000)));
        assert_eq!(of("100m", 10240), (99, Some(100)));
    }

    #[test]
    fn processors_are_spelled_as_in_kubernetes() {
        for (text, milli) in [
            ("500m", 500),
            ("0.5", 500),
            ("1.25", 1250),
            ("999", 999_000),
        ] {
            assert_eq!(text.parse(), Ok(CpuLimit::Fixed(milli)), "{text}");
        }
        for text in [
            "", "0", "99m", "1000", "-1", "+1", "1.", ".5", "1.0005", "1e3", "None", "m", "4294968",
        ] {
            let refused = text.parse::<CpuLimit>().expect_err(text);
            assert!(refused.to_string().contains("`none`, `proportional`"));
        }
    }
}
