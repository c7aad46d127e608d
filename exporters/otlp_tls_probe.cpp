#include "exporters/otlp_tls_probe.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <csignal>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace oteld::exporters {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds time_max{2000};
constexpr int slice_ms = 100;

struct FreeContext {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct FreeSsl {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
};
struct FreeAddresses {
    void operator()(addrinfo* addresses) const { ::freeaddrinfo(addresses); }
};

class Socket {
public:
    ~Socket() { reset(); }
    void reset(int fd = -1) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = fd;
    }
    [[nodiscard]] int get() const { return fd_; }

private:
    int fd_ = -1;
};

class Prober {
public:
    explicit Prober(const TlsProbe& probe) : probe_(probe), deadline_(Clock::now() + time_max) {}

    std::string run() {
        if (!dial() || !set_up()) return {};
        if (!shake_hands()) return failure();
        // TLS 1.3: only after its handshake does a client learn that its certificate was not liked.
        char byte = 0;
        if (finish([&] { return SSL_read(ssl_.get(), &byte, 1); })) return {};
        return timed_out_ ? std::string() : failure();
    }

private:
    bool dial() {
        addrinfo hints{};
        hints.ai_socktype = SOCK_STREAM;
        addrinfo* found = nullptr;
        if (::getaddrinfo(probe_.host.c_str(), probe_.port.c_str(), &hints, &found) != 0)
            return false;
        const std::unique_ptr<addrinfo, FreeAddresses> addresses(found);
        for (const addrinfo* at = found; at; at = at->ai_next) {
            socket_.reset(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            if (socket_.get() < 0) continue;
            if (::connect(socket_.get(), at->ai_addr, at->ai_addrlen) == 0) return true;
            if (errno == EINPROGRESS && wait_for(POLLOUT) && connected()) return true;
        }
        return false;
    }

    bool connected() const {
        int error = 0;
        socklen_t size = sizeof error;
        return ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
    }

    bool set_up() {
        context_.reset(SSL_CTX_new(TLS_client_method()));
        if (!context_) return false;
        SSL_CTX* context = context_.get();
        const config::Tls& tls = probe_.tls;
        if (tls.ca_file.empty()) {
            SSL_CTX_set_default_verify_paths(context);
        } else if (SSL_CTX_load_verify_locations(context, tls.ca_file.c_str(), nullptr) != 1) {
            return false;
        }
        if (!tls.cert_file.empty() &&
            (SSL_CTX_use_certificate_chain_file(context, tls.cert_file.c_str()) != 1 ||
             SSL_CTX_use_PrivateKey_file(context, tls.key_file.c_str(), SSL_FILETYPE_PEM) != 1)) {
            return false;
        }
        SSL_CTX_set_verify(context, tls.insecure_skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER,
                           nullptr);
        SSL_CTX_set_msg_callback(context, note_message);
        SSL_CTX_set_msg_callback_arg(context, this);
        static const unsigned char protocols[] = {2,   'h', '2', 8,   'h', 't',
                                                  't', 'p', '/', '1', '.', '1'};
        SSL_CTX_set_alpn_protos(context, protocols, sizeof protocols);
        ssl_.reset(SSL_new(context));
        return ssl_ && SSL_set_fd(ssl_.get(), socket_.get()) == 1 && set_name();
    }

    bool set_name() {
        const std::string& name =
            probe_.tls.server_name_override.empty() ? probe_.host : probe_.tls.server_name_override;
        if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), name.c_str()) == 1)
            return true;
        SSL_set_tlsext_host_name(ssl_.get(), name.c_str());
        return SSL_set1_host(ssl_.get(), name.c_str()) == 1;
    }

    bool shake_hands() {
        return finish([this] { return SSL_connect(ssl_.get()); });
    }

    template <class Step>
    bool finish(Step step) {
        for (;;) {
            ERR_clear_error();
            const int done = step();
            if (done == 1) return true;
            const int wants = SSL_get_error(ssl_.get(), done);
            if (wants != SSL_ERROR_WANT_READ && wants != SSL_ERROR_WANT_WRITE) return false;
            if (!wait_for(wants == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT)) {
                timed_out_ = true;
                return false;
            }
        }
    }

    bool wait_for(short events) {
        while (Clock::now() < deadline_ && !probe_.give_up()) {
            pollfd one{socket_.get(), events, 0};
            if (::poll(&one, 1, slice_ms) > 0) return true;
        }
        return false;
    }

    // What the library says; else what can be told from a certificate that was asked for and then a
    // closed door.
    std::string failure() const {
        const long verified = SSL_get_verify_result(ssl_.get());
        if (verified != X509_V_OK && !probe_.tls.insecure_skip_verify) {
            return X509_verify_cert_error_string(verified);
        }
        if (timed_out_) return {};
        if (asked_for_certificate_) {
            return probe_.tls.cert_file.empty() ? "certificate required" : "bad certificate";
        }
        const char* reason = ERR_reason_error_string(ERR_peek_last_error());
        return reason ? reason : "";
    }

    static void note_message(int /*write*/, int /*version*/, int type, const void* bytes,
                             std::size_t length, SSL* /*ssl*/, void* self) {
        if (type == SSL3_RT_HANDSHAKE && length > 0 &&
            *static_cast<const unsigned char*>(bytes) == SSL3_MT_CERTIFICATE_REQUEST) {
            static_cast<Prober*>(self)->asked_for_certificate_ = true;
        }
    }

    const TlsProbe& probe_;
    Clock::time_point deadline_;
    Socket socket_;
    std::unique_ptr<SSL_CTX, FreeContext> context_;
    std::unique_ptr<SSL, FreeSsl> ssl_;
    bool asked_for_certificate_ = false;
    bool timed_out_ = false;
};

}  // namespace

std::string find_tls_failure(const TlsProbe& probe) {
    // OpenSSL writes without MSG_NOSIGNAL: a peer that has gone would raise SIGPIPE in this thread.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    return Prober(probe).run();
}

}  // namespace oteld::exporters
