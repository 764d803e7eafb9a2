//! How a transaction is written: compares, then two lists of operations, each ended by an empty line.

use std::ffi::OsString;
use std::io::{BufRead, Read};
use std::os::unix::ffi::OsStringExt as _;

use bytes::Bytes;
use clap::{FromArgMatches as _, Subcommand};
use stentor_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{Compare, RequestOp, TxnRequest};

use super::{del, get, put};
use crate::args::like_go;
use crate::failure::{Failure, Result};
use crate::go;

/// The operations of a transaction.
#[derive(Debug, Subcommand)]
enum Operation {
    Get(get::Args),
    Put(put::Args),
    Del(del::Args),
}

/// Reads a whole transaction; `prompt` is told what comes next.
pub(crate) fn read(input: &mut impl BufRead, mut prompt: impl FnMut(&str) -> Result<()>) -> Result<TxnRequest> {
    prompt("compares:")?;
    let compare = block(input, |line, _| compare(line))?;
    prompt("success requests (get, put, del):")?;
    let success = block(input, operation)?;
    prompt("failure requests (get, put, del):")?;
    let failure = block(input, operation)?;
    Ok(TxnRequest { compare, success, failure })
}

/// Reads lines up to an empty one. An item may read on in the input itself.
fn block<R: BufRead, T>(input: &mut R, mut item: impl FnMut(&str, &mut R) -> Result<T>) -> Result<Vec<T>> {
    let mut items = Vec::new();
    loop {
        let line = line(input)?;
        let line = line.trim();
        if line.is_empty() {
            return Ok(items);
        }
        items.push(item(line, input)?);
    }
}

/// One line without its end; an unfinished one counts as the end of the input.
pub(crate) fn line(input: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line).map_err(Failure::input)?;
    if line.pop() != Some(b'\n') {
        return Err(Failure::input("EOF"));
    }
    String::from_utf8(line).map_err(|_| Failure::input("the line is not UTF-8; write other bytes as \"\\xff\""))
}

/// What a compare line was read as, as far as that went.
#[derive(Debug, Default)]
struct Parts<'a> {
    key: Vec<u8>,
    operator: &'a str,
    value: Option<Vec<u8>>,
}

/// Reads `"key") OPERATOR "value"`; what follows is ignored.
fn parts(text: &str) -> Parts<'_> {
    let mut parts = Parts::default();
    let Some((key, rest)) = go::unquote(text.trim_start_matches(' ')) else { return parts };
    parts.key = key;
    let Some(rest) = rest.strip_prefix(')').filter(|r| r.starts_with(' ')) else { return parts };
    let rest = rest.trim_start_matches(' ');
    let (operator, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    parts.operator = operator;
    parts.value = go::unquote(rest.trim_start_matches(' ')).map(|(value, _)| value);
    parts
}

/// Reads a compare: `mod("key") > "0"`.
fn compare(line: &str) -> Result<Compare> {
    let malformed = |more: String| Failure::input(format!("malformed comparison: {line}{more}"));
    let (target, rest) = line.split_once('(').ok_or_else(|| malformed(String::new()))?;
    let parts = parts(rest);
    let Some(value) = parts.value else {
        let key = go::quote(&parts.key);
        return Err(malformed(format!("; got {target}({key}) {} \"\"", parts.operator)));
    };
    let invalid = || Failure::input(format!("invalid txn compare request: {line}"));
    let number = |base| std::str::from_utf8(&value).ok().and_then(|v| go::parse_int(v, base).ok()).ok_or_else(invalid);
    let (target, operand) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(Bytes::from(value.clone()))),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        unknown => return Err(malformed(format!(" (unknown target {unknown})"))),
    };
    let result = match parts.operator {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        unknown => return Err(malformed(format!(" (unknown operator {unknown}, expected one of = != > <)"))),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: parts.key.into(),
        range_end: Bytes::new(),
        target_union: Some(operand),
    })
}

/// Reads an operation as on the command line: `put key "a value"`. A put without a value takes all the
/// rest of the input as one.
fn operation(line: &str, input: &mut impl BufRead) -> Result<RequestOp> {
    let words = words(line)?;
    if words.len() < 2 {
        return Err(Failure::input(format!("invalid txn compare request: {line}")));
    }
    let command = like_go(Operation::augment_subcommands(
        clap::Command::new("txn").no_binary_name(true).subcommand_required(true).disable_help_subcommand(true),
    ));
    let operation = command.try_get_matches_from(words).and_then(|m| Operation::from_arg_matches(&m)).map_err(|e| {
        eprintln!("{}", e.render().to_string().trim_end());
        Failure::input(format!("invalid txn request: {line}"))
    })?;
    let request = match operation {
        Operation::Get(get) => Request::RequestRange(get.request()?),
        Operation::Put(put) => Request::RequestPut(put.request(input as &mut dyn Read)?),
        Operation::Del(del) => Request::RequestDeleteRange(del.request()?),
    };
    Ok(RequestOp { request: Some(request) })
}

