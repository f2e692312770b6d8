//! Ownership of what GnuTLS allocates: handles that free themselves, and its byte strings.

use super::gnutls_sys as sys;
use std::ffi::c_void;

/// Defines a type that owns one GnuTLS handle and frees it with the function named.
///
/// The handle is never NULL. The type is `Send`: GnuTLS's objects are not bound to a thread. Whether
/// it is `Sync` is decided, and argued, beside each definition.
macro_rules! owned {
    ($(#[$meta:meta])* $name:ident: $handle:ty, $deinit:path) => {
        $(#[$meta])*
        pub(super) struct $name($handle);

        impl $name {
            /// Takes over a handle that GnuTLS just gave out.
            pub(super) fn own(handle: $handle) -> Self {
                debug_assert!(!handle.is_null());
                Self(handle)
            }
            pub(super) fn raw(&self) -> $handle {
                self.0
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the handle came from the matching init function, this type is its only
                // owner, and it is dropped once.
                unsafe { $deinit(self.0) }
            }
        }

        // SAFETY: GnuTLS keeps no thread-bound state in its objects; moving one is allowed as long
        // as one thread at a time uses it, which ownership gives.
        unsafe impl Send for $name {}
    };
}
pub(super) use owned;

/// Borrowed bytes in the form GnuTLS reads them. The result is valid as long as `bytes` is; GnuTLS only reads it
/// although the field is not const.
pub(super) fn datum(bytes: &[u8]) -> sys::gnutls_datum_t {
    let size = u32::try_from(bytes.len()).expect("no file or field of 4 GiB gets here: readers are limited");
    sys::gnutls_datum_t { data: bytes.as_ptr().cast_mut(), size }
}

/// Bytes that live elsewhere (in a session, a certificate) for as long as the caller's borrow of it.
///
/// # Safety
/// `datum` must be as GnuTLS filled it, and live for `'a`.
pub(super) unsafe fn bytes_of<'a>(datum: &sys::gnutls_datum_t) -> &'a [u8] {
    if datum.data.is_null() || datum.size == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for pointer and length.
    unsafe { std::slice::from_raw_parts(datum.data, datum.size as usize) }
}

/// A copy of bytes that GnuTLS allocated for us; its allocation is freed.
///
/// # Safety
/// `datum` must have been filled by a function that gives its allocation away, and not be used afterwards.
pub(super) unsafe fn take_bytes(datum: sys::gnutls_datum_t) -> Vec<u8> {
    // SAFETY: filled by GnuTLS, lives until the free below.
    let bytes = unsafe { bytes_of(&datum) }.to_vec();
    // SAFETY: the caller vouches that the allocation is ours; NULL is allowed.
    unsafe { free(datum.data.cast::<c_void>()) };
    bytes
}

/// An empty datum for GnuTLS to fill.
pub(super) fn empty_datum() -> sys::gnutls_datum_t {
    sys::gnutls_datum_t { data: std::ptr::null_mut(), size: 0 }
}

/// Frees with GnuTLS's own allocator.
///
/// # Safety
/// `pointer` must be NULL or an allocation of GnuTLS that nobody else frees.
#[doc(alias = "gnutls_free")]
pub(super) unsafe fn free(pointer: *mut c_void) {
    // SAFETY: the variable is set when the library is loaded and we never change it.
    if let Some(function) = unsafe { sys::gnutls_free } {
        // SAFETY: the caller vouches for the pointer.
        unsafe { function(pointer) }
    }
}

/// A copy of `bytes` made by GnuTLS's allocator, for GnuTLS to free; none if there is no memory.
#[doc(alias = "gnutls_malloc")]
#[cfg(ocsp_stapling)]
pub(super) fn give_away(bytes: &[u8]) -> Option<sys::gnutls_datum_t> {
    let size = u32::try_from(bytes.len()).ok()?;
    // SAFETY: the variable is set when the library is loaded and we never change it.
    let allocate = unsafe { sys::gnutls_malloc }?;
    // SAFETY: a plain allocation; NULL is looked for.
    let target = unsafe { allocate(bytes.len()) }.cast::<u8>();
    if target.is_null() {
        return None;
    }
    // SAFETY: `target` has room for `bytes.len()` bytes and was just allocated, so they do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    Some(sys::gnutls_datum_t { data: target, size })
}
