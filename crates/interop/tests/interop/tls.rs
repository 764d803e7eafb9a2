//! etcdctl, unchanged, and stentorctl over TLS with certificates for both sides.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use stentor_interop::peers::{CTL, ETCDCTLS, SERVER, required};
use stentor_interop::process::Server;

use crate::tool::Tool;

/// Without a dial that is tried again for as long as a command may take.
const SOON: [&str; 2] = ["--command-timeout=3s", "--dial-timeout=2s"];

/// An authority.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Makes one, whose certificate lies in a directory as `NAME.crt`.
    fn new(directory: &Path, name: &str) -> Result<Authority> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        std::fs::write(directory.join(format!("{name}.crt")), params.self_signed(&key)?.pem())?;
        Ok(Authority(Issuer::new(params, key)))
    }

    /// Signs a certificate, which lies with its key in the directory as `NAME.crt` and `NAME.key`.
    fn sign(&self, directory: &Path, name: &str, purpose: ExtendedKeyUsagePurpose) -> Result<()> {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        std::fs::write(directory.join(format!("{name}.crt")), params.signed_by(&key, &self.0)?.pem())?;
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}

/// A tool's flags: whom it trusts, and what it shows.
fn flags(directory: &Path, authority: &str, shown: Option<&str>) -> Vec<String> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", directory.join(name).display());
    let mut flags = vec![file("cacert", &format!("{authority}.crt"))];
    if let Some(shown) = shown {
        flags.extend([file("cert", &format!("{shown}.crt")), file("key", &format!("{shown}.key"))]);
    }
    flags
}

#[test]
fn certificates_of_both_sides() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let directory = folder.path();
    let (ours, theirs) = (Authority::new(directory, "ours")?, Authority::new(directory, "theirs")?);
    ours.sign(directory, "server", ExtendedKeyUsagePurpose::ServerAuth)?;
    ours.sign(directory, "client", ExtendedKeyUsagePurpose::ClientAuth)?;
    theirs.sign(directory, "stranger", ExtendedKeyUsagePurpose::ClientAuth)?;
    let file = |flag: &str, name: &str| format!("--{flag}={}", directory.join(name).display());
    let server_flags =
        [file("cert-file", "server.crt"), file("key-file", "server.key"), file("trusted-ca-file", "ours.crt")];
    for variable in ETCDCTLS.into_iter().chain([CTL]) {
        let test = format!("certificates of both sides with {variable}");
        let (Some(server), Some(binary)) = (required(SERVER, &test), required(variable, &test)) else { continue };
        let [certificate, key, trusted] = &server_flags;
        let server = Server::start_https(&server, &[certificate, key, trusted, "--client-cert-auth"])?;
        let tool = |flags: &[String]| Tool::new(&binary, &server.endpoint()).with_flags(flags);
        let known = tool(&flags(directory, "ours", Some("client")));
        known.prints(&["put", "a", "1"], "OK\n").with_context(|| test.clone())?;
        known.prints(&["get", "a"], "a\n1\n")?;
        let watch = known.start(&["watch", "a", "--rev=1"])?;
        ensure!(watch.line()? == "PUT", "{test}: no event");
        drop(watch);
        for (authority, shown) in [("ours", None), ("ours", Some("stranger")), ("theirs", Some("client"))] {
            let refused = tool(&flags(directory, authority, shown));
            let output = refused.run_with(&[&SOON[..], &["get", "a"]].concat(), "")?;
            ensure!(output.code != Some(0) && output.stdout.is_empty(), "{test}: {authority} {shown:?}: {output:?}");
        }
    }
    Ok(())
}

#[test]
fn whoever_skips_verification_is_served_and_others_are_told_why_not() -> Result<()> {
    let test = "stentorctl with a server that nobody vouches for";
    let (Some(server), Some(binary)) = (required(SERVER, test), required(CTL, test)) else { return Ok(()) };
    let server = Server::start_https(&server, &["--auto-tls"])?;
    let tool = |flags: &[&str]| {
        let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Tool::new(&binary, &server.endpoint()).with_flags(&flags)
    };
    tool(&["--insecure-skip-tls-verify"]).prints(&["put", "a", "1"], "OK\n")?;
    tool(&["--insecure-skip-tls-verify", "--insecure-transport=false"]).prints(&["get", "a"], "a\n1\n")?;
    let folder = tempfile::tempdir()?;
    Authority::new(folder.path(), "other")?;
    for (flags, word) in [
        (flags(folder.path(), "other", None), "invalid peer certificate"),
        (flags(folder.path(), "absent", None), "absent.crt"),
    ] {
        let refused = Tool::new(&binary, &server.endpoint()).with_flags(&flags);
        let output = refused.run_with(&[&SOON[..], &["get", "a"]].concat(), "")?;
        ensure!(output.code != Some(0) && output.stderr.contains(word), "{word}: {output:?}");
    }
    Ok(())
}
