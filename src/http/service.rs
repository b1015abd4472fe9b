//! From the head of a request to the last header of its answer, in one place.
//!
//! ```text
//!  request id > target and Host > route > token > tenant > scope > query > handler > what is left of the body
//!                                                                                          |
//!                       figures, slow log, log <--- headers that every answer has <--------+
//! ```
//!
//! The order is part of the contract: a stranger learns which paths there are (they are public), and
//! nothing of what is behind them.

use std::convert::Infallible;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE,
    HOST, HeaderMap, HeaderName, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, Version};
use tokio::sync::SemaphorePermit;

use super::body::drop_rest;
use super::compress::Coding;
use super::connection::{Connection, Stage};
use super::problem::Problem;
use super::query::Query;
use super::reply::Reply;
use super::request::{Cx, RequestId, decoded};
use super::routes::{Access, Body, Found, Handler, Later, Route, Soon, Verb};
use super::whole::Whole;
use super::{Edge, body};
use crate::app::Caller;
use crate::app::slow::{self, Case, SLOW_REQUEST, WARN_REQUEST};
use crate::app::throttle::Peer;
use crate::base::limits::{
    ANSWER_COUNTED_BYTES, COMPRESS_BYTES_MIN, COMPRESS_HERE_BYTES_MAX, DROPPED_BYTES_MAX,
    HANDLER_DEADLINE, HEADERS_MAX,
};
use crate::base::name::TenantName;
use crate::base::time::Now;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_RESPONSE_TIME: HeaderName = HeaderName::from_static("x-response-time");
const HOLDFAST_TENANT: HeaderName = HeaderName::from_static("holdfast-tenant");

/// A connection as its requests see it.
pub(super) struct Link {
    pub(super) edge: Arc<Edge>,
    pub(super) connection: Arc<Connection>,
    pub(super) peer: Peer,
    /// The process at the other end of a Unix socket.
    pub(super) peer_pid: Option<u32>,
}

/// What answers the requests of a connection.
pub(super) struct Service(pub(super) Arc<Link>);

type Answer = Response<Whole>;

/// An answer, or the way to one. Most answers need no waiting; no future is made for them.
pub(super) enum Answering {
    Now(Option<Answer>),
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Future for Answering {
    type Output = Result<Answer, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Answering::Now(answer) => {
                Poll::Ready(Ok(answer.take().expect("BUG: polled after it was ready")))
            }
            Answering::Later(work) => work.as_mut().poll(cx).map(Ok),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let its = InFlight::new(Arc::clone(&self.0));
        let (mut head, body) = request.into_parts();
        let mut asked = its.asked(&head);
        let admitted = its.admit(&mut asked, &head);
        let outcome = match its.at_once(&asked, admitted, &mut head, &body) {
            Begun::Done(outcome) => outcome,
            Begun::Runs(route, work) => {
                return Answering::Later(Box::pin(async move {
                    let outcome = its.finish_later(route, Ok(work)).await;
                    its.end(asked, outcome).await
                }));
            }
            Begun::Waits(admitted) => {
                return Answering::Later(Box::pin(async move {
                    let outcome = its.wait_for(&mut asked, admitted, head, body).await;
                    its.end(asked, outcome).await
                }));
            }
        };
        let reply = asked.reply(outcome);
        if asked.wants_smaller(&reply) {
            return Answering::Later(Box::pin(async move { its.end(asked, Ok(reply)).await }));
        }
        Answering::Now(Some(its.finish(&asked, reply, None)))
    }
}

/// Who asked what, for those who look at it afterwards.
struct Asked {
    route: Option<(usize, &'static Route)>,
    request_id: RequestId,
    now: Now,
    /// How long the client took to send the body; that is not our slowness.
    sending: Duration,
    v1: bool,
    accept: Option<Coding>,
}

impl Asked {
    /// The reply, also where there is a problem.
    fn reply(&self, outcome: Result<Reply, Problem>) -> Reply {
        outcome.unwrap_or_else(|problem| problem.into_reply(self.request_id.as_str()))
    }

