//! The shape of the lines.

use super::*;

fn lines(format: LogFormat, level: LogLevel, log: impl FnOnce()) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = LogConfig { level, format, outputs: vec![LogOutput::File(file.path().to_owned())] };
    let subscriber = tracing_subscriber::registry().with(Logger::open(&config).unwrap());
    tracing::subscriber::with_default(subscriber, log);
    std::fs::read_to_string(file.path()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_line_is_one_json_object() {
    let error = io::Error::other("disk \"full\"\nreally");
    let lines = lines(LogFormat::Json, LogLevel::Info, || {
        tracing::info!(count = 3, ratio = 0.5, ok = true, who = %"me", level = "x", "ready to\tserve");
        tracing::warn!(error = &error as &dyn std::error::Error, "two\nlines");
        tracing::debug!("not this");
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("{\"level\":\"info\",\"ts\":\""), "{}", lines[0]);
    let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(first["msg"], "ready to\tserve");
    assert_eq!((&first["count"], &first["ratio"], &first["ok"]), (&3.into(), &0.5.into(), &true.into()));
    assert_eq!((&first["who"], &first["level"], &first["level_"]), (&"me".into(), &"info".into(), &"x".into()));
    let caller = first["caller"].as_str().unwrap();
    assert!(caller.starts_with("logging/tests.rs:"), "{caller}");
    let ts = first["ts"].as_str().unwrap();
    assert!(ts.len() == 27 && ts.ends_with('Z') && &ts[10..11] == "T", "{ts}");
    let second: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!((&second["msg"], &second["level"]), (&"two\nlines".into(), &"warn".into()));
    assert_eq!(second["error"], "disk \"full\"\nreally");
}

#[test]
fn the_level_is_kept() {
    let log = || {
        tracing::debug!("d");
        tracing::info!("i");
        tracing::warn!("w");
        tracing::error!("e");
        tracing::info!(target: "h2::codec", "of another crate");
        tracing::warn!(target: "h2::codec", "of another crate");
    };
    for (level, count) in [(LogLevel::Debug, 5), (LogLevel::Info, 4), (LogLevel::Warn, 3), (LogLevel::Error, 1)] {
        assert_eq!(lines(LogFormat::Json, level, log).len(), count, "{level:?}");
    }
}

#[test]
fn a_line_for_people_is_one_line_without_colour() {
    let lines = lines(LogFormat::Console, LogLevel::Info, || tracing::info!(n = 1, "one\ntwo"));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].ends_with("\tone two\t{\"n\":1}"), "{}", lines[0]);
    assert!(!lines[0].contains('\u{1b}'));
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let config = LogConfig {
        level: LogLevel::Info,
        format: LogFormat::Json,
        outputs: vec![LogOutput::File("/no/such/folder/log".into())],
    };
    let error = Logger::open(&config).unwrap_err();
    assert!(error.to_string().contains("/no/such/folder/log"), "{error}");
}

#[test]
fn a_full_disk_is_borne() {
    let config = LogConfig {
        level: LogLevel::Info,
        format: LogFormat::Json,
        outputs: vec![LogOutput::File("/dev/full".into())],
    };
    let subscriber = tracing_subscriber::registry().with(Logger::open(&config).unwrap());
    tracing::subscriber::with_default(subscriber, || tracing::info!("lost"));
}

/// A panic in any thread is one line of the log and the end of the process. Runs itself as the process.
#[test]
fn a_panic_is_one_line_and_the_end() {
    const LOG: &str = "STENTOR_TEST_PANIC_LOG";
    if let Some(path) = std::env::var_os(LOG) {
        let outputs = vec![LogOutput::File(path.into())];
        init(&LogConfig { level: LogLevel::Info, format: LogFormat::Json, outputs }).unwrap();
        let _ = std::thread::Builder::new().name("worker".into()).spawn(|| panic!("two\nlines")).unwrap().join();
        unreachable!("the process has ended");
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let name = concat!(module_path!(), "::a_panic_is_one_line_and_the_end");
    let (_, name) = name.split_once("::").unwrap();
    let ended = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(LOG, log.path())
        .output()
        .unwrap();
    assert!(!ended.status.success() && ended.status.code().is_none(), "by a signal: {:?}", ended.status);
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&line["level"], &line["error"], &line["thread"]),
        (&"fatal".into(), &"two\nlines".into(), &"worker".into())
    );
    assert!(line["caller"].as_str().unwrap().starts_with("logging/tests.rs:"), "{line}");
}
