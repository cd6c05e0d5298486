//! The names of things: functions, their pools, revisions, Kubernetes objects, instances and pods.
//!
//! Each name has a type of its own, so that one cannot be used in the place of another. All are cheap to
//! clone: they share their text. Manifests, watches and messages are parsed into these types once. Nothing
//! here decides anything; `gateways`, `invoke` and `fleet` use the names as keys.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checked_text;
use crate::function::{FunctionName, InvalidLabel, check_label};

checked_text! {
    /// The namespace of a function: a DNS-1123 label. In local mode [`Namespace::local`].
    Namespace, InvalidLabel, check_label
}

impl Namespace {
    /// The namespace of all functions in local mode.
    pub fn local() -> Self {
        "local".parse().expect("it is a label")
    }
}

/// A function: its namespace and its name. As text `namespace/name`.
///
/// The name is the first field, so that comparisons of keys of the same namespace seldom read the second.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionKey {
    pub name: FunctionName,
    pub namespace: Namespace,
}

/// The part of a function that a pool runs. Only `$LATEST` exists.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Qualifier {
    /// The function's newest configuration and code.
    #[default]
    #[serde(rename = "$LATEST")]
    Latest,
}

impl Qualifier {
    /// The first in their order.
    pub const FIRST: Qualifier = Qualifier::Latest;

    /// The qualifier in the Invoke API, in ARNs and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Qualifier::Latest => "$LATEST",
        }
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a qualifier that exists.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no qualifier: only `$LATEST` exists")]
pub struct InvalidQualifier(String);

impl FromStr for Qualifier {
    type Err = InvalidQualifier;

    fn from_str(text: &str) -> Result<Self, InvalidQualifier> {
        match text {
            "$LATEST" => Ok(Qualifier::Latest),
            _ => Err(InvalidQualifier(text.to_owned())),
        }
    }
}

/// The text does not have the form of the key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidKey {
    #[error("`{0}` is not `namespace/name`")]
    Function(String),
    #[error("`{0}` is not `namespace/name:qualifier`")]
    Pool(String),
    #[error(transparent)]
    Label(#[from] InvalidLabel),
    #[error(transparent)]
    Qualifier(#[from] InvalidQualifier),
}

impl fmt::Display for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for FunctionKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let parts = text.split_once('/');
        let (namespace, name) = parts.ok_or_else(|| InvalidKey::Function(text.to_owned()))?;
        Ok(FunctionKey {
            name: name.parse()?,
            namespace: namespace.parse()?,
        })
    }
}

/// A pool: the instances of one qualifier of a function. As text `namespace/name:qualifier`; in messages
/// three fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "PoolFields", into = "PoolFields")]
pub struct PoolId {
    pub function: FunctionKey,
    pub qualifier: Qualifier,
}

#[derive(Serialize, Deserialize)]
struct PoolFields {
    namespace: Namespace,
    function: FunctionName,
    qualifier: Qualifier,
}

impl PoolId {
    /// The pool of a function's newest configuration and code.
    pub fn latest(namespace: Namespace, name: FunctionName) -> Self {
        PoolId {
            function: FunctionKey { name, namespace },
            qualifier: Qualifier::Latest,
        }
    }

    pub fn namespace(&self) -> &Namespace {
        &self.function.namespace
    }

    pub fn name(&self) -> &FunctionName {
        &self.function.name
    }
}

impl From<PoolFields> for PoolId {
    fn from(fields: PoolFields) -> Self {
        PoolId {
            function: FunctionKey {
                name: fields.function,
                namespace: fields.namespace,
            },
            qualifier: fields.qualifier,
        }
    }
}

impl From<PoolId> for PoolFields {
    fn from(pool: PoolId) -> Self {
        PoolFields {
            namespace: pool.function.namespace,
            function: pool.function.name,
            qualifier: pool.qualifier,
        }
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.function, self.qualifier)
    }
}

impl FromStr for PoolId {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let parts = text.split_once(':');
        let (function, qualifier) = parts.ok_or_else(|| InvalidKey::Pool(text.to_owned()))?;
        Ok(PoolId {
            function: function.parse()?,
            qualifier: qualifier.parse()?,
        })
    }
}

/// Defines a newtype for a name that another part chose; any text is accepted.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl FromStr for $name {
            type Err = std::convert::Infallible;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self::from(text))
            }
        }

        // A map with such keys can be searched by text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// What the instances of a pool are made from: a digest of the function's configuration. Instances of
    /// another revision are replaced.
    Revision
}
name! {
    /// The UID that the API server gave to an object. An object that is deleted and created again under the
    /// same name has another one (rule 6).
    Uid
}
name! {
    /// The name of an instance, which its gateway generates. No two instances have the same name.
    InstanceName
}
name! {
    /// The name of a pod.
    PodName
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> PoolId {
        let (namespace, name) = ("shop".parse(), "hello".parse());
        PoolId::latest(namespace.expect("a label"), name.expect("a label"))
    }

    #[test]
    fn a_pool_and_its_function_read_back_as_written() {
        let pool = pool();
        assert_eq!(pool.to_string(), "shop/hello:$LATEST");
        assert_eq!(pool.to_string().parse(), Ok(pool.clone()));
        assert_eq!(pool.function.to_string().parse(), Ok(pool.function));
    }

    #[test]
    fn a_pool_in_a_message_has_three_fields() {
        let json = r#"{"namespace":"shop","function":"hello","qualifier":"$LATEST"}"#;
        assert_eq!(serde_json::to_string(&pool()).expect("plain data"), json);
        let read: PoolId = serde_json::from_str(json).expect("a pool");
        assert_eq!(read, pool());
        let other = json.replace("$LATEST", "1");
        assert!(serde_json::from_str::<PoolId>(&other).is_err());
    }

    #[test]
    fn a_text_of_another_form_is_refused_with_its_reason() {
        for (text, part) in [
            ("hello:$LATEST", "`namespace/name`"),
            ("shop/hello", "`namespace/name:qualifier`"),
            ("shop/hello:1", "only `$LATEST` exists"),
            ("shop/Hello:$LATEST", "must be 1 to 63 characters"),
            ("/hello:$LATEST", "must be 1 to 63 characters"),
        ] {
            let error = text.parse::<PoolId>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn pools_of_different_namespaces_are_different_pools() {
        let pool = pool();
        let other = PoolId::latest(Namespace::local(), pool.name().clone());
        assert_ne!(pool, other);
        assert_eq!(pool.name(), other.name());
        let sorted = std::collections::BTreeSet::from([pool.clone(), other.clone()]);
        assert_eq!(Vec::from_iter(&sorted), [&other, &pool]);
    }

    #[test]
    fn a_name_is_any_text_and_a_map_of_names_is_searched_by_text() {
        let name: InstanceName = "3f".parse().expect("any text");
        assert_eq!(serde_json::to_string(&name).expect("a text"), r#""3f""#);
        let map = std::collections::BTreeMap::from([(name.clone(), 1)]);
        assert_eq!(map.get("3f"), Some(&1));
        assert_eq!(
            (name.as_str(), name.to_string()),
            ("3f", String::from(name.clone()))
        );
    }
}
