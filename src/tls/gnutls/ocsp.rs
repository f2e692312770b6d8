//! OCSP responses (RFC 6960) as GnuTLS parses them, and the client's half of stapling. No judgement:
//! that is `crate::ocsp`'s.

use super::check::{Error, check};
use super::credentials::CredentialsBuilder;
use super::gnutls_sys as sys;
use super::hash::Digest;
use super::memory::{bytes_of, datum, empty_datum, owned, take_bytes};
use super::session::Session;
use super::x509::{Certificate, time_of};
use std::ffi::{c_int, c_uint};
use std::ptr;
use std::time::SystemTime;

owned! {
    /// One parsed response.
    ResponseHandle: sys::gnutls_ocsp_resp_t, sys::gnutls_ocsp_resp_deinit
}
owned! {
    /// One question that is being made.
    RequestHandle: sys::gnutls_ocsp_req_t, sys::gnutls_ocsp_req_deinit
}

/// Most single responses that are looked at: a proof has one, or one for each element of a chain.
const MAX_SINGLES: c_uint = 64;
/// Most certificates in a response.
const MAX_CERTIFICATES: usize = 16;

/// Most entries of a certificate's authority information access that are looked at.
const MAX_RESPONDERS: c_uint = 16;

/// A parsed response.
pub struct Response(ResponseHandle);

/// Says of which certificate a single response speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertId {
    /// Algorithm of both hashes; none if it is one we do not know.
    pub digest: Option<Digest>,
    /// Hash of the issuer's name.
    pub issuer_name_hash: Vec<u8>,
    /// Hash of the issuer's public key.
    pub issuer_key_hash: Vec<u8>,
    /// Serial number, big-endian.
    pub serial: Vec<u8>,
}

/// What the responder says of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertStatus {
    /// Not revoked.
    Good,
    /// Revoked at this time.
    Revoked(SystemTime),
    /// The responder does not know it.
    Unknown,
}

/// One single response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single {
    /// Of which certificate.
    pub cert_id: CertId,
    /// What of it.
    pub status: CertStatus,
    /// True from this time.
    pub this_update: SystemTime,
    /// Newer information will be there by this time.
    pub next_update: Option<SystemTime>,
}

