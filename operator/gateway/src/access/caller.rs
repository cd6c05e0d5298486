//! A caller, once it is known who it is.

use std::sync::Arc;

use pilotlight_access::access_key::AccessKey;
use pilotlight_access::session::Grant;
use pilotlight_core::access::{Credential, Principal};

/// A caller that has proven who it is, or is let in without.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) credential: Credential,
    /// `None` for anonymous callers.
    pub(crate) principal: Option<Arc<Principal>>,
    /// Whether the call says that it comes from a function, whose supervisor has added what it shows. Anybody can say so,
    /// so it gives no right that a caller who shows nothing would lack.
    pub(crate) is_function: bool,
}

impl Caller {
    pub(crate) const ANONYMOUS: Caller = Caller {
        credential: Credential::Anonymous,
        principal: None,
        is_function: false,
    };

    pub(crate) fn user(&self) -> &str {
        self.principal
            .as_ref()
            .map_or("system:anonymous", |principal| &principal.user)
    }
}

/// Whose key a request is signed with.
#[derive(Debug)]
pub(crate) enum Holder {
    Session(Grant),
    AccessKey(Arc<AccessKey>),
}

impl Holder {
    pub(crate) fn caller(&self) -> Caller {
        let (credential, principal) = match self {
            Holder::Session(grant) => {
                let uid = grant.uid.clone();
                let principal = grant.account.principal();
                (Credential::Session, Principal { uid, ..principal })
            }
            Holder::AccessKey(key) => (Credential::AccessKey, key.account.principal()),
        };
        Caller {
            credential,
            principal: Some(Arc::new(principal)),
            is_function: false,
        }
    }
}
