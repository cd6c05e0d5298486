//! Both ends of each kind of connection, over sockets, with certificates that a test's own authority signs.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pilotlight_core::identity::{Caller, Mode, Role};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::HandshakeKind;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::rustls;

use super::instance::InstanceIdentity;
use super::*;
use crate::address::Stream;

#[cfg(feature = "server")]
mod public;

const LIMIT: Duration = Duration::from_secs(300);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed").pem();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn material(&self, host: &str) -> Material {
        self.material_until(host, 4_000_000_000)
    }

    /// `until`: the last second, since 1970, in which it is valid.
    fn material_until(&self, host: &str, until: u64) -> Material {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").pem();
        let key = key.serialize_pem();
        let (authority, key) = (self.certificate.as_bytes(), key.as_bytes());
        Material::of_pem(authority, certificate.as_bytes(), key).expect("valid")
    }

    fn identity(&self, mode: Mode, role: Role) -> Identity {
        let identity = Identity::new(mode);
        let material = self.material(role.host());
        identity.renew(material).expect("valid");
        identity
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Connects to a listener for parts, and has both ends exchange a byte.
async fn exchanged(
    from: &Identity,
    to: &Identity,
) -> (io::Result<()>, io::Result<(Accepted, Caller)>) {
    let (listener, address) = listener().await;
    let serves = async {
        // A part that does not speak TLS is asked again without.
        loop {
            let (stream, _) = listener.accept().await?;
            let accepted = to.accept(stream).await;
            let Ok((mut stream, caller)) = accepted else {
                return accepted;
            };
            let mut byte = [0];
            if stream.read_exact(&mut byte).await.is_ok() && byte == *b"a" {
                stream.write_all(b"b").await?;
                stream.flush().await?;
                return Ok((stream, caller));
            }
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await?;
        }
    };
    let calls = async {
        let mut stream = from.connect_gateway(address, LIMIT).await?;
        stream.write_all(b"a").await?;
        stream.flush().await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        Ok(())
    };
    tokio::join!(calls, serves)
}

#[tokio::test]
async fn a_gateway_and_a_controller_know_each_other() {
    let authority = Authority::new();
    let gateway = authority.identity(Mode::Required, Role::Gateway);
    for role in Role::ALL {
        let caller = authority.identity(Mode::Required, role);
        let (called, accepted) = exchanged(&caller, &gateway).await;
        called.expect("both are of the release");
        assert_eq!(accepted.expect("accepted").1, Caller::Proven(role));
    }
}

#[tokio::test]
async fn who_has_no_certificate_of_the_release_is_refused_by_either_end() {
    let (ours, others) = (Authority::new(), Authority::new());
    let gateway = ours.identity(Mode::Required, Role::Gateway);
    let stranger = others.identity(Mode::Required, Role::Gateway);
    for (from, to) in [(&stranger, &gateway), (&gateway, &stranger)] {
        let (called, accepted) = exchanged(from, to).await;
        assert!(called.is_err() && accepted.is_err());
    }
    let plain = Identity::off();
    let (called, accepted) = exchanged(&plain, &gateway).await;
    assert!(called.is_err());
    let refused = accepted.map(|(_, caller)| caller).expect_err("refused");
    assert_eq!(refused.to_string(), "it does not speak TLS");
}

#[tokio::test]
async fn a_controller_is_no_gateway_and_a_certificate_without_a_role_is_nobody() {
    let authority = Authority::new();
    let gateway = authority.identity(Mode::Required, Role::Gateway);
    let controller = authority.identity(Mode::Required, Role::Controller);
    let (called, _) = exchanged(&gateway, &controller).await;
    assert!(called.is_err(), "a controller was taken for a gateway");

    let nobody = Identity::new(Mode::Required);
    nobody
        .renew(authority.material("nobody.pilotlight.internal"))
        .expect("valid");
    let (_, accepted) = exchanged(&nobody, &gateway).await;
    assert!(accepted.is_err());
}

#[tokio::test]
async fn parts_of_an_earlier_release_are_served_while_identity_is_permissive_and_not_when_it_is_required()
 {
    let authority = Authority::new();
    let (earlier, permissive) = (
        Identity::off(),
        authority.identity(Mode::Permissive, Role::Gateway),
    );
    let (called, accepted) = exchanged(&earlier, &permissive).await;
    called.expect("served");
    assert_eq!(accepted.expect("served").1, Caller::Unproven);
    let (called, accepted) = exchanged(&permissive, &earlier).await;
    called.expect("without TLS");
    assert_eq!(accepted.expect("accepted").1, Caller::Unproven);
    let (called, accepted) = exchanged(&permissive, &permissive.clone()).await;
    called.expect("with TLS");
    assert_eq!(accepted.expect("accepted").1, Caller::Proven(Role::Gateway));

    let required = authority.identity(Mode::Required, Role::Gateway);
    let (listener, address) = listener().await;
    let answers = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        assert!(stream.read(&mut [0; 1024]).await.expect("a handshake") > 0);
        let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        stream.write_all(answer).await.expect("sent");
        stream
    };
    let (called, _) = tokio::join!(required.connect_gateway(address, LIMIT), answers);
    let refused = called.expect_err("refused").to_string();
    assert!(refused.contains("it does not speak TLS"), "{refused}");
}

