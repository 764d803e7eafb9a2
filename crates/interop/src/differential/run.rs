//! One run: requests of one seed to both servers in lock-step.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stentor_proto::mvccpb::Event;
use stentor_proto::mvccpb::event::EventType;

use super::answer::Answer;
use super::coverage::{Coverage, OLD_ETCD};
use super::differences::{KNOWN, Seen, late_notes, may_miss, notes_worthless, part_missing};
use super::generate::Generator;
use super::report::{Difference, beside};
use super::request::Request;
use super::settle::settle;
use super::side::{STREAMS, Side};
use super::watcher::Watcher;
use crate::peers::Version;
use crate::stream::revision_of;

/// Requests between two comparisons of all watchers.
const SEGMENT: u64 = 25;
/// A request that takes longer, on either side, may have let a lease expire that was to be revoked before.
const STALL: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Options {
    /// The server that is right.
    pub reference: PathBuf,
    pub subject: PathBuf,
    pub seed: u64,
    pub requests: u64,
    /// Whether to go on after a difference, up to 40.
    pub keep_going: bool,
    /// Whether to print each request and its answer.
    pub trace: bool,
}

/// What a run found.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Report {
    pub coverage: Coverage,
    pub differences: Vec<Difference>,
    /// Whether the machine stood still so long that a difference may be that of two clocks.
    pub stalled: bool,
}

/// Runs one seed on two fresh servers.
///
/// # Errors
/// When a server does not start. What goes wrong later is a difference.
pub async fn run(options: &Options) -> Result<Report> {
    let versions = (Version::of(&options.reference)?, Version::of(&options.subject)?);
    let reference = Side::start(&options.reference, versions.0).await.context("the reference")?;
    let subject = Side::start(&options.subject, versions.1).await.context("the server under test")?;
    let old_etcd = versions.0.is_etcd_before((3, 7, 0));
    let mut coverage = Coverage::default();
    if old_etcd {
        coverage.add(OLD_ETCD);
    }
    let mut run = Run {
        sides: [reference, subject],
        generator: Generator::new(options.seed, old_etcd),
        history: Vec::new(),
        watchers: Vec::new(),
        coverage,
        differences: Vec::new(),
        stalled: false,
        number: 0,
        current: String::new(),
        options: options.clone(),
    };
    if let Err(error) = run.all().await {
        let logs = run.sides.iter().map(|side| format!("log of {}:\n{}", side.version, side.log_tail()));
        let logs = logs.collect::<Vec<_>>().join("\n");
        run.differ(format!("{error:#}\n{logs}"));
    }
    Ok(Report { coverage: run.coverage, differences: run.differences, stalled: run.stalled })
}

struct Run {
    sides: [Side; 2],
    generator: Generator,
    /// Every event so far, as both observers have it.
    history: Vec<Event>,
    watchers: Vec<Watcher>,
    coverage: Coverage,
    differences: Vec<Difference>,
    stalled: bool,
    number: u64,
    current: String,
    options: Options,
}

impl Run {
    async fn all(&mut self) -> Result<()> {
        while self.number < self.options.requests && !self.is_over() {
            self.number += 1;
            let mut request = self.generator.request();
            self.current = format!("{request:?}");
            let begun = Instant::now();
            let done = self.one(&mut request).await;
            self.stalled |= begun.elapsed() > STALL && !matches!(request, Request::Expire(_));
            done?;
        }
        if self.is_over() {
            return Ok(());
        }
        self.current = "the end of the run".into();
        self.step(&Generator::last_put()).await?;
        self.barrier().await?;
        for stream in 0..STREAMS {
            self.await_notes(stream).await?;
        }
        // Whatever came too much has come by now.
        self.barrier().await
    }

