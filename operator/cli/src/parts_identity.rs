//! The option that gateways and controllers of a release have alike: whether its parts prove who they are.

use pilotlight_core::identity::Mode;

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct PartsIdentity {
    /// Whether the parts of the release prove to each other who they are: off, permissive (parts of an earlier release
    /// are served too) or required.
    #[arg(
        long,
        env = "PILOTLIGHT_PARTS_IDENTITY",
        default_value = "off",
        value_name = "off|permissive|required"
    )]
    pub(crate) parts_identity: Mode,
}
