//! Manifests that are valid: what they hold, what is filled in, and that writing them back
//! changes nothing.
//!
//! Feeds `read` with text; the refused ones are in `refused_manifests`.

use std::path::Path;
use std::time::Duration;

use pilotlight_api::{
    BetweenEvents, Code, Destination, EnvironmentSource, ErrorDetail, Function, KeyPrefix,
    LogFormat, LogLevel, ObjectName, PodSettings, RecursiveLoop, TaintEffect, TolerationOperator,
    read,
};

fn only(text: &str) -> Function {
    let mut manifests = read(Path::new("f.yaml"), text).expect("valid");
    assert_eq!(manifests.len(), 1);
    manifests.remove(0).function
}

const SMALLEST: &str = "\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata:
  name: hello
spec:
  runtime: python3.11
  code:
    path: ./hello
";

const FULLEST: &str = r##"
kind: Function
apiVersion: pilotlight.dev/v1alpha1
metadata:
  name: "5"
  namespace: shop
  labels: { team: orders }
  annotations: { note: "yes" }
spec:
  runtime: custom
  handler: app.handler
  description: "Says hello: to all"
  memory: 10240
  timeout: 900
  environment:
    NUMBER: "5"
    WORD: "no"
    EMPTY: ""
    LINES: |
      a: 1
      # b
    _: "~"
  code:
    inline:
      lambda_function.py: |
        def lambda_handler(event, context):
            return event  # as it came
      lib/data.json: "{}"
  ephemeralStorage: 512
  concurrency: { reserved: 0, queue: 0 }
  keepAlive: 0
  logging: { format: JSON, enabled: false, level: WARN, retention: 14 }
  errors: Sanitized
  betweenEvents: Freeze
  recursiveLoop: Allow
  async:
    maxAge: 60
    retries: 0
    onSuccess: { nats: { url: "tls://nats.example", subject: orders.done, secretRef: { name: nats } } }
    onFailure: { s3: { bucket: records, prefix: shop/, endpoint: "https://s3.example:9000", region: eu-west-1 } }
  environmentFrom:
    - secretRef: { name: shop.credentials }
    - configMapRef: { name: settings }
  pod:
    serviceAccount: orders
    imagePullSecrets: [{ name: registry }]
    nodeSelector: { kubernetes.io/arch: amd64, pool: "" }
    tolerations:
      - { operator: Exists }
      - { key: example.com/gpu, effect: NoExecute, tolerationSeconds: 60 }
    runtimeClassName: gvisor
"##;

#[test]
fn absent_fields_have_their_documented_defaults() {
    let spec = only(SMALLEST).spec;
    assert_eq!((spec.runtime.as_str(), spec.handler), ("python3.11", None));
    assert_eq!(spec.memory.get(), 128);
    assert_eq!(spec.timeout.duration(), Duration::from_secs(3));
    assert_eq!(spec.ephemeral_storage.get(), 512);
    assert_eq!(spec.keep_alive.duration(), Duration::from_secs(600));
    assert_eq!(
        (spec.concurrency.reserved, spec.concurrency.queue.get()),
        (None, 100)
    );
    assert_eq!(
        (spec.logging.format, spec.logging.enabled),
        (LogFormat::Text, true)
    );
    assert_eq!(spec.errors, ErrorDetail::Full);
    assert_eq!(spec.between_events, BetweenEvents::Run);
    assert_eq!(spec.recursive_loop, RecursiveLoop::Terminate);
    assert!(spec.environment.is_empty() && spec.description.is_none());
    assert!(spec.environment_from.is_empty() && spec.pod == PodSettings::default());
}

