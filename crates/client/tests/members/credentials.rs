//! Passwords and tokens, fixed and from a source of the program.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use prost::Message as _;
use stentor_client::{Client, Credentials, ErrorKind, Secret, SecretFuture};
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};

use crate::members::scripted::{self, Answer, Asked};

/// A server with one password and one token that is good now.
#[derive(Default)]
struct Gate {
    password: Mutex<String>,
    token: Mutex<String>,
    logins: AtomicU64,
}

impl Gate {
    fn new(password: &str, token: &str) -> Arc<Gate> {
        Arc::new(Gate { password: Mutex::new(password.into()), token: Mutex::new(token.into()), ..Gate::default() })
    }

    fn answer(&self, asked: &Asked) -> Answer {
        if asked.path.ends_with("/Authenticate") {
            self.logins.fetch_add(1, Ordering::Relaxed);
            let request: AuthenticateRequest = asked.message();
            if request.password != *self.password.lock().unwrap() {
                return Err(EtcdError::AuthFailed);
            }
            let token = self.token.lock().unwrap().clone();
            return Ok(AuthenticateResponse { header: None, token }.encode_to_vec());
        }
        if asked.token.as_ref() == Some(&*self.token.lock().unwrap()) {
            // A range without pairs.
            return Ok(Vec::new());
        }
        Err(EtcdError::InvalidAuthToken)
    }
}

fn client(gate: &Arc<Gate>) -> stentor_client::ClientBuilder {
    let gate = gate.clone();
    scripted::client(move |asked| gate.answer(&asked))
}

/// A source that gives what it holds, or fails if it holds nothing, and counts.
#[derive(Clone, Default)]
struct Vault {
    secret: Arc<Mutex<Option<Secret>>>,
    asked: Arc<AtomicU64>,
}

impl Vault {
    fn put(&self, secret: Secret) {
        *self.secret.lock().unwrap() = Some(secret);
    }
}

impl Credentials for Vault {
    fn secret(&self) -> SecretFuture<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { self.secret.lock().unwrap().clone().ok_or_else(|| "the vault is sealed".into()) })
    }
}

async fn get(client: &Client) -> Result<(), ErrorKind> {
    client.get("k").await.map(|_| ()).map_err(|error| error.kind().clone())
}

#[tokio::test(start_paused = true)]
async fn a_fixed_token_is_shown_and_never_renewed() {
    let gate = Gate::new("", "jwt-1");
    let client = client(&gate).token("jwt-1").build().unwrap();
    assert_eq!(get(&client).await, Ok(()));
    *gate.token.lock().unwrap() = "jwt-2".into();
    assert_eq!(get(&client).await, Err(ErrorKind::Unauthenticated));
    assert_eq!(gate.logins.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_is_asked_again_when_its_token_is_refused_and_not_before() {
    let (gate, vault) = (Gate::new("", "jwt-1"), Vault::default());
    vault.put(Secret::token("jwt-1"));
    let client = client(&gate).credentials_from(vault.clone()).build().unwrap();
    for _ in 0..3 {
        assert_eq!(get(&client).await, Ok(()));
    }
    assert_eq!(vault.asked.load(Ordering::Relaxed), 1);
    *gate.token.lock().unwrap() = "jwt-2".into();
    vault.put(Secret::token("jwt-2"));
    assert_eq!(get(&client).await, Ok(()));
    assert_eq!(vault.asked.load(Ordering::Relaxed), 2);
    // What it gives is refused too: that is final.
    *gate.token.lock().unwrap() = "jwt-3".into();
    assert_eq!(get(&client).await, Err(ErrorKind::Unauthenticated));
}

#[tokio::test(start_paused = true)]
async fn a_password_that_rotates_is_the_one_of_the_moment() {
    let (gate, vault) = (Gate::new("old", "t-1"), Vault::default());
    vault.put(Secret::password("me", "old"));
    let client = client(&gate).credentials_from(vault.clone()).build().unwrap();
    assert_eq!(get(&client).await, Ok(()));
    (*gate.password.lock().unwrap(), *gate.token.lock().unwrap()) = ("new".into(), "t-2".into());
    vault.put(Secret::password("me", "new"));
    assert_eq!(get(&client).await, Ok(()));
    assert_eq!(gate.logins.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_asked_again_until_the_deadline() {
    let (gate, vault) = (Gate::new("", "jwt-1"), Vault::default());
    let client = client(&gate).credentials_from(vault.clone()).build().unwrap();
    let error = client.get("k").await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("the vault is sealed"), "{error}");
    assert!(vault.asked.load(Ordering::Relaxed) > 3);
    let waiting = tokio::spawn(async move { get(&client).await });
    tokio::task::yield_now().await;
    vault.put(Secret::token("jwt-1"));
    assert_eq!(waiting.await.unwrap(), Ok(()));
}
