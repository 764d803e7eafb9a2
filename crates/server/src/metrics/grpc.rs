//! `grpc_server_`: calls by method and result.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tonic::Code;

use super::methods::{METHODS, MethodKind};
use crate::config::MetricsLevel;

/// The codes by number, as `grpc_code` names them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The upper bounds that Go's client library has by default, in seconds.
const HANDLING_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

type MethodLabels = [(&'static str, &'static str); 3];
type CodeLabels = [(&'static str, &'static str); 4];

/// The counters of every method, found by the request's path.
#[derive(Debug)]
pub struct GrpcMetrics {
    by_path: HashMap<String, Arc<MethodMetrics>>,
}

/// One method's counters.
#[derive(Debug)]
pub(crate) struct MethodMetrics {
    pub(crate) kind: MethodKind,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    started: Counter,
    handled: [Counter; CODES.len()],
    handling: Option<Histogram>,
}

impl GrpcMetrics {
    pub(super) fn new(registry: &mut Registry, level: MetricsLevel) -> Self {
        let started = Family::<MethodLabels, Counter>::default();
        let received = Family::<MethodLabels, Counter>::default();
        let sent = Family::<MethodLabels, Counter>::default();
        let handled = Family::<CodeLabels, Counter>::default();
        let handling = Family::<MethodLabels, Histogram>::new_with_constructor(|| Histogram::new(HANDLING_BUCKETS));
        let mut by_path = HashMap::with_capacity(METHODS.len());
        for (service, method, kind) in METHODS.iter().copied() {
            let labels = [("grpc_method", method), ("grpc_service", service), ("grpc_type", kind.label())];
            let [method_label, service_label, type_label] = labels;
            let metrics = MethodMetrics {
                kind,
                received: received.get_or_create(&labels).clone(),
                sent: sent.get_or_create(&labels).clone(),
                started: started.get_or_create(&labels).clone(),
                handled: CODES.map(|code| {
                    handled.get_or_create(&[("grpc_code", code), method_label, service_label, type_label]).clone()
                }),
                handling: (level == MetricsLevel::Extensive).then(|| handling.get_or_create(&labels).clone()),
            };
            by_path.insert(format!("/{service}/{method}"), Arc::new(metrics));
        }
        registry.register("grpc_server_started", "Calls started", started);
        registry.register("grpc_server_handled", "Calls ended, by result", handled);
        registry.register("grpc_server_msg_received", "Messages received", received);
        registry.register("grpc_server_msg_sent", "Messages sent", sent);
        if level == MetricsLevel::Extensive {
            registry.register("grpc_server_handling_seconds", "Time of a call", handling);
        }
        GrpcMetrics { by_path }
    }

    /// The counters of the method at `path`, unless it is not served.
    pub(crate) fn method(&self, path: &str) -> Option<&Arc<MethodMetrics>> {
        self.by_path.get(path)
    }
}

/// One call, counted as started now and as handled when dropped: with the code that was set, or as Canceled
/// if the client left before there was one.
#[derive(Debug)]
pub(crate) struct Call {
    method: Arc<MethodMetrics>,
    begun: Option<Instant>,
    code: Code,
    client_left: Arc<AtomicBool>,
}

impl Call {
    pub(crate) fn start(method: &Arc<MethodMetrics>) -> Call {
        method.started.inc();
        Call {
            method: Arc::clone(method),
            begun: method.handling.is_some().then(Instant::now),
            code: Code::Cancelled,
            client_left: Arc::default(),
        }
    }

    /// To be set when the client breaks off: whatever the service makes of that counts as Canceled.
    pub(crate) fn client_left(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.client_left)
    }

    pub(crate) fn set_code(&mut self, code: Code) {
        self.code = code;
    }

    pub(crate) fn method(&self) -> &MethodMetrics {
        &self.method
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let broken_off = self.code != Code::Ok && self.client_left.load(Relaxed);
        let code = if broken_off { Code::Cancelled } else { self.code };
        if let Some(counter) = self.method.handled.get(code as usize) {
            counter.inc();
        }
        if let (Some(begun), Some(handling)) = (self.begun, &self.method.handling) {
            handling.observe(begun.elapsed().as_secs_f64());
        }
    }
}
