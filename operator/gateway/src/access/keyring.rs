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
    /// Sessions, and access keys: whether their Secrets have not been read yet.
    awaits: [bool; 2],
}

impl Keyring {
    /// Secrets will say which keys there are.
    pub(crate) fn await_lists(&self, access_keys: bool) {
        self.write().awaits = [true, access_keys];
    }

    /// Whether a key that is not here may exist all the same.
    pub(crate) fn may_lack(&self, is_session: bool) -> bool {
        self.read().awaits[usize::from(!is_session)]
    }

    pub fn set_sessions(&self, keys: SessionKeys) {
        let mut held = self.write();
        held.sessions = Arc::new(keys);
        held.awaits[0] = false;
    }

    /// Replaces all of them.
    pub fn set_access_keys(&self, keys: impl IntoIterator<Item = AccessKey>) {
        let keys = keys.into_iter().map(|key| (key.id.clone(), Arc::new(key)));
        let mut held = self.write();
        held.access_keys = Arc::new(keys.collect());
        held.awaits[1] = false;
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