/// Splits a line into words: in double quotes with escapes, in single quotes as it stands, else up to the
/// next space. A quote that is not closed is dropped.
pub(crate) fn words(line: &str) -> Result<Vec<OsString>> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let length = match first {
            '"' => closing_quote(rest),
            '\'' => rest[1..].find('\'').map(|at| at + 2),
            _ => Some(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        let Some(length) = length else {
            rest = &rest[1..];
            continue;
        };
        let (word, after) = rest.split_at(length);
        words.push(match first {
            '"' => {
                let (value, _) = go::unquote(word).ok_or_else(|| Failure::input("bad escape in a quoted string"))?;
                OsString::from_vec(value)
            }
            '\'' => OsString::from(&word[1..length - 1]),
            _ => OsString::from(word),
        });
        rest = after;
    }
    Ok(words)
}

/// How long the string in double quotes at the start of `text` is.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn parse(text: &str) -> Result<TxnRequest> {
        read(&mut text.as_bytes(), |_| Ok(()))
    }

    fn message(text: &str) -> String {
        let failure = parse(text).unwrap_err();
        assert_eq!(failure.exit, Exit::InvalidInput);
        failure.message.unwrap()
    }

    #[test]
    fn three_blocks() {
        let txn =
            parse("  mod(\"a\")  >  \"0\" \nval(\"b\") != \"x\\ny\"\n\nput a \"x y\"\nget --prefix a\n\ndel b\n\n")
                .unwrap();
        assert_eq!(txn.compare.len(), 2);
        assert_eq!(txn.compare[0].target_union, Some(TargetUnion::ModRevision(0)));
        assert_eq!(txn.compare[0].result, i32::from(CompareResult::Greater));
        assert_eq!(txn.compare[1].target_union, Some(TargetUnion::Value("x\ny".into())));
        let Some(Request::RequestPut(put)) = &txn.success[0].request else { panic!("{txn:?}") };
        assert_eq!((&put.key[..], &put.value[..]), (&b"a"[..], &b"x y"[..]));
        let Some(Request::RequestRange(get)) = &txn.success[1].request else { panic!("{txn:?}") };
        assert_eq!(&get.range_end[..], b"b");
        assert!(matches!(txn.failure[0].request, Some(Request::RequestDeleteRange(_))));
    }

    #[test]
    fn leases_are_compared_in_hexadecimal() {
        let txn = parse("lease(\"a\") = \"1f\"\n\n\n\n").unwrap();
        assert_eq!(txn.compare[0].target_union, Some(TargetUnion::Lease(31)));
    }

    #[test]
    fn mistakes_in_compares() {
        assert_eq!(message("foo\n"), "malformed comparison: foo");
        assert_eq!(message("mod(a) > \"0\"\n"), "malformed comparison: mod(a) > \"0\"; got mod(\"\")  \"\"");
        assert_eq!(message("mod(\"a\") > 0\n"), "malformed comparison: mod(\"a\") > 0; got mod(\"a\") > \"\"");
        assert_eq!(message("mod(\"a\")>\"0\"\n"), "malformed comparison: mod(\"a\")>\"0\"; got mod(\"a\")  \"\"");
        assert_eq!(message("zod(\"a\") > \"0\"\n"), "malformed comparison: zod(\"a\") > \"0\" (unknown target zod)");
        assert_eq!(message("mod(\"a\") > \"zz\"\n"), "invalid txn compare request: mod(\"a\") > \"zz\"");
        assert!(message("mod(\"a\") >= \"0\"\n").contains("unknown operator >="));
        assert_eq!(message("mod(\"a\") > \"0\""), "EOF");
    }

    #[test]
    fn mistakes_in_operations() {
        assert_eq!(message("\nput\n"), "invalid txn compare request: put");
        assert_eq!(message("\nfoo a\n"), "invalid txn request: foo a");
        assert_eq!(message("\nget a --nope\n"), "invalid txn request: get a --nope");
        assert_eq!(parse("\nput a\n").unwrap_err().exit, Exit::BadArgs);
    }

    #[test]
    fn words_in_quotes() {
        let words = |line| words(line).unwrap().into_iter().map(OsString::into_vec).collect::<Vec<_>>();
        assert_eq!(words(r#"put "k k" 'it is' x'y "" ''"#), [&b"put"[..], b"k k", b"it is", b"x'y", b"", b""]);
        assert_eq!(words(r#"a"b c"d "\xff\n" `r`"#), [&b"a\"b"[..], b"c\"d", b"\xff\n", b"`r`"]);
        assert_eq!(words(r#"q "open 'too"#), [&b"q"[..], b"open", b"too"]);
        assert!(super::words(r#"a "\q""#).is_err());
    }
}
