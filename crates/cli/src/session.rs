//! The global flags, what the environment says of them, and the connection they describe.

use std::time::Duration;

use stentor_client::ClientBuilder;
use stentor_client::raw::{Client, Error};
use tokio::time::Instant;

use crate::failure::{Exit, Failure, Result};
use crate::go;
use crate::print::{Format, Printer};
use crate::tls::Settings;

/// Flags of every command, as given.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Global flags")]
pub(crate) struct Globals {
    /// Addresses of the servers, by commas [default: 127.0.0.1:2379]
    #[arg(long, global = true, value_delimiter = ',', action = clap::ArgAction::Append, value_name = "HOST:PORT")]
    pub(crate) endpoints: Option<Vec<String>>,
    /// Output format: simple, json, fields, table or protobuf [default: simple]
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub(crate) write_out: Option<String>,
    /// Show keys and values as escaped bytes, ids in hexadecimal
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    hex: Option<String>,
    /// How long one try to connect may take [default: 2s]
    #[arg(long, global = true, value_name = "DURATION")]
    dial_timeout: Option<String>,
    /// How long a request may take, connecting not included [default: 5s]
    #[arg(long, global = true, value_name = "DURATION")]
    command_timeout: Option<String>,
    /// How often to ping the server; at least 10s [default: 10s]
    #[arg(long, global = true, value_name = "DURATION")]
    keepalive_time: Option<String>,
    /// How long to wait for the answer to a ping [default: 6s]
    #[arg(long, global = true, value_name = "DURATION")]
    keepalive_timeout: Option<String>,
    /// User, as NAME or NAME:PASSWORD
    #[arg(long, global = true, value_name = "NAME[:PASSWORD]")]
    user: Option<String>,
    /// Password of the user
    #[arg(long, global = true, value_name = "PASSWORD")]
    password: Option<String>,
    /// Show the settings in force on standard error
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    debug: Option<String>,
    /// Do not encrypt connections to endpoints without a scheme, if nothing else asks for it [default: true]
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    insecure_transport: Option<String>,
    /// Accept any server, whoever it is: for tests
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    insecure_skip_tls_verify: Option<String>,
    /// Accepted; without meaning as long as discovery is not supported
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    insecure_discovery: Option<String>,
    /// Trust servers whose certificates these authorities have signed, instead of the system's
    #[arg(long, global = true, value_name = "FILE")]
    cacert: Option<String>,
    /// The certificate to show to servers that ask for one; wants --key
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<String>,
    /// The key of that certificate
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<String>,
    /// Not supported yet
    #[arg(short = 'd', long, global = true, value_name = "DOMAIN")]
    discovery_srv: Option<String>,
    /// Not supported yet
    #[arg(long, global = true, value_name = "NAME")]
    discovery_srv_name: Option<String>,
}

/// The settings in force.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) endpoints: Vec<String>,
    pub(crate) printer: Printer,
    pub(crate) command_timeout: Duration,
    dial_timeout: Duration,
    keepalive: (Duration, Duration),
    credentials: Option<(String, String)>,
    tls: Settings,
}

/// Where a setting comes from: the flag, else the environment, else its default. An empty variable
/// counts as not set.
fn resolve(flag: Option<&String>, name: &str, env: &impl Fn(&str) -> Option<String>, default: &str) -> String {
    let from_env = || env(&variable(name)).filter(|v| !v.is_empty());
    flag.cloned().or_else(from_env).unwrap_or_else(|| default.to_owned())
}

fn variable(flag: &str) -> String {
    format!("ETCDCTL_{}", flag.to_uppercase().replace('-', "_"))
}

fn invalid(name: &str, value: &str, cause: &str) -> Failure {
    Failure::new(
        Exit::Error,
        format!("invalid argument {} for \"--{name}\" flag: {cause}", go::quote(value.as_bytes())),
    )
}

