// One keep-alive connection to one HTTP server and one POST at a time: libcurl behind a small face.
//
// Used by: otlp_http.cpp. Threads: `post` one at a time; `cancel` any.
// HTTP/2 where TLS agrees on it, else 1.1; proxies as the environment says (HTTPS_PROXY,
// HTTP_PROXY, NO_PROXY); redirects are not followed. What is posted lies in the caller's memory and
// is not copied whole; libcurl holds nothing of it once `post` has returned.
#pragma once

#include "config/result.hpp"
#include "config/settings.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace oteld::exporters {

struct HttpAnswer {
    enum class End : std::uint8_t { answered, no_answer, timeout, cancelled, too_large };
    End end = End::no_answer;
    std::string cause;  // no_answer: libcurl's words.
    int code = 0;       // answered: the HTTP status.
    std::string content_type;
    std::string retry_after;
    std::string location;
    std::string body;  // Decompressed.
};

class HttpClient {
public:
    // Fails when a file cannot be read or a header cannot be sent.
    [[nodiscard]] static Result<std::unique_ptr<HttpClient>> make(const config::Otlp& settings,
                                                                  const std::string& user_agent);
    ~HttpClient();
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;

    // `bytes` is the sum of the slices; they are compressed as the settings say.
    [[nodiscard]] HttpAnswer post(const std::vector<std::string_view>& slices, std::uint64_t bytes);

    // Ends the post under way and all later ones.
    void cancel() noexcept;
    [[nodiscard]] bool cancelled() const noexcept;

    // The endpoint for people: no user, password or query, which may be secret.
    [[nodiscard]] const std::string& shown_url() const noexcept;
    // Where it dials, without a proxy. Brackets of IPv6 addresses are taken off.
    [[nodiscard]] const std::string& host() const noexcept;
    [[nodiscard]] const std::string& port() const noexcept;
    [[nodiscard]] bool is_secure() const noexcept;

private:
    struct Handles;  // libcurl's.

    explicit HttpClient(std::unique_ptr<Handles> handles);
    bool run();

    std::unique_ptr<Handles> handles_;
    std::atomic<bool> cancelled_{false};
};

}  // namespace oteld::exporters
