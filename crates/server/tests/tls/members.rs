//! Members among each other, and strangers.

use super::*;

#[tokio::test]
async fn members_of_one_authority_trust_each_other() {
    let scene = Scene::new();
    let (first, second) = (scene.member("m1", &["--peer-client-cert-auth"]), scene.member("m2", &[]));
    assert_eq!(first.connect(&second).await, (Ok(()), Ok(())));
    assert_eq!(second.connect_as(&first, HERE, HERE).await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_both_ways() {
    let (scene, other) = (Scene::new(), Scene::new());
    let (member, stranger) = (scene.member("m", &[]), other.member("m", &[]));
    // Who does not look at the other one's certificate first is not looked at either.
    assert_refused_here(stranger.connect(&member).await, "UnknownIssuer");
    // The stranger has learnt whom to trust.
    let identity = other.authority.sign("m", &["a", HERE]);
    let informed = Member::load(&scene.flags(&identity, "informed", &[])).unwrap();
    assert_refused_there(informed.connect(&member).await, "UnknownIssuer");
    assert_refused_here(member.connect(&informed).await, "UnknownIssuer");
}

#[tokio::test]
async fn nobody_comes_without_a_certificate() {
    let scene = Scene::new();
    let member = scene.member("m", &[]);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(scene.authority.pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let bare = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(bare));
    let (there, _) = tokio::join!(
        member.acceptor.accept(theirs, ([127, 0, 0, 1], 1).into()),
        connector.connect("a".try_into().unwrap(), ours)
    );
    assert!(there.unwrap_err().to_string().contains("no certificates"));
}

#[tokio::test]
async fn a_member_of_another_name_is_not_the_one_that_was_meant() {
    let scene = Scene::new();
    let (first, second) = (scene.member("m1", &[]), scene.member("m2", &[]));
    assert_refused_here(first.connect_as(&second, "b", HERE).await, "not valid for name");
    assert_refused_here(first.connect_as(&second, "10.0.0.9", HERE).await, "not valid for name");
    assert!(first.connect_as(&second, "not a name", HERE).await.1.unwrap_err().contains("no host's name"));
}

#[tokio::test]
async fn common_names_can_be_prescribed() {
    let scene = Scene::new();
    let strict = scene.member("m1", &["--peer-cert-allowed-cn=m1,m2"]);
    let (second, third) = (scene.member("m2", &[]), scene.member("m3", &[]));
    assert_eq!(second.connect(&strict).await, (Ok(()), Ok(())));
    assert_eq!(strict.connect(&second).await, (Ok(()), Ok(())));
    assert_refused_there(third.connect(&strict).await, "the common name \"m3\" is not allowed");
    assert_refused_here(strict.connect(&third).await, "the common name \"m3\" is not allowed");
}

#[tokio::test]
async fn hosts_can_be_prescribed() {
    let scene = Scene::new();
    let strict = scene.member("m1", &["--peer-cert-allowed-hostname=x.good.example,10.0.0.7"]);
    let skip = ["--peer-skip-client-san-verification"];
    let good = |hosts: &[&str], name: &str| {
        let identity = scene.authority.sign("m", hosts);
        Member::load(&scene.flags(&identity, name, &skip)).unwrap()
    };
    let strict_anywhere = scene.member("m1", &["--peer-cert-allowed-hostname=x.good.example,10.0.0.7", skip[0]]);
    for (hosts, name) in [(&["*.good.example", "a"][..], "wild"), (&["10.0.0.7", "a"], "address")] {
        assert_eq!(good(hosts, name).connect(&strict_anywhere).await, (Ok(()), Ok(())), "{name}");
    }
    assert_refused_there(scene.member("m2", &[]).connect(&strict).await, "none of the hosts");
    assert_refused_here(strict.connect(&scene.member("m3", &[])).await, "none of the hosts");
}

/// GHSA-3wh4-j44w-pg92, between members.
#[tokio::test]
async fn revoked_certificates_are_refused_both_ways() {
    let scene = Scene::new();
    let (good, bad) = (scene.authority.sign("good", &["a", HERE]), scene.authority.sign("bad", &["a", HERE]));
    let (pem, der) = scene.authority.revoke(&[&bad]);
    let (good, bad) = (
        Member::load(&scene.flags(&good, "good", &[])).unwrap(),
        Member::load(&scene.flags(&bad, "bad", &[])).unwrap(),
    );
    for (name, list) in [("crl.pem", pem.into_bytes()), ("crl.der", der)] {
        scene.write(name, list);
        let wary = scene.member("wary", &[&flag("peer-crl-file", &scene.path(name))]);
        assert_eq!(good.connect(&wary).await, (Ok(()), Ok(())));
        assert_eq!(wary.connect(&good).await, (Ok(()), Ok(())));
        assert_refused_there(bad.connect(&wary).await, "Revoked");
        assert_refused_here(wary.connect(&bad).await, "Revoked");
    }
}

#[tokio::test]
async fn a_certificate_is_good_where_it_is_for() {
    let scene = Scene::new();
    let member = scene.member("m", &[]);
    let tolerant = scene.member("tolerant", &["--peer-skip-client-san-verification"]);
    for (hosts, from, fits) in [
        (&["a", "10.0.0.7"][..], "10.0.0.7", true),
        (&["a", "10.0.0.7"], "::ffff:10.0.0.7", true),
        (&["a.invalid", "10.0.0.7"], "10.0.0.8", false),
        (&["localhost"], "127.0.0.1", true),
        (&["*.invalid"], "127.0.0.1", false),
        (&["::1"], "::1", true),
        (&[], "10.0.0.8", true),
    ] {
        let identity = scene.authority.sign("m", hosts);
        let other = Member::load(&scene.flags(&identity, "other", &[])).unwrap();
        let ends = other.connect_as(&member, "a", from).await;
        if fits {
            assert_eq!(ends, (Ok(()), Ok(())), "{hosts:?} from {from}");
        } else {
            assert_refused_there(ends, "none of the addresses");
        }
        assert_eq!(other.connect_as(&tolerant, "a", from).await, (Ok(()), Ok(())), "{hosts:?} from {from}");
    }
}

#[tokio::test]
async fn own_certificates_are_taken_without_a_look() {
    let scene = Scene::new();
    let own = |name: &str| {
        let flags = [flag("data-dir", &scene.path(name)), "--peer-auto-tls".to_owned()];
        Member::load(&flags).unwrap()
    };
    let (first, second) = (own("d1"), own("d2"));
    assert_eq!(first.connect(&second).await, (Ok(()), Ok(())));
    assert!(scene.path("d1/fixtures/peer/key.pem").is_file());
    // A member that knows an authority does not take one.
    assert_refused_here(scene.member("m", &[]).connect(&first).await, "invalid peer certificate");
}

#[tokio::test]
async fn versions_and_suites_are_kept_to() {
    let scene = Scene::new();
    let (old, new) =
        (scene.member("m1", &["--tls-max-version=TLS1.2"]), scene.member("m2", &["--tls-min-version=TLS1.3"]));
    let any = scene.member("m3", &[]);
    assert_eq!(any.connect(&old).await, (Ok(()), Ok(())));
    assert_eq!(any.connect(&new).await, (Ok(()), Ok(())));
    assert_refused_there(old.connect(&new).await, "incompatible");
    // The certificates of this test are ECDSA.
    let suite = |name: &str| format!("--cipher-suites={name}");
    let limited = |name, suites: &str| scene.member(name, &["--tls-max-version=TLS1.2", &suite(suites)]);
    let chacha = limited("m4", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
    let aes = limited("m5", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    assert_eq!(any.connect(&chacha).await, (Ok(()), Ok(())));
    assert!(aes.connect(&chacha).await.0.is_err());
}
