use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::AuthenticateRequest;
use stentor_proto::etcdserverpb::auth_client::AuthClient;
use tonic::metadata::{Ascii, MetadataValue};

use crate::auth::{Source, header, unusable};
use crate::credentials::{Secret, Shown};
use crate::raw::call::stub;
use crate::raw::connection::Connection;
use crate::raw::{Error, Result};

/// What calls on the connection carry to show who sent them.
pub(crate) async fn token(connection: &Connection, source: &Source) -> Result<Option<MetadataValue<Ascii>>> {
    match source.secret().await? {
        None => Ok(None),
        Some(Secret(Shown::Token(text))) => header(&text).map(Some).ok_or_else(unusable),
        Some(Secret(Shown::Password { user, password })) => log_in(connection, user, password).await,
    }
}

/// Fetches a token; `None` from a server on which authentication is off.
async fn log_in(connection: &Connection, name: String, password: String) -> Result<Option<MetadataValue<Ascii>>> {
    let mut stub = stub!(AuthClient<_>, connection);
    let request = AuthenticateRequest { name, password };
    match connection.unary(request, async |r| stub.authenticate(r).await).await {
        Ok(answer) => header(&answer.token).map(Some).ok_or(Error::Protocol("the token is no valid header value")),
        Err(Error::Etcd(EtcdError::AuthNotEnabled)) => Ok(None),
        Err(error) => Err(error),
    }
}
