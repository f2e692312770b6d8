//! Going on with a former session: tickets (RFC 5077, RFC 8446 4.6.1) and the data that a client keeps.

use super::check::{Error, check};
use super::gnutls_sys as sys;
use super::memory::{datum, empty_datum, take_bytes};
use super::session::Session;

/// What a server encrypts tickets with.
pub struct TicketKey(Vec<u8>);

impl TicketKey {
    /// A new one.
    #[doc(alias = "gnutls_session_ticket_key_generate")]
    pub fn generate() -> Result<Self, Error> {
        super::start();
        let mut key = empty_datum();
        // SAFETY: the out pointer is ours; the function allocates what it returns.
        check(unsafe { sys::gnutls_session_ticket_key_generate(&mut key) })?;
        // SAFETY: the allocation was given to us.
        Ok(Self(unsafe { take_bytes(key) }))
    }
}

/// The server gives out tickets, and takes those that were made with this key.
#[doc(alias = "gnutls_session_ticket_enable_server")]
pub fn offer_tickets(session: &mut Session, key: &TicketKey) -> Result<(), Error> {
    let key = datum(&key.0);
    // SAFETY: the handle is alive; the key is copied.
    check(unsafe { sys::gnutls_session_ticket_enable_server(session.raw(), &key) })?;
    Ok(())
}

/// The client asks for a ticket. (Newer versions do without being told.)
#[doc(alias = "gnutls_session_ticket_enable_client")]
pub fn ask_for_ticket(session: &mut Session) -> Result<(), Error> {
    // SAFETY: the handle is alive.
    check(unsafe { sys::gnutls_session_ticket_enable_client(session.raw()) })?;
    Ok(())
}

/// The client offers to go on with the session that this is the data of.
#[doc(alias = "gnutls_session_set_data")]
pub fn go_on_with(session: &mut Session, data: &[u8]) -> Result<(), Error> {
    // SAFETY: the handle is alive; the data are read during the call only.
    check(unsafe { sys::gnutls_session_set_data(session.raw(), data.as_ptr().cast(), data.len()) })?;
    Ok(())
}

/// What is needed to go on with this session later; none if the server gave nothing for that.
#[doc(alias = "gnutls_session_get_data2")]
pub fn data(session: &Session) -> Option<Vec<u8>> {
    if !has_ticket(session) {
        return None;
    }
    let mut data = empty_datum();
    // SAFETY: the handle is alive; the function allocates what it returns.
    check(unsafe { sys::gnutls_session_get_data2(session.raw(), &mut data) }).ok()?;
    // SAFETY: the allocation was given to us.
    Some(unsafe { take_bytes(data) }).filter(|data| !data.is_empty())
}

/// Whether the server has given a ticket so far: under TLS 1.3 one comes some time after the handshake. Libraries that do
/// not tell (before 3.6.3) say no.
pub fn ticket_has_come(session: &Session) -> bool {
    cfg!(gnutls_tells_tickets) && has_ticket(session)
}

/// Under TLS 1.3 the ticket comes after the handshake, and without one GnuTLS would wait for it.
#[cfg(gnutls_tells_tickets)]
#[doc(alias = "gnutls_session_get_flags")]
fn has_ticket(session: &Session) -> bool {
    // SAFETY: the handle is alive; a plain number.
    let flags = unsafe { sys::gnutls_session_get_flags(session.raw()) };
    flags & sys::GNUTLS_SFLAGS_SESSION_TICKET as std::ffi::c_uint != 0
}
/// These versions have no TLS 1.3.
#[cfg(not(gnutls_tells_tickets))]
fn has_ticket(_: &Session) -> bool {
    true
}