#[test]
fn every_field_holds_what_was_written() {
    let function = only(FULLEST);
    assert_eq!(function.metadata.name.as_str(), "5");
    assert_eq!(function.metadata.namespace.expect("given").as_str(), "shop");
    assert_eq!(function.metadata.labels["team"], "orders");
    assert_eq!(function.metadata.annotations["note"], "yes");
    let spec = function.spec;
    assert_eq!(spec.handler.expect("given").as_str(), "app.handler");
    assert_eq!(
        spec.description.expect("given").as_str(),
        "Says hello: to all"
    );
    assert_eq!(
        (spec.memory.get(), spec.timeout.get(), spec.keep_alive.get()),
        (10240, 900, 0)
    );
    assert_eq!(spec.concurrency.reserved.expect("given").get(), 0);
    assert_eq!(spec.concurrency.queue.get(), 0);
    assert_eq!(
        (spec.logging.format, spec.logging.enabled),
        (LogFormat::Json, false)
    );
    assert_eq!(spec.logging.level, Some(LogLevel::Warn));
    assert_eq!(spec.logging.retention.map(|days| days.get()), Some(14));
    assert_eq!(spec.errors, ErrorDetail::Sanitized);
    assert_eq!(spec.between_events, BetweenEvents::Freeze);
    assert_eq!(spec.recursive_loop, RecursiveLoop::Allow);
    let destinations: Vec<_> = spec.asynchronous.destinations().collect();
    let [("onSuccess", nats), ("onFailure", Destination::S3(s3))] = destinations[..] else {
        panic!("{destinations:?}");
    };
    assert_eq!((nats.form(), nats.secret()), ("nats", Some("nats")));
    let prefix = s3.prefix.as_ref().map(KeyPrefix::as_str);
    assert_eq!((s3.bucket.as_str(), prefix), ("records", Some("shop/")));
    let variables = spec
        .environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let expected = [
        ("EMPTY", ""),
        ("LINES", "a: 1\n# b\n"),
        ("NUMBER", "5"),
        ("WORD", "no"),
        ("_", "~"),
    ];
    assert_eq!(variables.collect::<Vec<_>>(), expected);
    let sources = spec.environment_from.iter().map(|source| match source {
        EnvironmentSource::Secret(secret) => ("secret", secret.name.as_str()),
        EnvironmentSource::ConfigMap(map) => ("config map", map.name.as_str()),
    });
    assert_eq!(
        sources.collect::<Vec<_>>(),
        [("secret", "shop.credentials"), ("config map", "settings")]
    );
    let pod = &spec.pod;
    assert_eq!(
        pod.service_account.as_ref().map(ObjectName::as_str),
        Some("orders")
    );
    assert_eq!(pod.image_pull_secrets[0].name.as_str(), "registry");
    assert_eq!(pod.node_selector.len(), 2);
    let every = pod.tolerations[0].fields();
    assert!(every.operator == TolerationOperator::Exists && every.key.is_none());
    let gpu = pod.tolerations[1].fields();
    assert_eq!(gpu.operator, TolerationOperator::Equal);
    assert_eq!(gpu.effect, Some(TaintEffect::NoExecute));
    assert_eq!(
        gpu.toleration_seconds.map(|seconds| seconds.get()),
        Some(60)
    );
    let Code::Inline(files) = spec.code else {
        panic!("inline code")
    };
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text))
        .collect();
    let source = "def lambda_handler(event, context):\n    return event  # as it came\n";
    assert_eq!(
        files,
        [("lambda_function.py", source), ("lib/data.json", "{}")]
    );
}

#[test]
fn a_function_written_back_is_read_as_the_same() {
    let sha256 = "0123456789abcdef".repeat(4);
    let archive = format!("archive: {{url: \"https://a/b.zip\", sha256: \"{sha256}\"}}");
    let codes = [
        &archive,
        "configMap: a.b-c",
        "image: registry:5000/a@sha256:0",
        "path: ../a b",
    ];
    let texts = codes.map(|code| SMALLEST.replace("path: ./hello", code));
    for text in texts.iter().map(String::as_str).chain([SMALLEST, FULLEST]) {
        let function = only(text);
        let written = serde_saphyr::to_string(&function).expect("every function can be written");
        assert_eq!(only(&written), function, "{written}");
    }
}

#[test]
fn empty_documents_are_skipped_and_the_others_keep_their_order_and_place() {
    let second = SMALLEST.replace("hello", "second");
    let text = format!("---\n# none\n---\n{SMALLEST}---\n---\n{second}...\n");
    let manifests = read(Path::new("dir/f.yaml"), &text).expect("valid");
    let found: Vec<_> = manifests
        .iter()
        .map(|m| {
            (
                m.function.metadata.name.as_str(),
                m.file.to_str(),
                m.line,
                m.column,
            )
        })
        .collect();
    let file = Some("dir/f.yaml");
    assert_eq!(found, [("hello", file, 7, 9), ("second", file, 17, 9)]);
    assert_eq!(read(Path::new("f.yaml"), "# nothing\n"), Ok(vec![]));
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_change_nothing() {
    let text = format!("\u{feff}{}", SMALLEST.replace('\n', "\r\n"));
    assert_eq!(only(&text), only(SMALLEST));
}

#[test]
fn anchors_and_merge_keys_stand_for_what_they_name() {
    let text = SMALLEST
        .replace(
            "metadata:\n",
            "metadata:\n  labels: &own {team: orders}\n  annotations: *own\n",
        )
        .replace("  name: hello\n", "  <<: {name: hello}\n");
    let metadata = only(&text).metadata;
    assert_eq!(
        (metadata.name.as_str(), &metadata.labels),
        ("hello", &metadata.annotations)
    );
    assert_eq!(metadata.annotations["team"], "orders");
}
