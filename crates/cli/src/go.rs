//! How Go reads and writes numbers, durations and strings: etcdctl shows and accepts them so.

use std::fmt::Write as _;
use std::time::Duration;

/// Reads an integer to the given base; base 0 goes by the prefix (0x, 0o, 0b, 0). The error is worded
/// as Go does.
pub(crate) fn parse_int(text: &str, base: u32) -> Result<i64, String> {
    let syntax = || format!("strconv.ParseInt: parsing {}: invalid syntax", quote(text.as_bytes()));
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (base, digits) = if base == 0 { prefix_base(digits) } else { (base, digits) };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err(syntax());
    }
    let range = || format!("strconv.ParseInt: parsing {}: value out of range", quote(text.as_bytes()));
    let value = i128::from_str_radix(digits, base).map_err(|_| range())?;
    i64::try_from(if negative { -value } else { value }).map_err(|_| range())
}

fn prefix_base(digits: &str) -> (u32, &str) {
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    match lower.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    }
}

/// Reads a boolean as Go's flags do.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text.as_bytes()))),
    }
}

const UNITS: [(&str, f64); 7] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Reads a duration such as `1.5s`, `100ms` or `1m30s`. A negative one is refused.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quote(text.as_bytes()));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        if unit == 0 {
            return Err(format!("time: missing unit in duration {}", quote(text.as_bytes())));
        }
        let scale = UNITS.iter().find(|(name, _)| *name == &rest[..unit]).map(|(_, scale)| scale);
        let scale = scale.ok_or_else(|| {
            format!("time: unknown unit {} in duration {}", quote(&rest.as_bytes()[..unit]), quote(text.as_bytes()))
        })?;
        nanos += number * scale;
        rest = &rest[unit..];
    }
    // Go's durations end at 292 years.
    if nanos > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// Writes a duration in the largest unit that fits, with as many decimals as it takes.
pub(crate) fn duration(value: Duration) -> String {
    let nanos = value.as_nanos();
    let (unit, scale): (&str, u128) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let mut out = String::new();
    let mut whole = nanos / scale;
    if unit == "s" && whole >= 60 {
        let minutes = whole / 60;
        if minutes >= 60 {
            let _ = write!(out, "{}h", minutes / 60);
        }
        let _ = write!(out, "{}m", minutes % 60);
        whole %= 60;
    }
    let _ = write!(out, "{whole}");
    let fraction = nanos % scale;
    if fraction > 0 {
        let width = scale.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out + unit
}

/// A number of bytes for people: 20 kB, 2.1 GB.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 10 {
        return format!("{count} B");
    }
    let power = count.ilog(1000);
    let value = (count as f64 / 1000f64.powi(power as i32) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[power as usize % UNITS.len()];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A string in Go's double quotes: what does not print is escaped, bytes that are no UTF-8 too.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| quote_char(c, &mut out));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn quote_char(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        c if prints(c) => out.push(c),
        c if (c as u32) < 0x80 => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c if (c as u32) < 0x1_0000 => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
        c => {
            let _ = write!(out, "\\U{:08x}", c as u32);
        }
    }
}

fn prints(c: char) -> bool {
    // After another character, so that a combining mark counts as what it is: printable.
    !c.is_control() && !format!("a{c}").escape_debug().skip(1).eq(c.escape_unicode())
}

/// Reads one Go string literal at the start of `text`, in double or back quotes; what follows it comes
/// back with it. `None` if there is none.
pub(crate) fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (value, rest) = raw.split_once('`')?;
        return Some((value.as_bytes().to_vec(), rest));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut out = Vec::new();
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return Some((out, rest)),
            '\\' => rest = unescape(rest, &mut out)?,
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Reads what stands after a backslash.
fn unescape<'a>(rest: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let simple = match rest.as_bytes().first()? {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' => b'\\',
        b'"' => b'"',
        b'x' => return byte_escape(rest.get(1..)?, 2, 16, out),
        b'0'..=b'7' => return byte_escape(rest, 3, 8, out),
        b'u' => return char_escape(rest.get(1..)?, 4, out),
        b'U' => return char_escape(rest.get(1..)?, 8, out),
        _ => return None,
    };
    out.push(simple);
    rest.get(1..)
}

fn byte_escape<'a>(rest: &'a str, digits: usize, base: u32, out: &mut Vec<u8>) -> Option<&'a str> {
    out.push(u8::from_str_radix(rest.get(..digits)?, base).ok()?);
    rest.get(digits..)
}

fn char_escape<'a>(rest: &'a str, digits: usize, out: &mut Vec<u8>) -> Option<&'a str> {
    let c = char::from_u32(u32::from_str_radix(rest.get(..digits)?, 16).ok()?)?;
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    rest.get(digits..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        assert_eq!(parse_int("42", 10), Ok(42));
        assert_eq!(parse_int("-7", 10), Ok(-7));
        assert_eq!(parse_int("7fffffffffffffff", 16), Ok(i64::MAX));
        assert_eq!(parse_int("0x10", 0), Ok(16));
        assert_eq!(parse_int("010", 0), Ok(8));
        assert_eq!(parse_int("zz", 16).unwrap_err(), r#"strconv.ParseInt: parsing "zz": invalid syntax"#);
        assert_eq!(
            parse_int("8000000000000000", 16).unwrap_err(),
            r#"strconv.ParseInt: parsing "8000000000000000": value out of range"#
        );
        assert!(parse_int("", 10).is_err() && parse_int("-", 10).is_err() && parse_int("+-1", 10).is_err());
    }

    #[test]
    fn durations_both_ways() {
        for (text, nanos) in [
            ("0s", 0),
            ("1ns", 1),
            ("890.442µs", 890_442),
            ("1.923952ms", 1_923_952),
            ("7.062039ms", 7_062_039),
            ("5.002840765s", 5_002_840_765),
            ("5s", 5_000_000_000),
            ("1m0s", 60_000_000_000),
            ("1h1m1.5s", 3_661_500_000_000),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)));
        }
        assert_eq!(parse_duration("1").unwrap_err(), r#"time: missing unit in duration "1""#);
        assert_eq!(parse_duration("1x").unwrap_err(), r#"time: unknown unit "x" in duration "1x""#);
        assert!(parse_duration("").is_err() && parse_duration("-1s").is_err() && parse_duration("1..s").is_err());
    }

    #[test]
    fn sizes() {
        for (count, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1_500, "1.5 kB"),
            (20_480, "20 kB"),
            (2_147_483_648, "2.1 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn quoting_is_undone_by_unquoting() {
        for (bytes, text) in [
            (&b"a b"[..], r#""a b""#),
            (b"say \"hi\"\\", r#""say \"hi\"\\""#),
            (b"\x00\x07\n\x7f", r#""\x00\a\n\x7f""#),
            ("é e\u{301} \u{200b} \u{10ffff}".as_bytes(), "\"é e\u{301} \\u200b \\U0010ffff\""),
            (b"\xffa\xc3", r#""\xffa\xc3""#),
            (b"it's", r#""it's""#),
        ] {
            assert_eq!(quote(bytes), text);
            assert_eq!(unquote(text), Some((bytes.to_vec(), "")), "{text}");
        }
        assert_eq!(unquote("`raw\\n` rest"), Some((b"raw\\n".to_vec(), " rest")));
        assert_eq!(unquote(r#""open"#), None);
        assert_eq!(unquote(r#""\q""#), None);
        assert_eq!(unquote("'x'"), None);
    }
}
