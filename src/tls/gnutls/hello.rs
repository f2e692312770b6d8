//! What a server reads in the ClientHello before GnuTLS does: whether a staple and tickets are asked for, a session and
//! protocol names offered. GnuTLS has one hook for it; where it calls the staple callback it would tell of the first only,
//! and where proofs are loaded into credentials not even of that. Versions before 3.2.2 have no hook: then nothing of
//! this is known.
//!
//! Bytes of the peer, read by our own code: nothing here indexes, and what is malformed is left for GnuTLS to refuse.

use super::alpn;
use super::gnutls_sys as sys;
use super::memory::bytes_of;
use super::reach::{Reach, reach_of};
use std::ffi::{c_int, c_uint};

/// status_request (RFC 6066 section 8)
const STATUS_REQUEST: u16 = 5;
/// application_layer_protocol_negotiation (RFC 7301 3.1)
const PROTOCOLS: u16 = 16;
/// session_ticket (RFC 5077 3.2)
const SESSION_TICKET: u16 = 35;
/// pre_shared_key (RFC 8446 4.2.11)
const PRE_SHARED_KEY: u16 = 41;
/// psk_key_exchange_modes (RFC 8446 4.2.9)
const KEY_EXCHANGE_MODES: u16 = 45;

/// Names of protocols that are taken from one hello, in bytes with a separator each: some twenty of usual length. A hello
/// has room for sixty thousand.
const MAX_NAMES_SIZE: usize = 256;

/// What the ClientHello says of resumption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resumption {
    /// An empty session_ticket: one is asked for.
    pub asks_for_ticket: bool,
    /// A session_ticket that is not empty: a session is offered.
    pub offers_ticket: bool,
    /// The same under TLS 1.3, by pre_shared_key ...
    pub offers_key: bool,
    /// ... and psk_key_exchange_modes.
    pub takes_keys: bool,
}

/// Looks at the ClientHello of a server's session.
#[doc(alias = "gnutls_handshake_set_hook_function")]
pub(super) fn watch(session: sys::gnutls_session_t) {
    let before = sys::GNUTLS_HOOK_PRE as c_int;
    // SAFETY: the caller's handle is alive; the function is a plain one and finds what it needs by the session's pointer.
    unsafe {
        sys::gnutls_handshake_set_hook_function(
            session,
            sys::GNUTLS_HANDSHAKE_CLIENT_HELLO,
            before,
            Some(look),
        );
    }
}

/// # Safety
/// Called by GnuTLS, with a session that `reach::register` was called for and a ClientHello without its header.
unsafe extern "C" fn look(
    session: sys::gnutls_session_t,
    _kind: c_uint,
    _when: c_uint,
    incoming: c_uint,
    message: *const sys::gnutls_datum_t,
) -> c_int {
    // SAFETY: the session's pointer was set when it was made.
    let reach = unsafe { reach_of(sys::gnutls_session_get_ptr(session)) };
    reach.guarded(alpn::NO_APPLICATION_PROTOCOL, || {
        if incoming == 0 || message.is_null() {
            return 0;
        }
        // SAFETY: GnuTLS's bytes, readable during the call.
        note(reach, unsafe { bytes_of(&*message) })
    })
}

fn note(reach: &Reach, hello: &[u8]) -> c_int {
    let mut resumption = reach.resumption.get();
    let mut protocols = Vec::new();
    for (kind, contents) in extensions(hello) {
        match kind {
            STATUS_REQUEST => reach.status_asked.set(cfg!(ocsp_stapling)),
            PROTOCOLS => add_names(&mut protocols, contents),
            SESSION_TICKET if contents.is_empty() => resumption.asks_for_ticket = true,
            SESSION_TICKET => resumption.offers_ticket = true,
            PRE_SHARED_KEY => resumption.offers_key = true,
            KEY_EXCHANGE_MODES => resumption.takes_keys = true,
            _ => {}
        }
    }
    reach.resumption.set(resumption);
    alpn::judge(reach, protocols)
}

/// The extensions of a ClientHello (RFC 8446 4.1.2), up to the first that is malformed.
fn extensions(hello: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let list = || {
        let (_version_and_random, rest) = hello.split_at_checked(2 + 32)?;
        let (_session, rest) = take(rest, 1)?;
        let (_suites, rest) = take(rest, 2)?;
        let (_compression, rest) = take(rest, 1)?;
        take(rest, 2).map(|(list, _)| list)
    };
    let mut rest = list().unwrap_or_default();
    std::iter::from_fn(move || {
        let (kind, after) = rest.split_first_chunk()?;
        let (contents, after) = take(after, 2)?;
        rest = after;
        Some((u16::from_be_bytes(*kind), contents))
    })
}

