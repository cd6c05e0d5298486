//! Which right an operation needs, in the words of Kubernetes' roles.

use crate::function::FunctionName;
use crate::ids::Namespace;

/// What a role allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Invoke,
    Get,
    List,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Invoke => "invoke",
            Verb::Get => "get",
            Verb::List => "list",
        }
    }
}

/// The part of a Function that is read or called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Its configuration without values of variables, and its calls.
    Function,
    /// The values of its variables.
    Environment,
    /// Its log.
    Logs,
}

impl Resource {
    /// The subresource in a role's `functions/SUBRESOURCE`.
    pub fn subresource(self) -> Option<&'static str> {
        match self {
            Resource::Function => None,
            Resource::Environment => Some("environment"),
            Resource::Logs => Some("logs"),
        }
    }
}

/// One right on functions of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Right {
    pub verb: Verb,
    pub resource: Resource,
    pub namespace: Namespace,
    /// `None`: on every function.
    pub name: Option<FunctionName>,
}
