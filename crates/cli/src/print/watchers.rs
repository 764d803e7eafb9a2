//! Watchers and streams by lag.

mod structured;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use stentor_proto::introspectionpb::{Watcher, WatcherState, WatchersResponse};
use stentor_proto::{KeyRange, RangeEnd};

use super::{Format, Printer, line, wire};
use crate::go;
use crate::table::Table;

/// A key is shown up to so many characters where columns stand beside it.
const KEY_CHARS: usize = 48;
const AGENT_CHARS: usize = 24;

/// One look at the watchers, and what was sent since the one before.
#[derive(Debug)]
pub(crate) struct Sight {
    response: WatchersResponse,
    /// Rows are streams.
    streams_only: bool,
    rates: Option<Rates>,
}

/// Events and bytes a second, of the rows that the look before had too.
#[derive(Debug)]
struct Rates {
    watchers: HashMap<(u64, i64), Rate>,
    streams: HashMap<u64, Rate>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    events: f64,
    bytes: f64,
}

impl Sight {
    /// A look without one before it.
    pub(crate) fn first(response: WatchersResponse, streams_only: bool) -> Sight {
        Sight { response, streams_only, rates: None }
    }

    /// A look of several; the rates are counted from `last`.
    pub(crate) fn next(response: WatchersResponse, streams_only: bool, last: Option<Sight>) -> Sight {
        let rates = Rates::between(last.as_ref().map(|last| &last.response), &response);
        Sight { response, streams_only, rates: Some(rates) }
    }
}

impl Rates {
    fn between(last: Option<&WatchersResponse>, now: &WatchersResponse) -> Rates {
        let mut rates = Rates { watchers: HashMap::new(), streams: HashMap::new() };
        let Some(last) = last else { return rates };
        let seconds = Duration::from_millis(now.now_unix_ms.saturating_sub(last.now_unix_ms)).as_secs_f64();
        if seconds <= 0.0 {
            return rates;
        }
        let rate = |was: (u64, u64), is: (u64, u64)| Rate {
            events: is.0.saturating_sub(was.0) as f64 / seconds,
            bytes: is.1.saturating_sub(was.1) as f64 / seconds,
        };
        let was: HashMap<_, _> =
            last.watchers.iter().map(|w| ((w.stream_id, w.watch_id), (w.events, w.bytes))).collect();
        rates.watchers.extend(now.watchers.iter().filter_map(|w| {
            let id = (w.stream_id, w.watch_id);
            Some((id, rate(*was.get(&id)?, (w.events, w.bytes))))
        }));
        let was: HashMap<_, _> = last.streams.iter().map(|s| (s.id, (s.events, s.bytes))).collect();
        rates
            .streams
            .extend(now.streams.iter().filter_map(|s| Some((s.id, rate(*was.get(&s.id)?, (s.events, s.bytes))))));
        rates
    }
}

impl Printer {
    pub(crate) fn watchers(&self, sight: &Sight) -> Vec<u8> {
        let r = &sight.response;
        match self.format {
            Format::Json => line(structured::json(r)),
            Format::Fields => self.fields(|f| structured::fields(r, f)),
            Format::Protobuf => wire(r),
            Format::Table => format!("{}\n{}", summary(r), self.rows(sight).0).into_bytes(),
            Format::Simple => {
                let (table, left) = self.rows(sight);
                format!("{}\n\n{}", summary(r), table.plain(&left)).into_bytes()
            }
        }
    }

    /// The rows, and the columns that stand left in plain text.
    fn rows(&self, sight: &Sight) -> (Table, Vec<usize>) {
        if sight.streams_only {
            return (stream_rows(sight), vec![1, 2]);
        }
        let options = if sight.rates.is_some() { 12 } else { 10 };
        (self.watcher_rows(sight), vec![1, 3, 4, options])
    }

    fn watcher_rows(&self, sight: &Sight) -> Table {
        let mut header = vec!["stream", "peer", "id", "range", "state", "lag", "behind", "next", "events", "bytes"];
        if sight.rates.is_some() {
            header.extend(["events/s", "bytes/s"]);
        }
        header.push("options");
        let mut table = Table::new(&header);
        let peers: HashMap<u64, &str> = sight.response.streams.iter().map(|s| (s.id, s.peer.as_str())).collect();
        for w in &sight.response.watchers {
            let mut row = vec![
                w.stream_id.to_string(),
                known(peers.get(&w.stream_id).copied().unwrap_or_default()),
                w.watch_id.to_string(),
                self.range(w),
                state_name(w.state()).to_owned(),
                w.lag_revisions.to_string(),
                age(w.lag_ms),
                w.next_revision.to_string(),
                w.events.to_string(),
                go::bytes(w.bytes),
            ];
            if let Some(rates) = &sight.rates {
                row.extend(rate_cells(rates.watchers.get(&(w.stream_id, w.watch_id))));
            }
            row.push(known(&options(w).join(",")));
            table.row(row);
        }
        table
    }