/// Adds the names in a list of protocols. Beyond [`MAX_NAMES_SIZE`] only the second is: more than one are refused, and
/// those that were taken are shown in a line of the log.
fn add_names(names: &mut Vec<Vec<u8>>, contents: &[u8]) {
    let mut rest = take(contents, 2).map(|(list, _)| list).unwrap_or_default();
    let mut size: usize = names.iter().map(|name| name.len() + 1).sum();
    while let Some((name, after)) = take(rest, 1)
        && (names.len() < 2 || size < MAX_NAMES_SIZE)
    {
        size += name.len() + 1;
        names.push(name.to_vec());
        rest = after;
    }
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

    fn offered(hello: &[u8]) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        extensions(hello)
            .filter(|(kind, _)| *kind == PROTOCOLS)
            .for_each(|(_, list)| add_names(&mut names, list));
        names
    }

    #[test]
    fn names_are_found_behind_other_extensions() {
        let extensions = b"\x00\x17\x00\x00\x00\x10\x00\x0a\x00\x08\x02h2\x04smtp";
        assert_eq!(offered(&hello(extensions)), [b"h2".to_vec(), b"smtp".to_vec()]);
        assert!(offered(&hello(b"\x00\x17\x00\x00")).is_empty());
        assert!(offered(&hello(b"")).is_empty());
    }

    /// An extension with its length in front.
    fn extension(kind: u16, contents: &[u8]) -> Vec<u8> {
        let length = u16::try_from(contents.len()).unwrap();
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), contents].concat()
    }

    #[test]
    fn of_any_number_of_names_a_few_are_taken_and_never_less_than_two() {
        let list = |names: &[u8]| {
            let length = u16::try_from(names.len()).unwrap();
            extension(PROTOCOLS, &[&length.to_be_bytes()[..], names].concat())
        };
        let offered_in = |names: &[u8]| offered(&hello(&list(names)));
        assert_eq!(offered_in(&[0; 60_000]).len(), MAX_NAMES_SIZE, "empty names");
        assert!(offered_in(&b"\x04smtp".repeat(10_000)).len() <= MAX_NAMES_SIZE / 5 + 1);
        let long = [&[255; 256][..], &[255; 256], &[255; 256]].concat();
        assert_eq!(offered_in(&long).len(), 2);
        // The extension may come more than once, though it must not.
        let twice = [list(b"\x04smtp"), list(b"\x02h2")].concat();
        assert_eq!(offered(&hello(&twice)), [b"smtp".to_vec(), b"h2".to_vec()]);
        assert!(offered(&hello(&list(b"\x04smtp").repeat(5_000))).len() <= MAX_NAMES_SIZE / 5 + 1);
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_of_any_bytes_lies_within_them_and_reading_ends(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000),
        ) {
            read_all(&bytes);
        }

        #[test]
        fn a_hello_whose_lengths_lie_is_read_up_to_the_lie(
            kinds in proptest::collection::vec((0u16..60, proptest::collection::vec(0u8..=255, 0..40)), 0..40),
            lies in proptest::collection::vec((0usize..2000, 0u8..=255), 0..4),
            cut in 0usize..2000,
        ) {
            let all: Vec<u8> = kinds.iter().flat_map(|(kind, contents)| extension(*kind, contents)).collect();
            let mut hello = hello(&all);
            let whole: Vec<(u16, Vec<u8>)> =
                extensions(&hello).map(|(kind, contents)| (kind, contents.to_vec())).collect();
            proptest::prop_assert_eq!(whole, kinds);
            for (place, byte) in lies {
                if let Some(there) = hello.get_mut(place) {
                    *there = byte;
                }
            }
            read_all(&hello);
            hello.truncate(cut);
            read_all(&hello);
        }
    }

    /// Everything that is read of a hello; each part has to lie within it, behind the one before.
    fn read_all(hello: &[u8]) {
        let range = hello.as_ptr_range();
        let mut last = range.start;
        for (_, contents) in extensions(hello) {
            let part = contents.as_ptr_range();
            assert!(last <= part.start && part.end <= range.end);
            last = part.end;
        }
        offered(hello);
    }

    #[test]
    fn a_hello_that_is_cut_off_anywhere_has_no_names_and_harms_nobody() {
        let whole = hello(b"\x00\x10\x00\x0a\x00\x08\x02h2\x04smtp");
        for length in 0..whole.len() {
            assert!(offered(&whole[..length]).len() < 2, "{length}");
        }
        for place in 0..whole.len() {
            let mut broken = whole.clone();
            broken[place] ^= 0xff;
            offered(&broken);
        }
    }
}
