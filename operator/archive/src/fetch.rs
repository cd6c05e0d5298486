//! Fetches an archive, and compares it with the manifest's SHA-256.
//!
//! A gateway fetches what the authors of Functions name, so a rule (`core::address_rule`) says which addresses it may
//! reach. Names are resolved once for each connection, redirects included; the connection goes to an address that
//! passed. Credentials go to the server of the first address alone (`core::credentials`). Local mode fetches without a
//! rule, since the author owns the machine.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pilotlight_core::address_rule::AddressRule;
use pilotlight_core::credentials::{Authorization, Credentials};
use pilotlight_core::instance::parts::Hasher;
use pilotlight_core::redirect::{self, REDIRECTS_MAX, Server};
use pilotlight_core::shown_url::ShownUrl;
use ureq::config::Config;
use ureq::http::{Response, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Proxy};

use crate::limits::UNPACKED_LIMIT;

const FETCH_LIMIT: Duration = Duration::from_secs(300);

/// How archives are fetched.
#[derive(Clone, Debug)]
pub enum Fetcher {
    /// As the machine reaches them, with the proxies of the environment.
    Unrestricted,
    /// From addresses that the rule allows. Errors say neither what answered nor what it answered, and proxies of the
    /// environment are ignored.
    Within {
        rule: AddressRule,
        /// Resolves the names in place of this machine. It decides which of their addresses may be reached; the rule
        /// decides about addresses in URLs.
        proxy: Option<FetchProxy>,
    },
}

/// The address of a proxy.
#[derive(Clone, Debug)]
pub struct FetchProxy(Proxy);

/// A text that is no address of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the address of a proxy, such as http://proxy:3128")]
pub struct InvalidProxy;

impl std::str::FromStr for FetchProxy {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        // A text without a scheme is no URL.
        let is_server = Server::of(text).is_some();
        let proxy = Proxy::new(text).map_err(|_| InvalidProxy);
        proxy.and_then(|proxy| is_server.then_some(Self(proxy)).ok_or(InvalidProxy))
    }
}

/// Leaves out addresses that the rule refuses.
#[derive(Debug)]
struct Checked {
    rule: AddressRule,
    names: DefaultResolver,
}

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        let mut allowed = self.empty();
        for address in found
            .iter()
            .filter(|address| self.rule.allows(address.ip()))
        {
            allowed.push(*address);
        }
        match allowed.is_empty() {
            true => Err(ureq::Error::HostNotFound),
            false => Ok(allowed),
        }
    }
}

impl Fetcher {
    /// Fetches an archive into a temporary file in `directory`.
    ///
    /// # Errors
    /// Name the field of the manifest's `archive`: `url`, `sha256` or `secretRef`.
    pub fn fetch(
        &self,
        url: &str,
        expected: &str,
        directory: &Path,
        credentials: Option<&Credentials>,
    ) -> Result<File> {
        let shown = ShownUrl(url);
        ensure!(
            credentials.is_none_or(|credentials| credentials.are_for(url)),
            "secretRef: its key `hosts` lacks the server of {shown}: add it there if it may get the credentials"
        );
        let answer = self.answer(url, credentials)?;
        let tells_digest = matches!(self, Fetcher::Unrestricted);
        keep(answer, shown, expected, directory, tells_digest)
    }

