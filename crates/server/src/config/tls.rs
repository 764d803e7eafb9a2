//! How connections are encrypted, and what cannot be meant.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::suites::{Protocols, protocols};
use super::url::Url;
use super::values::{Values, list};

/// Above this a certificate's end has no date.
const MAX_VALIDITY_YEARS: u64 = 1000;

/// TLS towards clients, or between members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// What this member shows to those who connect.
    pub certificate: OwnCertificate,
    /// What it shows where it connects itself; `None`: the same.
    pub as_client: Option<FilePair>,
    /// Who must have signed the others' certificates. Where there is one, others must show a certificate.
    pub trusted_ca: Option<PathBuf>,
    /// Certificates that are not taken any more.
    pub crl: Option<PathBuf>,
    /// Whom a certificate that is taken may be for.
    pub allowed: Allowed,
    /// Whether who connects must do so from an address that its certificate is for.
    pub compares_addresses: bool,
    /// What may be spoken.
    pub protocols: Protocols,
}

/// The certificate of this member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCertificate {
    /// Given.
    Files(FilePair),
    /// Made by this member itself.
    SelfSigned {
        /// Where it is kept.
        directory: PathBuf,
        /// The names and addresses it is for.
        hosts: Vec<String>,
        /// How long it holds, in years of 365 days; 1 to 1000.
        years: u64,
    },
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePair {
    /// The certificate, and those that lead to its authority.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// A rule for certificates, beside their authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// All.
    Any,
    /// With one of these common names; at least one.
    CommonNames(Vec<String>),
    /// Good for one of these hosts, names or addresses; at least one.
    Hosts(Vec<String>),
}

/// The flags of one side.
struct Side {
    certificate: [&'static str; 2],
    as_client: [&'static str; 2],
    trusted_ca: &'static str,
    required: &'static str,
    crl: &'static str,
    common_names: &'static str,
    hosts: &'static str,
    auto: &'static str,
    /// URLs that are listened on, for which a certificate of our own making is too.
    listen: &'static [&'static str],
    /// Further URLs that need a certificate if they ask for TLS, and may well not.
    further: &'static [&'static str],
    advertise: &'static str,
    directory: &'static str,
}

const CLIENTS: Side = Side {
    certificate: ["cert-file", "key-file"],
    as_client: ["client-cert-file", "client-key-file"],
    trusted_ca: "trusted-ca-file",
    required: "client-cert-auth",
    crl: "client-crl-file",
    common_names: "client-cert-allowed-cn",
    hosts: "client-cert-allowed-hostname",
    auto: "auto-tls",
    listen: &["listen-client-urls", "listen-client-http-urls"],
    further: &["listen-metrics-urls"],
    advertise: "advertise-client-urls",
    directory: "client",
};

const PEERS: Side = Side {
    certificate: ["peer-cert-file", "peer-key-file"],
    as_client: ["peer-client-cert-file", "peer-client-key-file"],
    trusted_ca: "peer-trusted-ca-file",
    required: "peer-client-cert-auth",
    crl: "peer-crl-file",
    common_names: "peer-cert-allowed-cn",
    hosts: "peer-cert-allowed-hostname",
    auto: "peer-auto-tls",
    listen: &["listen-peer-urls"],
    further: &["initial-advertise-peer-urls"],
    advertise: "initial-advertise-peer-urls",
    directory: "peer",
};

/// Within the data directory, for certificates of our own making: where etcd has them.
const OWN_DIRECTORY: &str = "fixtures";

/// Towards clients, and between members.
pub(crate) fn both(
    values: &Values,
    data_dir: &Path,
    warnings: &mut Vec<String>,
) -> Result<(Option<TlsConfig>, Option<TlsConfig>), ConfigError> {
    let protocols = protocols(values, warnings)?;
    let clients = CLIENTS.build(values, data_dir, protocols.clone(), warnings)?;
    let mut peers = PEERS.build(values, data_dir, protocols, warnings)?;
    if let Some(peers) = &mut peers {
        let own = matches!(peers.certificate, OwnCertificate::SelfSigned { .. });
        if own && peers.trusted_ca.is_some() {
            return Err(ConfigError::Refused(
                "--peer-auto-tls and --peer-trusted-ca-file: no authority has signed a certificate of a member's own \
                 making: leave out one of them"
                    .into(),
            ));
        }
        peers.compares_addresses = !values.bool("peer-skip-client-san-verification");
    } else if let Some(url) = others_urls(values).find(Url::is_secure) {
        return Err(PEERS.needs_certificate("initial-cluster", &url));
    }
    Ok((clients, peers))
}

