use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::AuthenticateRequest;
use stentor_proto::etcdserverpb::auth_client::AuthClient;
use tonic::metadata::{Ascii, MetadataValue};

use crate::raw::call::stub;
use crate::raw::connection::Connection;
use crate::raw::{Error, Result};

/// Fetches a token; `None` from a server on which authentication is off.
pub(crate) async fn log_in(
    connection: &Connection,
    user: &str,
    password: &str,
) -> Result<Option<MetadataValue<Ascii>>> {
    let request = AuthenticateRequest { name: user.to_owned(), password: password.to_owned() };
    let mut stub = stub!(AuthClient<_>, connection);
    match connection.unary(request, async |r| stub.authenticate(r).await).await {
        Ok(answer) => match answer.token.parse() {
            Ok(token) => Ok(Some(token)),
            Err(_) => Err(Error::Protocol("the token is no valid header value")),
        },
        Err(Error::Etcd(EtcdError::AuthNotEnabled)) => Ok(None),
        Err(error) => Err(error),
    }
}
