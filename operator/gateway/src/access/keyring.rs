//! What a gateway needs to check signatures: the keys of sessions, and the access keys.
//!
//! In a cluster, `cluster::keys` fills it from Secrets and keeps it current. Nothing here leaves the process.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use pilotlight_access::access_key::AccessKey;
use pilotlight_access::session::SessionKeys;

/// See the module. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Keyring(Arc<RwLock<Held>>);

#[derive(Debug, Default)]
struct Held {
    sessions: Arc<SessionKeys>,
    /// By their ids.
    access_keys: Arc<HashMap<String, Arc<AccessKey>>>,
}

impl Keyring {
    pub fn set_sessions(&self, keys: SessionKeys) {
        self.write().sessions = Arc::new(keys);
    }

    /// Replaces all of them.
    pub fn set_access_keys(&self, keys: impl IntoIterator<Item = AccessKey>) {
        let keys = keys.into_iter().map(|key| (key.id.clone(), Arc::new(key)));
        self.write().access_keys = Arc::new(keys.collect());
    }

    pub(crate) fn sessions(&self) -> Arc<SessionKeys> {
        self.read().sessions.clone()
    }

    pub(crate) fn access_key(&self, id: &str) -> Option<Arc<AccessKey>> {
        self.read().access_keys.get(id).cloned()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Held> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
