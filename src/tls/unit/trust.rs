//! Whom a unit trusts.

use super::{FileProblem, UnitError, path_of};
use crate::tls::cache::Files;
use crate::tls::gnutls::credentials::CredentialsBuilder;
use crate::tls::settings::is_system;
use bstr::{BStr, ByteSlice};
use std::path::Path;

/// What GnuTLS reads as the system's is one of these, or links there: which, it does not tell. A change of any of them
/// (`update-ca-certificates`) is a change of the system's authorities.
const SYSTEM_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// Authorities: a file, a directory of files, or the system's (`system`; loaded only where certificates of
/// peers are checked, since it costs twenty handshakes).
pub(in crate::tls) fn load_trust(
    place: &BStr,
    needed: bool,
    files: &mut Files,
    builder: &mut CredentialsBuilder,
) -> Result<(), UnitError> {
    let option = "tls_verify_certificates";
    if is_system(place) {
        if needed {
            SYSTEM_FILES.iter().for_each(|path| files.follow(Path::new(path)));
            builder.trust_system()?;
        }
        return Ok(());
    }
    let problem = |problem| UnitError::Trust { option, path: place.to_owned(), problem };
    let unreadable = |error| problem(FileProblem::Unreadable(place.to_owned(), error));
    let path = path_of(place).map_err(problem)?;
    if files.is_directory(path).map_err(unreadable)? {
        for path in files.list(path).map_err(unreadable)? {
            let pem = files.read(&path).map_err(unreadable)?;
            // As with OpenSSL's and GnuTLS's directories, files that are no certificates do not disturb.
            let _ = builder.trust_pem(&pem);
        }
        return Ok(());
    }
    let pem = files.read(path).map_err(unreadable)?;
    // An empty file trusts nobody, which is a meaning.
    if !pem.trim().is_empty() {
        let malformed = |error| problem(FileProblem::Malformed(place.to_owned(), error));
        builder.trust_pem(&pem).map_err(malformed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_authorities_are_followed_where_they_are_loaded() {
        for needed in [true, false] {
            let (mut files, mut builder) = (Files::default(), CredentialsBuilder::new().unwrap());
            load_trust(BStr::new("system"), needed, &mut files, &mut builder).unwrap();
            assert!(SYSTEM_FILES.iter().all(|path| files.follows(Path::new(path)) == needed));
        }
    }
}
