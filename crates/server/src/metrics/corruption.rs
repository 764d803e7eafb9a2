//! What comparing the members has shown, and the alarms that are raised.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use stentor_mvcc::Alarm;

type Label = [(&'static str, &'static str); 1];

type AlarmLabels = [(&'static str, String); 2];

/// Comparisons of the members by what came of them, and alarms.
#[derive(Debug)]
pub struct CorruptionMetrics {
    /// All members are equal.
    pub equal: Counter,
    /// Those that could be compared are equal.
    pub incomplete: Counter,
    /// They are not.
    pub different: Counter,
    /// This member could not compare.
    pub failed: Counter,
    alarms: Family<AlarmLabels, Gauge>,
}

impl CorruptionMetrics {
    pub(super) fn new(registry: &mut Registry) -> CorruptionMetrics {
        let checks = Family::<Label, Counter>::default();
        let result = |name| checks.get_or_create(&[("result", name)]).clone();
        let metrics = CorruptionMetrics {
            equal: result("equal"),
            incomplete: result("incomplete"),
            different: result("different"),
            failed: result("failed"),
            alarms: Family::default(),
        };
        registry.register("stentor_corruption_checks", "Comparisons of the members while leading, by result", checks);
        registry.register(
            "etcd_debugging_server_alarms",
            "Alarms that are raised, by the member that they are about",
            metrics.alarms.clone(),
        );
        metrics
    }

    /// Shows these alarms and no others.
    pub fn set_alarms(&self, alarms: impl Iterator<Item = Alarm>) {
        self.alarms.clear();
        for alarm in alarms {
            let kind = alarm.kind.to_wire().as_str_name().to_owned();
            let labels = [("server_id", format!("{:x}", alarm.member_id)), ("alarm_type", kind)];
            self.alarms.get_or_create(&labels).set(1);
        }
    }
}
