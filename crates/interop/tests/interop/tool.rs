//! A command line tool run against a server.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long the tool itself may wait for the server; its own 5 s are short on a busy machine.
const TIMEOUT: &str = "60s";

/// etcdctl or stentorctl, pointed at a server.
pub(crate) struct Tool {
    binary: PathBuf,
    endpoint: String,
    flags: Vec<String>,
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Tool {
    pub(crate) fn new(binary: &Path, endpoint: &str) -> Tool {
        // As the tools' own default has it. With a scheme etcdctl 3.4 sends the whole URL as :authority
        // in calls to one endpoint, which HTTP/2 servers that look at it refuse (docs/differences.md).
        let endpoint = endpoint.trim_start_matches("http://").to_owned();
        Tool { binary: binary.to_path_buf(), endpoint, flags: Vec::new() }
    }

    /// With these flags in front of each command.
    pub(crate) fn with_flags(self, flags: &[String]) -> Tool {
        Tool { flags: flags.to_vec(), ..self }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--endpoints").arg(&self.endpoint).args(&self.flags).args(arguments);
        command.env("ETCDCTL_API", "3").stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("ETCDCTL_COMMAND_TIMEOUT", TIMEOUT).env("ETCDCTL_DIAL_TIMEOUT", TIMEOUT);
        command
    }

    /// Runs a command with this on its standard input, to its end.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let (stdout, stderr) = (lines(child.stdout.take()), lines(child.stderr.take()));
        let deadline = Instant::now() + PATIENCE;
        // The ends of both are the end of the command.
        let all = |lines: &Receiver<String>| {
            let mut text = String::new();
            while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                text.push_str(&line);
                text.push('\n');
            }
            text
        };
        let (stdout, stderr) = (all(&stdout), all(&stderr));
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("{arguments:?} took more than {PATIENCE:?}: {stdout}{stderr}");
        }
        Ok(Output { code: child.wait()?.code(), stdout, stderr })
    }

    /// Runs a command that must succeed; its standard output.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run_with(arguments, "")?;
        ensure!(output.code == Some(0), "{} {arguments:?}: {output:?}", self.binary.display());
        Ok(output.stdout)
    }

    /// Runs a command that must print exactly this.
    pub(crate) fn prints(&self, arguments: &[&str], stdout: &str) -> Result<()> {
        let printed = self.run(arguments)?;
        ensure!(printed == stdout, "{} {arguments:?} printed {printed:?}, not {stdout:?}", self.binary.display());
        Ok(())
    }

    /// Runs a command with `-w json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.run(&[arguments, &["-w", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("{arguments:?} printed {text:?}"))
    }

    /// Starts a command that stays.
    pub(crate) fn start(&self, arguments: &[&str]) -> Result<Running> {
        let mut child = self.command(arguments).stdin(Stdio::null()).spawn()?;
        let (stdout, stderr) = (lines(child.stdout.take()), lines(child.stderr.take()));
        Ok(Running { child, stdout, stderr })
    }
}

/// A command that stays, killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    /// The next line of its output.
    pub(crate) fn line(&self) -> Result<String> {
        self.stdout.recv_timeout(PATIENCE).map_err(|error| {
            let said: Vec<String> = self.stderr.try_iter().collect();
            anyhow!("no line of output: {error}; it said {said:?}")
        })
    }

    /// Waits for its end; it need not succeed.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.stdout.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
        ensure!(Instant::now() < deadline, "it runs after {patience:?}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(output: Option<impl std::io::Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(output) = output {
        std::thread::spawn(move || {
            let read = BufReader::new(output).lines().map_while(Result::ok);
            read.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
        });
    }
    receiver
}
