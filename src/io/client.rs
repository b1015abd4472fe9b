//! A client of our own API, for the command line: one request, one answer. And of the pages of an app, which
//! are asked for and not looked at.
//!
//! By the Unix socket, by TCP, or by TLS with the authorities that browsers trust. Every step has a
//! deadline, an answer has a size.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response};
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

/// An answer whose body is whatever it is.
#[derive(Debug)]
pub struct RawAnswer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

/// A body to be sent.
#[derive(Clone, Debug)]
pub struct Body {
    /// What it is.
    pub content_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Body {
    /// JSON.
    pub fn json(value: &Json) -> Body {
        Body::json_text(value.to_string())
    }

    /// A text that is JSON.
    pub fn json_text(text: String) -> Body {
        Body { content_type: "application/json".to_owned(), bytes: text.into() }
    }
}

/// Speaks to one server, with one token, for one tenant.
#[derive(Clone)]
pub struct Client {
    target: Target,
    token: Secret,
    tenant: Option<String>,
    idempotency_key: Option<String>,
}

const HOLDFAST_TENANT: HeaderName = HeaderName::from_static("holdfast-tenant");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

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
        Client { target, token, tenant, idempotency_key: None }
    }

    /// The server it speaks to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The same, for one request that may be sent again: what it makes is made once. Nothing for a key that
    /// no header can hold.
    pub fn for_once(&self, key: &str) -> Option<Client> {
        let fit = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        fit.then(|| Client { idempotency_key: Some(key.to_owned()), ..self.clone() })
    }

    /// The same, for another tenant.
    #[must_use]
    pub fn for_tenant(&self, tenant: &str) -> Client {
        Client { tenant: Some(tenant.to_owned()), ..self.clone() }
    }

    /// Sends a request and waits for its answer.
    pub fn request(&self, method: &str, path: &str, body: Option<&Json>) -> Result<Answer, Error> {
        let answer = self.send(method, path, body.map(Body::json))?;
        self.read(answer)
    }

    /// Sends a request and waits for its answer, whatever that is.
    pub fn send(&self, method: &str, path: &str, body: Option<Body>) -> Result<RawAnswer, Error> {
        let runtime = runtime().map_err(|error| self.not_reachable(error.to_string()))?;
        runtime.block_on(self.call(method, path, body))
    }

    /// The same for those who do something else meanwhile. When it is dropped, its connection is closed.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<Body>,
    ) -> Result<RawAnswer, Error> {
        let request = self.make(method, path, body)?;
        let late = |_| self.not_reachable("it does not answer in time".to_owned());
        let exchange = exchange(&self.target, request, async |response: Response<Incoming>| {
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.not_ours(error.to_string()))?.to_bytes();
            Ok(RawAnswer { status, body })
        });
        tokio::time::timeout(ANSWER_WITHIN, exchange).await.map_err(late)?
    }

    fn make(
        &self,
        method: &str,
        path: &str,
        body: Option<Body>,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let unfit = |error: hyper::http::Error| self.not_reachable(error.to_string());
        let body = body.unwrap_or_else(|| Body::json_text(String::new()));
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET))
            .uri(path)
            .header(HOST, host_of(&self.target))
            .header(CONTENT_TYPE, body.content_type)
            .header(AUTHORIZATION, format!("Bearer {}", self.token.expose()));
        if let Some(tenant) = &self.tenant {
            request = request.header(HOLDFAST_TENANT, tenant);
        }
        if let Some(key) = &self.idempotency_key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        request.body(Full::new(body.bytes)).map_err(unfit)
    }

    /// What an answer of the API says.
    pub fn read(&self, answer: RawAnswer) -> Result<Answer, Error> {
        let RawAnswer { status, body } = answer;
        if body.is_empty() {
            return Ok(Answer { status, body: Json::Null });
        }
        let body = match serde_json::from_slice(&body) {
            Ok(body) => body,
            Err(_) if status == 200 => Json::String(String::from_utf8_lossy(&body).into_owned()),
            Err(_) => return Err(self.not_ours(format!("status {status} without JSON"))),
        };
        Ok(Answer { status, body })
    }

    fn not_reachable(&self, why: String) -> Error {
        not_reachable(&self.target, why)
    }

    fn not_ours(&self, why: String) -> Error {
        Error::NotOurs { target: self.target.clone(), why }
    }
}

fn not_reachable(target: &Target, why: String) -> Error {
    Error::NotReachable { target: target.clone(), why }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// What stands in the head of a request to this server.
fn host_of(target: &Target) -> String {
    match target {
        Target::Unix(_) => "localhost".to_owned(),
        Target::Tcp { .. } => {
            let text = target.to_string();
            text.split("://").nth(1).unwrap_or("localhost").to_owned()
        }
    }
}

/// Connects, sends the request, and has `take` look at the answer.
async fn exchange<T>(
    target: &Target,
    request: Request<Full<Bytes>>,
    take: impl AsyncFnOnce(Response<Incoming>) -> Result<T, Error>,
) -> Result<T, Error> {
    let late = |_| not_reachable(target, "it does not let us in in time".to_owned());
    let failed = |error: std::io::Error| not_reachable(target, error.to_string());
    match target {
        Target::Unix(path) => {
            let stream = tokio::time::timeout(CONNECT_WITHIN, UnixStream::connect(path));
            converse(target, stream.await.map_err(late)?.map_err(failed)?, request, take).await
        }
        Target::Tcp { host, port, tls } => {
            let stream =
                tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect((host.as_str(), *port)));
            let stream = stream.await.map_err(late)?.map_err(failed)?;
            if !tls {
                return converse(target, stream, request, take).await;
            }
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|error| not_reachable(target, error.to_string()))?;
            let stream = tokio::time::timeout(CONNECT_WITHIN, CONNECTOR.connect(name, stream));
            converse(target, stream.await.map_err(late)?.map_err(failed)?, request, take).await
        }
    }
}

