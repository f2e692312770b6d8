//! Application layer protocol names (RFC 7301): what a client offers, a server accepts, and both agree on.
//!
//! GnuTLS lets a server choose among the names that a client offers. A mail server wants more: who offers several names,
//! or none of ours, has lost its way (a web browser, or somebody who leads one to us) and is refused. So the list is
//! read from the ClientHello itself. Versions before 3.2.2 know nothing of it; then nothing is offered nor checked.

use super::check::Error;
use super::session::Session;

/// The library can do it.
pub const ALPN: bool = cfg!(gnutls_alpn);

#[cfg(gnutls_alpn)]
pub(super) use built::{NO_APPLICATION_PROTOCOL, Watch, judge};

#[cfg(not(gnutls_alpn))]
impl Session {
    /// Does nothing.
    pub fn offer_protocols(&mut self, _: &[impl AsRef<[u8]>]) -> Result<(), Error> {
        Ok(())
    }
    /// Does nothing.
    pub fn accept_protocols(&mut self, _: &[impl AsRef<[u8]>]) -> Result<(), Error> {
        Ok(())
    }
    /// Nothing.
    pub fn protocol(&self) -> Option<Vec<u8>> {
        None
    }
    /// Nothing.
    pub fn refused_protocols(&self) -> Option<Vec<Vec<u8>>> {
        None
    }
}

#[cfg(gnutls_alpn)]
mod built {
    use super::super::check::check;
    use super::super::gnutls_sys as sys;
    use super::super::memory::{bytes_of, datum, empty_datum};
    use super::super::reach::Reach;
    use super::{Error, Session};
    use std::ffi::{c_int, c_uint};

    /// GnuTLS takes this many names.
    const MAX_NAMES: usize = 8;
    /// `GNUTLS_E_NO_APPLICATION_PROTOCOL`, which becomes the alert no_application_protocol. Known whatever the version
    /// we are built against.
    pub(in super::super) const NO_APPLICATION_PROTOCOL: c_int = -344;
    #[cfg(gnutls_no_application_protocol)]
    const _: () = assert!(NO_APPLICATION_PROTOCOL == sys::GNUTLS_E_NO_APPLICATION_PROTOCOL);

    /// What a server looks for in the ClientHello.
    pub(in super::super) struct Watch {
        accepted: Vec<Vec<u8>>,
        /// What a client offered that is refused.
        refused: Option<Vec<Vec<u8>>>,
    }

    impl Session {
        /// A client offers these names. No names: nothing is offered.
        #[doc(alias = "gnutls_alpn_set_protocols")]
        pub fn offer_protocols(&mut self, names: &[impl AsRef<[u8]>]) -> Result<(), Error> {
            if names.is_empty() {
                return Ok(());
            }
            if names.len() > MAX_NAMES {
                return Err(Error::from_code(sys::GNUTLS_E_INVALID_REQUEST));
            }
            let list: Vec<_> = names.iter().map(|name| datum(name.as_ref())).collect();
            let count = c_uint::try_from(list.len()).expect("at most MAX_NAMES");
            // SAFETY: the handle is alive; list and names are only read, and only during the call.
            check(unsafe { sys::gnutls_alpn_set_protocols(self.raw(), list.as_ptr(), count, 0) })?;
            Ok(())
        }

        /// A server takes one of these names, from a client that offers no other; a client that offers none is served
        /// too. No names: whatever a client offers is ignored.
        pub fn accept_protocols(&mut self, names: &[impl AsRef<[u8]>]) -> Result<(), Error> {
            if names.is_empty() {
                return Ok(());
            }
            self.offer_protocols(names)?;
            let accepted = names.iter().map(|name| name.as_ref().to_vec()).collect();
            self.reach().hello_watch.replace(Some(Watch { accepted, refused: None }));
            Ok(())
        }

        /// The name that was agreed on, if any was.
        #[doc(alias = "gnutls_alpn_get_selected_protocol")]
        pub fn protocol(&self) -> Option<Vec<u8>> {
            let mut name = empty_datum();
            // SAFETY: the handle is alive; the name lives in the session and is copied at once.
            let code: c_int = unsafe { sys::gnutls_alpn_get_selected_protocol(self.raw(), &mut name) };
            // SAFETY: filled by GnuTLS on success.
            (code >= 0).then(|| unsafe { bytes_of(&name) }.to_vec())
        }

        /// What the client offered, if it was refused for that.
        pub fn refused_protocols(&self) -> Option<Vec<Vec<u8>>> {
            self.reach().hello_watch.borrow().as_ref()?.refused.clone()
        }
    }

    /// What a client offers is held against what is accepted. Gives what GnuTLS's hook has to return.
    pub(in super::super) fn judge(reach: &Reach, offered: Vec<Vec<u8>>) -> c_int {
        let mut watch = reach.hello_watch.borrow_mut();
        let Some(watch) = watch.as_mut() else { return 0 };
        match offered.as_slice() {
            [] => 0,
            [one] if watch.accepted.contains(one) => 0,
            _ => {
                watch.refused = Some(offered);
                NO_APPLICATION_PROTOCOL
            }
        }
    }
}