    /// The keys that a watcher sees.
    fn range(&self, w: &Watcher) -> String {
        let key = |key: &[u8]| {
            let text = if self.hex { String::from_utf8_lossy(&self.text(key)).into_owned() } else { go::quote(key) };
            cut(text, KEY_CHARS)
        };
        let range = KeyRange::from_wire(w.key.clone(), w.range_end.clone());
        if range == KeyRange::all() {
            return "all keys".to_owned();
        }
        match range.end() {
            RangeEnd::Single => key(&w.key),
            RangeEnd::Unbounded => format!("[{}, ..)", key(&w.key)),
            RangeEnd::Before(_) if range == KeyRange::prefix(w.key.clone()) => format!("{}...", key(&w.key)),
            RangeEnd::Before(end) => format!("[{}, {})", key(&w.key), key(end)),
        }
    }
}

fn stream_rows(sight: &Sight) -> Table {
    let mut header = vec![
        "stream",
        "peer",
        "user agent",
        "age",
        "watchers",
        "synced",
        "unsynced",
        "victims",
        "lag",
        "behind",
        "events",
        "bytes",
    ];
    if sight.rates.is_some() {
        header.extend(["events/s", "bytes/s"]);
    }
    header.push("held");
    let mut table = Table::new(&header);
    for s in &sight.response.streams {
        let mut row = vec![
            s.id.to_string(),
            known(&s.peer),
            cut(known(&s.user_agent), AGENT_CHARS),
            age(sight.response.now_unix_ms.saturating_sub(s.opened_unix_ms)),
            s.watchers.to_string(),
            s.synced.to_string(),
            s.unsynced.to_string(),
            s.victims.to_string(),
            s.lag_revisions.to_string(),
            age(s.lag_ms),
            s.events.to_string(),
            go::bytes(s.bytes),
        ];
        if let Some(rates) = &sight.rates {
            row.extend(rate_cells(rates.streams.get(&s.id)));
        }
        row.push(go::bytes(s.held_bytes));
        table.row(row);
    }
    table
}

/// All watchers in a line.
fn summary(r: &WatchersResponse) -> String {
    let t = r.totals.unwrap_or_default();
    let revision = r.header.as_ref().map_or(0, |h| h.revision);
    let compacted = if t.compact_revision < 0 { String::new() } else { format!(", compacted {}", t.compact_revision) };
    let slowest = match (t.slowest_lag_revisions, t.slowest_lag_ms) {
        (0, 0) => "none behind".to_owned(),
        (revisions, ms) => format!("slowest {revisions} revisions and {} behind", age(ms)),
    };
    format!(
        "revision {revision}{compacted}; streams {}; watchers {} (synced {}, unsynced {}, victims {}), matching {}; \
         {slowest}; {} held",
        t.streams,
        t.synced + t.unsynced + t.victims,
        t.synced,
        t.unsynced,
        t.victims,
        t.matching,
        go::bytes(t.held_bytes)
    )
}

fn state_name(state: WatcherState) -> &'static str {
    match state {
        WatcherState::Synced => "synced",
        WatcherState::Unsynced => "unsynced",
        WatcherState::Victim => "victim",
        WatcherState::Unspecified => "unknown",
    }
}

fn options(w: &Watcher) -> Vec<&'static str> {
    let all = [(w.prev_kv, "prev-kv"), (w.progress_notify, "progress-notify"), (w.fragment, "fragment")];
    all.into_iter().filter_map(|(on, name)| on.then_some(name)).collect()
}

/// A time for people: as precise as its size asks for.
fn age(ms: u64) -> String {
    match ms {
        0 => "-".to_owned(),
        1..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

fn known(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn cut(text: String, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn rate_cells(rate: Option<&Rate>) -> [String; 2] {
    match rate {
        Some(rate) => [format!("{:.0}", rate.events), go::bytes(rate.bytes as u64)],
        None => ["-".to_owned(), "-".to_owned()],
    }
}
