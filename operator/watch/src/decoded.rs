//! An object of the API server as far as this version can read it.
//!
//! During an upgrade the definitions (CRDs) may already have fields that this version does not know. A typed
//! watch fails the whole list on the first object that it cannot decode, and with it all other objects. A
//! watch of [`Decoded`] objects reports that one as unreadable and goes on. Files and the API server stay
//! strict: they refuse what they do not know.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object, or why it cannot be read.
#[derive(Clone, Debug)]
pub struct Decoded<R> {
    pub metadata: ObjectMeta,
    pub content: Result<R, Unreadable>,
}

/// Why an object cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// The field that this version does not understand, such as `spec.memory`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
    /// The object's status as it is stored; null if there is none.
    pub status: Value,
}

impl<R> Decoded<R> {
    /// The object at once if it can be read.
    pub fn ok(&self) -> Option<&R> {
        self.content.as_ref().ok()
    }
}

impl<R: Resource> From<R> for Decoded<R> {
    fn from(object: R) -> Self {
        Decoded {
            metadata: object.meta().clone(),
            content: Ok(object),
        }
    }
}

impl<'de, R: DeserializeOwned> Deserialize<'de> for Decoded<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        let metadata = object.get("metadata").cloned().unwrap_or_default();
        let metadata = serde_json::from_value(metadata).map_err(D::Error::custom)?;
        let content = read(&object).or_else(|unreadable| {
            // A status that cannot be read is as good as none: whoever leads writes it anew.
            object
                .as_object_mut()
                .and_then(|fields| fields.remove("status"));
            read(&object).map_err(|_| unreadable)
        });
        Ok(Decoded { metadata, content })
    }
}

fn read<R: DeserializeOwned>(object: &Value) -> Result<R, Unreadable> {
    serde_path_to_error::deserialize(object).map_err(|error| {
        let field = error.path().to_string();
        let message = error.into_inner().to_string();
        Unreadable {
            field,
            message,
            status: object.get("status").cloned().unwrap_or_default(),
        }
    })
}

impl<R: Resource> Resource for Decoded<R> {
    type DynamicType = R::DynamicType;
    type Scope = R::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        R::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        R::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        R::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        R::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::StreamExt;
    use http::{Request, Response};
    use kube::client::Body;
    use kube::runtime::watcher::{self, Event, watcher};
    use kube::{Api, Client, ResourceExt};
    use pilotlight_api::resource::FunctionResource;
    use serde_json::json;

    use super::*;
    use crate::{Change, Fold};

    fn function(name: &str, field: &str, value: Value) -> Value {
        let mut function = json!({
            "apiVersion": "pilotlight.dev/v1alpha1",
            "kind": "Function",
            "metadata": { "name": name, "uid": name, "generation": 3, "resourceVersion": "7" },
            "spec": { "runtime": "custom", "code": { "image": "a:1" } },
        });
        function["spec"][field] = value;
        function
    }

    fn decoded(function: Value) -> Decoded<FunctionResource> {
        serde_json::from_value(function).expect("its metadata can be read")
    }

    fn unreadable(function: Value) -> Unreadable {
        decoded(function).content.expect_err("it cannot be read")
    }

    #[test]
    fn an_unreadable_object_has_its_name_the_field_and_the_stored_status() {
        let mut newer = function("newer", "tracing", json!("Active"));
        newer["status"] = json!({ "ready": 2 });
        assert_eq!(decoded(newer.clone()).name_any(), "newer");
        let why = unreadable(newer);
        assert_eq!(why.field, "spec.tracing");
        assert!(
            why.message.starts_with("unknown field `tracing`"),
            "{}",
            why.message
        );
        assert_eq!(why.status, json!({ "ready": 2 }));
    }

    #[test]
    fn a_value_out_of_range_and_a_field_of_a_part_are_named() {
        let why = unreadable(function("newer", "memory", json!(20480)));
        assert_eq!(why.field, "spec.memory");
        let why = unreadable(function("newer", "logging", json!({ "sampling": 5 })));
        assert_eq!(why.field, "spec.logging.sampling");
    }

    /// Manifests may not have it any more, but a function that has it goes on.
    #[test]
    fn an_address_with_user_info_that_was_stored_earlier_is_read() {
        let archive = json!({ "url": "https://me:pw@host/a.zip", "sha256": "0".repeat(64) });
        let stored = function("older", "code", json!({ "archive": archive }));
        assert!(decoded(stored).ok().is_some());
    }

    #[test]
    fn a_status_that_cannot_be_read_does_not_make_the_spec_unreadable() {
        let mut newer = function("newer", "memory", json!(256));
        newer["status"] = json!({ "ready": ["a", "b"] });
        let read = decoded(newer).content.expect("its spec can be read");
        assert_eq!((read.spec.memory.get(), read.status), (256, None));
    }

    /// An API server that answers one list and one watch.
    fn client(list: Vec<Value>, watch: Vec<Value>) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let is_watch = request
                .uri()
                .query()
                .is_some_and(|query| query.contains("watch="));
            let body = match is_watch {
                true => watch.iter().map(|event| format!("{event}\n")).collect(),
                false => json!({
                    "apiVersion": "pilotlight.dev/v1alpha1",
                    "kind": "FunctionList",
                    "metadata": { "resourceVersion": "1" },
                    "items": list,
                })
                .to_string(),
            };
            async move { Ok::<_, Infallible>(Response::new(Body::from(body.into_bytes()))) }
        });
        Client::new(service, "functions")
    }

    /// Decodes through kube's own list and watch, whose parts decode differently.
    #[tokio::test]
    async fn one_unreadable_object_does_not_cost_the_list_nor_the_watch_its_others() {
        let newer = function("newer", "tracing", json!("Active"));
        let list = vec![
            function("a", "memory", json!(256)),
            newer.clone(),
            function("z", "memory", json!(256)),
        ];
        let watch = vec![
            json!({ "type": "MODIFIED", "object": newer }),
            json!({ "type": "ADDED", "object": function("b", "memory", json!(256)) }),
        ];
        let functions = Api::<Decoded<FunctionResource>>::default_namespaced(client(list, watch));
        let mut events = std::pin::pin!(watcher(functions, watcher::Config::default()));
        let mut fold = Fold::new(|_: &Decoded<FunctionResource>| ());
        let mut seen = Vec::new();
        // Until the last event of the first watch.
        while !fold.contains("b") {
            let event: Event<_> = events
                .next()
                .await
                .expect("a watch does not end")
                .expect("an event");
            for change in fold.take(event) {
                if let Change::Applied(one) = change {
                    seen.push((one.name_any(), one.ok().is_some()));
                }
            }
        }
        let expected = [
            ("a", true),
            ("newer", false),
            ("z", true),
            ("newer", false),
            ("b", true),
        ];
        let expected = expected.map(|(name, is_read)| (name.to_owned(), is_read));
        assert_eq!(seen, expected);
        assert!(fold.is_complete());
    }
}