impl Session {
    /// Reads the flags, and the environment through `env`.
    pub(crate) fn new(flags: &Globals, env: impl Fn(&str) -> Option<String>) -> Result<Session> {
        let text = |flag: &Option<String>, name: &str, default: &str| resolve(flag.as_ref(), name, &env, default);
        let time = |flag: &Option<String>, name: &str, default: &str| {
            let value = text(flag, name, default);
            go::parse_duration(&value).map_err(|cause| invalid(name, &value, &cause))
        };
        let truth = |flag: &Option<String>, name: &str, default: &str| {
            let value = text(flag, name, default);
            go::parse_bool(&value).map_err(|cause| invalid(name, &value, &cause))
        };
        refuse_what_is_not_built(flags, &text, &truth)?;
        let from_env = || env(&variable("endpoints")).filter(|v| !v.is_empty());
        let endpoints = match &flags.endpoints {
            Some(given) => given.iter().filter(|e| !e.is_empty()).cloned().collect(),
            None => from_env()
                .map_or_else(|| vec!["127.0.0.1:2379".to_owned()], |all| all.split(',').map(str::to_owned).collect()),
        };
        let session = Session {
            endpoints,
            printer: Printer {
                format: Format::parse(&text(&flags.write_out, "write-out", "simple"))?,
                hex: truth(&flags.hex, "hex", "false")?,
            },
            command_timeout: time(&flags.command_timeout, "command-timeout", "5s")?,
            dial_timeout: time(&flags.dial_timeout, "dial-timeout", "2s")?,
            keepalive: (
                time(&flags.keepalive_time, "keepalive-time", "10s")?,
                time(&flags.keepalive_timeout, "keepalive-timeout", "6s")?,
            ),
            credentials: credentials(&text(&flags.user, "user", ""), &text(&flags.password, "password", ""))?,
            tls: Settings {
                cacert: text(&flags.cacert, "cacert", ""),
                cert: text(&flags.cert, "cert", ""),
                key: text(&flags.key, "key", ""),
                insecure_transport: truth(&flags.insecure_transport, "insecure-transport", "true")?,
                insecure_skip_verify: truth(&flags.insecure_skip_tls_verify, "insecure-skip-tls-verify", "false")?,
            }
            .checked()?,
        };
        if truth(&flags.debug, "debug", "false")? {
            session.tell();
        }
        Ok(session)
    }

    /// Shows the settings on standard error, the password left out.
    fn tell(&self) {
        let settings = [
            ("ENDPOINTS", format!("{:?}", self.endpoints)),
            ("COMMAND_TIMEOUT", go::duration(self.command_timeout)),
            ("DIAL_TIMEOUT", go::duration(self.dial_timeout)),
            ("KEEPALIVE_TIME", go::duration(self.keepalive.0)),
            ("KEEPALIVE_TIMEOUT", go::duration(self.keepalive.1)),
            ("HEX", self.printer.hex.to_string()),
            ("WRITE_OUT", self.printer.format.name().to_owned()),
            ("CACERT", self.tls.cacert.clone()),
            ("CERT", self.tls.cert.clone()),
            ("KEY", self.tls.key.clone()),
            ("INSECURE_TRANSPORT", self.tls.insecure_transport.to_string()),
            ("INSECURE_SKIP_TLS_VERIFY", self.tls.insecure_skip_verify.to_string()),
            ("USER", self.credentials.as_ref().map_or_else(String::new, |(user, _)| user.clone())),
        ];
        for (name, value) in settings {
            eprintln!("ETCDCTL_{name}={value}");
        }
    }

    /// How to connect to `endpoints`.
    fn builder(&self, endpoints: &[String]) -> ClientBuilder {
        let mut builder = stentor_client::Client::builder(endpoints)
            .connect_timeout(self.dial_timeout)
            .call_timeout(self.command_timeout)
            .keep_alive(self.keepalive.0, self.keepalive.1);
        if let Some(tls) = self.tls.of(endpoints) {
            builder = builder.tls(tls);
        }
        if let Some((user, password)) = &self.credentials {
            builder = builder.credentials(user, password);
        }
        builder
    }

    /// Tries each endpoint once, and takes the first that answers.
    pub(crate) async fn connect_once(&self, endpoints: &[String]) -> std::result::Result<Client, Error> {
        Client::by(self.builder(endpoints)).await
    }

    /// Connects to the first endpoint that answers.
    pub(crate) async fn connect(&self) -> Result<Client> {
        Ok(self.connect_to(&self.endpoints).await?)
    }

    /// Connects to one of `endpoints`, trying again until the command's time is up: the server may just
    /// be starting. Then standard error says what the last try ran into.
    pub(crate) async fn connect_to(&self, endpoints: &[String]) -> std::result::Result<Client, Error> {
        let deadline = Instant::now() + self.command_timeout;
        let mut pause = Duration::from_millis(20);
        loop {
            match tokio::time::timeout_at(deadline, self.connect_once(endpoints)).await {
                Ok(Err(error @ Error::Unreachable { .. })) if Instant::now() + pause >= deadline => {
                    eprintln!("{error}");
                    tokio::time::sleep_until(deadline).await;
                    return Err(Error::DeadlineExceeded);
                }
                Ok(Err(Error::Unreachable { .. })) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Ok(other) => return other,
                Err(_) => return Err(Error::DeadlineExceeded),
            }
        }
    }
}