    /// Whether the client would have the body made smaller, and may.
    fn wants_smaller(&self, reply: &Reply) -> bool {
        self.accept.is_some() && is_compressible(reply)
    }
}

/// Whether the answer would look otherwise to a client that accepts less.
fn is_compressible(reply: &Reply) -> bool {
    !reply.as_is && COMPRESS_BYTES_MIN <= reply.body.len()
}

/// How far a request came without waiting.
enum Begun {
    /// To its end.
    Done(Result<Reply, Problem>),
    /// Its handler is at work.
    Runs(&'static Route, Later),
    /// Its body is not read yet, or its handler was not asked.
    Waits(Result<Admitted, Problem>),
}

/// What was found out about a request before its handler is asked.
struct Admitted {
    route: &'static Route,
    path: Vec<(&'static str, String)>,
    caller: Option<Caller>,
    query: Query,
}

impl InFlight {
    /// A request has come: what is known of it at once.
    fn asked(&self, head: &Parts) -> Asked {
        let now = self.edge.app.clock().now();
        self.connection.set_stage(Stage::Handler, now.mono);
        Asked {
            route: None,
            request_id: request_id(&self.edge, &head.headers),
            now,
            sending: Duration::ZERO,
            v1: is_v1(head.uri.path()),
            accept: head.headers.get(ACCEPT_ENCODING).and_then(Coding::accepted),
        }
    }

    /// What comes of a request for which nobody has to wait: it brings no body, and is refused or answered
    /// from memory.
    fn at_once(
        &self,
        asked: &Asked,
        admitted: Result<Admitted, Problem>,
        head: &mut Parts,
        body: &Incoming,
    ) -> Begun {
        if !body.is_end_stream() {
            return Begun::Waits(admitted);
        }
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(problem) => return Begun::Done(Err(problem)),
        };
        let route = admitted.route;
        match (route.handler, route.body) {
            (Handler::Now(handler), Body::None) => {
                let cx = self.cx(asked, admitted, head, Bytes::new());
                Begun::Done(self.caught(route, || handler(&cx)))
            }
            (Handler::Either(handler), Body::None) => {
                let cx = self.cx(asked, admitted, head, Bytes::new());
                match self.begin(route, || handler(cx)) {
                    Soon::Now(outcome) => Begun::Done(outcome),
                    Soon::Later(work) => Begun::Runs(route, work),
                }
            }
            _ => Begun::Waits(Ok(admitted)),
        }
    }

    /// What comes of a request for which something has to be waited: its body, a store, the pool.
    async fn wait_for(
        &self,
        asked: &mut Asked,
        admitted: Result<Admitted, Problem>,
        mut head: Parts,
        mut body: Incoming,
    ) -> Result<Reply, Problem> {
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(problem) => return Err(self.refuse(problem, &head, &mut body).await),
        };
        let route = admitted.route;
        let _space = match self.space(route, &body) {
            Ok(space) => space,
            Err(problem) => return Err(self.refuse(problem, &head, &mut body).await),
        };
        let received = self.body(route, &head, &mut body).await;
        asked.sending = self.edge.app.clock().mono().since(asked.now.mono);
        let (bytes, whole) = received?;
        let cx = self.cx(asked, admitted, &mut head, bytes);
        let reply = self.run(route, cx).await?;
        Ok(if whole { reply } else { Reply { close: true, ..reply } })
    }

    fn cx(&self, asked: &Asked, admitted: Admitted, head: &mut Parts, body: Bytes) -> Cx {
        Cx {
            link: Arc::clone(&self.0),
            body,
            // Nobody else looks at them after this.
            headers: std::mem::take(&mut head.headers),
            head_only: head.method == Method::HEAD,
            query: admitted.query,
            path: admitted.path,
            caller: admitted.caller,
            request_id: asked.request_id,
            now: asked.now,
        }
    }
}

impl Link {
    /// Space for the body that the route wants, until the request is answered. By what it announces; what
    /// announces nothing may become as large as the route allows.
    fn space(
        &self,
        route: &Route,
        body: &Incoming,
    ) -> Result<Option<SemaphorePermit<'_>>, Problem> {
        let Some(max) = route.body.max() else {
            return Ok(None);
        };
        let announced = body.size_hint().upper().map(|n| usize::try_from(n).unwrap_or(max));
        let kib = announced.unwrap_or(max).min(max).div_ceil(1 << 10);
        let permits = u32::try_from(kib).unwrap_or(u32::MAX);
        let space = self.edge.bodies.try_acquire_many(permits);
        space.map(Some).map_err(|_| {
            Problem::new("overloaded", "other requests fill the space for bodies; try again soon")
        })
    }

    /// The body that the route wants; one that nobody wants is dropped. And whether nothing of it is left.
    async fn body(
        &self,
        route: &Route,
        head: &Parts,
        body: &mut Incoming,
    ) -> Result<(Bytes, bool), Problem> {
        let (max, checked) = match route.body {
            Body::None => return Ok((Bytes::new(), self.drop_rest(head, body).await)),
            Body::Json { max } => (max, body::check_json_type(head)),
            Body::Raw { max } => (max, body::check_coding(head)),
        };
        if let Err(problem) = checked {
            return Err(self.refuse(problem, head, body).await);
        }
        self.connection.set_stage(Stage::Body, self.edge.app.clock().mono());
        let bytes = body::read(head, body, max).await;
        self.connection.set_stage(Stage::Handler, self.edge.app.clock().mono());
        Ok((bytes?, true))
    }

