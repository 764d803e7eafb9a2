//! The programs that watch, and what each of them saw.

use std::time::Duration;

use stentor_checks::log::Pair;
use stentor_checks::random::Random;
use stentor_checks::watch::{Before, Keys, Seen, Selection, Taken};
use stentor_checks::workload::{KEYS, Workload};
use stentor_client::{
    Batch, Client, Endpoint, ErrorKind, Event, Interruption, KeyRange, Prev, Revision, Watch, WatchBuilder, WatchItem,
};
use turmoil::net::TcpStream;

use crate::calls::Calls;
use crate::world::{World, now};
use crate::{leases, member, programs};

fn range(keys: &Keys) -> KeyRange {
    match keys.clone() {
        Keys::Key(key) => KeyRange::key(key),
        Keys::Prefix(prefix) => KeyRange::prefix(prefix),
        Keys::Segment(key) => KeyRange::segment(key),
        Keys::Interval(start, end) => KeyRange::interval(start, end),
        Keys::All => KeyRange::all(),
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Now,
    From(i64),
    After(i64),
}

/// What a program asks for, and how it takes what comes.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) selection: Selection,
    pub(crate) start: Start,
    pub(crate) progress: bool,
    pub(crate) fragment: bool,
    pub(crate) buffer_bytes: Option<usize>,
    /// Up to so long a pause before each item.
    pub(crate) slow: Option<Duration>,
    /// Given up by the program after this: by cancelling it, or by dropping it.
    pub(crate) gives_up: Option<(Duration, bool)>,
}

impl Ask {
    fn draw(random: &mut Random, current: i64, compacted: i64) -> Ask {
        let pick =
            |random: &mut Random| KEYS.get(random.below(KEYS.len() as u64) as usize).copied().unwrap_or_default();
        let key = pick(random).to_owned();
        let keys = match random.below(6) {
            0 => Keys::Key(key),
            1 => Keys::Prefix(key.get(..3).unwrap_or(&key).to_owned()),
            2 | 3 => Keys::Segment(key),
            4 => {
                let other = pick(random).to_owned();
                if key == other { Keys::All } else { Keys::Interval(key.clone().min(other.clone()), key.max(other)) }
            }
            _ => Keys::All,
        };
        let back = random.below(30) as i64;
        let start = match random.below(5) {
            0 | 1 => Start::Now,
            2 => Start::From((current - back).max(compacted).max(1)),
            // Also of what is gone, and of what is yet to come.
            3 => Start::From((current + 20 - back * 2).max(1)),
            _ => Start::After((current - back).max(compacted).max(1)),
        };
        Ask {
            selection: Selection {
                keys,
                prev_kv: random.one_in(2),
                skip_puts: random.one_in(8),
                skip_deletes: random.one_in(6),
            },
            start,
            progress: random.one_in(2),
            fragment: !random.one_in(4),
            buffer_bytes: random.one_in(3).then(|| random.between(1, 4_000) as usize),
            slow: random.one_in(3).then(|| random.millis(100, 4_000)),
            gives_up: random.one_in(6).then(|| (random.millis(0, 20_000), random.one_in(2))),
        }
    }

    fn builder(&self, client: &Client) -> Option<WatchBuilder> {
        let mut builder = client.watch(range(&self.selection.keys)).notices().fragment(self.fragment);
        builder = match self.start {
            Start::Now => builder,
            Start::From(revision) => builder.from(Revision::new(revision)?),
            Start::After(revision) => builder.after(Revision::new(revision)?),
        };
        if self.selection.prev_kv {
            builder = builder.prev_kv();
        }
        if self.selection.skip_puts {
            builder = builder.skip_puts();
        }
        if self.selection.skip_deletes {
            builder = builder.skip_deletes();
        }
        if self.progress {
            builder = builder.progress();
        }
        if let Some(bytes) = self.buffer_bytes {
            builder = builder.buffer_bytes(bytes);
        }
        Some(builder)
    }
}

