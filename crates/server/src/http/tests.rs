//! The endpoints, asked without a network.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::Request;
use http_body_util::BodyExt as _;
use tower::Service as _;

use super::*;
use crate::config::MetricsLevel;

/// A server in any state.
#[derive(Default)]
struct Fake {
    dead: AtomicBool,
    no_space: AtomicBool,
    corrupt: AtomicBool,
    leaderless: AtomicBool,
    learner: AtomicBool,
    no_barrier: AtomicBool,
    hangs: AtomicBool,
}

impl Probe for Fake {
    fn alive(&self) -> Result<(), String> {
        if self.dead.load(Relaxed) { Err("the apply worker has ended".into()) } else { Ok(()) }
    }

    fn alarms(&self) -> Vec<Alarm> {
        let raised = [(&self.no_space, Alarm::NoSpace), (&self.corrupt, Alarm::Corrupt)];
        raised.iter().filter(|(flag, _)| flag.load(Relaxed)).map(|(_, alarm)| *alarm).collect()
    }

    fn has_leader(&self) -> bool {
        !self.leaderless.load(Relaxed)
    }

    fn is_learner(&self) -> bool {
        self.learner.load(Relaxed)
    }

    fn serializable_read(&self) -> ProbeFuture<'_> {
        Box::pin(async {
            if self.hangs.load(Relaxed) {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }

    fn linearizable_read(&self) -> ProbeFuture<'_> {
        let failed = self.no_barrier.load(Relaxed);
        Box::pin(async move { if failed { Err("etcdserver: no leader".into()) } else { Ok(()) } })
    }
}

async fn ask(fake: &Arc<Fake>, method: &str, path: &str) -> (u16, String) {
    let probe: Arc<dyn Probe> = Arc::<Fake>::clone(fake);
    let mut router = router(probe, Metrics::new(MetricsLevel::Basic));
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router.call(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn with(set: impl FnOnce(&Fake)) -> Arc<Fake> {
    let fake = Fake::default();
    set(&fake);
    Arc::new(fake)
}

/// One of a fake's switches.
type Switch = fn(&Fake) -> &AtomicBool;

const HEALTHY: &str = r#"{"health":"true","reason":""}"#;

#[tokio::test]
async fn a_healthy_server() {
    let fake = Arc::new(Fake::default());
    let ready = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    for (path, body) in [
        ("/health", HEALTHY),
        ("/health?serializable=true", HEALTHY),
        ("/livez", "ok\n"),
        ("/livez?verbose", "[+]serializable_read ok\nok\n"),
        ("/livez/serializable_read", "ok\n"),
        ("/readyz", "ok\n"),
        ("/readyz?verbose", ready),
        ("/readyz?verbose&exclude=nosuch", ready),
        (
            "/readyz?verbose=&exclude=data_corruption&exclude=linearizable_read",
            "[+]serializable_read ok\n[+]non_learner ok\nok\n",
        ),
        ("/readyz/linearizable_read?verbose", "[+]linearizable_read ok\nok\n"),
    ] {
        assert_eq!(ask(&fake, "GET", path).await, (200, body.to_owned()), "{path}");
    }
    let (status, body) = ask(&fake, "GET", "/version").await;
    let version: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!((&version["etcdserver"], &version["etcdcluster"]), (&"3.7.3".into(), &"3.7.0".into()));
    let (status, body) = ask(&fake, "GET", "/metrics").await;
    assert!(status == 200 && body.contains("\netcd_mvcc_put_total 0\n"), "{body}");
}

#[tokio::test]
async fn wrong_paths_and_methods() {
    let fake = Arc::new(Fake::default());
    for path in ["/", "/nosuch", "/version/x", "/health/", "/readyz/nosuch", "/livez/linearizable_read"] {
        assert_eq!(ask(&fake, "GET", path).await, (404, "404 page not found\n".to_owned()), "{path}");
    }
    for path in ["/health", "/livez", "/readyz", "/version", "/readyz/non_learner"] {
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(ask(&fake, method, path).await, (405, "Method Not Allowed\n".to_owned()), "{method} {path}");
        }
        assert_eq!(ask(&fake, "HEAD", path).await.0, 405, "{path}");
    }
}

#[tokio::test]
async fn liveness_is_about_the_process_alone() {
    let fake = with(|fake| {
        for flag in [&fake.no_space, &fake.corrupt, &fake.leaderless, &fake.no_barrier, &fake.hangs] {
            flag.store(true, Relaxed);
        }
    });
    assert_eq!(ask(&fake, "GET", "/livez").await, (200, "ok\n".to_owned()));
    let fake = with(|fake| fake.dead.store(true, Relaxed));
    let (status, body) = ask(&fake, "GET", "/livez").await;
    assert_eq!((status, body.as_str()), (503, "[-]serializable_read failed: the apply worker has ended\n"));
}

#[tokio::test(start_paused = true)]
async fn each_failure_has_its_line() {
    let cases: [(Switch, &str); 4] = [
        (|fake| &fake.corrupt, "[-]data_corruption failed: "),
        (|fake| &fake.hangs, "[-]serializable_read failed: no answer"),
        (|fake| &fake.no_barrier, "[-]linearizable_read failed: etcdserver: no leader"),
        (|fake| &fake.learner, "[-]non_learner failed: "),
    ];
    for (flag, line) in cases {
        let fake = with(|fake| flag(fake).store(true, Relaxed));
        let (status, body) = ask(&fake, "GET", "/readyz").await;
        assert!(status == 503 && body.contains(line), "{status} {body}");
        assert_eq!(body.lines().filter(|line| line.starts_with("[-]")).count(), 1, "{body}");
        let name = line.trim_start_matches("[-]").split(' ').next().unwrap();
        assert_eq!(ask(&fake, "GET", &format!("/readyz?exclude={name}")).await.0, 200, "{name}");
    }
}

#[tokio::test]
async fn health_names_its_reason() {
    let cases: [(Switch, &str, &str, u16); 6] = [
        (|fake| &fake.no_space, "/health", "ALARM NOSPACE", 503),
        (|fake| &fake.no_space, "/health?exclude=NOSPACE", "", 200),
        (|fake| &fake.corrupt, "/health?exclude=NOSPACE", "ALARM CORRUPT", 503),
        (|fake| &fake.leaderless, "/health", "RAFT NO LEADER", 503),
        (|fake| &fake.leaderless, "/health?serializable=true", "", 200),
        (|fake| &fake.no_barrier, "/health", "RANGE ERROR:etcdserver: no leader", 503),
    ];
    for (flag, path, reason, want) in cases {
        let fake = with(|fake| flag(fake).store(true, Relaxed));
        let (status, body) = ask(&fake, "GET", path).await;
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, json["reason"].as_str()), (want, Some(reason)), "{path}");
        assert_eq!(json["health"], if want == 200 { "true" } else { "false" });
    }
}
