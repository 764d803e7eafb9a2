//! Whether who connects does so from an address that its certificate is for: a stolen certificate is of no use
//! elsewhere then. It is asked of members, as etcd does it.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::rules;

/// The address is none of the certificate's.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address} is none of the addresses and names that its certificate is for, {named} \
     (--peer-skip-client-san-verification leaves this out)"
)]
pub struct Elsewhere {
    address: IpAddr,
    named: String,
}

/// The addresses and names of a certificate.
#[derive(Default)]
struct Places {
    addresses: Vec<IpAddr>,
    names: Vec<String>,
}

/// Looks for the address among the certificate's addresses, and among those of its names. A certificate without
/// any is good everywhere; a name with a wildcard has no address to look up.
pub(super) async fn compare(certificate: &CertificateDer<'_>, address: IpAddr) -> Result<(), Elsewhere> {
    let address = address.to_canonical();
    // It has been verified, so it can be read.
    let places = rules::parse(certificate).map(|parsed| Places::of(&parsed)).unwrap_or_default();
    if places.addresses.is_empty() && places.names.is_empty() || places.addresses.contains(&address) {
        return Ok(());
    }
    for name in places.names.iter().filter(|name| !name.contains('*')) {
        // A name that has no address, or is not known now, is not this one.
        if let Ok(mut found) = tokio::net::lookup_host((name.as_str(), 0)).await
            && found.any(|found| found.ip().to_canonical() == address)
        {
            return Ok(());
        }
    }
    let addresses = places.addresses.iter().map(IpAddr::to_string);
    let named = addresses.chain(places.names).collect::<Vec<_>>().join(", ");
    Err(Elsewhere { address, named })
}

impl Places {
    fn of(certificate: &X509Certificate<'_>) -> Places {
        let mut places = Places::default();
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return places };
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(name) => places.names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    let v6 = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                    places.addresses.extend(v4.or_else(|_| v6()).map(|address| address.to_canonical()));
                }
                _ => {}
            }
        }
        places
    }
}
