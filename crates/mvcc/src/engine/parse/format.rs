//! The file that says which format a data directory has: one line.

const PREFIX: &str = "stentor data format ";

/// The file's content.
pub fn line(format: u32) -> String {
    format!("{PREFIX}{format}\n")
}

/// The format that a file's content names, if it is one whole line of that kind.
pub fn parse(content: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(content).ok()?.strip_suffix('\n')?;
    let digits = line.strip_prefix(PREFIX)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_line_is_a_format() {
        assert_eq!(parse(b"stentor data format 1\n"), Some(1));
        assert_eq!(line(1), "stentor data format 1\n");
        assert_eq!(parse(b"stentor data format 4294967295\n"), Some(u32::MAX));
        for bad in [
            &b""[..],
            b"\n",
            b"stentor data format 1",
            b"stentor data format \n",
            b"stentor data format +1\n",
            b"stentor data format 1\n\n",
            b"stentor data format 4294967296\n",
            b"stentor data format \xff\n",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
