//! Alarms: states of trouble that all members know of and that outlast a restart.

use std::collections::BTreeSet;

use stentor_proto::etcdserverpb::alarm_request::AlarmAction;
use stentor_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};

use crate::engine::Family;
use crate::group::Group;
use crate::meta;

/// What kind of trouble.
///
/// ```
/// use stentor_mvcc::AlarmKind;
/// use stentor_proto::etcdserverpb::AlarmType;
/// assert_eq!(AlarmKind::NoSpace.to_wire(), AlarmType::Nospace);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// The space quota is used up: what would take more space is refused.
    NoSpace,
    /// A member's data differs from the others'.
    Corrupt,
}

/// An alarm raised by a member.
///
/// ```
/// use stentor_mvcc::{Alarm, AlarmKind, Answer, Store, engine::memory};
/// use stentor_proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
/// use stentor_proto::storagepb::log_entry::Op;
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// let (action, alarm) = (AlarmAction::Activate.into(), AlarmType::Nospace.into());
/// let raised = store.execute(Op::Alarm(AlarmRequest { action, member_id: 1, alarm }))?;
/// assert_eq!(raised, Answer::Alarm(vec![Alarm { member_id: 1, kind: AlarmKind::NoSpace }]));
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    /// Who raised it.
    pub member_id: u64,
    /// What for.
    pub kind: AlarmKind,
}

impl AlarmKind {
    fn of(alarm: i32) -> Option<AlarmKind> {
        match AlarmType::try_from(alarm) {
            Ok(AlarmType::Nospace) => Some(AlarmKind::NoSpace),
            Ok(AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
            Ok(AlarmType::None) | Err(_) => None,
        }
    }

    /// As it goes over the wire.
    pub fn to_wire(self) -> AlarmType {
        match self {
            AlarmKind::NoSpace => AlarmType::Nospace,
            AlarmKind::Corrupt => AlarmType::Corrupt,
        }
    }
}

impl From<Alarm> for AlarmMember {
    fn from(alarm: Alarm) -> AlarmMember {
        AlarmMember { member_id: alarm.member_id, alarm: alarm.kind.to_wire().into() }
    }
}

/// The alarms that a request asks for: of one kind or, with none named, of all; of one member or, with
/// 0, of all.
pub(crate) fn select(alarms: &BTreeSet<Alarm>, request: &AlarmRequest) -> Vec<Alarm> {
    let kind = AlarmKind::of(request.alarm);
    let chosen =
        |a: &&Alarm| kind.is_none_or(|k| k == a.kind) && (request.member_id == 0 || request.member_id == a.member_id);
    alarms.iter().filter(chosen).copied().collect()
}

impl Group<'_> {
    /// Raises or lifts alarms; the answer names them.
    pub(crate) fn alarm(&mut self, request: &AlarmRequest) -> Vec<Alarm> {
        match request.action() {
            AlarmAction::Get => select(&self.alarms, request),
            AlarmAction::Activate => {
                let Some(kind) = AlarmKind::of(request.alarm) else { return Vec::new() };
                let alarm = Alarm { member_id: request.member_id, kind };
                if self.alarms.insert(alarm) {
                    self.meta.put(Family::Meta, meta::alarm_key(alarm), &[][..]);
                }
                vec![alarm]
            }
            AlarmAction::Deactivate => {
                let Some(kind) = AlarmKind::of(request.alarm) else { return Vec::new() };
                let alarm = Alarm { member_id: request.member_id, kind };
                if !self.alarms.remove(&alarm) {
                    return Vec::new();
                }
                self.meta.delete(Family::Meta, meta::alarm_key(alarm));
                vec![alarm]
            }
        }
    }
}
