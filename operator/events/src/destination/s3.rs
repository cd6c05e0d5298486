//! A bucket of S3, or of a server that speaks its protocol: an object for each record.
//!
//! Addresses have the bucket in the path, which all such servers understand. Requests are signed with Signature Version 4.

use std::time::SystemTime;

use ::http::{HeaderValue, Request, header};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use jiff::Timestamp;
use pilotlight_core::shown_url::ShownUrl;
use pilotlight_net::guarded::GuardedClient;

use super::outgoing::{ANSWER_LIMIT, Outgoing, Undelivered};
use super::receiver::S3Receiver;
use super::verdict;

pub(super) async fn send(
    client: &GuardedClient,
    to: &S3Receiver,
    outgoing: &Outgoing,
) -> Result<(), Undelivered> {
    let request = request(to, outgoing, SystemTime::now())?;
    let answer = client.exchange(request, to.authorities.as_ref(), ANSWER_LIMIT);
    let answer = answer
        .await
        .map_err(|error| Undelivered::Later(error.to_string()))?;
    let shown = format!("the bucket {} of {}", to.bucket, ShownUrl(&to.endpoint));
    let code = verdict::s3_code(answer.body());
    verdict::of_code(&shown, answer.status().as_u16(), code).map_or(Ok(()), Err)
}

pub(super) fn request(
    to: &S3Receiver,
    outgoing: &Outgoing,
    now: SystemTime,
) -> Result<Request<Bytes>, Undelivered> {
    let never = |why: &str| Undelivered::Never(format!("the bucket {}: {why}", to.bucket));
    let url = format!(
        "{}/{}/{}",
        to.endpoint,
        to.bucket,
        key(&to.prefix, outgoing)
    );
    let request = Request::put(&url).body(outgoing.record.clone());
    let mut request = request.map_err(|_| never("its server has no usable address"))?;
    let headers = request.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let host = host.and_then(|host| HeaderValue::try_from(host).ok());
    let host = host.ok_or_else(|| never("its server has no usable address"))?;
    request.headers_mut().insert(header::HOST, host);
    let Some(keys) = &to.keys else {
        return Ok(request);
    };
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    // As S3 has it, unlike all other services.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let identity = keys.credentials().into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(&to.region)
        .name("s3")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|_| never("requests cannot be signed"))?
        .into();
    let names = request.headers().iter();
    let shown = names.map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()));
    let signable = SignableRequest::new("PUT", &url, shown, SignableBody::Bytes(&outgoing.record));
    let signed = signable.and_then(|signable| sign(signable, &params));
    let (instructions, _) = signed
        .map_err(|_| never("requests cannot be signed"))?
        .into_parts();
    instructions.apply_to_request_http1x(&mut request);
    Ok(request)
}

/// The name of the object, as the original platform makes it. The last part is the request id in the place of a random one,
/// so that a second try replaces the object of the first one.
pub(super) fn key(prefix: &str, outgoing: &Outgoing) -> String {
    let second = outgoing.at.0.cast_signed() / 1000;
    let time = Timestamp::from_second(second)
        .unwrap_or_default()
        .to_string();
    let (day, time) = time
        .trim_end_matches('Z')
        .split_once('T')
        .unwrap_or_default();
    let (folders, time) = (day.replace('-', "/"), time.replace(':', "."));
    let (name, request_id) = (&outgoing.function.name, &outgoing.request_id);
    format!("{prefix}aws/lambda/async/{name}/{folders}/{day}T{time}-{request_id}")
}
