//! Range reads: which keys, at which revision, in which order.

use std::cmp::Ordering;

use bytes::Bytes;
use stentor_proto::etcdserverpb::RangeRequest;
use stentor_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use stentor_proto::mvccpb::KeyValue;
use stentor_proto::{KeyRange, Revision};

use crate::key_index::{Found, Generation};
use crate::source::Source;
use crate::{ChangeId, Error};

/// What a range read found.
///
/// ```
/// use stentor_mvcc::{Store, engine::memory};
/// use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// for key in ["a", "b", "c"] {
///     store.put(PutRequest { key: key.into(), ..Default::default() })?;
/// }
/// let two = RangeRequest { key: "a".into(), range_end: "z".into(), limit: 2, ..Default::default() };
/// let found = store.view().range(&two)?;
/// assert_eq!((found.kvs.len(), found.more, found.count, found.revision.get()), (2, true, 3, 4));
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeResult {
    /// The pairs, in the order asked for.
    pub kvs: Vec<KeyValue>,
    /// The limit cut something off.
    pub more: bool,
    /// Keys in the range at the revision read, before limit and filters.
    pub count: i64,
    /// The store's newest revision when it was read, whichever was read.
    pub revision: Revision,
}

/// Records are fetched this many at a time, so that a large read holds no more than that twice.
const CHUNK: usize = 1024;

/// Serves a range request whose form was checked before.
pub(crate) fn range(source: &impl Source, request: &RangeRequest) -> Result<RangeResult, Error> {
    let at = source.readable(request.revision)?;
    let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let revision = source.current();
    if request.count_only {
        let count = source.index().count(&range, at) as i64;
        return Ok(RangeResult { count, revision, ..RangeResult::default() });
    }
    let plan = Plan::of(request);
    let mut found = plan.scan(source, &range, at);
    let complete = plan.scan_limit.is_none_or(|limit| found.len() < limit);
    let count = if complete { found.len() as i64 } else { source.index().count(&range, at) as i64 };
    plan.filter(source, &mut found)?;
    plan.sort(source, &mut found)?;
    let more = plan.limit.is_some_and(|limit| found.len() > limit);
    found.truncate(plan.limit.unwrap_or(usize::MAX));
    Ok(RangeResult { kvs: plan.pairs(source, found)?, more, count, revision })
}

/// A key on its way into an answer.
struct Candidate {
    key: Bytes,
    change: ChangeId,
    /// Its create revision and version, as far as the index knows them.
    place: Option<Generation>,
    /// Read from history when a filter or a sort needed it.
    pair: Option<KeyValue>,
}

impl Candidate {
    fn create(&self) -> i64 {
        self.place.map_or_else(|| self.pair.as_ref().map_or(0, |p| p.create_revision), |g| g.create.get())
    }

    fn version(&self) -> i64 {
        self.place.map_or_else(|| self.pair.as_ref().map_or(0, |p| p.version), |g| g.version)
    }
}

/// A request as it is carried out.
struct Plan<'a> {
    request: &'a RangeRequest,
    target: SortTarget,
    order: SortOrder,
    limit: Option<usize>,
    /// How many keys to look at, in key order, before filters and sort.
    scan_limit: Option<usize>,
    backwards: bool,
}

