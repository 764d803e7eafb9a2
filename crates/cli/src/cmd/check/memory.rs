//! The server's memory, by its own metrics.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LIMIT: u64 = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Resident memory of the server at `authority`, in bytes.
pub(super) async fn resident_bytes(authority: &str) -> Result<u64, String> {
    let fetch = async {
        let mut stream = TcpStream::connect(authority).await?;
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LIMIT).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(TIMEOUT, fetch).await.map_err(|_| "timed out".to_owned())?;
    let answer = answer.map_err(|e| e.to_string())?;
    find(&String::from_utf8_lossy(&answer)).ok_or_else(|| "the server does not tell it".to_owned())
}

fn find(metrics: &str) -> Option<u64> {
    let value = metrics.lines().find_map(|l| l.strip_prefix("process_resident_memory_bytes "))?;
    let value: f64 = value.trim().parse().ok()?;
    (value >= 0.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_found_in_either_notation() {
        assert_eq!(find("# TYPE x\nprocess_resident_memory_bytes 2.5e+07\n"), Some(25_000_000));
        assert_eq!(find("process_resident_memory_bytes 123\r\n"), Some(123));
        assert_eq!(find("process_resident_memory_bytes_total 1\n"), None);
    }
}
