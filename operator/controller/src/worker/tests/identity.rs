//! Pods and the authorities that gateways are recognised by.

use super::*;

#[tokio::test]
async fn no_pod_is_made_before_the_authorities_are_known_and_every_pod_after_that_has_them() {
    let mut fixture = Fixture::new();
    fixture.worker.options.parts_identity = Mode::Required;
    let function = function("u1");
    let mut fixture = fixture.with(&function).await;
    fixture.wanted(&function, &["0123456789abcdef0123456789abcdef"]);
    fixture.finish().await;
    assert_eq!(fixture.made(), [] as [String; 0]);

    fixture.bundle.send_replace(Some("PEM".into()));
    fixture.worker.on_bundle();
    fixture.finish().await;
    let [variable] = &fixture.made()[..] else {
        panic!("one pod");
    };
    let identity: IdentityConfig = serde_json::from_str(variable).expect("JSON");
    assert_eq!(identity.authorities, "PEM");
    assert!(identity.needs_tls);
}

impl Fixture {
    /// How the pods that were made since the last time recognise gateways.
    fn made(&self) -> Vec<String> {
        let mut server = self.server.lock().expect("not poisoned");
        let made = server.calls.extract_if(.., |(method, path, _)| {
            *method == Method::POST && path.ends_with("/pods")
        });
        let variable = |(_, _, pod): (Method, String, Value)| {
            let variables = pod["spec"]["containers"][0]["env"].clone();
            let variables = variables.as_array().cloned().unwrap_or_default();
            let named = |one: &&Value| one["name"] == "PILOTLIGHT_INSTANCE_IDENTITY";
            let value = variables.iter().find(named).map(|one| one["value"].clone());
            value.and_then(|value| value.as_str().map(str::to_owned))
        };
        made.map(|call| variable(call).expect("it is there"))
            .collect()
    }
}
