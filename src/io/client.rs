//! A client of our own API, for the command line: one request, one answer.
//!
//! By the Unix socket, by TCP, or by TLS with the authorities that browsers trust. Every step has a
//! deadline, an answer has a size.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::base::secret::Secret;

/// A value of JSON.
pub type Json = serde_json::Value;

/// Reaching the server takes no longer.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Its answer takes no longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(70);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`, with or without TLS.
    Tcp {
        /// The name or address.
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
    },
}

/// Why a text is not the address of a server.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not the address of a server; it looks like http://127.0.0.1:7070, https://shop.example or unix:/run/holdfast/holdfast.sock"
)]
pub struct BadUrl(pub String);

impl Target {
    /// Reads `http://host:port`, `https://host[:port]` or `unix:/path`.
    pub fn parse(url: &str) -> Result<Target, BadUrl> {
        let bad = || BadUrl(url.chars().take(200).collect());
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(bad()) } else { Ok(Target::Unix(path.into())) };
        }
        let (rest, tls) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return Err(bad()),
        };
        let authority: hyper::http::uri::Authority =
            rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| bad())?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(bad());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Target::Tcp { host: host.to_owned(), port, tls })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Tcp { host, port, tls } => {
                let scheme = if *tls { "https" } else { "http" };
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                write!(f, "{scheme}://{host}:{port}")
            }
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers there.
    #[error("no server answers on {target}: {why}")]
    NotReachable {
        /// Where.
        target: Target,
        /// What was said.
        why: String,
    },
    /// Something answers, and it is no server of ours.
    #[error("what answers on {target} is not holdfast: {why}")]
    NotOurs {
        /// Where.
        target: Target,
        /// What is wrong.
        why: String,
    },
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body: JSON as JSON, other text as a text, nothing as null.
    pub body: Json,
}

/// Speaks to one server, with one token, for one tenant.
pub struct Client {
    target: Target,
    token: Secret,
    tenant: Option<String>,
}

const HOLDFAST_TENANT: HeaderName = HeaderName::from_static("holdfast-tenant");

/// An object of JSON with these members; null ones are left out.
pub fn object<'k>(members: impl IntoIterator<Item = (&'k str, Json)>) -> Json {
    let members = members.into_iter().filter(|(_, value)| !value.is_null());
    Json::Object(members.map(|(key, value)| (key.to_owned(), value)).collect())
}

/// `text` as it stands in a path or a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                out.push(digit.to_ascii_uppercase());
            }
        }
    }
    out
}

impl Client {
    /// For this server and this token; for the token's tenant, if no other is named.
    pub fn new(target: Target, token: Secret, tenant: Option<String>) -> Client {
        Client { target, token, tenant }
    }

    /// Sends a request and waits for its answer.
    pub fn request(&self, method: &str, path: &str, body: Option<&Json>) -> Result<Answer, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.not_reachable(error.to_string()))?;
        runtime.block_on(async {
            let late = |_| self.not_reachable("it does not answer in time".to_owned());
            let sending = self.exchange(method, path, body);
            tokio::time::timeout(ANSWER_WITHIN, sending).await.map_err(late)?
        })
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Answer, Error> {
        let request = self.make(method, path, body)?;
        let late = |_| self.not_reachable("it does not let us in in time".to_owned());
        let failed = |error: std::io::Error| self.not_reachable(error.to_string());
        match &self.target {
            Target::Unix(path) => {
                let stream = tokio::time::timeout(CONNECT_WITHIN, UnixStream::connect(path));
                self.converse(stream.await.map_err(late)?.map_err(failed)?, request).await
            }
            Target::Tcp { host, port, tls } => {
                let stream = tokio::time::timeout(
                    CONNECT_WITHIN,
                    TcpStream::connect((host.as_str(), *port)),
                );
                let stream = stream.await.map_err(late)?.map_err(failed)?;
                if !tls {
                    return self.converse(stream, request).await;
                }
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|error| self.not_reachable(error.to_string()))?;
                let stream =
                    tokio::time::timeout(CONNECT_WITHIN, connector().connect(name, stream));
                self.converse(stream.await.map_err(late)?.map_err(failed)?, request).await
            }
        }
    }

    fn make(
        &self,
        method: &str,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let host = match &self.target {
            Target::Unix(_) => "localhost".to_owned(),
            Target::Tcp { .. } => {
                let text = self.target.to_string();
                text.split("://").nth(1).unwrap_or("localhost").to_owned()
            }
        };
        let unfit = |error: hyper::http::Error| self.not_reachable(error.to_string());
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET))
            .uri(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, format!("Bearer {}", self.token.expose()));
        if let Some(tenant) = &self.tenant {
            request = request.header(HOLDFAST_TENANT, tenant);
        }
        let text = body.map(Json::to_string).unwrap_or_default();
        request.body(Full::new(Bytes::from(text))).map_err(unfit)
    }

    async fn converse<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Answer, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: hyper::Error| self.not_reachable(error.to_string());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let answering = async {
            let answer = sender.send_request(request).await.map_err(failed)?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.not_ours(error.to_string()))?.to_bytes();
            self.read(status, &body)
        };
        // The connection is driven beside the request; it has nothing to say of its own.
        tokio::pin!(answering);
        tokio::pin!(connection);
        tokio::select! {
            answer = &mut answering => answer,
            _ = &mut connection => answering.await,
        }
    }

    fn read(&self, status: u16, body: &[u8]) -> Result<Answer, Error> {
        if body.is_empty() {
            return Ok(Answer { status, body: Json::Null });
        }
        let body = match serde_json::from_slice(body) {
            Ok(body) => body,
            Err(_) if status == 200 => Json::String(String::from_utf8_lossy(body).into_owned()),
            Err(_) => return Err(self.not_ours(format!("status {status} without JSON"))),
        };
        Ok(Answer { status, body })
    }

    fn not_reachable(&self, why: String) -> Error {
        Error::NotReachable { target: self.target.clone(), why }
    }

    fn not_ours(&self, why: String) -> Error {
        Error::NotOurs { target: self.target.clone(), why }
    }
}

fn connector() -> TlsConnector {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("BUG: the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::{Target, encoded};

    #[test]
    fn an_address_is_a_scheme_a_host_and_perhaps_a_port() {
        let tcp = |host: &str, port, tls| Target::Tcp { host: host.to_owned(), port, tls };
        let parsed = |url: &str| Target::parse(url).unwrap();
        assert_eq!(parsed("http://127.0.0.1:7070"), tcp("127.0.0.1", 7070, false));
        assert_eq!(parsed("http://[::1]:7070/"), tcp("::1", 7070, false));
        assert_eq!(parsed("https://shop.example"), tcp("shop.example", 443, true));
        assert_eq!(parsed("unix:/run/x.sock"), Target::Unix("/run/x.sock".into()));
        assert_eq!(parsed("http://[::1]:7070").to_string(), "http://[::1]:7070");
        for url in ["", "shop.example", "ftp://x", "http://", "http://u:p@x", "http://x/y", "unix:"]
        {
            assert!(Target::parse(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn what_goes_into_a_path_is_encoded() {
        assert_eq!(encoded("a b/c?d"), "a%20b%2Fc%3Fd");
    }
}
