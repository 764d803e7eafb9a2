//! `watch -i`: watches by the line.

use std::ffi::OsString;
use std::io::BufRead as _;

use clap::{Args as _, FromArgMatches as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::txn_grammar::words;
use super::watch::{Args, EnvKeys};
use crate::args::{help_or_failure, like_go};
use crate::failure::{Exit, Failure, Result};
use crate::session::Session;

/// What a line asks for.
#[derive(Debug)]
enum Line {
    Watch(Box<Args>),
    Progress,
}

/// Reads lines until the input ends, which is an error as in etcdctl; the watches run meanwhile.
pub(crate) async fn run(session: &Session, env: &EnvKeys) -> Result<()> {
    let (send, mut lines) = mpsc::channel(1);
    std::thread::spawn(move || read_lines(&send));
    let mut watches = JoinSet::new();
    let mut progress: Vec<mpsc::Sender<()>> = Vec::new();
    loop {
        let text = tokio::select! {
            line = lines.recv() => line,
            Some(ended) = watches.join_next() => {
                ended.unwrap_or_else(|e| Err(Failure::new(Exit::Error, e)))?;
                continue;
            }
        };
        let text = text.ok_or_else(|| Failure::input("error reading watch request line: EOF"))?;
        match read(&text, env)? {
            Ok(Line::Progress) => {
                progress.retain(|p| !p.is_closed());
                // A watch whose queue is full has been asked already.
                for ask in &progress {
                    ask.try_send(()).ok();
                }
            }
            Ok(Line::Watch(args)) => {
                let watcher = args.watcher(env)?;
                let (asks, asked) = mpsc::channel(1);
                progress.push(asks);
                let session = session.clone();
                watches.spawn(async move { watcher.run(&session, asked).await });
            }
            Err(complaint) => eprintln!("{complaint}"),
        }
    }
}

/// Sends each whole line; an unfinished last one is dropped.
fn read_lines(send: &mpsc::Sender<String>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).is_err() || line.pop() != Some(b'\n') {
            return;
        }
        if send.blocking_send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
    }
}

/// Reads a line: what it asks for, or else a complaint after which reading goes on.
fn read(line: &str, env: &EnvKeys) -> Result<std::result::Result<Line, String>> {
    let words = words(line)?;
    Ok(match words.first().and_then(|w| w.to_str()) {
        None => Err(format!("Invalid command: {line} (watch and progress supported)")),
        Some("progress") => Ok(Line::Progress),
        Some("watch") if words.len() < 2 && env.key.is_none() => {
            Err(format!("Invalid command {line} (command type or key is not provided)"))
        }
        Some("watch") => Ok(Line::Watch(Box::new(parse(words)?))),
        Some(_) => Err(format!("Invalid command {line} (only support watch)")),
    })
}

fn parse(words: Vec<OsString>) -> Result<Args> {
    let command = like_go(Args::augment_args(clap::Command::new("watch")));
    let parsed = command.try_get_matches_from(words).and_then(|m| Args::from_arg_matches(&m));
    parsed.map_err(|error| match help_or_failure(&error) {
        Ok(()) => Failure::silent(Exit::BadArgs),
        Err(failure) => {
            // The usage of a line is no help here: the first line says it.
            let message = failure.message.as_deref().and_then(|m| m.lines().next()).unwrap_or_default();
            Failure::args(message)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let none = EnvKeys::default();
        assert!(matches!(read("progress", &none), Ok(Ok(Line::Progress))));
        assert!(matches!(read("watch 'a b' --rev 3 -- echo x", &none), Ok(Ok(Line::Watch(_)))));
        let complaint = |line| read(line, &none).unwrap().unwrap_err();
        assert_eq!(complaint(""), "Invalid command:  (watch and progress supported)");
        assert_eq!(complaint("foo"), "Invalid command foo (only support watch)");
        assert_eq!(complaint("watch"), "Invalid command watch (command type or key is not provided)");
        assert_eq!(read("watch a --nope", &none).unwrap_err(), Failure::args("unknown flag: --nope"));
    }

    #[test]
    fn the_environment_names_keys_where_the_line_names_none() {
        let env = EnvKeys { key: Some("k".into()), range_end: Some("m".into()) };
        let Ok(Ok(Line::Watch(args))) = read("watch", &env) else { panic!("no watch") };
        let watcher = args.watcher(&env).unwrap();
        assert_eq!((&watcher.request.key[..], &watcher.request.range_end[..]), (&b"k"[..], &b"m"[..]));
        let Ok(Ok(Line::Watch(args))) = read("watch other", &env) else { panic!("no watch") };
        assert_eq!(args.watcher(&env).unwrap_err().exit, Exit::BadArgs);
    }
}
