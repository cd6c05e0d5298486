//! Who is asked about callers: in a cluster the API server (`cluster::judge`).

use std::fmt::Debug;
use std::pin::Pin;

use pilotlight_core::access::reviews::Unanswered;
use pilotlight_core::access::{Principal, Right};

/// An answer that comes later.
pub type Later<T> = Pin<Box<dyn Future<Output = Result<Option<T>, Unanswered>> + Send>>;

/// Who says who a caller is and what it may do: the cluster.
pub trait Judge: Debug + Send + Sync {
    /// Who shows this token; `None` if it is nobody's, or is not meant for gateways.
    fn who(&self, token: &str) -> Later<Principal>;

    /// Whether this user has the right; `None` if not.
    fn may(&self, who: &Principal, right: &Right) -> Later<()>;
}
