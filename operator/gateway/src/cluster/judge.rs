//! What the API server says about callers: who shows a token, and what a user may do.
//!
//! A TokenReview with the gateways' own audience, and a SubjectAccessReview. `access` remembers the answers, asks once at
//! a time and sets the time limits. Nothing here decides.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client, Resource as _};
use pilotlight_api::resource::FunctionResource;
use pilotlight_core::access::reviews::Unanswered;
use pilotlight_core::access::{Principal, Right};

use crate::access::{Judge, Later};

/// What Kubernetes says about a token besides its user.
const OF_TOKENS: &str = "authentication.kubernetes.io/";

/// See the module.
#[derive(Clone)]
pub(crate) struct ClusterJudge {
    client: Client,
    audience: String,
}

impl fmt::Debug for ClusterJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterJudge({:?})", self.audience)
    }
}

impl ClusterJudge {
    pub(crate) fn new(client: Client, audience: String) -> Self {
        ClusterJudge { client, audience }
    }
}

impl Judge for ClusterJudge {
    fn who(&self, token: &str) -> Later<Principal> {
        let reviews = Api::<TokenReview>::all(self.client.clone());
        let audience = self.audience.clone();
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![audience.clone()]),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        Box::pin(async move {
            let reviewed = reviews.create(&PostParams::default(), &review).await;
            Ok(principal(reviewed.map_err(unanswered)?, &audience))
        })
    }

    fn may(&self, who: &Principal, right: &Right) -> Later<()> {
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let review = question(who, right);
        Box::pin(async move {
            let reviewed = reviews.create(&PostParams::default(), &review).await;
            let status = reviewed.map_err(unanswered)?.status.unwrap_or_default();
            let is_denied = status.denied.unwrap_or_default();
            Ok((status.allowed && !is_denied).then_some(()))
        })
    }
}

fn unanswered(error: kube::Error) -> Unanswered {
    tracing::warn!(%error, "the API server gave no answer about a caller");
    Unanswered
}

/// Whom a review names. An authenticator that knows no audiences leaves them out, and then the token may be for anybody.
fn principal(review: TokenReview, audience: &str) -> Option<Principal> {
    let status = review.status?;
    let is_ours = status.audiences.iter().flatten().any(|one| one == audience);
    if status.authenticated != Some(true) || !is_ours {
        return None;
    }
    let user = status.user?;
    Some(Principal {
        user: user.username.filter(|name| !name.is_empty())?,
        uid: user.uid.filter(|uid| !uid.is_empty()),
        groups: user.groups.unwrap_or_default(),
        // Kubernetes adds which token of which pod this is. Roles say nothing about it, and each pod would have rights of
        // its own to ask for.
        extra: user
            .extra
            .unwrap_or_default()
            .into_iter()
            .filter(|(name, _)| !name.starts_with(OF_TOKENS))
            .collect(),
    })
}

fn question(who: &Principal, right: &Right) -> SubjectAccessReview {
    let extra = (!who.extra.is_empty()).then(|| BTreeMap::clone(&who.extra));
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(who.user.clone()),
            uid: who.uid.clone(),
            groups: Some(who.groups.clone()),
            extra,
            resource_attributes: Some(ResourceAttributes {
                group: Some(FunctionResource::group(&()).into_owned()),
                resource: Some("functions".to_owned()),
                subresource: right.resource.subresource().map(str::to_owned),
                verb: Some(right.verb.as_str().to_owned()),
                namespace: Some(right.namespace.to_string()),
                name: right.name.as_ref().map(ToString::to_string),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use pilotlight_core::access::{Resource, Verb};
    use serde_json::{Value, json};

    use super::*;

    fn reviewed(status: Value) -> Option<Principal> {
        let review = json!({"spec": {}, "status": status});
        principal(
            serde_json::from_value(review).expect("a review"),
            "pilotlight",
        )
    }

    #[test]
    fn a_review_names_a_user_only_for_the_audience_of_gateways() {
        let status = |authenticated: bool, audiences: Value| {
            json!({
                "authenticated": authenticated,
                "audiences": audiences,
                "user": {
                    "username": "jane",
                    "uid": "7",
                    "groups": ["devs"],
                    "extra": {"example.com/team": ["shop"], "authentication.kubernetes.io/pod-name": ["a"]},
                },
            })
        };
        let jane = Principal {
            user: "jane".to_owned(),
            uid: Some("7".to_owned()),
            groups: vec!["devs".to_owned()],
            extra: [("example.com/team".to_owned(), vec!["shop".to_owned()])].into(),
        };
        let ours = json!(["pilotlight"]);
        assert_eq!(reviewed(status(true, ours.clone())), Some(jane));
        for (authenticated, audiences) in [
            (false, ours),
            (true, json!(["https://kubernetes.default.svc"])),
            (true, json!([])),
            (true, Value::Null),
        ] {
            assert_eq!(reviewed(status(authenticated, audiences)), None);
        }
        assert_eq!(reviewed(Value::Null), None);
        let nobody = json!({"authenticated": true, "audiences": ["pilotlight"], "user": {}});
        assert_eq!(reviewed(nobody), None);
    }

    #[test]
    fn a_question_names_the_user_the_verb_and_the_part_of_the_function() {
        let who = Principal {
            user: "jane".to_owned(),
            uid: None,
            groups: vec!["devs".to_owned()],
            extra: BTreeMap::new(),
        };
        let right = Right {
            verb: Verb::Get,
            resource: Resource::Logs,
            namespace: "shop".parse().unwrap(),
            name: Some("pay".parse().unwrap()),
        };
        let asked = serde_json::to_value(question(&who, &right)).unwrap();
        assert_eq!(
            asked["spec"],
            json!({
                "user": "jane",
                "groups": ["devs"],
                "resourceAttributes": {
                    "group": "pilotlight.dev",
                    "resource": "functions",
                    "subresource": "logs",
                    "verb": "get",
                    "namespace": "shop",
                    "name": "pay",
                },
            })
        );
    }
}