    /// A problem that reaches somebody who may still be sending: the body is read and dropped first.
    async fn refuse(&self, problem: Problem, head: &Parts, body: &mut Incoming) -> Problem {
        if self.drop_rest(head, body).await { problem } else { problem.closing() }
    }

    /// Reads and drops what is left of a body; whether that was all of it.
    async fn drop_rest(&self, head: &Parts, body: &mut Incoming) -> bool {
        if body.is_end_stream() {
            return true;
        }
        // Whoever sends it slowly is waited for like anybody who sends a body, and may be evicted.
        self.connection.set_stage(Stage::Body, self.edge.app.clock().mono());
        let read = drop_rest(head, body, DROPPED_BYTES_MAX).await;
        self.connection.set_stage(Stage::Handler, self.edge.app.clock().mono());
        read
    }

    /// Runs a handler that only looks at memory; a panic is caught.
    fn caught(
        &self,
        route: &Route,
        handler: impl FnOnce() -> Result<Reply, Problem>,
    ) -> Result<Reply, Problem> {
        let outcome = catch_unwind(AssertUnwindSafe(handler));
        outcome.unwrap_or_else(|panic| Err(self.panicked(route, &*panic)))
    }

    /// Runs a handler that may have to wait; a panic is caught.
    fn begin(&self, route: &Route, handler: impl FnOnce() -> Soon) -> Soon {
        let begun = catch_unwind(AssertUnwindSafe(handler));
        begun.unwrap_or_else(|panic| Soon::Now(Err(self.panicked(route, &*panic))))
    }

    /// Runs the handler; a panic is caught.
    async fn run(&self, route: &'static Route, cx: Cx) -> Result<Reply, Problem> {
        match route.handler {
            Handler::Now(handler) => self.caught(route, || handler(&cx)),
            Handler::Either(handler) => match self.begin(route, || handler(cx)) {
                Soon::Now(outcome) => outcome,
                Soon::Later(work) => self.finish_later(route, Ok(work)).await,
            },
            Handler::Later(handler) => {
                let work = catch_unwind(AssertUnwindSafe(|| handler(cx)));
                self.finish_later(route, work).await
            }
        }
    }

