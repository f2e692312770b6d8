/* What bindgen reads: GnuTLS, and its OCSP functions. build.rs chooses what of it is exposed. */
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <gnutls/ocsp.h>
#include <gnutls/crypto.h>
