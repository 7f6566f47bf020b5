#include "ratelimiter/config/server_tls.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/certificates.h"
#include "support/log_file.h"
#include "support/status.h"

namespace ratelimiter::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void Copy(const std::string& from, const std::string& path) {
  std::filesystem::copy_file(from, path, std::filesystem::copy_options::overwrite_existing);
}

// Writes the certificate "localhost" again, with another end of its validity.
void WriteCertificateUntil(const char* not_after, const std::string& path) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> in(
      BIO_new_file(Certificate("localhost").c_str(), "r"), BIO_free);
  const std::unique_ptr<BIO, decltype(&BIO_free)> key_in(
      BIO_new_file(KeyOf("localhost").c_str(), "r"), BIO_free);
  const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new_file(path.c_str(), "w"), BIO_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr), X509_free);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(key_in.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  ASSERT_EQ(ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate.get()), not_after), 1);
  ASSERT_GT(X509_sign(certificate.get(), key.get(), EVP_sha256()), 0);
  ASSERT_EQ(PEM_write_bio_X509(out.get(), certificate.get()), 1);
}

class ServerTlsTest : public ::testing::Test {
 protected:
  ServerTlsTest() {
    std::filesystem::create_directory(directory_);
    Copy(Certificate("localhost"), paths_.certificate);
    Copy(KeyOf("localhost"), paths_.key);
  }
  ~ServerTlsTest() override { std::filesystem::remove_all(directory_); }

  absl::StatusOr<std::unique_ptr<ServerTls>> Start() const {
    return ServerTls::Start(paths_, log_.logger());
  }

  static auto Fails(const std::string& message) {
    return FailsWith(absl::StatusCode::kFailedPrecondition, StartsWith(message));
  }

  const LogFile log_;
  const std::string directory_ =
      ::testing::TempDir() + "server_tls_test." + std::to_string(getpid());
  TlsFiles paths_ = {
      .certificate = directory_ + "/crt", .key = directory_ + "/key", .client_ca = {}};
};

TEST_F(ServerTlsTest, TheIdentityIsWhatTheFilesHold) {
  paths_.client_ca = directory_ + "/ca";
  Copy(Certificate("ca"), paths_.client_ca);
  const auto tls = Start();
  ASSERT_THAT(tls, Succeeds());
  const auto identity = (*tls)->identity();
  EXPECT_EQ(identity->pem.certificate, Content(Certificate("localhost")));
  EXPECT_EQ(identity->pem.key, Content(KeyOf("localhost")));
  EXPECT_EQ(identity->pem.client_ca, Content(Certificate("ca")));
  EXPECT_NE(identity->context, nullptr);
  EXPECT_LE(identity->not_before, std::chrono::system_clock::now());
  EXPECT_GT(identity->not_after, std::chrono::system_clock::now());
  EXPECT_TRUE((*tls)->asks_clients());
  EXPECT_EQ((*tls)->identity(), identity);
  EXPECT_TRUE((*tls)->in_force());
  EXPECT_EQ(log_.text(), "");
}

TEST_F(ServerTlsTest, CertificatesBehindTheFirstAreItsChain) {
  std::ofstream(paths_.certificate, std::ios::app) << Content(Certificate("ca"));
  EXPECT_THAT(Start(), Succeeds());
  std::ofstream(paths_.certificate, std::ios::app)
      << "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
  EXPECT_THAT(Start(), Fails("TLS_CERT: " + paths_.certificate + ": "));
}

TEST_F(ServerTlsTest, FilesThatAreNotAcceptedAreToldWithTheirPaths) {
  const std::string key = "TLS_KEY: " + paths_.key + ": ";
  Copy(KeyOf("client"), paths_.key);
  EXPECT_THAT(Start(),
              Fails(key + "it is not the key to the certificate in " + paths_.certificate));
  Copy(KeyOf("locked"), paths_.key);
  EXPECT_THAT(Start(), Fails(key + "it needs a passphrase; accepted: a PEM file of the key"));
  Copy(Certificate("localhost"), paths_.key);
  EXPECT_THAT(Start(), Fails(key + "it holds no key in PEM; accepted: "));

  Copy(KeyOf("localhost"), paths_.certificate);
  EXPECT_THAT(Start(), Fails("TLS_CERT: " + paths_.certificate +
                             ": it holds no certificate in PEM; accepted: a PEM file of a"));
  const std::string unreadable = "TLS_CERT: cannot read " + paths_.certificate + ": ";
  std::ofstream(paths_.certificate) << std::string(1024 * 1024 + 1, ' ');
  EXPECT_THAT(Start(), Fails(unreadable + "it is longer than 1048576 bytes; accepted: "));
  std::filesystem::remove(paths_.certificate);
  EXPECT_THAT(Start(), Fails(unreadable + "No such file or directory; accepted: "));
}

TEST_F(ServerTlsTest, AReloadTakesGoodFilesAlone) {
  const auto tls = Start();
  ASSERT_THAT(tls, Succeeds());
  const auto old = (*tls)->identity();
  Copy(Certificate("renewed"), paths_.certificate);
  (*tls)->Reload();
  EXPECT_EQ((*tls)->identity(), old);
  EXPECT_FALSE((*tls)->in_force());
  EXPECT_THAT(log_.text(), HasSubstr("not reloaded, the old certificate stays: TLS_KEY: "));
  Copy(KeyOf("renewed"), paths_.key);
  (*tls)->Reload();
  EXPECT_EQ((*tls)->identity()->pem.key, Content(KeyOf("renewed")));
  EXPECT_TRUE((*tls)->in_force());
  EXPECT_THAT(log_.text(), HasSubstr("reloaded: certificate " + paths_.certificate));
}

// RFC 5280's certificate without an end. Its date overflowed, and it had expired.
TEST_F(ServerTlsTest, ACertificateValidUntilTheYear9999HasNotExpired) {
  WriteCertificateUntil("99991231235959Z", paths_.certificate);
  const auto tls = Start();
  ASSERT_THAT(tls, Succeeds());
  EXPECT_GT((*tls)->identity()->not_after, std::chrono::system_clock::now());
  EXPECT_THAT(log_.text(), ::testing::Not(HasSubstr("expired")));
}

TEST_F(ServerTlsTest, AnExpiredCertificateIsServedWithAWarning) {
  Copy(Certificate("expired"), paths_.certificate);
  Copy(KeyOf("expired"), paths_.key);
  EXPECT_THAT(Start(), Succeeds());
  EXPECT_THAT(log_.text(), HasSubstr("warning  TLS_CERT: " + paths_.certificate +
                                     ": the certificate expired on 2020-01-02T00:00:00Z"));
}

}  // namespace
}  // namespace ratelimiter::testing
