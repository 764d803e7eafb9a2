//! Every public type can be shared between threads, and every future moved to another: checked by the compiler.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::time::Duration;

use stentor_client::txn::{Compare, DeleteOp, GetOp, ListOp, Nested, Op, OpResult, Operand, PutOp, Subject};
use stentor_client::*;

fn shared<T: Send + Sync + ?Sized>() {}

fn moved<T: IntoFuture<IntoFuture: Send>>(_: T) {}

macro_rules! shared {
    ($($type:ty),* $(,)?) => { $(shared::<$type>();)* };
}

#[test]
fn types_are_shared() {
    shared![
        Backoff,
        ClientBuilder,
        Client,
        MemberAdd,
        MemberAdded,
        MemberId,
        MemberInfo,
        MemberList,
        dyn Credentials,
        Secret,
        Campaign,
        Election,
        Leadership,
        Observation,
        Observe,
        Endpoint,
        InvalidEndpoint,
        Error,
        ErrorKind,
        Result<()>,
        KeyValue,
        LeaseId,
        Compact,
        Delete,
        Deleted,
        Get,
        Put,
        PutPrev,
        Written,
        Granted,
        Lease,
        LeaseBuilder,
        LeaseChanges,
        LeaseGrant,
        LeaseInfo,
        LeaseLoss,
        LeaseState,
        TimeToLive,
        ListBuilder,
        Listing,
        Pages,
        ListThenWatch,
        Lock,
        LockGuard,
        Alarm,
        AlarmKind,
        HashKv,
        Member,
        MemberStatus,
        StoreSnapshot,
        ClientEvent,
        Counter,
        dyn Metrics,
        PutAll,
        OwnershipLoss,
        KeyRange,
        Change,
        Changes,
        Entry<String>,
        ReflectBuilder,
        Reflector,
        ReflectorStatus,
        Snapshot,
        Subscription,
        SubscriptionItem,
        Undecodable,
        EndpointStatus,
        Status,
        Revision,
        Committed<String>,
        Isolation,
        Stm<'static, String>,
        Transaction,
        ConditionalDelete,
        ConditionalPut,
        Swap,
        Txn,
        TxnOutcome,
        Batch,
        Event,
        EventKind,
        Events,
        Interruption,
        Prev,
        Watch,
        WatchBuilder,
        WatchControl,
        WatchItem,
        Compare,
        DeleteOp,
        GetOp,
        ListOp,
        Nested,
        Op,
        OpResult,
        Operand<u64>,
        PutOp,
        Subject,
    ];
    #[cfg(feature = "tls")]
    shared![Tls];
    #[cfg(feature = "raw")]
    {
        use stentor_client::raw::{self, Cluster, Introspection, Kv, LeaseKeepAlive, Maintenance};
        shared![raw::Client, raw::Error, raw::Lease<'static>, raw::Watch<'static>, Cluster<'static>];
        shared![Introspection<'static>, Kv<'static>];
        shared![LeaseKeepAlive, Maintenance<'static>, raw::RangeStream, raw::SnapshotStream, raw::WatchStream];
    }
}

#[test]
fn no_type_is_forgotten() {
    // Their values are types of the list above; a future that a program makes needs only to be moved.
    let no_types = ["Pair", "SecretFuture"];
    let exported = include_str!("../../src/lib.rs").split(';').filter_map(|item| item.split("pub use ").nth(1));
    let names = exported.flat_map(|names| names.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let types: BTreeSet<_> = names.filter(|name| name.starts_with(char::is_uppercase)).collect();
    assert!(types.len() > 80, "they could not be read");
    let here = include_str!("threads.rs");
    let listed: BTreeSet<_> = here.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let forgotten: Vec<_> = types.iter().filter(|name| !listed.contains(**name) && !no_types.contains(name)).collect();
    assert!(forgotten.is_empty(), "not checked: {forgotten:?}");
}

/// Never called: that it compiles is the check.
#[allow(dead_code, unused_must_use, clippy::too_many_lines)]
fn futures_are_moved(client: &'static Client, lease: &'static Lease, member: &'static Member, builder: ClientBuilder) {
    let (revision, id) = (Revision::FIRST, lease.id());
    moved(Client::connect(["a:1"]));
    moved(builder.connect());
    moved(client.sync_endpoints());
    moved(client.get("a"));
    moved(client.put("a", "1"));
    moved(client.put("a", "1").prev_kv());
    moved(client.put_all([("a", "1")]));
    moved(client.delete("a"));
    moved(client.compact(revision));
    moved(client.create("a", "1"));
    moved(client.replace("a", "1", revision));
    moved(client.remove("a", revision));
    moved(client.txn());
    moved(client.stm(|t| async move { t.get("a").await }));
    moved(client.list("a"));
    moved(Box::leak(Box::new(client.list("a").pages())).next());
    moved(client.watch("a"));
    moved(client.list_then_watch("a"));
    moved(client.lease(Duration::from_secs(1)));
    moved(client.lease_grant(Duration::from_secs(1)));
    moved(client.lease_renew(id));
    moved(client.lease_revoke(id));
    moved(client.leases());
    moved(client.time_to_live(id));
    moved(lease.lost());
    moved(lease.doubted());
    moved(lease.revoke());
    moved(lease.clone().close());
    moved(Box::leak(Box::new(lease.changes())).next());
    moved(client.lock("a"));
    moved(client.lock("a").try_lock());
    moved(client.election("a").campaign("me"));
    moved(Box::leak(Box::new(client.election("a"))).leader());
    moved(client.election("a").observe());
    moved(client.alarms());
    moved(client.member_list());
    moved(client.member_add(["a:1"]));
    moved(client.member_remove(MemberId::new(1)));
    moved(client.member_update(MemberId::new(1), ["a:1"]));
    moved(client.member_promote(MemberId::new(1)));
    moved(member.status());
    moved(member.hash_kv(revision));
    moved(member.defragment());
    moved(member.move_leader(MemberId::new(1)));
    moved(member.snapshot());
}

/// As above, of the protocol's own messages.
#[cfg(feature = "raw")]
#[allow(dead_code)]
fn raw_futures_are_moved(
    client: &'static stentor_client::raw::Client,
    keep_alive: &'static mut stentor_client::raw::LeaseKeepAlive,
    range: &'static mut stentor_client::raw::RangeStream,
    snapshot: &'static mut stentor_client::raw::SnapshotStream,
    (watch, next): (&'static stentor_client::raw::WatchStream, &'static mut stentor_client::raw::WatchStream),
) {
    moved(stentor_client::raw::Client::connect(["a:1"]));
    moved(stentor_client::raw::Client::by(Client::builder(["a:1"])));
    moved(client.kv().range(Default::default()));
    moved(client.kv().range_stream(Default::default()));
    moved(client.kv().put(Default::default()));
    moved(client.kv().delete_range(Default::default()));
    moved(client.kv().txn(Default::default()));
    moved(client.kv().compact(Default::default()));
    moved(client.lease().grant(Default::default()));
    moved(client.lease().revoke(Default::default()));
    moved(client.lease().time_to_live(Default::default()));
    moved(client.lease().leases());
    moved(client.cluster().member_list(true));
    moved(client.introspection().watchers(Default::default()));
    moved(client.maintenance().status());
    moved(client.maintenance().hash_kv(Default::default()));
    moved(client.maintenance().alarm(Default::default()));
    moved(client.maintenance().defragment());
    moved(client.maintenance().snapshot());
    moved(client.watch().open(Default::default()));
    moved(keep_alive.renew(1));
    moved(range.next());
    moved(snapshot.next());
    moved(watch.create(Default::default()));
    moved(watch.cancel(1));
    moved(watch.request_progress());
    moved(next.next());
}

/// As above, of what has to be waited for first.
#[allow(dead_code)]
fn streams_are_moved(
    (watch, events, observation): (&'static mut Watch, &'static mut Events, &'static mut Observation),
    (copy, subscription): (&'static Reflector, &'static mut Subscription),
    (guard, leads, t): (LockGuard, &'static Leadership, &'static Transaction),
    snapshot: &'static mut StoreSnapshot,
) {
    moved(watch.next());
    moved(events.next());
    moved(observation.next());
    moved(subscription.next());
    moved(snapshot.next());
    moved(copy.ready());
    moved(copy.wait_for(Revision::FIRST));
    moved(copy.get_linearizable("a"));
    moved(guard.lost());
    moved(guard.unlock());
    moved(leads.lost());
    moved(leads.proclaim("me"));
    moved(t.get("a"));
    moved(t.stored("a"));
}