    /// Follows redirects by itself, so that `core` decides where credentials go.
    fn answer(&self, url: &str, credentials: Option<&Credentials>) -> Result<Response<Body>> {
        let shown = ShownUrl(url);
        let (agent, deadline) = (self.agent(), Instant::now() + FETCH_LIMIT);
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let server = Server::of(&at);
            let server =
                server.with_context(|| format!("url: {shown} is no address of a web server"))?;
            let is_refused = match (self, server.ip()) {
                (Fetcher::Within { rule, .. }, Some(ip)) => !rule.allows(ip),
                _ => false,
            };
            if is_refused {
                return Err(self.cannot(shown, ureq::Error::HostNotFound));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut request = agent.get(&at);
            if let Some(authorization) = credentials.and_then(|all| all.to(url, &at)) {
                request = request.header(header::AUTHORIZATION, value(authorization));
            }
            let request = request.config().timeout_global(Some(left)).build();
            let answer = request.call().map_err(|error| self.cannot(shown, error))?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let location = answer.headers().get(header::LOCATION);
            let location = location.and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| redirect::target(&at, location));
            at = next.with_context(|| {
                format!("url: {shown} redirects to what is no address of a web server")
            })?;
        }
        bail!("url: {shown} redirects more than {REDIRECTS_MAX} times")
    }

    fn cannot(&self, shown: ShownUrl<'_>, error: ureq::Error) -> Error {
        match (error, self) {
            // Its text has the whole address.
            (ureq::Error::BadUri(_), _) => anyhow!("url: {shown} is no address of a web server"),
            (_, Fetcher::Within { .. }) => anyhow!(
                "url: {shown} cannot be fetched: check that the gateways reach it, that it answers 200, with the \
                 credentials of secretRef if there is one, and that no address on the way is one of those that are \
                 refused (--fetch-allow)"
            ),
            (error, Fetcher::Unrestricted) => {
                Error::new(error).context(format!("url: {shown} cannot be fetched"))
            }
        }
    }

    fn agent(&self) -> Agent {
        // The machine's own certificates, since a company may sign its servers itself.
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder().tls_config(tls).max_redirects(0);
        match self {
            Fetcher::Unrestricted => config.build().new_agent(),
            Fetcher::Within {
                proxy: Some(proxy), ..
            } => config.proxy(Some(proxy.0.clone())).build().new_agent(),
            Fetcher::Within { rule, proxy: None } => {
                // A proxy of the environment would resolve the names itself.
                let config = config.proxy(None).build();
                let (rule, names) = (rule.clone(), DefaultResolver::default());
                Agent::with_parts(config, DefaultConnector::default(), Checked { rule, names })
            }
        }
    }
}

fn value(authorization: Authorization<'_>) -> String {
    match authorization {
        Authorization::Basic { username, password } => {
            let pair = BASE64_STANDARD.encode(format!("{username}:{password}"));
            format!("Basic {pair}")
        }
        Authorization::Bearer { token } => format!("Bearer {token}"),
    }
}