    /// Waits for a handler, as long as it may take; a panic is caught.
    async fn finish_later(
        &self,
        route: &'static Route,
        work: Result<Later, Panic>,
    ) -> Result<Reply, Problem> {
        match tokio::time::timeout(HANDLER_DEADLINE, CatchPanic(Some(work))).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(self.panicked(route, &*panic)),
            Err(_) => Err(too_late(route)),
        }
    }

    fn panicked(&self, route: &Route, panic: &(dyn std::any::Any + Send)) -> Problem {
        self.edge.figures.panics.fetch_add(1, Relaxed);
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(route = route.path, text = text.unwrap_or("?"), "a handler panicked");
        let detail = "a fault of the server; its log says more under this request's id";
        Problem::new("internal", detail)
    }

    /// Everything that is checked before a handler is asked.
    fn admit(&self, asked: &mut Asked, head: &Parts) -> Result<Admitted, Problem> {
        if HEADERS_MAX < head.headers.len() {
            return Err(Problem::head_too_large().closing());
        }
        self.check_host(head)?;
        let Found { index, route, params } =
            self.edge.router.find(&head.method, head.uri.path())?;
        asked.route = Some((index, route));
        let caller = self.caller(route, head, asked.now)?;
        let path = decoded(route, &params)?;
        let known: Vec<&str> = route.query.iter().map(|parameter| parameter.name).collect();
        let query = Query::read(head.uri.query(), &known)?;
        Ok(Admitted { route, path, caller, query })
    }

    /// Refuses what is meant for somebody else.
    fn check_host(&self, head: &Parts) -> Result<(), Problem> {
        let mut hosts = head.headers.get_all(HOST).iter();
        let (host, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return Err(Problem::malformed("Host is given twice").closing());
        }
        let host = match host.map(HeaderValue::to_str) {
            Some(Ok(host)) => Some(host),
            Some(Err(_)) => return Err(Problem::malformed("Host is not a name").closing()),
            None if head.version == Version::HTTP_11 => {
                return Err(Problem::malformed("a request of HTTP/1.1 has a Host").closing());
            }
            None => None,
        };
        if self.peer == Peer::Local {
            return Ok(());
        }
        let authority = head.uri.authority().map(hyper::http::uri::Authority::as_str);
        for name in host.into_iter().chain(authority) {
            if !self.edge.allows_host(name) {
                let name: String = name.chars().take(128).collect();
                let detail = format!(
                    "{name:?} is not a name of this server; if it should be, add it to server.hosts \
                     in the configuration and run: holdfast reload"
                );
                return Err(Problem::new("unknown_host", detail));
            }
        }
        Ok(())
    }

    /// Who is asking, if the route wants to know, and whether they may.
    fn caller(
        &self,
        route: &'static Route,
        head: &Parts,
        now: Now,
    ) -> Result<Option<Caller>, Problem> {
        let (scopes, machine) = match route.access {
            Access::Open => return Ok(None),
            Access::Metrics(_) if self.edge.settings().metrics_public => return Ok(None),
            Access::Tenant(scopes) => (scopes, false),
            Access::Machine(scopes) | Access::Metrics(scopes) => (scopes, true),
        };
        let app = &self.edge.app;
        let mut caller = app.authenticate(bearer(&head.headers)?, self.peer, now)?;
        self.connection.trust();
        let mut names = head.headers.get_all(HOLDFAST_TENANT).iter();
        if let Some(name) = names.next() {
            if names.next().is_some() {
                return Err(Problem::malformed("Holdfast-Tenant is given twice"));
            }
            let name = TenantName::parse(name.to_str().unwrap_or(""))?;
            caller = app.act_for(&caller, &name)?;
        }
        caller.need_one_of(scopes)?;
        if machine {
            caller.need_default()?;
        }
        Ok(Some(caller))
    }

    /// The answer, made smaller for whoever asked for it.
    async fn end(&self, asked: Asked, outcome: Result<Reply, Problem>) -> Answer {
        let mut reply = asked.reply(outcome);
        let coding = if asked.wants_smaller(&reply) {
            self.compress(&asked, &mut reply).await
        } else {
            None
        };
        self.finish(&asked, reply, coding)
    }

    /// The answer with everything that every answer has.
    fn finish(&self, asked: &Asked, reply: Reply, coding: Option<Coding>) -> Answer {
        let reply = self.with_space(asked, reply);
        let ended = self.edge.app.clock().mono();
        let took = ended.since(asked.now.mono);
        let varies = coding.is_some() || is_compressible(&reply);
        let receipt = reply.receipt.map(|receipt| (receipt, Arc::clone(&self.connection)));
        let mut answer = Response::new(Whole::new(reply.body, receipt));
        *answer.status_mut() = reply.status;
        let headers = answer.headers_mut();
        headers.reserve(6 + reply.headers.len());
        if let Some(media_type) = reply.media_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        if asked.v1 {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
        }
        if varies {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        for (name, value) in reply.headers {
            headers.append(name, value);
        }
        if let Ok(id) = HeaderValue::from_bytes(asked.request_id.as_bytes()) {
            headers.insert(X_REQUEST_ID, id);
        }
        headers.insert(X_RESPONSE_TIME, response_time(took));
        // Whoever is answered while the process ends should not send the next one here.
        if reply.close || self.edge.is_stopping() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let not_ours = asked.sending + self.connection.take_waited();
        self.note(asked, reply.status.as_u16(), took.saturating_sub(not_ours));
        self.connection.set_stage(Stage::Answer, ended);
        answer
    }

    /// The reply, if there is space for it: what is large stays in memory until its client has taken it.
    fn with_space(&self, asked: &Asked, reply: Reply) -> Reply {
        if reply.body.len() < ANSWER_COUNTED_BYTES {
            return reply;
        }
        let kib = u32::try_from(reply.body.len() >> 10).unwrap_or(u32::MAX);
        if let Ok(space) = Arc::clone(&self.edge.answers).try_acquire_many_owned(kib) {
            self.connection.hold(space);
            return reply;
        }
        let detail = "large answers that others are taking fill the space for them; try again soon";
        asked.reply(Err(Problem::new("overloaded", detail)))
    }

    /// Makes the body smaller for whoever asked for it.
    async fn compress(&self, asked: &Asked, reply: &mut Reply) -> Option<Coding> {
        let coding = asked.accept?;
        let body = reply.body.clone();
        let smaller = if body.len() <= COMPRESS_HERE_BYTES_MAX {
            coding.apply(&body)
        } else {
            // A full pool is no reason to fail: the body goes out as it is.
            let work = self.edge.app.blocking(HANDLER_DEADLINE, move || coding.apply(&body));
            work.await.ok().flatten()
        };
        reply.body = smaller?;
        Some(coding)
    }

    /// Figures, slow log, log.
    fn note(&self, asked: &Asked, status: u16, took: Duration) {
        let figures = &self.edge.figures;
        figures.answered(asked.route.map(|(index, _)| index), status, took);
        let (verb, path) = asked.route.map_or(("?", "?"), |(_, r)| (r.verb.as_str(), r.path));
        if SLOW_REQUEST < took {
            let name = format!("{verb} {path}");
            let at = asked.now.wall.plus(took);
            let kind = slow::Kind::Request;
            self.edge.app.slow().note(Case { kind, name: &name, took, at, queries: None });
            if WARN_REQUEST < took {
                let (id, ms) = (asked.request_id.as_str(), took.as_millis());
                tracing::warn!(id, verb, path, status, ms, "a request was slow");
            }
        }
        let (id, us) = (asked.request_id.as_str(), took.as_micros());
        tracing::debug!(id, verb, path, status, us, "answered");
    }
}

