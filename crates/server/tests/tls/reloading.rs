//! Files that change under a running member.

use super::*;

#[tokio::test]
async fn certificates_can_be_replaced() {
    let scene = Scene::new();
    let other = scene.member("other", &["--peer-cert-allowed-cn=new"]);
    let identity = scene.authority.sign("old", &["a", HERE]);
    let member = Member::load(&scene.flags(&identity, "m", &[])).unwrap();
    assert_refused_there(member.connect(&other).await, "old");
    assert_refused_here(other.connect(&member).await, "old");
    scene.authority.sign("new", &["a", HERE]).write(scene.folder.path(), "m");
    assert_eq!(member.connect(&other).await, (Ok(()), Ok(())));
    assert_eq!(other.connect(&member).await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let scene = Scene::new();
    let other = scene.member("other", &["--peer-cert-allowed-cn=old,new"]);
    let identity = scene.authority.sign("old", &["a", HERE]);
    let member = Member::load(&scene.flags(&identity, "m", &[])).unwrap();
    let key = scene.authority.sign("wrong", &["a"]).key;
    for (name, broken) in [("m.crt", "half a certificate"), ("m.key", key.as_str()), ("ca.crt", "")] {
        let before = std::fs::read(scene.path(name)).unwrap();
        scene.write(name, broken);
        assert_eq!(member.connect(&other).await, (Ok(()), Ok(())), "{name}");
        assert_eq!(other.connect(&member).await, (Ok(()), Ok(())), "{name}");
        std::fs::remove_file(scene.path(name)).unwrap();
        assert_eq!(member.connect(&other).await, (Ok(()), Ok(())), "{name}");
        scene.write(name, before);
        assert_eq!(other.connect(&member).await, (Ok(()), Ok(())), "{name}");
    }
    scene.authority.sign("new", &["a", HERE]).write(scene.folder.path(), "m");
    assert_eq!(member.connect(&other).await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_certificate_can_be_revoked_at_any_time() {
    let scene = Scene::new();
    scene.write("crl", scene.authority.revoke(&[]).0);
    let wary = scene.member("wary", &[&flag("peer-crl-file", &scene.path("crl"))]);
    let identity = scene.authority.sign("m", &["a", HERE]);
    let member = Member::load(&scene.flags(&identity, "m", &[])).unwrap();
    assert_eq!(member.connect(&wary).await, (Ok(()), Ok(())));
    scene.write("crl", scene.authority.revoke(&[&identity]).0);
    assert_refused_there(member.connect(&wary).await, "Revoked");
    // A list that cannot be read pardons nobody.
    scene.write("crl", "");
    assert_refused_there(member.connect(&wary).await, "Revoked");
    std::fs::remove_file(scene.path("crl")).unwrap();
    assert_refused_there(member.connect(&wary).await, "Revoked");
}

#[tokio::test]
async fn another_authority_can_be_trusted() {
    let (scene, other) = (Scene::new(), Scene::new());
    let member = scene.member("m", &[]);
    let identity = other.authority.sign("m", &["a", HERE]);
    let guest = Member::load(&scene.flags(&identity, "guest", &[])).unwrap();
    assert_refused_there(guest.connect(&member).await, "UnknownIssuer");
    scene.write("ca.crt", format!("{}{}", scene.authority.pem, other.authority.pem));
    assert_eq!(guest.connect(&member).await, (Ok(()), Ok(())));
    assert_eq!(member.connect(&guest).await, (Ok(()), Ok(())));
}