/// Writes the answer to a file, and compares it with the digest.
fn keep(
    answer: Response<Body>,
    shown: ShownUrl<'_>,
    expected: &str,
    directory: &Path,
    tells_digest: bool,
) -> Result<File> {
    let mut body = answer.into_body().into_reader().take(UNPACKED_LIMIT + 1);
    let mut file = tempfile::tempfile_in(directory).context("no temporary file")?;
    let mut hasher = Hasher::default();
    let mut buffer = [0; 64 * 1024];
    let mut size = 0;
    loop {
        let read = body
            .read(&mut buffer)
            .with_context(|| format!("url: {shown} broke off"))?;
        if read == 0 {
            break;
        }
        size += read as u64;
        ensure!(
            size <= UNPACKED_LIMIT,
            "url: {shown} is larger than {UNPACKED_LIMIT} bytes"
        );
        hasher.take(&buffer[..read]);
        file.write_all(&buffer[..read])?;
    }
    let got = hasher.digest().to_string();
    ensure!(
        got == expected || tells_digest,
        "sha256: {shown} has another one than {expected}"
    );
    ensure!(
        got == expected,
        "sha256: {shown} has {got}, not {expected}; if the change is meant, put the new one there"
    );
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::TcpListener;
    use std::process::Command;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;

    /// Answers each request with this; counts them. The thread ends with the test's process.
    fn serve(host: &str, answer: String) -> (String, Arc<AtomicUsize>) {
        let (at, asked, _) = serve_and_tell(host, answer);
        (at, asked)
    }

    /// The same, with the heads of the requests.
    fn serve_and_tell(
        host: &str,
        answer: String,
    ) -> (String, Arc<AtomicUsize>, mpsc::Receiver<String>) {
        let listener = TcpListener::bind((host, 0)).expect("a port");
        let at = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let (tell, heads) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                counted.fetch_add(1, Ordering::Relaxed);
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.extend(byte);
                }
                // Only some tests listen.
                let _ = tell.send(String::from_utf8(head).expect("a head"));
                stream.write_all(answer.as_bytes()).expect("read");
            }
        });
        (at, asked, heads)
    }

    fn rule(allow: &[&str]) -> AddressRule {
        let allow = allow.iter().map(|range| range.parse().expect("a range"));
        AddressRule {
            allow: allow.collect(),
            deny: Vec::new(),
        }
    }

    fn within(rule: &AddressRule) -> Fetcher {
        let rule = rule.clone();
        Fetcher::Within { rule, proxy: None }
    }

    fn fetched(url: &str, rule: &AddressRule) -> Result<File> {
        within(rule).fetch(url, &"0".repeat(64), &std::env::temp_dir(), None)
    }

    const SECRET: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nsecret";

    #[test]
    fn an_address_that_the_rule_refuses_is_never_connected_to_after_a_redirect_either() {
        let (hidden, asked) = serve("127.0.0.2", SECRET.to_owned());
        let error = fetched(&hidden, &rule(&["127.0.0.1"])).expect_err("refused");
        assert!(
            error.to_string().starts_with("url: http://127.0.0.2"),
            "{error:#}"
        );
        let (open, redirected) = serve("127.0.0.1", redirect_to(&format!("{hidden}/x")));
        let error = fetched(&open, &rule(&["127.0.0.1"])).expect_err("refused");
        assert!(
            format!("{error:#}").contains("cannot be fetched"),
            "{error:#}"
        );
        assert_eq!(redirected.load(Ordering::Relaxed), 1);
        assert_eq!(asked.load(Ordering::Relaxed), 0, "it was reached");
        // The same way leads there if both are allowed.
        fetched(&open, &rule(&["127.0.0.0/8"])).expect_err("another digest");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    fn redirect_to(place: &str) -> String {
        format!(
            "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n"
        )
    }

    fn credentials(hosts: &str) -> Credentials {
        let data = [
            ("hosts", hosts),
            ("username", "me"),
            ("password", "hunter2"),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        Credentials::read(&BTreeMap::from(data)).expect("credentials")
    }

    #[test]
    fn credentials_reach_their_server_and_no_other_one_after_a_redirect() {
        let (other, _, elsewhere) = serve_and_tell("127.0.0.1", SECRET.to_owned());
        let (first, _, heads) = serve_and_tell("127.0.0.1", redirect_to(&format!("{other}/b")));
        // Both servers may get them, but the first one must not choose the request.
        let credentials = credentials(&format!("{first}, {other}"));
        let fetcher = within(&rule(&["127.0.0.1"]));
        let fetch = |url: &str| {
            let directory = std::env::temp_dir();
            fetcher.fetch(url, &"0".repeat(64), &directory, Some(&credentials))
        };
        let error = fetch(&format!("{first}/a")).expect_err("another digest");
        assert!(error.to_string().starts_with("sha256: "), "{error:#}");
        let expected = "authorization: Basic bWU6aHVudGVyMg==\r\n";
        let head = heads.recv().expect("a request");
        assert!(head.contains(expected), "{head}");
        let head = elsewhere.recv().expect("a request");
        assert!(
            head.starts_with("GET /b ") && !head.to_lowercase().contains("authorization"),
            "{head}"
        );
        fetch(&format!("{other}/b")).expect_err("another digest");
        assert!(elsewhere.recv().expect("a request").contains(expected));

        let (stranger, asked) = serve("127.0.0.1", SECRET.to_owned());
        let error = fetch(&stranger).expect_err("refused");
        assert!(
            error
                .to_string()
                .starts_with("secretRef: its key `hosts` lacks"),
            "{error:#}"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_redirect_within_the_server_keeps_the_credentials_and_a_loop_ends() {
        let (at, asked, heads) = serve_and_tell("127.0.0.1", redirect_to("/next"));
        let fetcher = within(&rule(&["127.0.0.1"]));
        let credentials = credentials(&at);
        let fetched = fetcher.fetch(
            &format!("{at}/first"),
            &"0".repeat(64),
            &std::env::temp_dir(),
            Some(&credentials),
        );
        let error = fetched.expect_err("a loop");
        assert!(
            error.to_string().ends_with("redirects more than 10 times"),
            "{error:#}"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 11);
        for path in ["/first", "/next"] {
            let head = heads.recv().expect("a request");
            assert!(head.starts_with(&format!("GET {path} ")), "{head}");
            assert!(head.contains("authorization: Basic "), "{head}");
        }
    }

    #[test]
    fn a_proxy_resolves_names_and_the_rule_holds_for_addresses() {
        let (at, asked, heads) = serve_and_tell("127.0.0.1", "HTTP/1.1 502 No\r\n\r\n".to_owned());
        let fetcher = Fetcher::Within {
            rule: AddressRule::default(),
            proxy: Some(at.parse().expect("a proxy")),
        };
        let fetch = |url| fetcher.fetch(url, &"0".repeat(64), &std::env::temp_dir(), None);
        fetch("http://archives.invalid/a.zip").expect_err("the proxy refuses");
        let head = heads.recv().expect("a request");
        assert!(head.contains("archives.invalid"), "{head}");
        fetch("http://127.0.0.1:9/a.zip").expect_err("the rule refuses");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        for text in ["proxy:3128", "socks5://proxy", "http://", ""] {
            assert!(text.parse::<FetchProxy>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_says_neither_status_nor_digest_of_what_was_found() {
        let forbidden = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        for (answer, hidden) in [(forbidden, "403"), (SECRET, digest)] {
            let (at, _) = serve("127.0.0.1", answer.to_owned());
            let url = at.replace("http://", "http://me:hunter2@") + "/a.zip?sig=5ecret";
            let error = fetched(&url, &rule(&["127.0.0.1"])).expect_err("refused");
            let text = format!("{error:#}");
            for secret in [hidden, "hunter2", "5ecret"] {
                assert!(!text.contains(secret), "{text}");
            }
            // The developer of a local gateway gets all but the secrets.
            let directory = std::env::temp_dir();
            let local = Fetcher::Unrestricted.fetch(&url, &"0".repeat(64), &directory, None);
            let text = format!("{:#}", local.expect_err("refused"));
            assert!(text.contains(hidden) && !text.contains("hunter2"), "{text}");
        }
    }

    /// Runs itself again, since the variables of a process are those of all its tests.
    #[test]
    fn a_proxy_of_the_environment_is_asked_in_local_mode_alone() {
        const TARGET: &str = "PILOTLIGHT_TEST_TARGET";
        const BY_RULE: &str = "PILOTLIGHT_TEST_BY_RULE";
        if let Ok(target) = std::env::var(TARGET) {
            let fetcher = match std::env::var(BY_RULE) {
                Ok(_) => within(&rule(&["127.0.0.1"])),
                Err(_) => Fetcher::Unrestricted,
            };
            let (digest, folder) = ("0".repeat(64), std::env::temp_dir());
            let fetched = fetcher.fetch(&target, &digest, &folder, None);
            fetched.expect_err("another digest");
            return;
        }
        for by_rule in [false, true] {
            let (proxy, through_proxy) = serve("127.0.0.1", SECRET.to_owned());
            let (target, directly) = serve("127.0.0.1", SECRET.to_owned());
            let mut again = Command::new(std::env::current_exe().expect("this program"));
            let name = "fetch::tests::a_proxy_of_the_environment_is_asked_in_local_mode_alone";
            again.args(["--exact", name]).env(TARGET, target);
            for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
                again.env(name, &proxy);
            }
            again.env_remove("NO_PROXY").env_remove("no_proxy");
            if by_rule {
                again.env(BY_RULE, "");
            }
            let done = again.output().expect("it runs");
            assert!(done.status.success(), "{done:?}");
            let asked = [through_proxy, directly].map(|count| count.load(Ordering::Relaxed));
            assert_eq!(asked, if by_rule { [0, 1] } else { [1, 0] });
        }
    }
}
