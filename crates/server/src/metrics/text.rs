//! Prometheus' classic text format 0.0.4.
//!
//! The library writes OpenMetrics, where a counter's family is named without `_total`. etcd speaks the
//! classic format, and so do the tools made for it: to a classic parser such a counter would have no type.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// The format's media type.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters that etcd named without `_total`.
const BARE_COUNTERS: &[&str] =
    &["etcd_server_health_success", "etcd_server_health_failures", "etcd_server_learner_promote_successes"];

/// All metrics of the registry.
pub(crate) fn render(registry: &Registry) -> String {
    let mut open = String::new();
    // Writing into a string does not fail; a metric that cannot write itself leaves the rest out.
    if let Err(error) = encode(&mut open, registry) {
        tracing::warn!(%error, "metrics are incomplete");
    }
    classic(&open)
}

fn classic(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    // HELP comes before TYPE, which decides the name that both have.
    let mut help = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, text)| text);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" && !BARE_COUNTERS.contains(&name) { "_total" } else { "" };
            if let Some(help) = help.take() {
                push(&mut out, &["# HELP ", name, suffix, " ", help]);
            }
            let kind = if kind == "unknown" { "untyped" } else { kind };
            push(&mut out, &["# TYPE ", name, suffix, " ", kind]);
        } else if line.starts_with('#') {
            continue;
        } else {
            match BARE_COUNTERS.iter().find_map(|name| line.strip_prefix(name)?.strip_prefix("_total")) {
                Some(rest) => push(&mut out, &[&line[..line.len() - rest.len() - "_total".len()], rest]),
                None => push(&mut out, &[line]),
            }
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
    out.push('\n');
}
