//! Which right an operation needs, in the words of Kubernetes' roles.

use std::fmt;

use crate::function::FunctionName;
use crate::ids::Namespace;

/// What a role allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Invoke,
    Get,
    List,
    Update,
    Delete,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Invoke => "invoke",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Update => "update",
            Verb::Delete => "delete",
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

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} functions", self.verb.as_str())?;
        if let Some(subresource) = self.resource.subresource() {
            write!(f, "/{subresource}")?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        write!(f, " in namespace {}", self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_shown_in_the_words_of_a_role() {
        let mut right = Right {
            verb: Verb::Invoke,
            resource: Resource::Function,
            namespace: "shop".parse().unwrap(),
            name: Some("pay".parse().unwrap()),
        };
        assert_eq!(right.to_string(), "invoke functions pay in namespace shop");
        right = Right {
            verb: Verb::Get,
            resource: Resource::Environment,
            name: None,
            ..right
        };
        assert_eq!(
            right.to_string(),
            "get functions/environment in namespace shop"
        );
    }
}