#[tokio::test]
async fn nothing_is_sent_before_there_is_a_certificate() {
    let required = Identity::new(Mode::Required);
    assert!(!required.is_ready() && Identity::new(Mode::Permissive).is_ready());
    let (_listener, address) = listener().await;
    let refused = required.connect_gateway(address, LIMIT).await;
    let refused = refused.expect_err("refused").to_string();
    assert_eq!(refused, "this part has no certificate yet");
    let waiting = async {
        required.ready().await;
        required.is_ready()
    };
    let authority = Authority::new();
    let renewing = async { required.renew(authority.material(Role::Gateway.host())) };
    let (is_ready, renewed) = tokio::join!(waiting, renewing);
    renewed.expect("valid");
    assert!(is_ready);
}

#[tokio::test]
async fn a_renewal_breaks_no_connection_and_a_bad_one_changes_nothing() {
    let (before, after) = (Authority::new(), Authority::new());
    let both = format!("{}{}", before.certificate, after.certificate);
    let with_both = |material: Material| Material {
        authorities: super::part::certificates("ca.crt", both.as_bytes()).expect("valid"),
        ..material
    };
    let (one, two) = (Identity::new(Mode::Required), Identity::new(Mode::Required));
    for identity in [&one, &two] {
        let material = with_both(before.material(Role::Gateway.host()));
        identity.renew(material).expect("valid");
    }
    let (listener, address) = listener().await;
    let accept = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        two.accept(stream).await.expect("accepted").0
    };
    let (client, mut server) = tokio::join!(one.connect_gateway(address, LIMIT), accept);
    let mut client = client.expect("connected");

    // One end has the new certificate first.
    one.renew(with_both(after.material(Role::Gateway.host())))
        .expect("valid");
    client.write_all(b"a").await.expect("open");
    client.flush().await.expect("open");
    let mut byte = [0];
    server.read_exact(&mut byte).await.expect("open");
    for (from, to) in [(&one, &two), (&two, &one)] {
        let (called, _) = exchanged(from, to).await;
        called.expect("both authorities are trusted");
    }

    let other = Authority::new().material(Role::Gateway.host());
    let mixed = Material {
        key: other.key,
        ..with_both(after.material(Role::Gateway.host()))
    };
    assert!(one.renew(mixed).is_err());
    let (called, _) = exchanged(&one, &two).await;
    called.expect("the certificate before is in force");
}

/// Connects to an instance and exchanges a byte.
async fn asked(
    gateway: &Identity,
    instance: &InstanceIdentity,
    name: &str,
) -> io::Result<(Option<ServerKey>, Caller)> {
    let (key, served) = both_ends(gateway, instance, name).await;
    Ok((key?, served?.1))
}

/// The same, with what each end says.
async fn both_ends(
    gateway: &Identity,
    instance: &InstanceIdentity,
    name: &str,
) -> (
    io::Result<Option<ServerKey>>,
    io::Result<(Accepted, Caller)>,
) {
    let (listener, address) = listener().await;
    let serves = async {
        let (stream, _) = listener.accept().await?;
        let (mut stream, caller) = instance.accept(stream).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
        stream.flush().await?;
        Ok::<_, io::Error>((stream, caller))
    };
    let calls = async {
        let connected = gateway.connect_instance(address, LIMIT, name).await;
        let (mut stream, key): (Stream, _) = connected?;
        stream.write_all(b"a").await?;
        stream.flush().await?;
        stream.read_exact(&mut [0]).await?;
        Ok::<_, io::Error>(key)
    };
    tokio::join!(calls, serves)
}

#[tokio::test]
async fn an_instance_shows_the_same_key_on_each_connection_and_another_instance_another() {
    let authority = Authority::new();
    let gateway = authority.identity(Mode::Required, Role::Gateway);
    let [one, two] = [0, 1]
        .map(|_| InstanceIdentity::new(&authority.certificate, true).expect("valid authorities"));
    let (first, caller) = asked(&gateway, &one, "uid-1").await.expect("connected");
    assert_eq!(caller, Caller::Proven(Role::Gateway));
    // The second one resumes the session of the first.
    let (again, caller) = asked(&gateway, &one, "uid-1").await.expect("connected");
    assert_eq!(caller, Caller::Proven(Role::Gateway));
    assert!(first.is_some() && first == again);
    let (other, _) = asked(&gateway, &two, "uid-2").await.expect("connected");
    assert_ne!(first, other);
    // A stranger at the address of the first one cannot resume its session.
    let (other, _) = asked(&gateway, &two, "uid-1").await.expect("connected");
    assert_ne!(first, other);
}

