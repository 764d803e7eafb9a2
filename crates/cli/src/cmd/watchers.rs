use std::io::IsTerminal as _;
use std::time::Duration;

use console::Term;
use stentor_client::raw::{Client, Error};
use stentor_proto::introspectionpb::watchers_request::Order as WireOrder;
use stentor_proto::introspectionpb::{WatcherState, WatchersRequest, WatchersResponse};
use tokio::time::{MissedTickBehavior, interval};

use super::bytes;
use crate::failure::{Exit, Failure, Result};
use crate::go;
use crate::print::{Format, Sight, show};
use crate::session::Session;

/// Show who watches, the furthest behind first (Stentor only)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The endpoint is asked for its own watchers: name one with --endpoints. LAG is in revisions of the store that
the watcher has still to pass, most of which may not concern it; BEHIND is the time since the oldest event
that it has not got was committed. A victim's client does not read; an unsynced watcher reads history.

Examples:
  stentorctl watchers
  stentorctl watchers --prefix /registry/pods/ --state unsynced,victim
  stentorctl watchers --streams --order time -w table
  stentorctl watchers --follow --interval 500ms")]
pub(crate) struct Args {
    #[arg(hide = true)]
    none: Vec<String>,
    /// Only watchers that may see a key that begins so
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<std::ffi::OsString>,
    /// Only watchers in these states, by commas
    #[arg(long, value_delimiter = ',', value_enum)]
    state: Vec<State>,
    /// Rows at most; by default 100, or with --follow on a terminal what fits there
    #[arg(long, value_name = "ROWS")]
    limit: Option<u32>,
    /// What comes first
    #[arg(long, value_enum, default_value = "revisions")]
    order: Order,
    /// Show streams in place of single watchers
    #[arg(long)]
    streams: bool,
    /// Ask again and again, with rates, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Pause between two looks with --follow
    #[arg(long, default_value = "1s", value_parser = go::parse_duration)]
    interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum State {
    /// Has all there is
    Synced,
    /// Reads what it missed, from history
    Unsynced,
    /// Has events due that its client does not take
    Victim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    /// The most revisions behind
    Revisions,
    /// The longest behind
    Time,
}

/// The fastest that a server is asked: what looks often must not cost it much.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Lines of a terminal that are not rows: what is above them, and one to stand on.
const OTHER_LINES: u16 = 4;

/// gRPC's number for a call that the server does not know.
const UNIMPLEMENTED: i32 = 12;

/// Moves to the top left corner, and clears what is below.
const HOME: &str = "\x1b[H\x1b[J";
/// Clears the rest of a line that is written over another.
const CLEAR_LINE: &str = "\x1b[K";

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        if !self.none.is_empty() {
            return Err(Failure::args("watchers command accepts no arguments"));
        }
        if self.follow {
            session.printer.refuse(Format::Protobuf)?;
        }
        let client = session.connect().await?;
        if self.follow {
            return self.follow(&client, session).await;
        }
        let response = ask(&client, self.request(None)).await?;
        show(session.printer.watchers(&Sight::first(response, self.streams)))
    }

    fn request(&self, fits: Option<u32>) -> WatchersRequest {
        let state = |state: &State| match state {
            State::Synced => WatcherState::Synced,
            State::Unsynced => WatcherState::Unsynced,
            State::Victim => WatcherState::Victim,
        };
        let order = match self.order {
            Order::Revisions => WireOrder::LagRevisions,
            Order::Time => WireOrder::LagTime,
        };
        WatchersRequest {
            key_prefix: self.prefix.as_deref().map(bytes).unwrap_or_default(),
            states: self.state.iter().map(|s| state(s).into()).collect(),
            limit: self.limit.or(fits).unwrap_or_default(),
            order: order.into(),
            streams_only: self.streams,
        }
    }

    /// Looks until Ctrl-C. On a terminal each look is drawn over the last.
    async fn follow(&self, client: &Client, session: &Session) -> Result<()> {
        let screen = std::io::stdout().is_terminal() && session.printer.format != Format::Json;
        let mut ticks = interval(self.interval.max(SHORTEST_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<Sight> = None;
        loop {
            tokio::select! {
                stopped = tokio::signal::ctrl_c() => {
                    stopped?;
                    return if screen { show("\n") } else { Ok(()) };
                }
                _ = ticks.tick() => {}
            }
            let size = screen.then(|| Term::stdout().size());
            let request = self.request(size.map(|(rows, _)| u32::from(rows.saturating_sub(OTHER_LINES)).max(1)));
            let response = tokio::select! {
                stopped = tokio::signal::ctrl_c() => {
                    stopped?;
                    return Ok(());
                }
                response = client.introspection().watchers(request) => response,
            };
            let sight = match response {
                Ok(response) => Sight::next(response, self.streams, last.take()),
                // The connection is made again by itself.
                Err(error) if error.is_retryable() => {
                    eprintln!("{error}; trying again");
                    continue;
                }
                Err(error) => return Err(explain(error)),
            };
            let text = session.printer.watchers(&sight);
            match size {
                Some((_, columns)) => show(drawn(&text, columns.into()))?,
                None => show(text)?,
            }
            last = Some(sight);
        }
    }
}

async fn ask(client: &Client, request: WatchersRequest) -> Result<WatchersResponse> {
    client.introspection().watchers(request).await.map_err(explain)
}

/// An etcd does not know the call, and says so in words that help nobody.
fn explain(error: Error) -> Failure {
    match error {
        Error::Server { code: UNIMPLEMENTED, .. } => Failure::new(
            Exit::BadFeature,
            "this server does not tell of its watchers: only Stentor does. An etcd tells their number alone, among \
             its metrics (etcd_debugging_mvcc_watcher_total, etcd_debugging_mvcc_slow_watcher_total)",
        ),
        other => other.into(),
    }
}

/// The text as it is drawn over the last one: lines that don't fit are cut, so that none takes two.
fn drawn(text: &[u8], columns: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let mut out = HOME.to_owned();
    for line in text.lines() {
        out.push_str(&console::truncate_str(line, columns, ""));
        out.push_str(CLEAR_LINE);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_fits_the_terminal() {
        assert_eq!(drawn(b"abcdef\ngh\n", 4), "\x1b[H\x1b[Jabcd\x1b[K\ngh\x1b[K\n");
    }

    #[test]
    fn an_etcd_is_told_from_a_failure() {
        let unknown = explain(Error::Server { code: 12, message: "unknown service".into() });
        assert_eq!(unknown.exit, Exit::BadFeature);
        assert!(unknown.message.is_some_and(|m| m.contains("only Stentor does")));
        assert_eq!(explain(Error::DeadlineExceeded).exit, Exit::Error);
    }
}