    async fn one(&mut self, request: &mut Request) -> Result<()> {
        self.prepare(request).await?;
        self.step(request).await?;
        if self.number.is_multiple_of(SEGMENT) {
            self.barrier().await?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let most = if self.options.keep_going { 40 } else { 1 };
        self.differences.len() >= most
    }

    fn differ(&mut self, what: String) {
        let Options { seed, reference, .. } = &self.options;
        let how_to_replay = format!(
            "cargo xtask interop --first-seed {seed} --seeds 1 --requests {} --peer {} --trace",
            self.number,
            reference.display()
        );
        let request = self.current.clone();
        self.differences.push(Difference { seed: *seed, number: self.number, request, what, how_to_replay });
    }

    /// Brings both sides to where the request has one right answer.
    async fn prepare(&mut self, request: &mut Request) -> Result<()> {
        match request {
            Request::Compact(compact) => {
                let world = &self.generator.world;
                if compact.revision > world.compacted && compact.revision <= world.revision {
                    self.barrier().await?;
                    self.catch_up().await?;
                    while self.generator.world.fragile.contains(&compact.revision) {
                        compact.revision -= 1;
                    }
                }
            }
            Request::Cancel(..) => self.barrier().await?,
            Request::Watch(stream, create) if create.watch_id != 0 => {
                for side in &mut self.sides {
                    side.streams[*stream].forget_compacted().await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends the request to both, compares, and takes note of the answer.
    async fn step(&mut self, request: &Request) -> Result<()> {
        if self.options.trace {
            println!("{} {request:?}", self.number);
        }
        let [reference, subject] = &mut self.sides;
        let (left, right) = tokio::join!(reference.execute(request), subject.execute(request));
        let (left, right) = (left?, right?);
        if self.options.trace {
            println!("    {left:?}");
        }
        self.coverage.count(request, &left);
        if let Some(what) = self.compare(request, &left, &right) {
            self.differ(what);
        }
        self.generator.learn(request, &left, &self.sides[0].streams);
        let (revision, compacted) = (self.generator.world.revision, self.generator.world.compacted);
        self.sides.iter_mut().for_each(|side| side.compacted = compacted);
        match (request, &left) {
            (Request::Watch(stream, create), Answer::Watch(answers)) => {
                if let [answer] = &answers[..]
                    && !answer.canceled
                {
                    let watcher = Watcher::new(*stream, answer.watch_id, create.clone(), revision, compacted);
                    self.count_watcher(&watcher, !create.filters.is_empty(), revision);
                    self.watchers.push(watcher);
                }
            }
            (Request::Cancel(stream, id), Answer::Watch(_)) => {
                self.watchers.retain(|watcher| watcher.stream != *stream || watcher.id != *id);
            }
            (Request::Progress(stream), _) => self.await_notes(*stream).await?,
            _ => {}
        }
        Ok(())
    }

    fn count_watcher(&mut self, watcher: &Watcher, filtered: bool, revision: i64) {
        if filtered {
            self.coverage.add("watcher with filters");
        }
        if watcher.start > revision + 1 {
            self.coverage.add("watcher in the future");
        }
    }

    /// What is different in two answers beyond what may be.
    fn compare(&mut self, request: &Request, left: &Answer, right: &Answer) -> Option<String> {
        let (mut left, mut right) = (left.clone(), right.clone());
        settle(request, &mut left, &mut right);
        let (reference, subject) = (self.sides[0].version, self.sides[1].version);
        for known in KNOWN.iter().filter(|known| known.applies(reference, subject)) {
            let Seen::Answer(make_equal) = known.seen else { continue };
            let before = (left.clone(), right.clone());
            make_equal(request, &mut left, &mut right);
            if before != (left.clone(), right.clone()) {
                self.coverage.add(format!("difference {}", known.id));
            }
        }
        settle(request, &mut left, &mut right);
        (left != right).then(|| beside([&reference, &subject], &left, &right))
    }

    /// Waits until everything that is due has come, and compares it.
    async fn barrier(&mut self) -> Result<()> {
        self.compare_histories().await?;
        let mut wrong = Vec::new();
        for watcher in &mut self.watchers {
            watcher.extend(&self.history, &mut self.coverage);
            for (at, side) in self.sides.iter_mut().enumerate() {
                if let Some((revision, count)) = watcher.awaited(at, side.version, side.compacted) {
                    side.streams[watcher.stream].await_events(watcher.id, revision, count).await?;
                }
                let excused = check_events(watcher, at, side, &mut wrong);
                excused.into_iter().for_each(|id| self.coverage.add(format!("difference {id}")));
            }
            let last = watcher.expected.last().map_or(0, revision_of);
            watcher.behind &= last + 1 < self.generator.world.revision;
        }
        for side in &mut self.sides {
            check_notes(&self.watchers, side, &mut self.coverage, &mut wrong);
            let broken = side.streams.iter().chain([&side.observer]).flat_map(|stream| stream.violations().to_vec());
            wrong.extend(broken.map(|violation| format!("{}: {violation}", side.version)));
        }
        if let Some(what) = wrong.into_iter().next() {
            self.differ(what);
        }
        Ok(())
    }

    /// Takes in what the observers have seen since, up to the current revision.
    async fn compare_histories(&mut self) -> Result<()> {
        let revision = self.generator.world.revision;
        let known = self.history.len();
        let mut seen = Vec::new();
        for side in &mut self.sides {
            if revision > 1 {
                side.observer.await_revision(0, revision).await.with_context(|| format!("{}", side.version))?;
            }
            let mut events = side.observer.events(0).get(known..).unwrap_or_default().to_vec();
            events.iter_mut().for_each(|event| side.leases.share_event(event));
            seen.push(events);
        }
        let [left, right] = &seen[..] else { return Ok(()) };
        if left != right {
            let versions: [&dyn std::fmt::Display; 2] = [&self.sides[0].version, &self.sides[1].version];
            let what = beside(versions, left, right);
            self.differ(format!("what a watcher of everything receives:\n{what}"));
        }
        for (at, event) in left.iter().enumerate() {
            let key = |event: &Event| event.kv.as_ref().map(|kv| (kv.key.clone(), kv.mod_revision));
            let Some(again) = left.iter().skip(at + 1).find(|later| key(later) == key(event)) else { continue };
            self.coverage.add("event of a key changed twice in a revision");
            if again.r#type == EventType::Put as i32 {
                self.generator.world.fragile.insert(revision_of(event));
            }
        }
        self.history.extend_from_slice(left);
        Ok(())
    }

    /// Leaves no watcher behind that a compaction could overtake on one side alone.
    async fn catch_up(&mut self) -> Result<()> {
        for stream in 0..STREAMS {
            if self.watchers.iter().any(|watcher| watcher.stream == stream && watcher.behind) {
                self.await_notes(stream).await?;
            }
        }
        let left: Vec<_> = self.watchers.iter().filter(|w| w.behind).map(|w| (w.stream, w.id)).collect();
        for (stream, id) in left {
            self.step_boxed(&Request::Cancel(stream, id)).await?;
        }
        Ok(())
    }

    async fn step_boxed(&mut self, request: &Request) -> Result<()> {
        Box::pin(self.step(request)).await
    }

    /// Asks both sides for progress until it is told, if the stream can tell it: that needs a watcher,
    /// and none that waits for the future.
    async fn await_notes(&mut self, stream: usize) -> Result<()> {
        let revision = self.generator.world.revision;
        let mut watchers = self.watchers.iter().filter(|watcher| watcher.stream == stream).peekable();
        if watchers.peek().is_none() || watchers.any(|watcher| watcher.waits(revision)) {
            return Ok(());
        }
        let mut trusted = true;
        for side in &mut self.sides {
            if let Some(known) = notes_worthless(side.version) {
                self.coverage.add(format!("difference {}", known.id));
                trusted = false;
                continue;
            }
            side.streams[stream].forget_compacted().await?;
            let told = side.streams[stream].await_note(revision).await;
            told.with_context(|| format!("{}, stream {stream}", side.version))?;
            self.coverage.add("watch note");
        }
        if trusted {
            let caught_up = self.watchers.iter_mut().filter(|watcher| watcher.stream == stream);
            caught_up.for_each(|watcher| watcher.behind = false);
        }
        Ok(())
    }
}

/// Compares what has newly come on one side with what was due; the differences that excuse it.
fn check_events(watcher: &mut Watcher, at: usize, side: &Side, wrong: &mut Vec<String>) -> Vec<&'static str> {
    let mut excused = Vec::new();
    let got = side.streams[watcher.stream].events(watcher.id);
    let (mut due, mut came) = watcher.checked[at];
    let mut late = std::mem::take(&mut watcher.excused[at]);
    while due < watcher.expected.len() || came < got.len() {
        let event = got.get(came).map(|event| {
            let mut event = event.clone();
            side.leases.share_event(&mut event);
            event
        });
        let replay = watcher.replay(due, side.compacted);
        if event.as_ref() == replay.as_ref().map(|replay| replay.expected) {
            (due, came) = (due + 1, came + 1);
            late.clear();
            continue;
        }
        if let Some(found) = late.iter().position(|excused| watcher.expected.get(*excused) == event.as_ref()) {
            came += 1;
            late.drain(..=found);
            continue;
        }
        let part =
            replay.as_ref().zip(event.as_ref()).and_then(|(replay, got)| part_missing(side.version, replay, got));
        let all = replay.as_ref().and_then(|replay| may_miss(side.version, replay));
        if let Some(known) = part.or(all) {
            excused.push(known.id);
            if part.is_none() {
                late.push(due);
            }
            (due, came) = (due + 1, came + usize::from(part.is_some()));
            continue;
        }
        let names: [&dyn std::fmt::Display; 2] = [&"due", &side.version];
        let what = beside(names, &watcher.expected.get(due), &event.as_ref());
        wrong.push(format!("{}, event {due} of {} events due:\n{what}", watcher.show(), watcher.expected.len()));
        (due, came) = (watcher.expected.len(), got.len());
        break;
    }
    watcher.checked[at] = (due, came);
    watcher.excused[at] = late;
    excused
}

/// Every event at or below a progress note's revision must have come before it.
fn check_notes(watchers: &[Watcher], side: &mut Side, coverage: &mut Coverage, wrong: &mut Vec<String>) {
    let excuse = notes_worthless(side.version);
    for (number, stream) in side.streams.iter_mut().enumerate() {
        stream.drain();
        for note in stream.take_notes() {
            for (id, seen) in note.seen {
                let Some(watcher) = watchers.iter().find(|w| w.stream == number && w.id == id) else { continue };
                let due = watcher.due_by(note.revision, side.version, side.compacted);
                if seen >= due && !watcher.waits(note.revision) {
                    continue;
                }
                let late = late_notes(side.version).filter(|_| seen >= due && note.revision <= watcher.created_at);
                match excuse.or(late) {
                    Some(known) => coverage.add(format!("difference {}", known.id)),
                    None => wrong.push(format!(
                        "{}: a progress note at revision {} after {seen} of {due} events due by then: {}",
                        side.version,
                        note.revision,
                        watcher.show()
                    )),
                }
            }
        }
    }
}
