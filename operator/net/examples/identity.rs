//! Both ends of a connection between a gateway and an instance, for `tests/bench/identity.py` to count what identity
//! costs each of them.
//!
//! `serve FOLDER CONNECTIONS [--tls]` makes the certificates, says where it listens, and serves that number of connections;
//! `call FOLDER ADDRESS CONNECTIONS CALLS [--tls]` opens one after the other, and sends CALLS requests over each.

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pilotlight_core::identity::{Mode, Role};
use pilotlight_net::client::HttpClient;
use pilotlight_net::framing::Framed;
use pilotlight_net::identity::instance::InstanceIdentity;
use pilotlight_net::identity::{Accepted, Identity, Material};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(300);
const EVENT: &[u8] = br#"{"answer":7}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let has_tls = arguments.last().is_some_and(|last| last == "--tls");
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match words[1..] {
            ["serve", folder, connections, ..] => {
                serve(Path::new(folder), connections.parse()?, has_tls).await
            }
            ["call", folder, address, connections, calls, ..] => {
                let identity = match has_tls {
                    true => gateway(Path::new(folder))?,
                    false => Identity::off(),
                };
                for _ in 0..connections.parse()? {
                    call(&identity, address, calls.parse()?).await?;
                }
                Ok(())
            }
            _ => Err("see the text at the top of this program".into()),
        }
    })
}

async fn serve(folder: &Path, connections: usize, has_tls: bool) -> Result<(), Box<dyn Error>> {
    let identity = match has_tls {
        true => Some(InstanceIdentity::new(&certificates(folder)?, true)?),
        false => None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    fs::write(folder.join("address"), listener.local_addr()?.to_string())?;
    for _ in 0..connections {
        let (stream, _) = listener.accept().await?;
        serve_one(stream, identity.as_ref()).await?;
    }
    Ok(())
}

async fn serve_one(
    stream: TcpStream,
    identity: Option<&InstanceIdentity>,
) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    let stream = match identity {
        Some(identity) => identity.accept(stream).await?.0,
        None => Accepted::Left(stream),
    };
    let service = service_fn(|request: Request<Incoming>| async {
        let event = request.into_body().collect().await;
        let event = event.map(http_body_util::Collected::to_bytes);
        let mut response = Response::new(Full::new(event.unwrap_or_default()));
        let head = response.headers_mut();
        head.insert("pilotlight-outcome", "answer".parse().expect("a value"));
        head.insert("pilotlight-status", "7 ready".parse().expect("a value"));
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Framed::new(stream, ())), service);
    // The caller ends it.
    let _ = connection.await;
    Ok(())
}

async fn call(identity: &Identity, address: &str, calls: usize) -> Result<(), Box<dyn Error>> {
    let connected = identity.connect_instance(address.parse()?, LIMIT, "uid-1");
    let mut client = HttpClient::over(connected.await?.0).await?;
    for _ in 0..calls {
        let request = Request::post("/lease")
            .header("host", address)
            .header(
                "pilotlight-request-id",
                "4f1d7a5c-3c1e-4a1f-9d6e-0c2b7f1d2a3b",
            )
            .header(
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:us-east-1:000000000000:function:hello",
            )
            .body(Full::new(Bytes::from_static(EVENT)))?;
        let response = client.send(request).await?;
        let body = client.during(response.into_body().collect()).await?;
        assert_eq!(body.to_bytes(), EVENT);
    }
    Ok(())
}

/// Signs a gateway's certificate, and returns the certificate of the authority.
fn certificates(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let params = CertificateParams::new([Role::Gateway.host().to_owned()])?;
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.crt"), &authority)?;
    fs::write(
        folder.join("tls.crt"),
        params.signed_by(&key, &issuer)?.pem(),
    )?;
    fs::write(folder.join("tls.key"), key.serialize_pem())?;
    Ok(authority)
}

fn gateway(folder: &Path) -> Result<Identity, Box<dyn Error>> {
    let [authority, certificate, key] =
        ["ca.crt", "tls.crt", "tls.key"].map(|name| fs::read(folder.join(name)));
    let identity = Identity::new(Mode::Required);
    identity.renew(Material::of_pem(&authority?, &certificate?, &key?)?)?;
    Ok(identity)
}
