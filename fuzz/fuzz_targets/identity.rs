//! Messages of a stranger that wants to pass for a pod or a part: tokens, key sets and certificates.
//!
//! Nothing of it panics, and no token passes whose signature the fuzzer would have to forge.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight_net::identity::token::{Expected, Keys};
use pilotlight_net::identity::{Identity, Material};

use pilotlight_core::identity::Mode;

/// A public key of a cluster: the example of RFC 7515, appendix A.3.
const SET: &str = r#"{"keys":[{"kid":"a","kty":"EC","crv":"P-256",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
const POD: Expected<'_> = Expected {
    namespace: "shop",
    uid: "uid-1",
};

fuzz_target!(|input: (u64, &str, &[u8], &[u8])| {
    let (now, token, set, pem) = input;
    let keys = Keys::of("issuer".to_owned(), SET.as_bytes()).expect("a set");
    assert!(keys.check(token, now, POD).is_err());
    if let Ok(keys) = Keys::of("issuer".to_owned(), set) {
        // The author of the set may sign with its keys; the check must only not panic.
        let _ = keys.check(token, now, POD);
    }
    if let Ok(material) = Material::of_pem(pem, pem, pem) {
        let _ = Identity::new(Mode::Required).renew(material);
    }
});
