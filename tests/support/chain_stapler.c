/* chain_stapler CHAIN.pem KEY.pem STAPLE...: a TLS server on a free port of 127.0.0.1, whose number it prints. It sends the
 * bytes of each file STAPLE ("-": nothing) as the proof of the certificate in that place of the chain, without looking
 * at them; says "220 hello", reads until the peer closes, and takes the next connection. */
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 16

static gnutls_pcert_st chain[MOST];
static unsigned chain_length = MOST;
static gnutls_ocsp_data_st staples[MOST];
static gnutls_privkey_t key;

static void must(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, gnutls_strerror(code));
        exit(1);
    }
}

static int retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info, gnutls_pcert_st **certificates,
                    unsigned *length, gnutls_ocsp_data_st **ocsp, unsigned *ocsp_length, gnutls_privkey_t *private,
                    unsigned *flags)
{
    (void)session;
    (void)info;
    *certificates = chain;
    *length = chain_length;
    *ocsp = staples;
    *ocsp_length = chain_length;
    *private = key;
    *flags = 0; /* all of it stays ours */
    return 0;
}

static void serve(int socket, const gnutls_datum_t *tickets)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    char buffer[256];
    int code;

    must(gnutls_certificate_allocate_credentials(&credentials), "credentials");
    gnutls_certificate_set_retrieve_function3(credentials, retrieve);
    must(gnutls_init(&session, GNUTLS_SERVER), "session");
    must(gnutls_priority_set_direct(session, "NORMAL", NULL), "priority");
    must(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials), "credentials_set");
    must(gnutls_session_ticket_enable_server(session, tickets), "tickets");
    gnutls_transport_set_int(session, socket);
    do {
        code = gnutls_handshake(session);
    } while (code < 0 && !gnutls_error_is_fatal(code));
    if (code == 0) {
        gnutls_record_send(session, "220 hello\r\n", 11);
        while (gnutls_record_recv(session, buffer, sizeof buffer) > 0)
            ;
    }
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
    close(socket);
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    gnutls_datum_t pem, tickets;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    signal(SIGPIPE, SIG_IGN);
    if (count < 3 || count - 3 > MOST)
        return 2;
    must(gnutls_load_file(arguments[1], &pem), arguments[1]);
    must(gnutls_pcert_list_import_x509_raw(chain, &chain_length, &pem, GNUTLS_X509_FMT_PEM, 0), "chain");
    must(gnutls_load_file(arguments[2], &pem), arguments[2]);
    must(gnutls_privkey_init(&key), "key");
    must(gnutls_privkey_import_x509_raw(key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0), "key");
    for (int at = 3; at < count; at++)
        if (strcmp(arguments[at], "-") != 0)
            must(gnutls_load_file(arguments[at], &staples[at - 3].response), arguments[at]);
    must(gnutls_session_ticket_key_generate(&tickets), "ticket key");
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0)
        return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int socket = accept(listener, NULL, NULL);
        if (socket < 0)
            return 1;
        serve(socket, &tickets);
    }
}
