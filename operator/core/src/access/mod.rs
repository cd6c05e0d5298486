//! Who may call the public API: what a caller shows, which right an operation needs, and why a call is refused.
//!
//! `pilotlight-access` reads what callers show and checks signatures, the gateway's `http::access` asks the cluster and
//! answers. Kubernetes decides about rights: a gateway asks it by a SubjectAccessReview. `reviews` remembers the
//! answers for a bounded time.

mod mode;
pub mod other_keys;
mod principal;
mod refusal;
pub mod reviews;
mod right;
pub mod session_keys;
pub mod sts_limits;

pub use self::mode::{Mode, NotAMode};
pub use self::principal::{AccountError, Credential, Principal, ServiceAccount};
pub use self::refusal::Refusal;
pub use self::right::{Resource, Right, Verb};
