//! When two tools' outputs count as equal: all bytes, but for what no two runs share.

use crate::harness::{Run, Tool};

/// What a case leaves out beyond that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Nothing,
    /// Borders and padding of a table whose cells differ in length.
    Padding,
}

/// Brings a run into the form that is compared.
pub(crate) fn normal(tool: &Tool, run: &Run, port: u16, leave: Leave) -> Run {
    let out = text(&run.out, port);
    let out = match leave {
        Leave::Nothing => out,
        Leave::Padding => out.replace(['─', ' '], ""),
    };
    let out = if tool.ours { out } else { watch_json(&out) };
    let err = text(&run.err, port);
    let err = err.lines().filter(|l| !l.starts_with("{\"level\"")).map(|l| l.replace("etcdctl", "stentorctl"));
    // What follows helps people and need not be the same.
    let help = |l: &String| l.starts_with("Usage:") || l.starts_with("Did you mean") || l.starts_with("Run '");
    let err: Vec<String> = err.take_while(|l| !help(l)).filter(|l| !l.is_empty()).collect();
    Run { code: run.code, out, err: err.join("\n") }
}

fn text(text: &str, port: u16) -> String {
    durations(&ports(text, port))
}

/// Puts `<port>` for a port in an address; the same digits may begin an id by chance.
fn ports(text: &str, port: u16) -> String {
    let port = format!(":{port}");
    let mut parts = text.split(port.as_str());
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(if part.starts_with(|c: char| c.is_ascii_digit()) { &port } else { ":<port>" });
        out.push_str(part);
    }
    out
}

#[test]
fn only_a_ports_own_digits_are_hidden() {
    let text = "127.0.0.1:13195 {\"member_id\":13195394291058371180}";
    assert_eq!(ports(text, 13195), "127.0.0.1:<port> {\"member_id\":13195394291058371180}");
}

/// 3.7 shows a watch's cancel reason too, and no events as null; 3.4 and 3.5 as ours does.
fn watch_json(out: &str) -> String {
    let cut = out.replace(",\"CancelReason\":\"\"", "");
    if cut.contains("\"CompactRevision\"") { cut.replace("\"Events\":null", "\"Events\":[]") } else { cut }
}

/// Puts `<time>` for every measured duration.
fn durations(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let unit = ["ms", "µs"].into_iter().find(|u| rest[number..].starts_with(u));
        match unit {
            Some(unit) => {
                out.push_str("<time>");
                rest = &rest[number + unit.len()..];
            }
            None => {
                out.push_str(&rest[..number]);
                rest = &rest[number..];
            }
        }
    }
    out + rest
}

#[test]
fn durations_are_not_compared() {
    assert_eq!(durations("took = 1.5ms, 20 kB, 890µs."), "took = <time>, 20 kB, <time>.");
}
