use std::fmt;
use std::sync::Arc;

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::AuthenticateRequest;
use stentor_proto::etcdserverpb::auth_client::AuthClient;
use tokio::sync::Mutex;
use tonic::metadata::{Ascii, MetadataValue};

use crate::credentials::{Credentials, Secret, Shown};
use crate::endpoint::{Class, Pool};
use crate::error::{Error, ErrorKind};
use crate::fault::{Fault, Verdict};

/// What a client shows of who it is, and the token it has for that.
pub(crate) struct Auth {
    source: Source,
    /// Held while a token is fetched, so that one fetch serves all who wait for it.
    token: Mutex<Option<Token>>,
}

/// Where the secret comes from.
#[derive(Clone)]
pub(crate) enum Source {
    None,
    Fixed(Secret),
    Asked(Arc<dyn Credentials>),
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
    /// Refuses a token that no request can carry.
    pub(crate) fn new(source: Source) -> Result<Auth, Error> {
        match &source {
            Source::Fixed(Secret(Shown::Token(text))) if header(text).is_none() => {
                Err(Error::with(ErrorKind::Unauthenticated, "the token is no valid header value"))
            }
            _ => Ok(Auth { source, token: Mutex::default() }),
        }
    }

    /// One that logs in alike, and has no token yet.
    pub(crate) fn anew(&self) -> Auth {
        Auth { source: self.source.clone(), token: Mutex::default() }
    }

    /// Whether a refused request could fare better with a fresh token.
    pub(crate) fn has_credentials(&self) -> bool {
        match &self.source {
            Source::None | Source::Fixed(Secret(Shown::Token(_))) => false,
            Source::Fixed(Secret(Shown::Password { .. })) | Source::Asked(_) => true,
        }
    }

    /// The token to send. Fetches the first, and another one if the newest is `refused`.
    pub(crate) async fn token(&self, pool: &Pool, refused: Option<u64>) -> Result<Token, Fault> {
        if matches!(self.source, Source::None) {
            return Ok(Token { value: None, number: 0 });
        }
        let mut token = self.token.lock().await;
        let number = match &*token {
            Some(known) if refused.is_none_or(|refused| refused < known.number) => return Ok(known.clone()),
            Some(known) => known.number + 1,
            None => 1,
        };
        let value = match self.source.secret().await? {
            None => None,
            Some(Secret(Shown::Token(text))) => Some(header(&text).ok_or_else(unusable)?),
            Some(Secret(Shown::Password { user, password })) => log_in(pool, &user, &password).await?,
        };
        Ok(token.insert(Token { value, number }).clone())
    }
}

impl Source {
    pub(crate) async fn secret(&self) -> Result<Option<Secret>, Fault> {
        match self {
            Source::None => Ok(None),
            Source::Fixed(secret) => Ok(Some(secret.clone())),
            Source::Asked(credentials) => match credentials.secret().await {
                Ok(secret) => Ok(Some(secret)),
                Err(error) => Err(Fault::Credentials { reason: error.to_string() }),
            },
        }
    }
}

/// A token as a request carries it. Marked so that nobody logs it.
pub(crate) fn header(token: &str) -> Option<MetadataValue<Ascii>> {
    let mut value: MetadataValue<Ascii> = token.parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}

pub(crate) fn unusable() -> Fault {
    Fault::Credentials { reason: "the token is no valid header value".to_owned() }
}

/// A token; `None` from a server on which authentication is off.
async fn log_in(pool: &Pool, user: &str, password: &str) -> Result<Option<MetadataValue<Ascii>>, Fault> {
    let mut avoid = None;
    loop {
        let connection = pool.connection(Class::Call, avoid).await;
        let request = AuthenticateRequest { name: user.to_owned(), password: password.to_owned() };
        let mut stub = AuthClient::new(connection.channel.clone());
        let answer = match tokio::time::timeout(pool.try_timeout(), stub.authenticate(request)).await {
            Ok(answer) => answer.map_err(|status| connection.fault(&status)),
            Err(_) => Err(Fault::DeadlineExceeded),
        };
        let fault = match answer {
            Ok(answer) => {
                pool.succeeded(&connection);
                let token = answer.into_inner().token;
                return header(&token).map(Some).ok_or(Fault::Protocol("the token is no valid header value"));
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
        f.debug_struct("Auth").field("source", &self.source).finish_non_exhaustive()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::None => f.write_str("none"),
            Source::Fixed(secret) => secret.fmt(f),
            Source::Asked(_) => f.write_str("asked for"),
        }
    }
}