/// Discovery: its silent absence would be unsafe.
fn refuse_what_is_not_built(
    flags: &Globals,
    text: &impl Fn(&Option<String>, &str, &str) -> String,
    truth: &impl Fn(&Option<String>, &str, &str) -> Result<bool>,
) -> Result<()> {
    let refuse = |name: &str, what: &str| {
        Err(Failure::new(Exit::BadFeature, format!("--{name} is not supported yet: {what}; leave it out")))
    };
    for (flag, name) in [(&flags.discovery_srv, "discovery-srv"), (&flags.discovery_srv_name, "discovery-srv-name")] {
        if !text(flag, name, "").is_empty() {
            return refuse(name, "this client looks up no SRV records, name the servers with --endpoints");
        }
    }
    truth(&flags.insecure_discovery, "insecure-discovery", "true").map(|_| ())
}

fn credentials(user: &str, password: &str) -> Result<Option<(String, String)>> {
    if user.is_empty() {
        return Ok(None);
    }
    if !password.is_empty() {
        return Ok(Some((user.to_owned(), password.to_owned())));
    }
    match user.split_once(':') {
        Some((name, password)) => Ok(Some((name.to_owned(), password.to_owned()))),
        None => {
            Err(Failure::args("no password: give it as --user NAME:PASSWORD, with --password or in ETCDCTL_PASSWORD"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(flags: Globals, env: &[(&str, &str)]) -> Result<Session> {
        Session::new(&flags, |name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn a_flag_beats_the_environment_and_an_empty_variable_is_none() {
        let env = [("ETCDCTL_ENDPOINTS", "a:1,b:2"), ("ETCDCTL_WRITE_OUT", "json"), ("ETCDCTL_DIAL_TIMEOUT", "")];
        let s = session(Globals { write_out: Some("fields".into()), ..Default::default() }, &env).unwrap();
        assert_eq!(s.endpoints, ["a:1", "b:2"]);
        assert_eq!(s.printer.format, Format::Fields);
        assert_eq!(s.dial_timeout, Duration::from_secs(2));
        assert_eq!(session(Globals::default(), &env).unwrap().printer.format, Format::Json);
    }

    #[test]
    fn what_is_not_built_is_refused_wherever_it_comes_from() {
        for env in [("ETCDCTL_DISCOVERY_SRV", "example.org"), ("ETCDCTL_DISCOVERY_SRV_NAME", "etcd")] {
            let failure = session(Globals::default(), &[env]).err().unwrap();
            assert_eq!(failure.exit, Exit::BadFeature, "{env:?}");
            assert!(failure.message.unwrap().contains("not supported yet"));
        }
    }

    #[test]
    fn tls_is_set_by_flags_or_the_environment() {
        let env = [
            ("ETCDCTL_CACERT", "ca.pem"),
            ("ETCDCTL_CERT", "c.pem"),
            ("ETCDCTL_KEY", "k.pem"),
            ("ETCDCTL_INSECURE_TRANSPORT", "false"),
            ("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "true"),
        ];
        let flags = Globals { cacert: Some("mine.pem".into()), ..Default::default() };
        let tls = session(flags, &env).unwrap().tls;
        assert_eq!((tls.cacert.as_str(), tls.cert.as_str(), tls.key.as_str()), ("mine.pem", "c.pem", "k.pem"));
        assert!(!tls.insecure_transport && tls.insecure_skip_verify);
        // Half of what is shown.
        assert_eq!(session(Globals::default(), &env[1..2]).err().unwrap().exit, Exit::BadArgs);
    }

    #[test]
    fn passwords_come_three_ways() {
        let user = |user: &str, env: &[(&str, &str)]| {
            session(Globals { user: Some(user.into()), ..Default::default() }, env).map(|s| s.credentials)
        };
        let expected = Some(("root".to_owned(), "a:b".to_owned()));
        assert_eq!(user("root:a:b", &[]).unwrap(), expected);
        assert_eq!(user("root", &[("ETCDCTL_PASSWORD", "a:b")]).unwrap(), expected);
        assert_eq!(user("root", &[]).unwrap_err().exit, Exit::BadArgs);
    }
}
