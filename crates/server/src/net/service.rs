//! From a request on a connection to the service that answers it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use stentor_proto::EtcdError;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Service;

use super::body::{Ends, Received, RequestBody, ResponseBody};
use super::connection::{ConnectionState, OpenStream};
use super::standing::Standing;
use super::status;
use crate::metrics::{Call, MethodKind, Metrics};

const GRPC: &str = "application/grpc";
const CLIENT_VERSION: &str = "client-api-version";

/// The client's address, in every request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// What a listener serves: gRPC, told apart by its content type, and HTTP.
#[derive(Clone, Debug)]
pub struct App {
    grpc: Router,
    http: Router,
    standing: Option<Standing>,
}

impl App {
    /// Both on one port.
    pub fn new(grpc: Routes, http: Router) -> App {
        App { grpc: grpc_router(grpc), http, standing: None }
    }

    /// gRPC alone.
    pub fn grpc_only(grpc: Routes) -> App {
        App { grpc: grpc_router(grpc), http: Router::new(), standing: None }
    }

    /// HTTP alone.
    pub fn http_only(http: Router) -> App {
        App { grpc: Router::new(), http, standing: None }
    }

    /// Calls are refused, and streams ended, as the member's place in its cluster demands.
    pub(crate) fn with_standing(self, standing: Standing) -> App {
        App { standing: Some(standing), ..self }
    }

    /// Any handler in place of the gRPC services.
    #[cfg(test)]
    pub(crate) fn raw(grpc: Router) -> App {
        App { grpc, http: Router::new(), standing: None }
    }
}

fn grpc_router(routes: Routes) -> Router {
    routes.into_axum_router().fallback(|request: Request<Body>| async move {
        let service = request.uri().path().trim_start_matches('/').rsplit_once('/').map_or("", |(service, _)| service);
        tonic::Status::unimplemented(format!("unknown service {service}")).into_http::<Body>()
    })
}

/// What the connections of one listener share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) app: App,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    pub(crate) slow_call: Duration,
}

/// Answers the requests of one connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionService {
    shared: Arc<Shared>,
    state: Arc<ConnectionState>,
    peer: PeerAddr,
}

impl ConnectionService {
    pub(crate) fn new(shared: Arc<Shared>, peer: SocketAddr) -> Self {
        ConnectionService { shared, state: Arc::default(), peer: PeerAddr(peer) }
    }

    pub(crate) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }
}

type Answer = Result<Response<ResponseBody>, Infallible>;

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.state.set_established();
        let open = OpenStream::new(&self.state);
        if is_grpc(&request) {
            Box::pin(answer_grpc(Arc::clone(&self.shared), request, self.peer, open))
        } else {
            Box::pin(answer_http(self.shared.app.http.clone(), request, self.peer, open))
        }
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(GRPC.as_bytes()))
}

async fn answer_http(mut http: Router, request: Request<Incoming>, peer: PeerAddr, open: OpenStream) -> Answer {
    let mut request = request.map(|body| Body::new(RequestBody::new(body, None)));
    request.extensions_mut().insert(peer);
    let response = http.call(request).await?;
    Ok(response.map(|body| ResponseBody::new(body, None, Ends::default(), open)))
}

async fn answer_grpc(shared: Arc<Shared>, request: Request<Incoming>, peer: PeerAddr, open: OpenStream) -> Answer {
    let method = shared.metrics.grpc.method(request.uri().path()).cloned();
    let kind = method.as_ref().map(|method| method.kind);
    let network = &shared.metrics.network;
    let call = method.as_ref().map(Call::start);
    let received = method.zip(call.as_ref()).map(|(method, call)| Received {
        method,
        bytes: network.client_grpc_received_bytes.clone(),
        client_left: call.client_left(),
    });
    let mut grpc = call.map(|call| (call, network.client_grpc_sent_bytes.clone()));
    let mut deadline = status::timeout(request.headers()).map(|time| Box::pin(sleep(time)));
    let path = (kind == Some(MethodKind::Unary)).then(|| request.uri().path().to_owned());
    let begun = Instant::now();

    let mut request = request.map(|body| Body::new(RequestBody::new(body, received)));
    request.extensions_mut().insert(peer);
    let mut router = shared.app.grpc.clone();
    let standing = shared.app.standing.as_ref();
    let lost =
        standing.filter(|_| kind.is_some_and(MethodKind::server_streams)).and_then(|s| s.lost(request.headers()));
    let allowed = standing.map_or(Ok(()), |standing| standing.check(request.uri().path(), request.headers()));
    let answered = match check_client_version(request.headers()).and(allowed) {
        Ok(()) => within(router.call(request), &mut deadline).await,
        Err(refusal) => Some(Ok(tonic::Status::from(refusal).into_http())),
    };
    let mut response = match answered {
        Some(response) => response?,
        None => deadline_response(),
    };
    let code = status::settle(response.headers_mut());
    if let (Some((call, _)), Some(code)) = (&mut grpc, code) {
        call.set_code(code);
    }
    if let Some(path) = path {
        warn_if_slow(&path, begun.elapsed(), shared.slow_call, peer);
    }
    let stop = kind.is_some_and(MethodKind::server_streams).then(|| Box::pin(shared.stop.clone().cancelled_owned()));
    Ok(response.map(|body| ResponseBody::new(body, grpc, Ends { deadline, stop, lost }, open)))
}

/// Clients say their version; it must at least be text.
fn check_client_version(headers: &HeaderMap) -> Result<(), EtcdError> {
    match headers.get(CLIENT_VERSION) {
        Some(version) if std::str::from_utf8(version.as_bytes()).is_err() => Err(EtcdError::InvalidClientAPIVersion),
        _ => Ok(()),
    }
}

/// What `future` gives, or `None` if the deadline comes first.
async fn within<F: Future>(future: F, deadline: &mut Option<Pin<Box<Sleep>>>) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        match deadline {
            Some(due) => due.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

fn deadline_response() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    let (code, message) = status::DEADLINE;
    status::write(response.headers_mut(), code, message);
    response
}

fn warn_if_slow(path: &str, took: Duration, limit: Duration, peer: PeerAddr) {
    if took > limit && !limit.is_zero() {
        tracing::warn!(
            method = path,
            took_ms = took.as_millis() as u64,
            expected_ms = limit.as_millis() as u64,
            remote = %peer.0,
            "call took longer than expected"
        );
    }
}