fn too_late(route: &Route) -> Problem {
    match route.verb {
        Verb::Get => Problem::new("overloaded", "it took too long"),
        _ => Problem::new("outcome_unknown", "it took too long; it may or may not have been done"),
    }
}

/// Whether the path is one of the API's.
fn is_v1(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A request that is counted for as long as it is under way, also when its client goes away.
struct InFlight(Arc<Link>);

impl InFlight {
    fn new(link: Arc<Link>) -> InFlight {
        link.edge.figures.in_flight.fetch_add(1, Relaxed);
        InFlight(link)
    }
}

impl Deref for InFlight {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.edge.figures.in_flight.fetch_sub(1, Relaxed);
    }
}

type Panic = Box<dyn std::any::Any + Send>;

/// A handler whose panics are results.
struct CatchPanic(Option<Result<Later, Panic>>);

impl Future for CatchPanic {
    type Output = Result<Result<Reply, Problem>, Panic>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.take().expect("BUG: polled after it was ready") {
            Err(panic) => Poll::Ready(Err(panic)),
            Ok(mut work) => match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                Ok(Poll::Ready(outcome)) => Poll::Ready(Ok(outcome)),
                Ok(Poll::Pending) => {
                    self.0 = Some(Ok(work));
                    Poll::Pending
                }
                Err(panic) => Poll::Ready(Err(panic)),
            },
        }
    }
}

/// The caller's id of this request, if it is one, or a new one.
fn request_id(edge: &Edge, headers: &HeaderMap) -> RequestId {
    let given = headers.get(X_REQUEST_ID).and_then(|id| RequestId::given(id.as_bytes()));
    given.unwrap_or_else(|| RequestId::ours(edge.new_request_id()))
}

/// The token in the head.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut found = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(Problem::malformed("Authorization is given twice"));
    }
    // What is no text and what is no bearer is no token; the application says what is wrong with it.
    let text = value.to_str().unwrap_or("");
    let (scheme, token) = text.split_once(' ').unwrap_or(("", text));
    Ok(Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" }))
}

/// `1.23ms`, written without the machinery of formatting: it is on every answer.
fn response_time(took: Duration) -> HeaderValue {
    let hundredths = u64::try_from(took.as_micros() / 10).unwrap_or(u64::MAX);
    let mut text = [0_u8; 24];
    let mut at = text.len() - 2;
    text[at..].copy_from_slice(b"ms");
    let mut rest = hundredths;
    for place in 0.. {
        if place == 2 {
            at -= 1;
            text[at] = b'.';
        }
        if 2 < place && rest == 0 {
            break;
        }
        at -= 1;
        text[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    HeaderValue::from_bytes(&text[at..]).expect("BUG: digits make a header")
}

#[cfg(test)]
mod tests {
    use super::response_time;
    use std::time::Duration;

    #[test]
    fn the_response_time_has_two_decimals() {
        let text = |us: u64| response_time(Duration::from_micros(us)).to_str().unwrap().to_owned();
        assert_eq!(text(0), "0.00ms");
        assert_eq!(text(9), "0.00ms");
        assert_eq!(text(1_239), "1.23ms");
        assert_eq!(text(10_000), "10.00ms");
        assert_eq!(text(123_456_789), "123456.78ms");
        assert_eq!(response_time(Duration::MAX).to_str().unwrap().len(), 23);
    }
}
