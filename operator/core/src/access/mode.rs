//! Whether callers have to prove who they are.

use std::str::FromStr;

/// What a gateway asks of its callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Everybody may do everything, and nothing that a caller shows is read.
    #[default]
    Off,
    /// A caller that shows nothing of this installation is anonymous and may do everything. Any other caller is checked
    /// as with [`Mode::Required`]. For the time in which callers get their credentials.
    Optional,
    /// Each call proves who makes it, and needs the right to what it does.
    Required,
}

/// The text is none of the modes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be required, optional or off")]
pub struct NotAMode;

impl FromStr for Mode {
    type Err = NotAMode;

    fn from_str(text: &str) -> Result<Self, NotAMode> {
        match text {
            "off" => Ok(Mode::Off),
            "optional" => Ok(Mode::Optional),
            "required" => Ok(Mode::Required),
            _ => Err(NotAMode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_the_names_of_the_option() {
        assert_eq!("off".parse(), Ok(Mode::Off));
        assert_eq!("optional".parse(), Ok(Mode::Optional));
        assert_eq!("required".parse(), Ok(Mode::Required));
        assert_eq!("Required".parse::<Mode>(), Err(NotAMode));
    }
}
