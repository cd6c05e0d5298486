//! The token of a pod's service account, checked without asking the API server.
//!
//! Kubernetes signs it (RFC 7519), and publishes its keys as a JSON Web Key Set. A gateway fetches the set at intervals
//! and checks with [`Keys::check`] that a token names a pod by its UID. Pure: the caller has the clock and the fetches.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// The audience of instances' tokens. No API server accepts it, so a token that is stolen opens nothing else.
pub const AUDIENCE: &str = "pilotlight.dev/instance";

/// The longest token that is read, in bytes. Those of Kubernetes have about 1,000.
pub const TOKEN_LIMIT: usize = 16 * 1024;

/// How far the clocks of two machines may be apart, in seconds.
const LEEWAY: u64 = 60;

/// The keys with which the cluster signs tokens.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    issuer: String,
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    id: String,
    material: KeyMaterial,
}

#[derive(Clone, Debug)]
enum KeyMaterial {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
}

/// The pod that a token has to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    pub namespace: &'a str,
    pub uid: &'a str,
}

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("it is not a token: {0}")]
    Malformed(&'static str),
    /// The cluster may have got new keys since they were fetched.
    #[error("it is signed with a key that the cluster has not published")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("its {claim} is not {expected:?}")]
    Claim {
        claim: &'static str,
        expected: String,
    },
    #[error("it has expired, or is not valid yet")]
    Time,
}

/// The keys are not a JSON Web Key Set.
#[derive(Debug, thiserror::Error)]
#[error("the cluster's keys cannot be read: {0}")]
pub struct UnreadableKeys(#[source] serde_json::Error);

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    #[serde(default)]
    kid: String,
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Pod,
}

#[derive(Deserialize)]
struct Pod {
    uid: String,
}

impl Keys {
    /// `issuer`: who signs the tokens; `set`: the JSON Web Key Set. A key of another kind is left out.
    ///
    /// # Errors
    /// If the set is not one.
    pub fn of(issuer: String, set: &[u8]) -> Result<Self, UnreadableKeys> {
        let set: Set = serde_json::from_slice(set).map_err(UnreadableKeys)?;
        let keys = set.keys.into_iter().filter_map(Jwk::read);
        Ok(Keys {
            issuer,
            keys: keys.collect(),
        })
    }

    /// Checks that the cluster has signed this token for the pod. `now`: seconds since 1970.
    ///
    /// # Errors
    /// Why the token proves nothing.
    pub fn check(&self, token: &str, now: u64, expected: Expected<'_>) -> Result<(), Unproven> {
        if token.len() > TOKEN_LIMIT {
            return Err(Unproven::Malformed("it is too long"));
        }
        let (signed, signature) = token
            .rsplit_once('.')
            .ok_or(Unproven::Malformed("it has no signature"))?;
        let (header, claims) = signed
            .split_once('.')
            .ok_or(Unproven::Malformed("it has no claims"))?;
        let header: Header = json(header)?;
        let signature = decoded(signature)?;
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.id == header.kid && key.material.algorithm() == header.alg)
            .peekable();
        if fitting.peek().is_none() {
            return Err(Unproven::UnknownKey);
        }
        if !fitting.any(|key| key.material.verifies(signed.as_bytes(), &signature)) {
            return Err(Unproven::Signature);
        }
        // From here on the cluster says it.
        let claims: Claims = json(claims)?;
        let has_audience = match &claims.aud {
            Audience::One(one) => one == AUDIENCE,
            Audience::Several(several) => several.iter().any(|one| one == AUDIENCE),
        };
        for (claim, holds, value) in [
            ("issuer", claims.iss == self.issuer, self.issuer.as_str()),
            ("audience", has_audience, AUDIENCE),
            (
                "namespace",
                claims.kubernetes.namespace == expected.namespace,
                expected.namespace,
            ),
            (
                "pod",
                claims.kubernetes.pod.uid == expected.uid,
                expected.uid,
            ),
        ] {
            if !holds {
                let expected = value.to_owned();
                return Err(Unproven::Claim { claim, expected });
            }
        }
        let is_present = claims.nbf <= now + LEEWAY && now < claims.exp.saturating_add(LEEWAY);
        is_present.then_some(()).ok_or(Unproven::Time)
    }
}

impl Jwk {
    fn read(self) -> Option<Key> {
        let number = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let point = || {
            let (x, y) = (number(&self.x)?, number(&self.y)?);
            // Uncompressed, as SEC 1 writes it.
            Some([&[4][..], &x, &y].concat())
        };
        let material = match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) => KeyMaterial::Rsa {
                modulus: number(&self.n)?,
                exponent: number(&self.e)?,
            },
            ("EC", "P-256") => KeyMaterial::P256(point()?),
            ("EC", "P-384") => KeyMaterial::P384(point()?),
            _ => return None,
        };
        Some(Key {
            id: self.kid,
            material,
        })
    }
}

impl KeyMaterial {
    /// A key fits one algorithm alone, whatever a token says.
    fn algorithm(&self) -> &'static str {
        match self {
            KeyMaterial::Rsa { .. } => "RS256",
            KeyMaterial::P256(_) => "ES256",
            KeyMaterial::P384(_) => "ES384",
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified =
            match self {
                KeyMaterial::Rsa { modulus, exponent } => RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
                KeyMaterial::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature),
                KeyMaterial::P384(point) => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                    .verify(message, signature),
            };
        verified.is_ok()
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, Unproven> {
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(text);
    decoded.map_err(|_| Unproven::Malformed("it is not base64"))
}

fn json<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Unproven> {
    let read = serde_json::from_slice(&decoded(text)?);
    read.map_err(|_| Unproven::Malformed("a claim is missing or has another type"))
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://kubernetes.default.svc";
    const NOW: u64 = 1_800_000_000;
    const POD: Expected<'_> = Expected {
        namespace: "shop",
        uid: "uid-1",
    };

