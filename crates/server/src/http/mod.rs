//! The HTTP endpoints: health, version, metrics.

mod health;
mod probe;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::any;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, StatusCode};

pub use probe::{Alarm, Probe, ProbeFuture};

use crate::metrics::{self, Metrics};
use crate::version;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What the handlers need.
#[derive(Clone)]
struct Context {
    probe: Arc<dyn Probe>,
    metrics: Metrics,
}

/// All endpoints, for the clients' ports and the metrics' ones alike.
pub fn router(probe: Arc<dyn Probe>, metrics: Metrics) -> Router {
    Router::new()
        .route("/health", any(health))
        .route("/livez", any(live))
        .route("/livez/{check}", any(live_one))
        .route("/readyz", any(ready))
        .route("/readyz/{check}", any(ready_one))
        .route("/version", any(version))
        .route("/metrics", any(metrics_text))
        .fallback(|| async { not_found() })
        .with_state(Context { probe, metrics })
}

async fn health(State(context): State<Context>, method: Method, RawQuery(query): RawQuery) -> Response {
    if method != Method::GET {
        return not_allowed();
    }
    let query = Query::parse(query.as_deref());
    match health::health(&*context.probe, &query.exclude, query.serializable).await {
        Ok(()) => {
            context.metrics.server.health_success.inc();
            reply(StatusCode::OK, PLAIN, r#"{"health":"true","reason":""}"#.into())
        }
        Err(reason) => {
            context.metrics.server.health_failures.inc();
            tracing::warn!(reason, "unhealthy");
            let body = serde_json::json!({ "health": "false", "reason": reason }).to_string();
            reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, body)
        }
    }
}

async fn live(State(context): State<Context>, method: Method, RawQuery(query): RawQuery) -> Response {
    checks(context, method, query, health::LIVE, None).await
}

async fn live_one(
    State(context): State<Context>,
    method: Method,
    Path(check): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    checks(context, method, query, health::LIVE, Some(check)).await
}

async fn ready(State(context): State<Context>, method: Method, RawQuery(query): RawQuery) -> Response {
    checks(context, method, query, health::READY, None).await
}

async fn ready_one(
    State(context): State<Context>,
    method: Method,
    Path(check): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    checks(context, method, query, health::READY, Some(check)).await
}

async fn checks(
    context: Context,
    method: Method,
    query: Option<String>,
    all: &[health::Check],
    only: Option<String>,
) -> Response {
    let query = Query::parse(query.as_deref());
    let is_wanted = |check: &&health::Check| match &only {
        Some(name) => check.name() == name,
        None => !query.exclude.iter().any(|name| name == check.name()),
    };
    let wanted: Vec<_> = all.iter().filter(is_wanted).copied().collect();
    if only.is_some() && wanted.is_empty() {
        return not_found();
    }
    if method != Method::GET {
        return not_allowed();
    }
    let (passed, lines) = health::run(&*context.probe, &wanted).await;
    if !passed {
        tracing::warn!(checks = lines.trim_end(), "not ready");
        return reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, lines);
    }
    let body = if query.verbose { format!("{lines}ok\n") } else { "ok\n".to_owned() };
    reply(StatusCode::OK, PLAIN, body)
}

async fn version(method: Method) -> Response {
    if method != Method::GET {
        return not_allowed();
    }
    let body = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{cluster}.0","storage":"{}","stentor":"{}"}}"#,
        version::ETCD_VERSION,
        version::STORAGE_VERSION,
        version::STENTOR_VERSION,
        cluster = version::CLUSTER_VERSION,
    );
    reply(StatusCode::OK, JSON, body)
}

async fn metrics_text(State(context): State<Context>) -> Response {
    context.probe.measure();
    reply(StatusCode::OK, metrics::CONTENT_TYPE, context.metrics.text())
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

fn not_found() -> Response {
    reply(StatusCode::NOT_FOUND, PLAIN, "404 page not found\n".into())
}

fn not_allowed() -> Response {
    let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "Method Not Allowed\n".into());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

/// The parameters that the endpoints know; others are ignored.
#[derive(Debug, Default)]
struct Query {
    verbose: bool,
    serializable: bool,
    exclude: Vec<String>,
}

impl Query {
    fn parse(text: Option<&str>) -> Query {
        let mut query = Query::default();
        for pair in text.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "verbose" => query.verbose = true,
                "serializable" => query.serializable = value == "true",
                // Names of checks and alarms need no escapes.
                "exclude" if !value.is_empty() => query.exclude.push(value.to_owned()),
                _ => {}
            }
        }
        query
    }
}
