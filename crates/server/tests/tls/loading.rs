//! What cannot be used is refused before anybody is served, with a line that names the file.

use super::*;

fn error(flags: &[String]) -> String {
    let error = Member::load(flags).err().unwrap().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let scene = Scene::new();
    let identity = scene.authority.sign("m", &["a"]);
    let other = scene.authority.sign("other", &["a"]).write(scene.folder.path(), "other");
    scene.write("empty", "");
    scene.write("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    scene.write("half", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let path = |name: &str| scene.path(name);
    for (replaced, by, says) in [
        ("peer-cert-file", path("none"), "cannot read"),
        ("peer-key-file", path("none"), "cannot read"),
        ("peer-trusted-ca-file", path("none"), "cannot read"),
        ("peer-crl-file", path("none"), "cannot read"),
        ("peer-cert-file", path("empty"), "no certificate"),
        ("peer-cert-file", path("half"), "cannot be used"),
        ("peer-cert-file", path("garbage"), "cannot be used"),
        ("peer-key-file", path("empty"), "cannot be used"),
        ("peer-key-file", other.key.clone(), "it is not the key of"),
        ("peer-trusted-ca-file", path("empty"), "no certificate"),
        ("peer-trusted-ca-file", path("garbage"), "cannot be used"),
        ("peer-crl-file", path("empty"), "no list of revoked certificates"),
        ("peer-crl-file", path("garbage"), "no list of revoked certificates"),
    ] {
        // Of a flag given twice the last one holds.
        let says_what = error(&scene.flags(&identity, "m", &[&flag(replaced, &by)]));
        assert!(says_what.contains(says), "{replaced}: {says_what}");
        assert!(says_what.contains(by.to_str().unwrap()) || by == path("garbage"), "{replaced}: {says_what}");
    }
}

#[tokio::test]
async fn what_is_for_connecting_is_looked_at_too() {
    let scene = Scene::new();
    let identity = scene.authority.sign("m", &["a"]);
    let (one, two) = (scene.authority.sign("1", &["a"]), scene.authority.sign("2", &["a"]));
    let (one, two) = (one.write(scene.folder.path(), "1"), two.write(scene.folder.path(), "2"));
    let pair = [flag("peer-client-cert-file", &one.certificate), flag("peer-client-key-file", &two.key)];
    let flags = scene.flags(&identity, "m", &[&pair[0], &pair[1]]);
    assert!(error(&flags).contains("it is not the key of"));
    assert!(Acceptor::load(&peer_tls(&flags)).is_err());
}

#[tokio::test]
async fn members_need_an_authority_and_hosts_that_can_be() {
    let scene = Scene::new();
    let identity = scene.authority.sign("m", &["a"]);
    let flags = scene.flags(&identity, "m", &["--peer-trusted-ca-file="]);
    assert!(error(&flags).contains("give --peer-trusted-ca-file"));
    let flags = scene.flags(&identity, "m", &["--peer-cert-allowed-hostname=not a host"]);
    assert!(error(&flags).contains("neither a host's name nor an address"));
}

#[tokio::test]
async fn another_certificate_can_be_for_connecting() {
    let scene = Scene::new();
    let strict = scene.member("strict", &["--peer-cert-allowed-cn=caller"]);
    let (server, caller) = (scene.authority.sign("server", &["a", HERE]), scene.authority.sign("caller", &[HERE]));
    let caller = caller.write(scene.folder.path(), "caller");
    let pair = [flag("peer-client-cert-file", &caller.certificate), flag("peer-client-key-file", &caller.key)];
    let member = Member::load(&scene.flags(&server, "m", &[&pair[0], &pair[1]])).unwrap();
    assert_eq!(member.connect(&strict).await, (Ok(()), Ok(())));
    assert_refused_here(strict.connect(&member).await, "server");
}
