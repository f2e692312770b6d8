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
pub(super) use built::Watch;

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
    use super::super::reach::reach_of;
    use super::{Error, Session};
    use std::ffi::{c_int, c_uint};

    /// GnuTLS takes this many names.
    const MAX_NAMES: usize = 8;
    /// The extension's number in a hello.
    const EXTENSION: u16 = 16;
    /// `GNUTLS_E_NO_APPLICATION_PROTOCOL`, which becomes the alert no_application_protocol. Known whatever the version
    /// we are built against.
    const NO_APPLICATION_PROTOCOL: c_int = -344;
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
        #[doc(alias = "gnutls_handshake_set_hook_function")]
        pub fn accept_protocols(&mut self, names: &[impl AsRef<[u8]>]) -> Result<(), Error> {
            if names.is_empty() {
                return Ok(());
            }
            self.offer_protocols(names)?;
            let accepted = names.iter().map(|name| name.as_ref().to_vec()).collect();
            self.reach().hello_watch.replace(Some(Watch { accepted, refused: None }));
            // SAFETY: the handle is alive; the function is a plain one and finds what it needs by the session's pointer.
            unsafe {
                sys::gnutls_handshake_set_hook_function(
                    self.raw(),
                    sys::GNUTLS_HANDSHAKE_CLIENT_HELLO,
                    sys::GNUTLS_HOOK_PRE as c_int,
                    Some(look_at_hello),
                );
            }
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

    /// # Safety
    /// Called by GnuTLS, with a session that `reach::register` was called for and the message's bytes.
    unsafe extern "C" fn look_at_hello(
        session: sys::gnutls_session_t,
        _kind: c_uint,
        _when: c_uint,
        incoming: c_uint,
        message: *const sys::gnutls_datum_t,
    ) -> c_int {
        // SAFETY: the session's pointer was set when it was made.
        let reach = unsafe { reach_of(sys::gnutls_session_get_ptr(session)) };
        reach.guarded(NO_APPLICATION_PROTOCOL, || {
            if incoming == 0 || message.is_null() {
                return 0;
            }
            // SAFETY: GnuTLS's bytes, readable during the call.
            let offered = offered_names(unsafe { bytes_of(&*message) });
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
        })
    }

    /// The names in a ClientHello (RFC 8446 4.1.2, RFC 7301 3.1); none if it is malformed, which GnuTLS finds itself.
    fn offered_names(hello: &[u8]) -> Vec<Vec<u8>> {
        let list = || {
            let (_version_and_random, rest) = hello.split_at_checked(2 + 32)?;
            let (_session, rest) = take(rest, 1)?;
            let (_suites, rest) = take(rest, 2)?;
            let (_compression, rest) = take(rest, 1)?;
            let (mut extensions, _) = take(rest, 2)?;
            loop {
                let (kind, rest) = extensions.split_at_checked(2)?;
                let (contents, rest) = take(rest, 2)?;
                if kind == EXTENSION.to_be_bytes() {
                    return take(contents, 2).map(|(list, _)| list);
                }
                extensions = rest;
            }
        };
        let mut names = Vec::new();
        let mut rest = list().unwrap_or_default();
        while let Some((name, after)) = take(rest, 1) {
            names.push(name.to_vec());
            rest = after;
        }
        names
    }

    /// A vector with its length (`size` bytes) in front, and what follows it.
    fn take(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
        let (length, rest) = bytes.split_at_checked(size)?;
        let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        rest.split_at_checked(length)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// A hello with these extensions.
        fn hello(extensions: &[u8]) -> Vec<u8> {
            let mut hello = vec![3, 3];
            hello.extend([7; 32]);
            hello.extend([2, 1, 1]); // session id
            hello.extend([0, 2, 0x13, 1]); // suites
            hello.extend([1, 0]); // compression
            hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
            hello.extend(extensions);
            hello
        }

        #[test]
        fn names_are_found_behind_other_extensions() {
            let extensions = b"\x00\x17\x00\x00\x00\x10\x00\x0a\x00\x08\x02h2\x04smtp";
            assert_eq!(offered_names(&hello(extensions)), [b"h2".to_vec(), b"smtp".to_vec()]);
            assert!(offered_names(&hello(b"\x00\x17\x00\x00")).is_empty());
            assert!(offered_names(&hello(b"")).is_empty());
        }

        #[test]
        fn a_hello_that_is_cut_off_anywhere_has_no_names_and_harms_nobody() {
            let whole = hello(b"\x00\x10\x00\x0a\x00\x08\x02h2\x04smtp");
            for length in 0..whole.len() {
                assert!(offered_names(&whole[..length]).len() < 2, "{length}");
            }
            for place in 0..whole.len() {
                let mut broken = whole.clone();
                broken[place] ^= 0xff;
                offered_names(&broken);
            }
        }
    }
}
