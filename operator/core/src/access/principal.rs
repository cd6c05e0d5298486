//! Who makes a call, as Kubernetes names users.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::ids::Namespace;

/// A user of the cluster, in the words of a SubjectAccessReview.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal {
    pub user: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// How a caller has proven who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// It showed nothing.
    Anonymous,
    /// A token of Kubernetes.
    Token,
    /// A signature with temporary credentials that a gateway has issued.
    Session,
    /// A signature with an access key.
    AccessKey,
}

impl Credential {
    pub fn as_str(self) -> &'static str {
        match self {
            Credential::Anonymous => "anonymous",
            Credential::Token => "token",
            Credential::Session => "session",
            Credential::AccessKey => "access-key",
        }
    }
}

/// A service account of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAccount {
    pub namespace: Namespace,
    pub name: String,
}

/// A text does not name a service account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be NAMESPACE/NAME of a service account, in lower-case letters, digits, `-` and, in the name, `.`"
)]
pub struct AccountError;

const USER_PREFIX: &str = "system:serviceaccount:";
/// Characters of the name of a service account, which is a DNS subdomain.
const NAME_MAX: usize = 253;

impl ServiceAccount {
    /// # Errors
    /// If Kubernetes would not accept one of the names.
    pub fn new(namespace: &str, name: &str) -> Result<Self, AccountError> {
        let namespace = namespace.parse().map_err(|_| AccountError)?;
        let is_label = |label: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !label.is_empty()
                && label.chars().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > NAME_MAX || !name.split('.').all(is_label) {
            return Err(AccountError);
        }
        let name = name.to_owned();
        Ok(ServiceAccount { namespace, name })
    }

    /// The account of a user name of Kubernetes, `system:serviceaccount:NAMESPACE:NAME`. `None` for other users.
    pub fn of_user(user: &str) -> Option<Self> {
        let (namespace, name) = user.strip_prefix(USER_PREFIX)?.split_once(':')?;
        ServiceAccount::new(namespace, name).ok()
    }

    /// Its user name in Kubernetes.
    pub fn user(&self) -> String {
        format!("{USER_PREFIX}{}:{}", self.namespace, self.name)
    }

    /// This account as the API server sees it when it shows a token.
    pub fn principal(&self) -> Principal {
        Principal {
            user: self.user(),
            uid: None,
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", self.namespace),
                "system:authenticated".to_owned(),
            ],
            extra: BTreeMap::new(),
        }
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ServiceAccount {
    type Err = AccountError;

    fn from_str(text: &str) -> Result<Self, AccountError> {
        let (namespace, name) = text.split_once('/').ok_or(AccountError)?;
        ServiceAccount::new(namespace, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_from_its_name_and_from_its_user() {
        let account: ServiceAccount = "shop/caller.v2".parse().unwrap();
        assert_eq!(account.to_string(), "shop/caller.v2");
        assert_eq!(account.user(), "system:serviceaccount:shop:caller.v2");
        assert_eq!(ServiceAccount::of_user(&account.user()), Some(account));
        for user in ["jane", "system:node:n1", "system:serviceaccount:shop"] {
            assert_eq!(ServiceAccount::of_user(user), None, "{user}");
        }
        for text in [
            "shop",
            "shop/",
            "/caller",
            "shop/Caller",
            "shop/a/b",
            "shop/-a",
            "shop/a..b",
            "s:p/a",
        ] {
            assert_eq!(text.parse::<ServiceAccount>(), Err(AccountError), "{text}");
        }
    }
}
