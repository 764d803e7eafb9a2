use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;

/// A password or a token, from where secrets are kept and change.
///
/// It is asked when a token is needed: at first, and when the server has refused the last one. One question is
/// under way at a time, and all who wait share its answer. An error, or an answer that takes long, is met as an
/// endpoint in trouble is: calls ask again until their deadline and end as
/// [`Unavailable`](crate::ErrorKind::Unavailable), watches wait. A password that the server refuses is final.
///
/// ```
/// use stentor_client::{Credentials, Secret, SecretFuture};
///
/// struct FromFile(std::path::PathBuf);
///
/// impl Credentials for FromFile {
///     fn secret(&self) -> SecretFuture<'_> {
///         Box::pin(async { Ok(Secret::token(std::fs::read_to_string(&self.0)?.trim())) })
///     }
/// }
/// ```
pub trait Credentials: Send + Sync + 'static {
    /// What to show now. If the future is dropped, nobody needs the answer any more.
    fn secret(&self) -> SecretFuture<'_>;
}

/// The answer of [`Credentials`].
pub type SecretFuture<'a> = Pin<Box<dyn Future<Output = Result<Secret, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// What a client shows of who it is. `Debug` keeps it secret.
#[derive(Clone)]
pub struct Secret(pub(crate) Shown);

#[derive(Clone)]
pub(crate) enum Shown {
    Password { user: String, password: String },
    Token(String),
}

impl Secret {
    /// To log in with: the server gives a token for it.
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Secret {
        Secret(Shown::Password { user: user.into(), password: password.into() })
    }

    /// A token, shown as it is.
    pub fn token(token: impl Into<String>) -> Secret {
        Secret(Shown::Token(token.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Shown::Password { user, .. } => write!(f, "password of {user:?}"),
            Shown::Token(_) => f.write_str("token"),
        }
    }
}
