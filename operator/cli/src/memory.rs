//! The option `--memory-limit`, from which a gateway derives what it accepts (`core::intake::limits`).

use pilotlight_core::intake::limits::{IntakeLimits, MEMORY_MIN};
use rustix::process::{Resource, getrlimit};

/// The memory that the gateway may use.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Memory {
    /// The memory that this process may use, in bytes or with the suffix Ki, Mi or Gi. The limits of events, answers
    /// and connections follow from it: docs/limits.md.
    #[arg(
        long,
        env = "PILOTLIGHT_MEMORY_LIMIT",
        default_value = "1Gi",
        value_parser = parse,
        value_name = "BYTES"
    )]
    memory_limit: usize,
}

impl Memory {
    pub(crate) fn limits(self) -> IntakeLimits {
        let files = getrlimit(Resource::Nofile).current;
        let files = files.and_then(|files| usize::try_from(files).ok());
        IntakeLimits::of(self.memory_limit, files.unwrap_or(usize::MAX))
    }
}

fn parse(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(bytes(text)?).map_err(|_| "too large")?;
    match bytes >= MEMORY_MIN {
        true => Ok(bytes),
        false => Err(format!(
            "must be at least {}Mi, so that the largest event fits",
            MEMORY_MIN / 1024 / 1024
        )),
    }
}

/// Reads a number of bytes, with or without a suffix.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "Ki" => 1024,
        "Mi" => 1024 * 1024,
        "Gi" => 1024 * 1024 * 1024,
        "Ti" => 1024 * 1024 * 1024 * 1024,
        other => {
            return Err(format!(
                "unknown suffix {other:?}; use Ki, Mi, Gi, Ti or none"
            ));
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "not a whole number of bytes, as 1073741824 or 1Gi are".to_owned())?;
    Ok(number.checked_mul(unit).ok_or("too large")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes_and_with_suffixes() {
        assert_eq!(parse("1073741824"), Ok(1024 * 1024 * 1024));
        assert_eq!(parse("1Gi"), Ok(1024 * 1024 * 1024));
        assert_eq!(parse("512Mi"), Ok(512 * 1024 * 1024));
        assert_eq!(parse("131072Ki"), Ok(MEMORY_MIN));
    }

    #[test]
    fn what_is_no_memory_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "whole number"),
            ("Gi", "whole number"),
            ("-1Gi", "whole number"),
            ("1.5Gi", "whole number"),
            ("1G", "suffix"),
            ("1 Gi", "suffix"),
            ("127Mi", "at least 128Mi"),
            ("99999999999999Gi", "too large"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