impl Plan<'_> {
    fn of(request: &RangeRequest) -> Plan<'_> {
        let target = request.sort_target();
        let limit = usize::try_from(request.limit).ok().filter(|&n| n > 0);
        let filtered = request.min_mod_revision != 0
            || request.max_mod_revision != 0
            || request.min_create_revision != 0
            || request.max_create_revision != 0;
        // One more than the limit shows whether there is more. Backwards by key is a scan too.
        let scan_limit = match (request.sort_order(), target) {
            _ if filtered => None,
            // With no order etcd sorts only the first keys by another target.
            (SortOrder::None, _) | (_, SortTarget::Key) => limit.map(|n| n.saturating_add(1)),
            _ => None,
        };
        let order = match request.sort_order() {
            SortOrder::None if target != SortTarget::Key => SortOrder::Ascend,
            SortOrder::Ascend if target == SortTarget::Key => SortOrder::None,
            order => order,
        };
        let backwards = order == SortOrder::Descend && target == SortTarget::Key;
        Plan { request, target, order, limit, scan_limit, backwards }
    }

    fn scan(&self, source: &impl Source, range: &KeyRange, at: Revision) -> Vec<Candidate> {
        let most = self.scan_limit.unwrap_or(usize::MAX);
        let candidate = |(key, found): (&[u8], Found)| Candidate {
            key: Bytes::copy_from_slice(key),
            change: found.change,
            place: found.newest,
            pair: None,
        };
        if let Some(key) = range.single() {
            let found = source.index().get(key, at);
            return found.map(|found| candidate((key, found))).into_iter().collect();
        }
        if self.backwards {
            source.index().range_rev(range, at).take(most).map(candidate).collect()
        } else {
            source.index().range(range, at).take(most).map(candidate).collect()
        }
    }

    fn filter(&self, source: &impl Source, found: &mut Vec<Candidate>) -> Result<(), Error> {
        let r = self.request;
        // A bound of 0 is none; a negative one is a bound like any other.
        let within = |n: i64, min: i64, max: i64| (min == 0 || n >= min) && (max == 0 || n <= max);
        found.retain(|c| within(c.change.revision.get(), r.min_mod_revision, r.max_mod_revision));
        if r.min_create_revision != 0 || r.max_create_revision != 0 {
            read_pairs(source, found.iter_mut().filter(|c| c.place.is_none()))?;
            found.retain(|c| within(c.create(), r.min_create_revision, r.max_create_revision));
        }
        Ok(())
    }

    fn sort(&self, source: &impl Source, found: &mut [Candidate]) -> Result<(), Error> {
        if self.order == SortOrder::None || self.backwards {
            return Ok(());
        }
        let by: fn(&Candidate, &Candidate) -> Ordering = match self.target {
            SortTarget::Key => |a, b| a.key.cmp(&b.key),
            SortTarget::Mod => |a, b| a.change.revision.cmp(&b.change.revision),
            SortTarget::Create | SortTarget::Version => {
                read_pairs(source, found.iter_mut().filter(|c| c.place.is_none()))?;
                match self.target {
                    SortTarget::Create => |a, b| a.create().cmp(&b.create()),
                    _ => |a, b| a.version().cmp(&b.version()),
                }
            }
            SortTarget::Value => {
                read_pairs(source, found.iter_mut())?;
                |a, b| a.pair.as_ref().map(|p| &p.value).cmp(&b.pair.as_ref().map(|p| &p.value))
            }
        };
        match self.order {
            SortOrder::Descend => found.sort_by(|a, b| by(b, a)),
            _ => found.sort_by(by),
        }
        Ok(())
    }

    fn pairs(&self, source: &impl Source, mut found: Vec<Candidate>) -> Result<Vec<KeyValue>, Error> {
        if self.request.keys_only {
            read_pairs(source, found.iter_mut().filter(|c| c.place.is_none() && c.pair.is_none()))?;
            // etcd 3.7 leaves the lease out too, but not where it had to read the value to sort by it.
            let keep_lease = self.order != SortOrder::None && self.target == SortTarget::Value;
            let bare = |c: Candidate| KeyValue {
                create_revision: c.create(),
                mod_revision: c.change.revision.get(),
                version: c.version(),
                lease: c.pair.as_ref().filter(|_| keep_lease).map_or(0, |p| p.lease),
                value: Bytes::new(),
                key: c.key,
            };
            return Ok(found.into_iter().map(bare).collect());
        }
        read_pairs(source, found.iter_mut().filter(|c| c.pair.is_none()))?;
        found.into_iter().map(|c| c.pair.ok_or_else(|| Error::missing(c.change))).collect()
    }
}

/// Fills in the pairs of candidates.
fn read_pairs<'a>(source: &impl Source, found: impl Iterator<Item = &'a mut Candidate>) -> Result<(), Error> {
    let mut found = found.fuse();
    loop {
        let mut chunk: Vec<&mut Candidate> = found.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        let ids: Vec<ChangeId> = chunk.iter().map(|c| c.change).collect();
        for (candidate, record) in chunk.iter_mut().zip(source.records(&ids)?) {
            candidate.pair = Some(record.pair().map_err(|e| Error::unreadable(record.id, e))?);
        }
    }
}
