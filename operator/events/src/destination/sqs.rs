//! A queue of SQS, or of a server that speaks its JSON protocol: a message for each record, with the trace as SQS keeps it.
//!
//! The SDK makes and reads the messages. They go through this crate's client, so that the rule about addresses holds and
//! answers have a bound. The server is that of the queue's own address.

use ::http::Uri;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{
    BehaviorVersion, Config, HttpClient, IdentityCache, Region, RuntimeComponents,
    StalledStreamProtectionConfig,
};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{MessageSystemAttributeNameForSends, MessageSystemAttributeValue};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use pilotlight_core::shown_url::ShownUrl;
use pilotlight_net::guarded::GuardedClient;

use super::outgoing::{ANSWER_LIMIT, Outgoing, Undelivered};
use super::receiver::SqsReceiver;
use super::verdict;

pub(super) async fn send(
    client: &GuardedClient,
    to: &SqsReceiver,
    outgoing: &Outgoing,
) -> Result<(), Undelivered> {
    let shown = ShownUrl(&to.queue_url).to_string();
    let never = |why: &str| Undelivered::Never(format!("{shown}: {why}"));
    let endpoint = endpoint(&to.queue_url).ok_or_else(|| never("it is no address of a queue"))?;
    let body = std::str::from_utf8(&outgoing.record);
    let body = body.map_err(|_| never("the record is no text"))?;
    let sending = Client::from_conf(config(client, to, endpoint))
        .send_message()
        .queue_url(&to.queue_url)
        .message_body(body)
        .set_message_system_attributes(trace(&outgoing.trace));
    let Err(error) = sending.send().await else {
        return Ok(());
    };
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let code = error.as_service_error().and_then(|error| error.code());
    Err(match (&error, status) {
        // The way, and not the queue.
        (SdkError::DispatchFailure(failure), _) => {
            let why = failure.as_connector_error().map(cause);
            Undelivered::Later(why.unwrap_or_else(|| format!("{shown} cannot be reached")))
        }
        (_, Some(status)) => verdict::of_code(&shown, status, code)
            .unwrap_or_else(|| Undelivered::Later(format!("{shown} gave no answer of a queue"))),
        _ => never("a message cannot be made of the record"),
    })
}

fn trace(
    header: &str,
) -> Option<
    std::collections::HashMap<MessageSystemAttributeNameForSends, MessageSystemAttributeValue>,
> {
    let value = MessageSystemAttributeValue::builder()
        .data_type("String")
        .string_value(header)
        .build()
        .ok()?;
    let name = MessageSystemAttributeNameForSends::AwsTraceHeader;
    (!header.is_empty()).then(|| [(name, value)].into())
}

fn config(client: &GuardedClient, to: &SqsReceiver, endpoint: String) -> Config {
    let web = SdkWeb {
        client: client.clone(),
        authorities: to.authorities.clone(),
    };
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(web)
        .endpoint_url(endpoint)
        .region(Region::new(to.region.clone()))
        // Whoever has the event tries again, and `Receivers` bounds the time.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .identity_cache(IdentityCache::no_cache());
    match &to.keys {
        Some(keys) => config.credentials_provider(keys.credentials()).build(),
        None => config.allow_no_auth().build(),
    }
}

/// The server of the queue.
pub(super) fn endpoint(queue_url: &str) -> Option<String> {
    let uri: Uri = queue_url.parse().ok()?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let authority = uri.authority()?;
    Some(format!("{scheme}://{authority}"))
}

/// The words of this crate's client.
fn cause(error: &ConnectorError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

/// This crate's client, for the SDK.
#[derive(Clone, Debug)]
struct SdkWeb {
    client: GuardedClient,
    authorities: Option<Bytes>,
}

impl HttpClient for SdkWeb {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for SdkWeb {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let web = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x();
            let request = request.map_err(|error| ConnectorError::user(error.into()))?;
            let request =
                request.map(|body| Bytes::copy_from_slice(body.bytes().unwrap_or_default()));
            let answer = web
                .client
                .exchange(request, web.authorities.as_ref(), ANSWER_LIMIT);
            let answer = answer
                .await
                .map_err(|error| ConnectorError::io(error.into()))?;
            let answer = HttpResponse::try_from(answer.map(SdkBody::from));
            answer.map_err(|error| ConnectorError::io(error.into()))
        })
    }
}