async fn converse<S, T>(
    target: &Target,
    stream: S,
    request: Request<Full<Bytes>>,
    take: impl AsyncFnOnce(Response<Incoming>) -> Result<T, Error>,
) -> Result<T, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| not_reachable(target, error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let answering = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        take(response).await
    };
    // The connection is driven beside the request; it has nothing to say of its own.
    tokio::pin!(answering);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut answering => answer,
        _ = &mut connection => answering.await,
    }
}

/// A page of an app: where it is, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    target: Target,
    path: String,
    url: String,
}

impl Page {
    /// Reads `http://host[:port]/path?query`, or the same with https.
    pub fn parse(url: &str) -> Result<Page, BadPage> {
        let bad = || BadPage(url.chars().take(200).collect());
        // What comes behind a # is never sent.
        let whole = url.split('#').next().unwrap_or(url);
        let (scheme, rest) = whole.split_once("://").ok_or_else(bad)?;
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        let target = Target::parse(&format!("{scheme}://{authority}")).map_err(|_| bad())?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let fit = path.parse::<hyper::Uri>().is_ok();
        if fit { Ok(Page { target, path, url: url.to_owned() }) } else { Err(bad()) }
    }

    /// As it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks for it, and reads its answer to the end. Nobody is told who asks.
    async fn get(&self) -> Result<Visited, Error> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(&self.path)
            .header(HOST, host_of(&self.target))
            .header(USER_AGENT, concat!("holdfast/", env!("CARGO_PKG_VERSION"), " (warm-up)"))
            .body(Full::new(Bytes::new()))
            .map_err(|error| not_reachable(&self.target, error.to_string()))?;
        exchange(&self.target, request, async |response| {
            let status = response.status().as_u16();
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let location = to.map(str::to_owned);
            let failed = |error: hyper::Error| not_reachable(&self.target, error.to_string());
            let mut body = response.into_body();
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                let data = frame.map_err(failed)?.into_data();
                bytes += data.map_or(0, |data| data.len() as u64);
            }
            Ok(Visited { status, location, bytes })
        })
        .await
    }
}

/// Why a text is not the address of a page.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the address of a page; it looks like https://shop.example/warm-up")]
pub struct BadPage(pub String);

/// What a page answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visited {
    /// The status.
    pub status: u16,
    /// Where it sends us, if it does.
    pub location: Option<String>,
    /// The length of its body.
    pub bytes: u64,
}

/// Asks for every page, so many at once, each within this time; `told` hears of each when it is done.
pub fn visit(
    pages: Vec<Page>,
    at_once: usize,
    within: Duration,
    told: &mut dyn FnMut(&Page, Result<Visited, Error>),
) -> std::io::Result<()> {
    runtime()?.block_on(async {
        let mut waiting = pages.into_iter();
        let mut asked = tokio::task::JoinSet::new();
        loop {
            while asked.len() < at_once.max(1)
                && let Some(page) = waiting.next()
            {
                asked.spawn(async move {
                    let answer = tokio::time::timeout(within, page.get()).await;
                    let late = "its answer is not there in time".to_owned();
                    let answer = answer.unwrap_or_else(|_| Err(not_reachable(&page.target, late)));
                    (page, answer)
                });
            }
            match asked.join_next().await {
                Some(Ok((page, answer))) => told(&page, answer),
                Some(Err(error)) => return Err(std::io::Error::other(error)),
                None => return Ok(()),
            }
        }
    })
}

/// Made once: the authorities are many.
static CONNECTOR: LazyLock<TlsConnector> = LazyLock::new(|| {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("BUG: the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
});

#[cfg(test)]
mod tests {
    use super::{Page, Target, encoded};

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
    fn a_page_is_a_server_and_what_is_asked_of_it() {
        let parsed = |url: &str| {
            let page = Page::parse(url).unwrap();
            assert_eq!(page.url(), url);
            (page.target.to_string(), page.path)
        };
        let pair = |target: &str, path: &str| (target.to_owned(), path.to_owned());
        assert_eq!(parsed("http://a.example"), pair("http://a.example:80", "/"));
        assert_eq!(parsed("https://a.example?x=1"), pair("https://a.example:443", "/?x=1"));
        assert_eq!(
            parsed("http://[::1]:8080/warm/up?a=b&c#here"),
            pair("http://[::1]:8080", "/warm/up?a=b&c")
        );
        for url in ["", "a.example", "/x", "ftp://x/", "http:///x", "http://u:p@x/", "http://x/a b"]
        {
            assert!(Page::parse(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn what_goes_into_a_path_is_encoded() {
        assert_eq!(encoded("a b/c?d"), "a%20b%2Fc%3Fd");
    }
}