fn taken(batch: &Batch) -> Taken {
    Taken { revision: batch.revision().get(), events: batch.events().iter().map(seen).collect() }
}

fn seen(event: &Event) -> Seen {
    let before = match event.prev() {
        Prev::NotAsked => Before::NotAsked,
        Prev::Created => Before::Nothing,
        Prev::Compacted => Before::Unknown,
        Prev::Value(kv) => Before::Pair(kv.key().to_vec(), pair(kv)),
    };
    let (key, revision) = (event.kv().key().to_vec(), event.revision().get());
    Seen { key, revision, after: event.is_put().then(|| pair(event.kv())), before }
}

fn pair(kv: &stentor_client::KeyValue) -> Pair {
    Pair {
        value: kv.value().clone(),
        created: kv.create_revision().get(),
        modified: kv.mod_revision().get(),
        version: kv.version(),
        lease: kv.lease().map_or(0, stentor_client::LeaseId::get),
    }
}

/// What a watch yielded.
#[derive(Debug)]
pub(crate) enum Item {
    Events(Taken),
    Progress(i64),
    /// On a link that had been dead for so long that pings found it out.
    HalfOpen,
    /// On a member that was behind what had been seen.
    ResumedBehind,
}

/// How a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Error(ErrorKind, String),
    /// The program gave it up.
    GivenUp,
    /// The stream ended without an error.
    Silent,
}

/// One watch, from its asking to its end.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) ask: Ask,
    pub(crate) asked_at: Duration,
    /// The highest revision that anybody had been told of then.
    pub(crate) asked_revision: i64,
    /// The position once the watch was confirmed, and the log's revision then.
    pub(crate) created: Option<(Option<i64>, i64)>,
    pub(crate) items: Vec<Item>,
    pub(crate) position: Option<i64>,
    pub(crate) end: Option<(End, Duration)>,
}

impl Record {
    pub(crate) fn events(&self) -> usize {
        self.items.iter().map(|item| if let Item::Events(batch) = item { batch.events.len() } else { 0 }).sum()
    }
}

/// Programs of a client that write and read.
const PROGRAMS: usize = 3;

/// Runs one client with several watches, each followed by others when it ends, and programs that write.
pub(crate) async fn run(world: World, number: usize, slots: usize, mut random: Random) -> turmoil::Result {
    let members = world.lock().hosts.len();
    let client = Client::builder((0..members).map(member::endpoint))
        .seed(random.next())
        .connector(|endpoint: Endpoint| async move { TcpStream::connect(endpoint.to_string()).await })
        .metrics(world.lock().counted.clone())
        .build()?;
    for slot in 0..slots {
        tokio::spawn(follow(world.clone(), client.clone(), number, slot, random.fork()));
    }
    let calls = Calls::new(members)?;
    for program in 0..PROGRAMS {
        let (name, workload) = (format!("c{number}.p{program}"), Workload::new(random.fork()));
        tokio::spawn(programs::run(world.clone(), name, calls.clone(), workload, random.fork()));
    }
    if world.lock().settings.with_leases {
        tokio::spawn(leases::run(world.clone(), format!("c{number}.l"), calls, random.fork()));
    }
    std::future::pending().await
}

async fn follow(world: World, client: Client, number: usize, slot: usize, mut random: Random) {
    for life in 0.. {
        tokio::time::sleep(random.millis(0, 3_000)).await;
        let (at, ask) = {
            let mut state = world.lock();
            if state.closing {
                return;
            }
            let ask = Ask::draw(&mut random, state.log.revision, state.log.compacted());
            let (name, asked_at) = (format!("c{number}.{slot}.{life}"), now());
            state.note(asked_at, format_args!("{name} asks {ask:?}"));
            let asked_revision = state.history.known;
            let (created, items, position, end) = (None, Vec::new(), None, None);
            let record = Record { name, ask: ask.clone(), asked_at, asked_revision, created, items, position, end };
            state.records.push(record);
            (state.records.len() - 1, ask)
        };
        let Some(builder) = ask.builder(&client) else { return };
        let end = match builder.await {
            Ok(watch) => take(&world, number, at, &ask, watch, &mut random).await,
            Err(error) => End::Error(error.kind().clone(), error.to_string()),
        };
        world.edit(at, |record| record.end = Some((end.clone(), now())));
        world.tell(at, format_args!("ends: {end:?}"));
    }
}

