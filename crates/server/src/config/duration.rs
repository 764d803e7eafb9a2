//! Durations as etcd's command line spells them: `100ms`, `1m30s`, `1.5h`, `-1s`, `0`.

use std::time::Duration;

const NANOS_PER_SECOND: f64 = 1e9;

/// A parsed duration; `None` for what the command line would refuse. Negative ones are zero: where
/// etcd accepts them they mean "off" or "at once", which zero means too.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0.0_f64;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        nanos += number.parse::<f64>().ok()? * unit_nanos(unit)?;
        rest = tail;
    }
    if negative {
        return Some(Duration::ZERO);
    }
    // A signed 64-bit count of nanoseconds is what etcd can hold.
    if nanos > i64::MAX as f64 {
        return None;
    }
    let seconds = (nanos / NANOS_PER_SECOND).floor();
    Duration::try_from_secs_f64(seconds)
        .ok()
        .map(|whole| whole + Duration::from_nanos((nanos - seconds * NANOS_PER_SECOND).round() as u64))
}

fn unit_nanos(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_etcd() {
        let ms = Duration::from_millis;
        for (text, want) in [
            ("100ms", Some(ms(100))),
            ("1m30s", Some(ms(90_000))),
            ("1.5h", Some(ms(5_400_000))),
            (".5s", Some(ms(500))),
            ("+2s", Some(ms(2_000))),
            ("5us", Some(Duration::from_micros(5))),
            ("5µs", Some(Duration::from_micros(5))),
            ("7ns", Some(Duration::from_nanos(7))),
            ("2h0m0s", Some(ms(7_200_000))),
            ("0", Some(Duration::ZERO)),
            ("0s", Some(Duration::ZERO)),
            ("-1s", Some(Duration::ZERO)),
            ("600000000000ns", Some(ms(600_000))),
            ("", None),
            ("-", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("5d", None),
            ("1.2.3s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(parse(text), want, "{text:?}");
        }
    }
}
