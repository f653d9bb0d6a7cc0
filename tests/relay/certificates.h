// Certificates made for one test, with OpenSSL: an authority, and what it signs.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

namespace adapath::testing {

struct OpenSslDeleter {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(BIO* bio) const { BIO_free(bio); }
    void operator()(X509_EXTENSION* extension) const { X509_EXTENSION_free(extension); }
};
template <typename T>
using OpenSsl = std::unique_ptr<T, OpenSslDeleter>;

// PEM.
struct KeyPair {
    std::string certificate;
    std::string key;
};

class Authority {
public:
    explicit Authority(const std::string& name) : key_(EVP_EC_gen("P-256")), certificate_(make(name, "", *key_)) {
        add(*certificate_, NID_basic_constraints, "critical,CA:TRUE");
        X509_sign(certificate_.get(), key_.get(), EVP_sha256());
    }
    [[nodiscard]] std::string certificate() const { return pem(*certificate_); }
    // `alternative`: as OpenSSL has it, "DNS:server", "IP:127.0.0.1".
    [[nodiscard]] KeyPair issue(const std::string& name, const std::string& alternative) const {
        const OpenSsl<EVP_PKEY> key(EVP_EC_gen("P-256"));
        const OpenSsl<X509> certificate = make(name, alternative, *key);
        X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate_.get()));
        X509_sign(certificate.get(), key_.get(), EVP_sha256());
        const OpenSsl<BIO> memory(BIO_new(BIO_s_mem()));
        PEM_write_bio_PrivateKey(memory.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
        return {pem(*certificate), text(*memory)};
    }

private:
    static void add(X509& certificate, int nid, const std::string& value) {
        const OpenSsl<X509_EXTENSION> extension(X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str()));
        X509_add_ext(&certificate, extension.get(), -1);
    }
    static OpenSsl<X509> make(const std::string& name, const std::string& alternative, EVP_PKEY& key) {
        static int serial = 0;
        OpenSsl<X509> certificate(X509_new());
        X509_set_version(certificate.get(), X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), ++serial);
        X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
        X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
        X509_set_pubkey(certificate.get(), &key);
        X509_NAME* subject = X509_get_subject_name(certificate.get());
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()),
                                   -1, -1, 0);
        X509_set_issuer_name(certificate.get(), subject);
        if (!alternative.empty()) {
            add(*certificate, NID_subject_alt_name, alternative);
        }
        return certificate;
    }
    static std::string text(BIO& memory) {
        char* bytes = nullptr;
        const long length = BIO_get_mem_data(&memory, &bytes);
        return {bytes, static_cast<size_t>(length)};
    }
    static std::string pem(X509& certificate) {
        const OpenSsl<BIO> memory(BIO_new(BIO_s_mem()));
        PEM_write_bio_X509(memory.get(), &certificate);
        return text(*memory);
    }

    OpenSsl<EVP_PKEY> key_;
    OpenSsl<X509> certificate_;
};

}  // namespace adapath::testing
