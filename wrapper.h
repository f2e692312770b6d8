/* What bindgen reads: GnuTLS, with its keys by themselves and its OCSP functions. build.rs chooses what of it is exposed. */
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <gnutls/abstract.h>
#include <gnutls/ocsp.h>
#include <gnutls/crypto.h>
#include <gnutls/pkcs11.h>
