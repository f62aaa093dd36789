/* The same two layers by OpenSSL's libcrypto: sign, seal to a P-256 certificate with AES-256-GCM, seal again under a key that is given, base64.
   libcrypto CERTIFICATE KEY MESSAGE: prints one line of JSON, letters a second in one process. */
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static void demand(int good) {
  if (good) return;
  ERR_print_errors_fp(stderr);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static BIO *der(CMS_ContentInfo *cms) {
  BIO *out = BIO_new(BIO_s_mem());
  demand(i2d_CMS_bio(out, cms));
  CMS_ContentInfo_free(cms);
  return out;
}

static void seal(X509 *certificate, EVP_PKEY *key, STACK_OF(X509) *recipients, const char *message, int length) {
  BIO *in = BIO_new_mem_buf(message, length);
  CMS_ContentInfo *signature = CMS_sign(certificate, key, NULL, in, CMS_DETACHED | CMS_BINARY);
  demand(signature != NULL);
  BIO *file = der(signature);
  BIO *whole = BIO_new(BIO_s_mem());
  char *octets;
  long count = BIO_get_mem_data(file, &octets);
  BIO_write(whole, message, length);
  BIO *lines = BIO_push(BIO_new(BIO_f_base64()), whole);
  BIO_write(lines, octets, (int)count);
  (void)BIO_flush(lines);
  BIO_pop(lines);
  BIO_free(lines);

  CMS_ContentInfo *inner = CMS_encrypt(recipients, whole, EVP_aes_256_gcm(), CMS_BINARY);
  demand(inner != NULL);
  BIO *sealed = der(inner);

  unsigned char *kek = OPENSSL_malloc(32), *ticket = OPENSSL_malloc(340);
  RAND_bytes(kek, 32);
  RAND_bytes(ticket, 340);
  CMS_ContentInfo *outer = CMS_encrypt(NULL, NULL, EVP_aes_256_gcm(), CMS_BINARY | CMS_PARTIAL | CMS_STREAM);
  demand(outer != NULL && CMS_add0_recipient_key(outer, NID_undef, kek, 32, ticket, 340, NULL, NULL, NULL) != NULL);
  demand(CMS_final(outer, sealed, NULL, CMS_BINARY));
  BIO *letter = der(outer);
  count = BIO_get_mem_data(letter, &octets);
  BIO *mail = BIO_push(BIO_new(BIO_f_base64()), BIO_new(BIO_s_mem()));
  BIO_write(mail, octets, (int)count);
  (void)BIO_flush(mail);
  BIO_free_all(mail);
  BIO_free(letter);
  BIO_free(sealed);
  BIO_free(whole);
  BIO_free(file);
  BIO_free(in);
}

int main(int count, char **arguments) {
  if (count != 4) return 2;
  BIO *file = BIO_new_file(arguments[1], "r");
  X509 *certificate = PEM_read_bio_X509(file, NULL, NULL, NULL);
  BIO_free(file);
  file = BIO_new_file(arguments[2], "r");
  EVP_PKEY *key = PEM_read_bio_PrivateKey(file, NULL, NULL, NULL);
  BIO_free(file);
  demand(certificate != NULL && key != NULL);
  STACK_OF(X509) *recipients = sk_X509_new_null();
  sk_X509_push(recipients, certificate);
  FILE *in = fopen(arguments[3], "rb");
  char *message = malloc(1 << 20);
  int length = (int)fread(message, 1, 1 << 20, in);
  fclose(in);

  for (double end = now() + 1.5; now() < end;) seal(certificate, key, recipients, message, length);
  int done = 0;
  double from = now();
  while (now() - from < 2.5) {
    seal(certificate, key, recipients, message, length);
    done++;
  }
  struct rusage usage;
  double seconds = now() - from;
  getrusage(RUSAGE_SELF, &usage);
  printf("{\"value\": %.1f, \"memory\": %.1f}\n", done / seconds, (double)usage.ru_maxrss / 1024);
  return 0;
}
