//! The config maps that Functions name as their code, as tars for claims.
//!
//! A pod that is made for a function mounts the config map; a pod of a warm pool gets what the watch has shown last, so
//! that no call waits for the API server (rule 4). Follows each config map that a Function of the namespace names, up to a
//! number and a budget of bytes. While one is not known, the functions of that code start in pods of their own. Fed with
//! the names by `codes`; never writes to the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use pilotlight_api::{Code, FunctionSpec, TASK};
use pilotlight_watch::Backoff;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Config maps that are followed, each by a watch of its own.
const FOLLOWED_LIMIT: usize = 200;
/// Bytes of all tars. The API server stores no config map above 1 MiB.
const BYTES_LIMIT: usize = 64 * 1024 * 1024;

/// Cheap to clone; all clones are the same config maps.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigMaps {
    named: watch::Sender<BTreeSet<String>>,
    tars: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl ConfigMaps {
    /// The tar of a config map; `None` if it does not exist or is not known yet.
    pub(crate) fn get(&self, name: &str) -> Option<Bytes> {
        self.tars().get(name).cloned()
    }

    /// Follows those that these Functions name, and no others.
    pub(crate) fn keep<'a>(&self, specs: impl Iterator<Item = &'a FunctionSpec>) {
        let names = specs.filter_map(|spec| match &spec.code {
            Code::ConfigMap(name) => Some(name.as_str().to_owned()),
            _ => None,
        });
        let names: BTreeSet<String> = names.collect();
        let names: BTreeSet<String> = names.into_iter().take(FOLLOWED_LIMIT).collect();
        self.named.send_if_modified(|named| {
            let is_news = *named != names;
            *named = names;
            is_news
        });
    }

    /// Never ends.
    pub(crate) async fn follow(&self, client: &Client, namespace: &str) {
        let mut named = self.named.subscribe();
        let (mut watches, mut followed) = (JoinSet::new(), BTreeMap::new());
        loop {
            let names = named.borrow_and_update().clone();
            let left = followed.extract_if(.., |name, _| !names.contains(name));
            for (name, watch) in left {
                tokio::task::AbortHandle::abort(&watch);
                self.tars().remove(&name);
            }
            for name in names {
                followed.entry(name.clone()).or_insert_with(|| {
                    let api = Api::namespaced(client.clone(), namespace);
                    watches.spawn(self.clone().follow_one(api, name))
                });
            }
            // A watch that was aborted is collected with the next change.
            while watches.try_join_next().is_some() {}
            if named.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn follow_one(self, api: Api<ConfigMap>, name: String) {
        let shown = watcher::watch_object(api, &name).backoff(Backoff::default());
        let mut shown = std::pin::pin!(shown);
        while let Some(event) = shown.next().await {
            match event {
                Ok(map) => self.take(&name, map.as_ref()),
                Err(error) => {
                    tracing::warn!(%error, name, "the watch of a config map is interrupted")
                }
            }
        }
    }

    fn take(&self, name: &str, map: Option<&ConfigMap>) {
        let packed = map.and_then(|map| match packed(map) {
            Ok(packed) => Some(packed),
            Err(error) => {
                tracing::warn!(name, %error, "a config map is no code");
                None
            }
        });
        let mut tars = self.tars();
        tars.remove(name);
        let Some(packed) = packed else { return };
        // The function has gone while the watch showed its code.
        if !self.named.borrow().contains(name) {
            return;
        }
        let kept: usize = tars.values().map(Bytes::len).sum();
        match kept + packed.len() <= BYTES_LIMIT {
            true => drop(tars.insert(name.to_owned(), packed)),
            false => tracing::warn!(
                name,
                "config maps of code take more than {BYTES_LIMIT} bytes: functions of this one start in pods of their own"
            ),
        }
    }

    fn tars(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.tars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each key as a file, as the kubelet mounts them.
fn packed(map: &ConfigMap) -> std::io::Result<Bytes> {
    let texts = map.data.iter().flatten();
    let texts = texts.map(|(name, text)| (name.as_str(), text.as_bytes()));
    let others = map.binary_data.iter().flatten();
    let others = others.map(|(name, bytes)| (name.as_str(), bytes.0.as_slice()));
    pilotlight_archive::pack_files(texts.chain(others), TASK).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Read;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    fn spec(code: serde_json::Value) -> FunctionSpec {
        let spec = json!({ "runtime": "custom", "code": code });
        serde_json::from_value(spec).expect("a spec")
    }

    fn map(text: &str) -> ConfigMap {
        // The second one is `hi` in base64.
        let map = json!({ "data": { "a.py": text }, "binaryData": { "b.bin": "aGk=" } });
        serde_json::from_value(map).expect("a config map")
    }

    fn files(tar: &Bytes) -> Vec<(String, String)> {
        let mut archive = tar::Archive::new(&tar[..]);
        let entries = archive.entries().expect("a tar");
        let files = entries.map(|entry| {
            let mut entry = entry.expect("an entry");
            assert_eq!(entry.header().mode().expect("a mode"), 0o755);
            let name = entry.path().expect("a name").display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("a text");
            (name, text)
        });
        files.collect()
    }

    #[test]
    fn the_keys_of_a_named_config_map_are_files_of_the_code() {
        let maps = ConfigMaps::default();
        maps.take("code", Some(&map("1")));
        assert_eq!(maps.get("code"), None, "no Function names it");
        maps.keep([&spec(json!({ "configMap": "code" }))].into_iter());
        maps.take("code", Some(&map("1")));
        let expected = [("var/task/a.py", "1"), ("var/task/b.bin", "hi")];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(files(&maps.get("code").expect("a tar")), expected);
        maps.take("code", Some(&map("2")));
        assert_eq!(files(&maps.get("code").expect("a tar"))[0].1, "2");
        maps.take("code", None);
        assert_eq!(maps.get("code"), None, "it was deleted");
    }

    #[test]
    fn what_exceeds_the_budget_is_not_kept_and_gives_its_room_back() {
        let maps = ConfigMaps::default();
        let specs = ["a", "b"].map(|name| spec(json!({ "configMap": name })));
        maps.keep(specs.iter());
        let large = map(&"x".repeat(BYTES_LIMIT / 2));
        maps.take("a", Some(&large));
        maps.take("b", Some(&large));
        assert!(maps.get("a").is_some() && maps.get("b").is_none());
        maps.take("a", Some(&map("1")));
        maps.take("b", Some(&large));
        assert!(maps.get("b").is_some());
    }

    #[test]
    fn no_more_than_the_limit_are_followed() {
        let maps = ConfigMaps::default();
        let specs = (0..=FOLLOWED_LIMIT).map(|number| {
            let name = format!("code-{number}");
            spec(json!({ "configMap": name }))
        });
        let specs = Vec::from_iter(specs);
        maps.keep(specs.iter());
        assert_eq!(maps.named.borrow().len(), FOLLOWED_LIMIT);
    }

    /// An API server with the config map `code`, whose watches stay silent.
    fn client() -> Client {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert!(query.contains("metadata.name%3D"), "{query}");
            let is_code = query.contains("metadata.name%3Dcode");
            let items = match is_code {
                true => json!([{ "metadata": { "name": "code" }, "data": { "a.py": "1" } }]),
                false => json!([]),
            };
            if query.contains("watch=") {
                std::future::pending::<()>().await;
            }
            let list = json!({
                "apiVersion": "v1", "kind": "ConfigMapList",
                "metadata": { "resourceVersion": "1" }, "items": items,
            });
            let body = Body::from(list.to_string().into_bytes());
            Ok::<_, Infallible>(Response::new(body))
        });
        Client::new(service, "functions")
    }

    #[tokio::test]
    async fn a_config_map_is_followed_from_the_first_function_that_names_it_to_the_last() {
        let maps = ConfigMaps::default();
        let follower = maps.clone();
        let following = tokio::spawn(async move { follower.follow(&client(), "functions").await });
        let function = spec(json!({ "configMap": "code" }));
        for is_named in [true, false, true] {
            maps.keep(is_named.then_some(&function).into_iter());
            while maps.get("code").is_some() != is_named {
                tokio::task::yield_now().await;
            }
        }
        following.abort();
    }
}
