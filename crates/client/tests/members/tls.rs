//! Who is trusted, and what is shown to whom.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::crypto::{CryptoProvider, SecureRandom, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use stentor_client::{Client, ErrorKind, KeyRange, Tls};
use tokio_rustls::TlsAcceptor;

use crate::harness::{Accept, Bytes, PATIENCE, Rig};

/// An authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        // Two of the same name are taken for the same authority.
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("authority {}", MADE.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    fn server(&self, name: &str) -> Identity {
        self.sign(name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn client(&self, name: &str) -> Identity {
        self.sign(name, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

impl Identity {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    fn write(&self, certificate: &Path, key: &Path) {
        std::fs::write(certificate, &self.certificate).unwrap();
        std::fs::write(key, &self.key).unwrap();
    }
}

/// What clients have shown, connection by connection.
type Shown = Arc<Mutex<Vec<CertificateDer<'static>>>>;

/// The end of TLS at the server. Wants certificates of clients if an authority for them is given.
fn acceptor(server: &Identity, clients: Option<&Authority>, shown: &Shown) -> Accept {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(server.chain(), key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let shown = shown.clone();
    Arc::new(move |pipe| {
        let (accepting, shown) = (acceptor.accept(pipe), shown.clone());
        Box::pin(async move {
            let stream = accepting.await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
            shown.lock().unwrap().extend(certificate.map(CertificateDer::into_owned));
            Ok(Box::new(stream) as Box<dyn Bytes>)
        })
    })
}

/// A member behind TLS under `a:1`, with a certificate for the name `a`.
struct Scene {
    rig: Rig,
    authority: Authority,
    shown: Shown,
}

impl Scene {
    async fn new(clients: Option<&Authority>) -> Scene {
        let scene = Scene { rig: Rig::start().await, authority: Authority::new(), shown: Shown::default() };
        scene.rig.open_by("a:1", acceptor(&scene.authority.server("a"), clients, &scene.shown));
        scene
    }

    fn trust(&self) -> Tls {
        Tls::new().ca_pem(self.authority.pem.clone())
    }

    async fn connect(&self, tls: Tls) -> stentor_client::Result<Client> {
        self.rig.by_address(&["https://a:1"]).tls(tls).connect().await
    }

    /// Whether a client with these settings can be served, by a call.
    async fn call(&self, tls: Tls) -> stentor_client::Result<()> {
        self.rig.by_address(&["a:1"]).tls(tls).build()?.get("k").await.map(|_| ())
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_of_the_authority_is_trusted_for_calls_and_watches() {
    let scene = Scene::new(None).await;
    let client = scene.connect(scene.trust()).await.unwrap();
    let mut watch = client.watch(KeyRange::prefix("k")).await.unwrap().into_events();
    client.put("k", "v").await.unwrap();
    let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(event.kv().value(), "v");
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_authority_is_refused_and_so_is_one_with_another_name() {
    let scene = Scene::new(None).await;
    let error = scene.connect(Tls::new().ca_pem(Authority::new().pem)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Tls, "{error}");
    assert!(error.to_string().contains("UnknownIssuer") && !error.is_retryable(), "{error}");
    let error = scene.call(scene.trust().server_name("b")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Tls, "{error}");
    // The address is another than the name in the certificate.
    scene.rig.open_by("10.0.0.1:1", acceptor(&scene.authority.server("a"), None, &scene.shown));
    let by_address = || scene.rig.by_address(&["https://10.0.0.1:1"]);
    let error = by_address().tls(scene.trust()).connect().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Tls, "{error}");
    by_address().tls(scene.trust().server_name("a")).connect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_accepts_any_server_is_served() {
    let scene = Scene::new(None).await;
    scene.call(Tls::new().dangerous_accept_any()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_is_served_by_its_certificate_and_refused_without_or_with_a_strange_one() {
    let clients = Authority::new();
    let scene = Scene::new(Some(&clients)).await;
    let me = clients.client("me");
    scene.call(scene.trust().identity_pem(me.certificate.clone(), me.key.clone())).await.unwrap();
    assert_eq!(*scene.shown.lock().unwrap(), me.chain());
    let stranger = Authority::new().client("me");
    for tls in [scene.trust(), scene.trust().identity_pem(stranger.certificate, stranger.key)] {
        let error = scene.call(tls).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Tls, "{error}");
        assert!(error.to_string().contains("received fatal alert"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_was_replaced_is_shown_from_the_next_connection_on() {
    let clients = Authority::new();
    let scene = Scene::new(Some(&clients)).await;
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("me.pem"), dir.path().join("me.key"));
    let (old, new) = (clients.client("old"), clients.client("new"));
    old.write(&certificate, &key);
    let client = scene.connect(scene.trust().identity_files(&certificate, &key)).await.unwrap();
    new.write(&certificate, &key);
    client.put("k", "v").await.unwrap();
    assert_eq!(*scene.shown.lock().unwrap(), old.chain(), "an open connection stays");
    reconnect(&scene, &clients).await;
    client.get("k").await.unwrap();
    assert_eq!(scene.shown.lock().unwrap().last(), new.chain().first());

    // Half of a replacement is no reason to have none.
    std::fs::write(&certificate, "-----BEGIN CERT").unwrap();
    reconnect(&scene, &clients).await;
    client.get("k").await.unwrap();
    assert_eq!(scene.shown.lock().unwrap().last(), new.chain().first());
}

/// Ends all connections and serves again.
async fn reconnect(scene: &Scene, clients: &Authority) {
    scene.rig.shut("a:1").await;
    scene.rig.open_by("a:1", acceptor(&scene.authority.server("a"), Some(clients), &scene.shown));
}

/// ring, counting how often it was asked for chance.
fn counting() -> (Arc<CryptoProvider>, &'static AtomicUsize) {
    #[derive(Debug)]
    struct Counting(&'static AtomicUsize);
    impl SecureRandom for Counting {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), rustls::crypto::GetRandomFailed> {
            self.0.fetch_add(1, Ordering::Relaxed);
            ring::default_provider().secure_random.fill(buffer)
        }
    }
    let count: &'static AtomicUsize = Box::leak(Box::default());
    let secure_random = Box::leak(Box::new(Counting(count)));
    (Arc::new(CryptoProvider { secure_random, ..ring::default_provider() }), count)
}

#[tokio::test(start_paused = true)]
async fn the_provider_is_the_one_given_then_the_installed_one() {
    let scene = Scene::new(None).await;
    let used = |count: &AtomicUsize| count.load(Ordering::Relaxed) > 0;
    // Other tests of this process do not mind which they get, and may use it at any time.
    let (installed, by_default) = counting();
    CryptoProvider::install_default(Arc::unwrap_or_clone(installed)).unwrap();
    let (given, by_gift) = counting();
    scene.call(scene.trust().provider(given)).await.unwrap();
    assert!(used(by_gift));
    scene.call(scene.trust()).await.unwrap();
    assert!(used(by_default));
}

#[cfg(feature = "raw")]
#[tokio::test(start_paused = true)]
async fn raw_connections_are_encrypted_alike() {
    use stentor_client::raw;
    use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};
    let clients = Authority::new();
    let scene = Scene::new(Some(&clients)).await;
    let connect = |tls: Tls| raw::Client::by(scene.rig.by_address(&["https://a:1"]).tls(tls));
    let me = clients.client("me");
    let known = connect(scene.trust().identity_pem(me.certificate, me.key)).await.unwrap();
    let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
    known.kv().put(put).await.unwrap();
    let get = || RangeRequest { key: "k".into(), ..RangeRequest::default() };
    assert_eq!(known.kv().range(get()).await.unwrap().kvs[0].value, "v");
    let error = connect(Tls::new().ca_pem(Authority::new().pem)).await.unwrap_err();
    assert!(matches!(error, raw::Error::Tls { .. }), "{error}");
    // Refused after the handshake.
    let stranger = connect(scene.trust()).await.unwrap();
    let error = stranger.kv().range(get()).await.unwrap_err();
    assert!(matches!(error, raw::Error::Tls { .. }), "{error}");
    let error = connect(Tls::new().ca_file("/nonexistent/ca.pem")).await.unwrap_err();
    assert!(matches!(error, raw::Error::Settings(_)), "{error}");
    let error = raw::Client::by(scene.rig.by_address(&["https://a:1"])).await.unwrap_err();
    assert!(matches!(error, raw::Error::InvalidEndpoint(_)), "{error}");
}

#[test]
fn settings_that_cannot_be_used_are_refused_when_the_client_is_built() {
    let authority = Authority::new();
    let build = |tls: Tls| Client::builder(["https://a:1"]).tls(tls).build().unwrap_err();
    let trusting = || Tls::new().ca_pem(authority.pem.clone());
    for (tls, word) in [
        (Tls::new(), "nobody is trusted"),
        (Tls::new().ca_pem("nothing"), "no certificate"),
        (Tls::new().ca_file("/nonexistent/ca.pem"), "/nonexistent/ca.pem"),
        (trusting().identity_pem(authority.client("a").certificate, "nothing"), "key"),
        (trusting().identity_pem(authority.client("a").certificate, authority.client("b").key), "certificate and key"),
    ] {
        let error = build(tls);
        assert_eq!(*error.kind(), ErrorKind::Tls);
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    assert_eq!(*build(trusting().server_name("no name")).kind(), ErrorKind::InvalidEndpoint);
}

#[test]
fn an_address_and_the_settings_must_agree() {
    let tls = || Tls::new().ca_pem(Authority::new().pem);
    let invalid = |built: stentor_client::Result<Client>| *built.unwrap_err().kind() == ErrorKind::InvalidEndpoint;
    assert!(invalid(Client::builder(["https://a:1"]).build()));
    assert!(invalid(Client::builder(["http://a:1"]).tls(tls()).build()));
    assert!(Client::builder(["https://a:1", "b:1", "https://[::1]:1"]).tls(tls()).build().is_ok());
    assert!(Client::builder(["http://a:1", "b:1"]).build().is_ok());
}

#[test]
fn what_the_system_trusts_can_be_added() {
    // A system may have none: then the authority is all there is.
    let tls = Tls::new().ca_pem(Authority::new().pem).native_roots();
    if let Err(error) = Client::builder(["https://a:1"]).tls(tls).build() {
        assert!(error.to_string().contains("the system's certificates"), "{error}");
    }
}

#[cfg(feature = "tls-webpki-roots")]
#[tokio::test(start_paused = true)]
async fn whoever_trusts_public_authorities_trusts_no_other() {
    let scene = Scene::new(None).await;
    let error = scene.connect(Tls::new().webpki_roots()).await.unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    scene.connect(scene.trust().webpki_roots()).await.unwrap();
}

#[test]
fn keys_stay_out_of_debug() {
    let tls = Tls::new().ca_pem(Authority::new().pem).identity_pem("s3cret", "s3cret");
    let text = format!("{tls:?} {:?}", Client::builder(["a:1"]).tls(tls.clone()));
    assert!(text.contains("6 bytes") && !text.contains("s3cret"), "{text}");
}