/// Takes what comes until the watch ends or the program has had enough.
async fn take(world: &World, number: usize, at: usize, ask: &Ask, mut watch: Watch, random: &mut Random) -> End {
    let begun = watch.position().map(Revision::get);
    let revision = world.lock().log.revision;
    world.edit(at, |record| {
        record.created = Some((begun, revision));
        record.position = begun;
    });
    world.tell(at, format_args!("is confirmed after {begun:?}"));
    let gives_up = ask.gives_up.map(|(after, _)| tokio::time::Instant::now() + after);
    let control = watch.control();
    let mut given_up = false;
    loop {
        if let Some(slow) = ask.slow.filter(|_| !world.lock().closing) {
            tokio::time::sleep(random.millis(0, slow.as_millis() as u64)).await;
        }
        let enough = async {
            match gives_up {
                Some(at) if !given_up => tokio::time::sleep_until(at).await,
                _ => std::future::pending().await,
            }
        };
        let item = tokio::select! {
            biased;
            () = enough => {
                given_up = true;
                if ask.gives_up.is_some_and(|(_, drops)| drops) {
                    return End::GivenUp;
                }
                control.cancel();
                continue;
            }
            item = watch.next() => item,
        };
        let position = watch.position().map(Revision::get);
        world.edit(at, |record| record.position = position);
        match item {
            Some(Ok(item)) => keep(world, number, at, item),
            Some(Err(error)) => return End::Error(error.kind().clone(), error.to_string()),
            None if given_up => return End::GivenUp,
            None => return End::Silent,
        }
    }
}

fn keep(world: &World, number: usize, at: usize, item: WatchItem) {
    let item = match item {
        WatchItem::Events(batch) => {
            world.tell(at, format_args!("takes {} events up to {}", batch.events().len(), batch.revision()));
            world.lock().history.tell(batch.revision().get());
            Item::Events(taken(&batch))
        }
        WatchItem::Progress(revision) => {
            world.tell(at, format_args!("is told of {revision}"));
            Item::Progress(revision.get())
        }
        WatchItem::Interrupted(Interruption::Broken(error)) => {
            world.tell(at, format_args!("is interrupted: {error}"));
            let endpoint = error.endpoint().map(Endpoint::to_string).unwrap_or_default();
            if !world.lock().is_link_dead(number, &endpoint, now()) {
                return;
            }
            Item::HalfOpen
        }
        WatchItem::Interrupted(Interruption::Moved) => {
            world.tell(at, "is moved");
            return;
        }
        WatchItem::Interrupted(_) => {
            world.tell(at, "is too slow");
            return;
        }
        WatchItem::Resumed { gap, endpoint } => {
            world.tell(at, format_args!("goes on at {endpoint} after {} ms", gap.as_millis()));
            let state = world.lock();
            let position = state.records.get(at).and_then(|record| record.position);
            if position <= Some(state.applied_revision(&endpoint.to_string())) {
                return;
            }
            Item::ResumedBehind
        }
        _ => return,
    };
    world.edit(at, |record| record.items.push(item));
}

impl World {
    fn edit(&self, at: usize, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.lock().records.get_mut(at) {
            change(record);
        }
    }

    fn tell(&self, at: usize, what: impl std::fmt::Display) {
        let mut state = self.lock();
        let Some(name) = state.records.get(at).map(|record| record.name.clone()) else { return };
        state.note(now(), format_args!("{name} {what}"));
    }
}
