use std::fmt;

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::AuthenticateRequest;
use stentor_proto::etcdserverpb::auth_client::AuthClient;
use tokio::sync::Mutex;
use tonic::metadata::{Ascii, MetadataValue};

use crate::endpoint::{Class, Pool};
use crate::fault::{Fault, Verdict};

/// The name and password that a client logs in with, and the token it got for them.
pub(crate) struct Auth {
    credentials: Option<Credentials>,
    /// Held while a token is fetched, so that one fetch serves all who wait for it.
    token: Mutex<Option<Token>>,
}

pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// What a request carries to show who sent it.
#[derive(Clone)]
pub(crate) struct Token {
    /// None if the server has authentication off.
    value: Option<MetadataValue<Ascii>>,
    /// Which of the tokens fetched so far it is; 0 is none at all.
    pub(crate) number: u64,
}

impl Auth {
    pub(crate) fn new(credentials: Option<Credentials>) -> Auth {
        Auth { credentials, token: Mutex::default() }
    }

    /// Whether a refused request could fare better with a fresh token.
    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// The token to send. Fetches the first, and another one if the newest is `refused`.
    pub(crate) async fn token(&self, pool: &Pool, refused: Option<u64>) -> Result<Token, Fault> {
        let Some(credentials) = &self.credentials else { return Ok(Token { value: None, number: 0 }) };
        let mut token = self.token.lock().await;
        let number = match &*token {
            Some(known) if refused.is_none_or(|refused| refused < known.number) => return Ok(known.clone()),
            Some(known) => known.number + 1,
            None => 1,
        };
        let value = credentials.log_in(pool).await?;
        Ok(token.insert(Token { value, number }).clone())
    }
}

impl Credentials {
    /// A token; `None` from a server on which authentication is off.
    async fn log_in(&self, pool: &Pool) -> Result<Option<MetadataValue<Ascii>>, Fault> {
        let mut avoid = None;
        loop {
            let connection = pool.connection(Class::Call, avoid).await;
            let request = AuthenticateRequest { name: self.user.clone(), password: self.password.clone() };
            let mut stub = AuthClient::new(connection.channel.clone());
            let answer = match tokio::time::timeout(pool.try_timeout(), stub.authenticate(request)).await {
                Ok(answer) => answer.map_err(|status| connection.fault(&status)),
                Err(_) => Err(Fault::DeadlineExceeded),
            };
            let fault = match answer {
                Ok(answer) => {
                    pool.succeeded(&connection);
                    let token = answer.into_inner().token;
                    return token.parse().map(Some).map_err(|_| Fault::Protocol("the token is no valid header value"));
                }
                Err(Fault::Etcd(EtcdError::AuthNotEnabled)) => {
                    pool.succeeded(&connection);
                    return Ok(None);
                }
                Err(fault) => fault,
            };
            // Only an endpoint that could not be asked is a reason to ask another: a wrong password is
            // wrong everywhere, and the call's own pauses serve the rest.
            match fault.verdict() {
                Verdict::Elsewhere(Some(trouble)) => pool.failed(&connection, trouble),
                _ => return Err(fault),
            }
            avoid = Some(connection.index);
        }
    }
}

impl Token {
    /// Puts it on a request.
    pub(crate) fn sign<T>(&self, request: &mut tonic::Request<T>) {
        if let Some(value) = &self.value {
            request.metadata_mut().insert("token", value.clone());
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("user", &self.credentials.as_ref().map(|c| &c.user)).finish_non_exhaustive()
    }
}
