// Stands in for the two libraries that CRIU is linked with and that nothing in a container's snapshot needs:
// GnuTLS (pages over the network, --tls) and nftables (--network-lock nftables). With them, and with the dozen
// libraries that they bring along, more than half of CRIU's start would go into loading code that is never called.
//
// Compiled once for each, with ABSENT_GNUTLS or ABSENT_NFTABLES. What is asked of them fails, as it does where they
// find nothing: CRIU then says that TLS or nftables cannot be had.
#include <stddef.h>

#define FAILS(name) \
  long name(void);  \
  long name(void) { return -1; }
#define SAYS_NOTHING(name) \
  const char* name(void);  \
  const char* name(void) { return ""; }

#ifdef ABSENT_GNUTLS
FAILS(gnutls_bye)
FAILS(gnutls_certificate_allocate_credentials)
FAILS(gnutls_certificate_free_credentials)
FAILS(gnutls_certificate_send_x509_rdn_sequence)
FAILS(gnutls_certificate_server_set_request)
FAILS(gnutls_certificate_set_x509_crl_file)
FAILS(gnutls_certificate_set_x509_key_file)
FAILS(gnutls_certificate_set_x509_system_trust)
FAILS(gnutls_certificate_set_x509_trust_file)
FAILS(gnutls_certificate_type_get)
FAILS(gnutls_certificate_verification_status_print)
FAILS(gnutls_certificate_verify_peers3)
FAILS(gnutls_credentials_set)
FAILS(gnutls_deinit)
FAILS(gnutls_error_is_fatal)
FAILS(gnutls_handshake)
FAILS(gnutls_init)
FAILS(gnutls_packet_deinit)
FAILS(gnutls_packet_get)
FAILS(gnutls_record_check_pending)
FAILS(gnutls_record_recv)
FAILS(gnutls_record_recv_packet)
FAILS(gnutls_record_send)
FAILS(gnutls_set_default_priority)
FAILS(gnutls_transport_set_ptr)
FAILS(gnutls_transport_set_pull_function)
FAILS(gnutls_transport_set_push_function)
SAYS_NOTHING(gnutls_strerror)
void (*gnutls_free)(void*) = NULL;
#endif

#ifdef ABSENT_NFTABLES
// A context there is, but no command of it succeeds: without one CRIU would not go on at all.
struct nft_ctx {
  int unused;
};
static struct nft_ctx context;
struct nft_ctx* nft_ctx_new(unsigned flags);
struct nft_ctx* nft_ctx_new(unsigned flags) {
  (void)flags;
  return &context;
}
FAILS(nft_ctx_buffer_error)
FAILS(nft_ctx_buffer_output)
FAILS(nft_ctx_free)
FAILS(nft_ctx_set_error)
FAILS(nft_ctx_set_output)
FAILS(nft_run_cmd_from_buffer)
SAYS_NOTHING(nft_ctx_get_error_buffer)
SAYS_NOTHING(nft_ctx_get_output_buffer)
#endif