impl Response {
    /// Parses DER.
    #[doc(alias = "gnutls_ocsp_resp_import")]
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        super::start();
        let mut handle: sys::gnutls_ocsp_resp_t = ptr::null_mut();
        // SAFETY: the out pointer is ours; on success it holds a handle that we own.
        check(unsafe { sys::gnutls_ocsp_resp_init(&mut handle) })?;
        let response = Self(ResponseHandle::own(handle));
        let data = datum(der);
        // SAFETY: the handle is ours; `der` is only read during the call.
        check(unsafe { sys::gnutls_ocsp_resp_import(response.0.raw(), &data) })?;
        Ok(response)
    }

    /// Status of the whole response: 0 successful, 3 tryLater, 6 unauthorized, ... (RFC 6960 4.2.1).
    #[doc(alias = "gnutls_ocsp_resp_get_status")]
    pub fn status(&self) -> Result<u8, Error> {
        // SAFETY: the handle is alive.
        let status = check(unsafe { sys::gnutls_ocsp_resp_get_status(self.0.raw()) })?;
        Ok(u8::try_from(status).unwrap_or(u8::MAX))
    }

    /// Its single responses.
    #[doc(alias = "gnutls_ocsp_resp_get_single")]
    pub fn singles(&self) -> Result<Vec<Single>, Error> {
        let mut all = Vec::new();
        for index in 0..MAX_SINGLES {
            match self.single(index) {
                Ok(single) => all.push(single),
                Err(error) if error.is_not_available() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    fn single(&self, index: c_uint) -> Result<Single, Error> {
        let mut digest: sys::gnutls_digest_algorithm_t = 0;
        let (mut name, mut key, mut serial) = (empty_datum(), empty_datum(), empty_datum());
        let (mut status, mut reason): (c_uint, c_uint) = (0, 0);
        let (mut this, mut next, mut revoked): (sys::time_t, sys::time_t, sys::time_t) = (0, 0, 0);
        // SAFETY: the handle is alive, all out pointers are ours.
        check(unsafe {
            sys::gnutls_ocsp_resp_get_single(
                self.0.raw(),
                index,
                &mut digest,
                &mut name,
                &mut key,
                &mut serial,
                &mut status,
                &mut this,
                &mut next,
                &mut revoked,
                &mut reason,
            )
        })?;
        // SAFETY: on success the three were allocated for us; each is taken once.
        let (issuer_name_hash, issuer_key_hash, serial) =
            unsafe { (take_bytes(name), take_bytes(key), take_bytes(serial)) };
        let status = match status {
            sys::GNUTLS_OCSP_CERT_GOOD => CertStatus::Good,
            sys::GNUTLS_OCSP_CERT_REVOKED => CertStatus::Revoked(time_of(revoked)),
            _ => CertStatus::Unknown,
        };
        Ok(Single {
            cert_id: CertId {
                digest: Digest::from_gnutls(digest),
                issuer_name_hash,
                issuer_key_hash,
                serial,
            },
            status,
            this_update: time_of(this),
            // GnuTLS says -1 where there is none.
            next_update: (next > 0).then(|| time_of(next)),
        })
    }

    /// The certificates inside; an error if there are more than any responder sends.
    #[doc(alias = "gnutls_ocsp_resp_get_certs")]
    pub fn certificates(&self) -> Result<Vec<Certificate>, Error> {
        let mut list: *mut sys::gnutls_x509_crt_t = ptr::null_mut();
        let mut count: usize = 0;
        // SAFETY: the handle is alive, the out pointers are ours.
        check(unsafe { sys::gnutls_ocsp_resp_get_certs(self.0.raw(), &mut list, &mut count) })?;
        // SAFETY: on success `list` is an allocation with `count` handles, all of them ours.
        let all: Vec<_> = (0..count).map(|at| Certificate::own(unsafe { *list.add(at) })).collect();
        // SAFETY: the array itself is an allocation of GnuTLS that is ours; NULL is allowed.
        unsafe { super::memory::free(list.cast()) };
        if all.len() > MAX_CERTIFICATES {
            Err(Error::from_code(sys::GNUTLS_E_INVALID_REQUEST))
        } else {
            Ok(all)
        }
    }

    /// True if `issuer` signed the response, or a certificate inside that `issuer` issued for it (now
    /// valid, with the key purpose). An error means that it could not be checked, so it is as good as false.
    #[doc(alias = "gnutls_ocsp_resp_verify_direct")]
    pub fn is_signed_for(&self, issuer: &Certificate) -> Result<bool, Error> {
        let mut reasons: c_uint = c_uint::MAX;
        // SAFETY: both handles are alive, the out pointer is ours.
        check(unsafe { sys::gnutls_ocsp_resp_verify_direct(self.0.raw(), issuer.raw(), &mut reasons, 0) })?;
        Ok(reasons == 0)
    }
}

/// The question for a certificate's status, in DER (RFC 6960 4.1), by the hash that every responder knows (RFC 5019
/// 2.1.1). Without a nonce: responders answer from what they signed before, and the answer's times say how old it is.
#[doc(alias = "gnutls_ocsp_req_add_cert")]
#[doc(alias = "gnutls_ocsp_req_export")]
pub fn question(certificate: &Certificate, issuer: &Certificate) -> Result<Vec<u8>, Error> {
    super::start();
    let mut handle: sys::gnutls_ocsp_req_t = ptr::null_mut();
    // SAFETY: the out pointer is ours; on success it holds a handle that we own.
    check(unsafe { sys::gnutls_ocsp_req_init(&mut handle) })?;
    let request = RequestHandle::own(handle);
    let mut der = empty_datum();
    // SAFETY: the three handles are alive; what the certificates say is copied.
    check(unsafe {
        sys::gnutls_ocsp_req_add_cert(request.raw(), sys::GNUTLS_DIG_SHA1, issuer.raw(), certificate.raw())
    })?;
    // SAFETY: the handle is alive; the function allocates what it returns.
    check(unsafe { sys::gnutls_ocsp_req_export(request.raw(), &mut der) })?;
    // SAFETY: the allocation was given to us.
    Ok(unsafe { take_bytes(der) })
}

/// The responders that a certificate names (authority information access, RFC 5280 4.2.2.1), in its order.
#[doc(alias = "gnutls_x509_crt_get_authority_info_access")]
pub fn responders(certificate: &Certificate) -> Vec<Vec<u8>> {
    let responder = |sequence| {
        let mut uri = empty_datum();
        // SAFETY: the handle is alive; no criticality is asked for; the function allocates what it returns.
        let code = unsafe {
            sys::gnutls_x509_crt_get_authority_info_access(
                certificate.raw(),
                sequence,
                sys::GNUTLS_IA_OCSP_URI as c_int,
                &mut uri,
                ptr::null_mut(),
            )
        };
        match check(code) {
            // SAFETY: the allocation was given to us.
            Ok(_) => Some(Some(unsafe { take_bytes(uri) })),
            // An entry of another kind; the last one says that its number is too high.
            Err(error) if error.is_unknown_algorithm() => Some(None),
            Err(_) => None,
        }
    };
    (0..MAX_RESPONDERS).map_while(responder).flatten().collect()
}

/// Loads responses into credentials; see [`CredentialsBuilder::staple_chain`].
#[cfg(gnutls_loads_proofs)]
#[doc(alias = "gnutls_certificate_set_ocsp_status_request_mem")]
pub(super) fn load_responses(
    builder: &mut CredentialsBuilder,
    at: usize,
    responses: &[&[u8]],
) -> Result<(), Error> {
    use base64::Engine;
    // Several at once are taken in PEM only. GnuTLS reads base64 without line breaks.
    let one = |der: &&[u8]| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN OCSP RESPONSE-----\n{body}\n-----END OCSP RESPONSE-----\n")
    };
    let pem: String = responses.iter().map(one).collect();
    let at = c_uint::try_from(at).unwrap_or(c_uint::MAX);
    let data = datum(pem.as_bytes());
    // SAFETY: the handle is ours alone; the text is read during the call only.
    check(unsafe {
        sys::gnutls_certificate_set_ocsp_status_request_mem(
            builder.raw(),
            &data,
            at,
            sys::GNUTLS_X509_FMT_PEM,
        )
    })?;
    Ok(())
}
/// This library cannot.
#[cfg(not(gnutls_loads_proofs))]
pub(super) fn load_responses(_: &mut CredentialsBuilder, _: usize, _: &[&[u8]]) -> Result<(), Error> {
    Err(Error::from_code(sys::GNUTLS_E_INVALID_REQUEST))
}

/// Asks for a staple in the ClientHello.
#[doc(alias = "gnutls_ocsp_status_request_enable_client")]
pub fn request_staple(session: &mut Session) -> Result<(), Error> {
    // SAFETY: the handle is alive; no responders and no extensions are named.
    check(unsafe {
        sys::gnutls_ocsp_status_request_enable_client(session.raw(), ptr::null_mut(), 0, ptr::null_mut())
    })?;
    Ok(())
}

/// What the server stapled for the certificate of this number in its chain, byte for byte; none if it did not. Only with
/// TLS 1.3, and a library that knows it (3.6.3), there is one for other certificates than the leaf.
#[doc(alias = "gnutls_ocsp_status_request_get")]
#[doc(alias = "gnutls_ocsp_status_request_get2")]
pub fn received_staple(session: &Session, at: usize) -> Option<Vec<u8>> {
    let mut response = empty_datum();
    let code = staple_at(session, at, &mut response);
    // SAFETY: filled by GnuTLS on success.
    (code >= 0 && response.size > 0).then(|| unsafe { bytes_of(&response) }.to_vec())
}

#[cfg(gnutls_staples_of_chains)]
fn staple_at(session: &Session, at: usize, response: &mut sys::gnutls_datum_t) -> c_int {
    let at = c_uint::try_from(at).unwrap_or(c_uint::MAX);
    // SAFETY: the handle is alive; the bytes live in the session, and the caller copies them at once.
    unsafe { sys::gnutls_ocsp_status_request_get2(session.raw(), at, response) }
}
#[cfg(not(gnutls_staples_of_chains))]
fn staple_at(session: &Session, at: usize, response: &mut sys::gnutls_datum_t) -> c_int {
    if at > 0 {
        return sys::GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
    }
    // SAFETY: the handle is alive; the bytes live in the session, and the caller copies them at once.
    unsafe { sys::gnutls_ocsp_status_request_get(session.raw(), response) }
}

/// GnuTLS's opinion of the staple; has a meaning only after [`Session::verify_peer`], and is no
/// verdict by itself (GNUTLS.md 1c). Where the library cannot tell (exactly 3.1.3) it is true.
#[doc(alias = "gnutls_ocsp_status_request_is_checked")]
pub fn library_checked_staple(session: &Session) -> bool {
    #[cfg(gnutls_status_is_checked)]
    // SAFETY: the handle is alive; a plain number.
    return unsafe { sys::gnutls_ocsp_status_request_is_checked(session.raw(), 0) } != 0;
    #[cfg(not(gnutls_status_is_checked))]
    {
        let _ = session;
        true
    }
}
