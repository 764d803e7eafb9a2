//! A server's failpoints, by HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{Server, free_port};

/// Both ways.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a server serves its failpoints.
pub(super) struct Control(String);

impl Control {
    /// From its next start on, `server` serves them here.
    pub(super) fn of(server: &mut Server) -> Result<Control> {
        let address = format!("127.0.0.1:{}", free_port()?);
        server.set_variable("GOFAIL_HTTP", Some(&address));
        Ok(Control(address))
    }

    /// The names of all points.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let (status, body) = self.ask("GET", "", "")?;
        ensure!(status == 200, "GET / was answered {status}: {body}");
        Ok(body.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect())
    }

    /// Sets a point.
    pub(super) fn set(&self, name: &str, terms: &str) -> Result<()> {
        let (status, body) = self.ask("PUT", name, terms)?;
        ensure!(status == 204, "PUT /{name} {terms} was answered {status}: {body}");
        Ok(())
    }

    /// How often a term of a point has acted since they were set.
    pub(super) fn count(&self, name: &str) -> Result<u64> {
        let (status, body) = self.ask("GET", &format!("{name}/count"), "")?;
        ensure!(status == 200, "GET /{name}/count was answered {status}: {body}");
        body.trim().parse().with_context(|| format!("{body:?} is no number"))
    }

    /// Lets a point do nothing.
    pub(super) fn clear(&self, name: &str) -> Result<()> {
        let (status, body) = self.ask("DELETE", name, "")?;
        ensure!(status == 204, "DELETE /{name} was answered {status}: {body}");
        Ok(())
    }

    fn ask(&self, method: &str, name: &str, body: &str) -> Result<(u16, String)> {
        let mut stream =
            TcpStream::connect(&self.0).with_context(|| format!("nobody serves failpoints at {}", self.0))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let head = format!("{method} /{name} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", self.0, body.len());
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("{method} /{name} was not answered"))?;
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("not an answer: {answer}") };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.with_context(|| format!("not an answer: {head}"))?, body.to_owned()))
    }
}