/// The URLs of `--initial-cluster`; what is wrong with it is said where it is read.
fn others_urls(values: &Values) -> impl Iterator<Item = Url> {
    list(values.text("initial-cluster")).filter_map(|item| Url::parse_peer(item.split_once('=')?.1).ok())
}

impl Side {
    fn build(
        &self,
        values: &Values,
        data_dir: &Path,
        protocols: Protocols,
        warnings: &mut Vec<String>,
    ) -> Result<Option<TlsConfig>, ConfigError> {
        let trusted_ca = values.path(self.trusted_ca);
        let crl = values.path(self.crl);
        let allowed = self.allowed(values)?;
        let as_client = pair(values, self.as_client)?;
        if trusted_ca.is_none() {
            let needs = [
                (self.required, values.bool(self.required)),
                (self.crl, crl.is_some()),
                (self.common_names, matches!(allowed, Allowed::CommonNames(_))),
                (self.hosts, matches!(allowed, Allowed::Hosts(_))),
            ];
            if let Some((flag, _)) = needs.iter().find(|(_, given)| *given) {
                return Err(ConfigError::Refused(format!(
                    "--{flag} needs --{}: without an authority no certificate can be trusted",
                    self.trusted_ca
                )));
            }
        }
        let [certificate_flag, key_flag] = self.certificate;
        let Some(certificate) = self.certificate(values, data_dir, warnings)? else {
            let idle = [(self.trusted_ca, trusted_ca.is_some()), (self.as_client[0], as_client.is_some())];
            if let Some((flag, _)) = idle.iter().find(|(_, given)| *given) {
                return Err(ConfigError::Refused(format!("--{flag} needs --{certificate_flag} and --{key_flag}")));
            }
            for flag in self.listen.iter().chain(self.further) {
                if let Some(url) = values.urls(flag)?.iter().find(|url| url.is_secure()) {
                    return Err(self.needs_certificate(flag, url));
                }
            }
            return Ok(None);
        };
        for flag in self.listen {
            for url in values.urls(flag)?.iter().filter(|url| !url.is_secure()) {
                let what = if trusted_ca.is_some() { "neither encrypted nor authenticated" } else { "not encrypted" };
                warnings.push(format!(
                    "--{flag}: {url} is {what}, though --{certificate_flag} or --{} is given",
                    self.auto
                ));
            }
        }
        let compares_addresses = false;
        Ok(Some(TlsConfig { certificate, as_client, trusted_ca, crl, allowed, compares_addresses, protocols }))
    }

    fn needs_certificate(&self, flag: &str, url: &Url) -> ConfigError {
        let [certificate, key] = self.certificate;
        ConfigError::Refused(format!(
            "--{flag}: {url} asks for TLS: give --{certificate} and --{key}, or --{}",
            self.auto
        ))
    }

    fn certificate(
        &self,
        values: &Values,
        data_dir: &Path,
        warnings: &mut Vec<String>,
    ) -> Result<Option<OwnCertificate>, ConfigError> {
        let given = pair(values, self.certificate)?;
        if !values.bool(self.auto) {
            return Ok(given.map(OwnCertificate::Files));
        }
        if let Some(given) = given {
            warnings.push(format!("--{} has no effect: a certificate is given", self.auto));
            return Ok(Some(OwnCertificate::Files(given)));
        }
        let years = values.uint("self-signed-cert-validity");
        if !(1..=MAX_VALIDITY_YEARS).contains(&years) {
            return Err(ConfigError::Usage(format!("--self-signed-cert-validity: {years} is out of range")));
        }
        let directory = data_dir.join(OWN_DIRECTORY).join(self.directory);
        Ok(Some(OwnCertificate::SelfSigned { directory, hosts: self.own_hosts(values)?, years }))
    }