    struct Cluster {
        pair: EcdsaKeyPair,
        random: SystemRandom,
    }

    impl Cluster {
        fn new() -> Self {
            let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
            let key = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
            let pair = EcdsaKeyPair::from_pkcs8(kind, key.as_ref(), &random).expect("valid");
            Cluster { pair, random }
        }

        fn keys(&self) -> Keys {
            let point = self.pair.public_key().as_ref();
            let (x, y) = point[1..].split_at(32);
            let encode = |number| BASE64_URL_SAFE_NO_PAD.encode(number);
            let key =
                json!({ "kid": "a", "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) });
            let other = json!({ "kid": "b", "kty": "oct", "k": "c2VjcmV0" });
            let set = json!({ "keys": [other, key] }).to_string();
            Keys::of(ISSUER.to_owned(), set.as_bytes()).expect("a set")
        }

        fn token(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(header), part(claims));
            let signature = self.pair.sign(&self.random, signed.as_bytes());
            let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.expect("signed").as_ref());
            format!("{signed}.{signature}")
        }
    }

    fn header() -> Value {
        json!({ "alg": "ES256", "kid": "a" })
    }

    fn claims() -> Value {
        json!({
            "iss": ISSUER, "aud": [AUDIENCE], "exp": NOW + 600, "nbf": NOW, "iat": NOW,
            "kubernetes.io": {
                "namespace": "shop", "pod": { "name": "a", "uid": "uid-1" },
                "serviceaccount": { "name": "default", "uid": "uid-2" },
            },
            "sub": "system:serviceaccount:shop:default",
        })
    }

    #[test]
    fn a_token_proves_the_pod_that_it_names_and_no_other() {
        let cluster = Cluster::new();
        let token = cluster.token(&header(), &claims());
        assert_eq!(cluster.keys().check(&token, NOW, POD), Ok(()));
        for (expected, claim) in [
            (
                Expected {
                    uid: "uid-2",
                    ..POD
                },
                "pod",
            ),
            (
                Expected {
                    namespace: "bank",
                    ..POD
                },
                "namespace",
            ),
        ] {
            let checked = cluster.keys().check(&token, NOW, expected);
            assert!(
                matches!(&checked, Err(Unproven::Claim { claim: other, .. }) if *other == claim),
                "{checked:?}"
            );
        }
    }

    #[test]
    fn a_token_for_somebody_else_of_another_issuer_or_another_time_proves_nothing() {
        let cluster = Cluster::new();
        for (field, value, why) in [
            ("aud", json!(["https://kubernetes.default.svc"]), "audience"),
            ("aud", json!("pilotlight.dev/instance2"), "audience"),
            ("iss", json!("https://elsewhere"), "issuer"),
            ("exp", json!(NOW - LEEWAY), "time"),
            ("nbf", json!(NOW + LEEWAY + 1), "time"),
        ] {
            let mut claims = claims();
            claims[field] = value;
            let token = cluster.token(&header(), &claims);
            match cluster.keys().check(&token, NOW, POD) {
                Err(Unproven::Claim { claim, .. }) => assert_eq!(claim, why),
                Err(Unproven::Time) => assert_eq!(why, "time"),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_token_that_the_cluster_has_not_signed_proves_nothing() {
        let (cluster, stranger) = (Cluster::new(), Cluster::new());
        let keys = cluster.keys();
        let forged = stranger.token(&header(), &claims());
        assert_eq!(keys.check(&forged, NOW, POD), Err(Unproven::Signature));

        let unknown = cluster.token(&json!({ "alg": "ES256", "kid": "c" }), &claims());
        assert_eq!(keys.check(&unknown, NOW, POD), Err(Unproven::UnknownKey));
        // No algorithm but the key's own, least of all `none`.
        for algorithm in ["none", "HS256", "RS256", "ES384"] {
            let header = json!({ "alg": algorithm, "kid": "a" });
            let token = cluster.token(&header, &claims());
            assert_eq!(keys.check(&token, NOW, POD), Err(Unproven::UnknownKey));
        }

        let token = cluster.token(&header(), &claims());
        let (signed, _) = token.rsplit_once('.').expect("three parts");
        assert_eq!(
            keys.check(&format!("{signed}."), NOW, POD),
            Err(Unproven::Signature)
        );
        let other = cluster.token(&header(), &json!({ "iss": ISSUER }));
        let (_, signature) = other.rsplit_once('.').expect("three parts");
        let swapped = format!("{signed}.{signature}");
        assert_eq!(keys.check(&swapped, NOW, POD), Err(Unproven::Signature));
    }

    #[test]
    fn a_text_that_is_no_token_is_refused() {
        let cluster = Cluster::new();
        let long = "a".repeat(TOKEN_LIMIT + 1);
        for text in ["", "a", "a.b", "a.b.c", "..", "é.é.é", long.as_str()] {
            let checked = cluster.keys().check(text, NOW, POD);
            assert!(matches!(checked, Err(Unproven::Malformed(_))), "{text:.20}");
        }
        let unbound = json!({ "iss": ISSUER, "aud": [AUDIENCE], "exp": NOW + 600 });
        let token = cluster.token(&header(), &unbound);
        let checked = cluster.keys().check(&token, NOW, POD);
        assert!(matches!(checked, Err(Unproven::Malformed(_))));
    }
}