#[tokio::test]
async fn an_instance_serves_gateways_of_its_release_alone() {
    let (ours, others) = (Authority::new(), Authority::new());
    let needing = InstanceIdentity::new(&ours.certificate, true).expect("valid authorities");
    for stranger in [
        others.identity(Mode::Required, Role::Gateway),
        ours.identity(Mode::Required, Role::Controller),
        Identity::off(),
    ] {
        assert!(
            asked(&stranger, &needing, "uid-1").await.is_err(),
            "{stranger:?}"
        );
    }
    let permissive = InstanceIdentity::new(&ours.certificate, false).expect("valid authorities");
    let (key, caller) = asked(&Identity::off(), &permissive, "uid-1")
        .await
        .expect("served");
    assert_eq!((key, caller), (None, Caller::Unproven));
    assert!(InstanceIdentity::new("", true).is_err());
}

fn is_resumed(accepted: &io::Result<(Accepted, Caller)>) -> bool {
    match &accepted.as_ref().expect("accepted").0 {
        Accepted::Left(_) => false,
        Accepted::Right(stream) => {
            stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
        }
    }
}

/// A certificate that ends soon.
struct Ending {
    identity: Identity,
    authority: Vec<CertificateDer<'static>>,
    certificate: CertificateDer<'static>,
}

impl Ending {
    fn new(authority: &Authority, role: Role) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let until = now.expect("after 1970").as_secs() + 5;
        let material = authority.material_until(role.host(), until);
        let (trusted, certificate) = (
            material.authorities.clone(),
            material.certificates[0].clone(),
        );
        let identity = Identity::new(Mode::Required);
        identity.renew(material).expect("valid");
        Ending {
            identity,
            authority: trusted,
            certificate,
        }
    }

    /// Returns when it is not valid any more.
    async fn has_ended(&self) {
        let verifier = super::part::verifier(&self.authority).expect("valid");
        let ended = async {
            let is_valid = || {
                let verified = verifier.verify_client_cert(&self.certificate, &[], UnixTime::now());
                verified.is_ok()
            };
            while is_valid() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::time::timeout(LIMIT, ended).await;
        ended.expect("it ends");
    }
}

const ENDED: &str = "the certificate of its session is not valid any more";

#[tokio::test]
async fn an_instance_serves_a_session_no_longer_than_its_gateways_certificate() {
    let authority = Authority::new();
    let instance = InstanceIdentity::new(&authority.certificate, true).expect("valid authorities");
    let gateway = Ending::new(&authority, Role::Gateway);
    for resumes in [false, true] {
        let (called, accepted) = both_ends(&gateway.identity, &instance, "uid-1").await;
        called.expect("valid");
        assert_eq!(is_resumed(&accepted), resumes);
    }
    gateway.has_ended().await;
    let (called, accepted) = both_ends(&gateway.identity, &instance, "uid-1").await;
    let refused = accepted.map(|(_, caller)| caller).expect_err("refused");
    assert!(refused.to_string().starts_with(ENDED), "{refused}");
    assert!(called.is_err());

    // With its next certificate the same gateway is served again, and its sessions too.
    let next = authority.material(Role::Gateway.host());
    gateway.identity.renew(next).expect("valid");
    for resumes in [false, true] {
        let (called, accepted) = both_ends(&gateway.identity, &instance, "uid-1").await;
        called.expect("valid");
        assert_eq!(is_resumed(&accepted), resumes);
    }
}

#[tokio::test]
async fn parts_resume_no_session_of_a_certificate_that_has_ended() {
    let authority = Authority::new();
    let gateway = authority.identity(Mode::Required, Role::Gateway);
    let caller = Ending::new(&authority, Role::Controller);
    let called = Ending::new(&authority, Role::Gateway);
    for (from, to) in [(&caller.identity, &gateway), (&gateway, &called.identity)] {
        for resumes in [false, true] {
            let (connected, accepted) = exchanged(from, to).await;
            connected.expect("valid");
            assert_eq!(is_resumed(&accepted), resumes);
        }
    }

    caller.has_ended().await;
    let (connected, accepted) = exchanged(&caller.identity, &gateway).await;
    let refused = accepted.map(|(_, caller)| caller).expect_err("refused");
    assert!(refused.to_string().starts_with(ENDED), "{refused}");
    assert!(connected.is_err());

    called.has_ended().await;
    let (listener, address) = listener().await;
    let accepting = async {
        let (stream, _) = listener.accept().await?;
        called.identity.accept(stream).await
    };
    let (connected, accepted) = tokio::join!(gateway.connect_gateway(address, LIMIT), accepting);
    assert!(is_resumed(&accepted));
    let refused = connected.map(drop).expect_err("refused").to_string();
    assert!(refused.starts_with(ENDED), "{refused}");
}