    /// The hosts under which this member is reached, as far as the flags tell.
    fn own_hosts(&self, values: &Values) -> Result<Vec<String>, ConfigError> {
        let mut hosts = Vec::new();
        for flag in self.listen.iter().chain([&self.advertise]) {
            for url in values.urls(flag)? {
                let everywhere = url.host().parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified());
                if !url.host().is_empty() && !everywhere && !hosts.iter().any(|host| host == url.host()) {
                    hosts.push(url.host().to_owned());
                }
            }
        }
        Ok(hosts)
    }

    fn allowed(&self, values: &Values) -> Result<Allowed, ConfigError> {
        let words = |flag| list(values.text(flag)).map(str::to_owned).collect::<Vec<_>>();
        match (words(self.common_names), words(self.hosts)) {
            (names, hosts) if names.is_empty() && hosts.is_empty() => Ok(Allowed::Any),
            (names, hosts) if hosts.is_empty() => Ok(Allowed::CommonNames(names)),
            (names, hosts) if names.is_empty() => Ok(Allowed::Hosts(hosts)),
            _ => Err(ConfigError::Refused(format!("--{} and --{} exclude each other", self.common_names, self.hosts))),
        }
    }
}

/// A certificate with its key, or neither.
fn pair(values: &Values, [certificate, key]: [&str; 2]) -> Result<Option<FilePair>, ConfigError> {
    match (values.path(certificate), values.path(key)) {
        (Some(certificate), Some(key)) => Ok(Some(FilePair { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::Refused(format!("--{certificate} needs --{key}"))),
        (None, Some(_)) => Err(ConfigError::Refused(format!("--{key} needs --{certificate}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{error, ok, run, run_file};
    use super::*;
    use crate::config::{CipherSuite, Config};

    const HTTPS: [&str; 2] =
        ["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://a.example:1"];
    const PAIR: [&str; 2] = ["--cert-file=c", "--key-file=k"];
    const PEER_PAIR: [&str; 2] = ["--peer-cert-file=c", "--peer-key-file=k"];

    fn with(flags: &[&str]) -> (Config, Vec<String>) {
        run(&[&HTTPS[..], &PAIR[..], flags].concat(), &[]).unwrap()
    }

    fn clients(flags: &[&str]) -> TlsConfig {
        with(flags).0.client_tls.unwrap()
    }

    fn files(certificate: &str, key: &str) -> FilePair {
        FilePair { certificate: certificate.into(), key: key.into() }
    }

    #[test]
    fn without_flags_there_is_none() {
        let config = ok(&[]);
        assert_eq!((config.client_tls, config.peer_tls), (None, None));
    }

    #[test]
    fn every_flag_of_clients_arrives() {
        let tls = clients(&[
            "--trusted-ca-file=ca",
            "--client-cert-auth",
            "--client-crl-file=crl",
            "--client-cert-allowed-hostname=a.example,10.0.0.1",
            "--client-cert-file=cc",
            "--client-key-file=ck",
        ]);
        assert_eq!(tls.certificate, OwnCertificate::Files(files("c", "k")));
        assert_eq!(tls.as_client, Some(files("cc", "ck")));
        assert_eq!(tls.trusted_ca, Some("ca".into()));
        assert_eq!(tls.crl, Some("crl".into()));
        assert_eq!(tls.allowed, Allowed::Hosts(vec!["a.example".into(), "10.0.0.1".into()]));
        assert!(!tls.compares_addresses);
        assert_eq!(tls.protocols, Protocols { tls12: CipherSuite::ALL.to_vec(), tls13: true });
        // As in etcd, an authority is enough to require certificates.
        assert_eq!(clients(&["--trusted-ca-file=ca"]).trusted_ca, Some("ca".into()));
    }

    #[test]
    fn every_flag_of_members_arrives() {
        let rest = [
            "--peer-trusted-ca-file=ca",
            "--peer-client-cert-auth",
            "--peer-crl-file=crl",
            "--peer-cert-allowed-cn=m1,m2",
            "--peer-client-cert-file=cc",
            "--peer-client-key-file=ck",
        ];
        let args = [&PEER_PAIR[..], &rest[..]].concat();
        let tls = ok(&args).peer_tls.unwrap();
        assert_eq!(tls.certificate, OwnCertificate::Files(files("c", "k")));
        assert_eq!(tls.as_client, Some(files("cc", "ck")));
        assert_eq!((tls.trusted_ca, tls.crl), (Some("ca".into()), Some("crl".into())));
        assert_eq!(tls.allowed, Allowed::CommonNames(vec!["m1".into(), "m2".into()]));
        assert!(tls.compares_addresses);
        let args = [&args[..], &["--peer-skip-client-san-verification"]].concat();
        assert!(!ok(&args).peer_tls.unwrap().compares_addresses);
        // The two sides are apart.
        assert_eq!(ok(&args).client_tls, None);
    }

    #[test]
    fn a_file_has_a_section_for_each_side() {
        let text = "listen-client-urls: https://127.0.0.1:1\nadvertise-client-urls: https://127.0.0.1:1\n\
                    listen-peer-urls: https://127.0.0.1:2\ninitial-advertise-peer-urls: https://127.0.0.1:2\n\
                    tls-min-version: TLS1.3\n\
                    client-transport-security:\n  cert-file: c\n  key-file: k\n  trusted-ca-file: ca\n  \
                    client-cert-auth: true\n  allowed-hostname: [a, b]\n\
                    peer-transport-security:\n  cert-file: pc\n  key-file: pk\n  trusted-ca-file: pca\n  \
                    client-cert-auth: true\n  allowed-cn: [m]\n  skip-client-san-verification: true\n";
        let (config, warnings) = run_file(text, &[], &[]).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        let (clients, peers) = (config.client_tls.unwrap(), config.peer_tls.unwrap());
        assert_eq!(clients.certificate, OwnCertificate::Files(files("c", "k")));
        assert_eq!(clients.allowed, Allowed::Hosts(vec!["a".into(), "b".into()]));
        assert_eq!(clients.protocols, Protocols { tls12: vec![], tls13: true });
        assert_eq!(peers.certificate, OwnCertificate::Files(files("pc", "pk")));
        assert_eq!(peers.allowed, Allowed::CommonNames(vec!["m".into()]));
        assert!(!peers.compares_addresses);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (flags, says) in [
            (&["--cert-file=c"][..], "--cert-file needs --key-file"),
            (&["--key-file=k"], "--key-file needs --cert-file"),
            (&["--peer-key-file=k"], "--peer-key-file needs --peer-cert-file"),
            (&["--cert-file=c", "--key-file=k", "--client-cert-file=c"], "--client-cert-file needs --client-key-file"),
            (&["--trusted-ca-file=ca"], "--trusted-ca-file needs --cert-file and --key-file"),
            (&["--client-cert-file=c", "--client-key-file=k"], "--client-cert-file needs --cert-file"),
            (&["--cert-file=c", "--key-file=k", "--client-cert-auth"], "--client-cert-auth needs --trusted-ca-file"),
            (&["--cert-file=c", "--key-file=k", "--client-crl-file=x"], "--client-crl-file needs --trusted-ca-file"),
            (&["--peer-auto-tls", "--peer-client-cert-auth"], "--peer-client-cert-auth needs --peer-trusted-ca-file"),
            (&["--peer-auto-tls", "--peer-cert-allowed-cn=m"], "--peer-cert-allowed-cn needs --peer-trusted-ca-file"),
            (&["--auto-tls", "--client-cert-allowed-hostname=m"], "--client-cert-allowed-hostname needs --trusted-ca"),
            (&["--peer-auto-tls", "--peer-trusted-ca-file=ca"], "leave out one"),
            (
                &[
                    "--auto-tls",
                    "--trusted-ca-file=ca",
                    "--client-cert-allowed-cn=a",
                    "--client-cert-allowed-hostname=b",
                ],
                "exclude each other",
            ),
            (&HTTPS, "https://127.0.0.1:1 asks for TLS: give --cert-file and --key-file, or --auto-tls"),
            (&["--listen-client-http-urls=https://127.0.0.1:1"], "asks for TLS"),
            (&["--listen-metrics-urls=https://127.0.0.1:1"], "asks for TLS"),
            (&["--listen-metrics-urls=unixs:///a"], "asks for TLS"),
            (&["--listen-peer-urls=https://127.0.0.1:1"], "give --peer-cert-file and --peer-key-file"),
            (&["--initial-advertise-peer-urls=https://127.0.0.1:1"], "asks for TLS"),
            (&["--initial-cluster=default=https://127.0.0.1:1"], "--initial-cluster: https://127.0.0.1:1 asks"),
        ] {
            let error = error(flags);
            assert!(error.to_string().contains(says), "{flags:?}: {error}");
            assert_eq!(error.exit_code(), 1, "{flags:?}");
        }
    }

    #[test]
    fn what_is_not_encrypted_is_named() {
        let plain =
            ["--listen-client-urls=http://127.0.0.1:1,https://127.0.0.1:2", "--advertise-client-urls=http://a:1"];
        let (_, warnings) = run(&[&plain[..], &PAIR].concat(), &[]).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("http://127.0.0.1:1 is not encrypted"), "{warnings:?}");
        let (_, warnings) = run(&[&plain[..], &PAIR, &["--trusted-ca-file=a"]].concat(), &[]).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("neither encrypted nor authenticated"), "{warnings:?}");
        // Metrics beside TLS are usual.
        let (_, warnings) = with(&["--listen-metrics-urls=http://127.0.0.1:3"]);
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn a_certificate_of_our_own_making_is_for_where_we_are_reached() {
        let flags = ["--auto-tls", "--self-signed-cert-validity=3", "--data-dir=/d"];
        let listen = "--listen-client-http-urls=https://0.0.0.0:2,https://[::1]:2,https://127.0.0.1:3";
        let config = ok(&[&HTTPS[..], &flags, &[listen]].concat());
        let hosts = ["127.0.0.1", "::1", "a.example"].map(str::to_owned).to_vec();
        let made = OwnCertificate::SelfSigned { directory: "/d/fixtures/client".into(), hosts, years: 3 };
        assert_eq!(config.client_tls.unwrap().certificate, made);
        assert_eq!(config.peer_tls, None);

        let (config, warnings) = with(&["--auto-tls"]);
        assert_eq!(config.client_tls.unwrap().certificate, OwnCertificate::Files(files("c", "k")));
        assert!(warnings.len() == 1 && warnings[0].contains("--auto-tls has no effect"), "{warnings:?}");

        for years in ["0", "1001"] {
            let error = error(&["--peer-auto-tls", &format!("--self-signed-cert-validity={years}")]);
            assert!(error.to_string().contains("out of range") && error.exit_code() == 2, "{error}");
        }
    }

    #[test]
    fn versions_and_suites() {
        let protocols = |flags: &[&str]| clients(flags).protocols;
        let all = CipherSuite::ALL.to_vec();
        assert_eq!(protocols(&["--tls-max-version=TLS1.2"]), Protocols { tls12: all.clone(), tls13: false });
        assert_eq!(protocols(&["--tls-min-version=TLS1.3"]), Protocols { tls12: vec![], tls13: true });
        assert_eq!(
            protocols(&["--tls-min-version=", "--tls-max-version=TLS1.3"]),
            Protocols { tls12: all, tls13: true }
        );
        let (config, warnings) =
            with(&["--cipher-suites=TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,\
             TLS_RSA_WITH_RC4_128_SHA,TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"]);
        let tls12 = vec![CipherSuite::RsaChaCha20, CipherSuite::RsaAes128];
        assert_eq!(config.client_tls.unwrap().protocols, Protocols { tls12, tls13: true });
        assert!(warnings.len() == 1 && warnings[0].contains("TLS_RSA_WITH_RC4_128_SHA is too weak"), "{warnings:?}");
        let (config, warnings) = with(&["--cipher-suites=TLS_AES_128_GCM_SHA256"]);
        assert_eq!(config.client_tls.unwrap().protocols, Protocols { tls12: vec![], tls13: true });
        assert!(warnings.len() == 1 && warnings[0].contains("TLS 1.3 alone"), "{warnings:?}");
        for (flags, code) in [
            (&["--tls-min-version=TLS1.1"][..], 2),
            (&["--tls-max-version=SSL3"], 2),
            (&["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], 2),
            (&["--tls-min-version=TLS1.3", "--cipher-suites=TLS_AES_128_GCM_SHA256"], 2),
            (&["--cipher-suites=TLS_NO_SUCH"], 2),
            (&["--cipher-suites=TLS_RSA_WITH_RC4_128_SHA", "--tls-max-version=TLS1.2"], 1),
        ] {
            assert_eq!(error(flags).exit_code(), code, "{flags:?}");
        }
    }
}
