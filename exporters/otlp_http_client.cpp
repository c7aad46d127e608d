#include "exporters/otlp_http_client.hpp"

#include <curl/curl.h>

#include <csignal>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <system_error>

#include <unistd.h>

namespace oteld::exporters {

namespace {

// Longer than any wait that matters; a wake-up ends it.
constexpr int poll_ms = 60'000;

struct FreeList {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, FreeList>;

// The request's slices as libcurl reads them. It goes back to the start when a kept connection
// turns out dead.
struct Body {
    const std::vector<std::string_view>* slices = nullptr;
    std::size_t slice = 0;
    std::size_t offset = 0;

    std::size_t read(char* to, std::size_t most) {
        std::size_t done = 0;
        while (done < most && slice < slices->size()) {
            const std::string_view rest = (*slices)[slice].substr(offset);
            const std::size_t some = std::min(rest.size(), most - done);
            std::memcpy(to + done, rest.data(), some);
            done += some;
            offset += some;
            if (some == rest.size()) {
                ++slice;
                offset = 0;
            }
        }
        return done;
    }
};

std::size_t read_body(char* to, std::size_t size, std::size_t count, void* body) {
    return static_cast<Body*>(body)->read(to, size * count);
}

int seek_body(void* body_pointer, curl_off_t offset, int origin) {
    if (origin != SEEK_SET || offset != 0) return CURL_SEEKFUNC_CANTSEEK;
    auto* body = static_cast<Body*>(body_pointer);
    body->slice = 0;
    body->offset = 0;
    return CURL_SEEKFUNC_OK;
}

struct Sink {
    std::string bytes;
    std::uint64_t bytes_max = 0;
    bool overflow = false;
};

std::size_t write_answer(char* from, std::size_t size, std::size_t count, void* sink_pointer) {
    auto* sink = static_cast<Sink*>(sink_pointer);
    if (sink->bytes.size() + size * count > sink->bytes_max) {
        sink->overflow = true;
        return 0;  // Ends the transfer.
    }
    try {
        sink->bytes.append(from, size * count);
    } catch (const std::exception&) {  // Must not pass through C.
        return 0;
    }
    return size * count;
}

struct FreeUrl {
    void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, FreeUrl>;

std::string part_of(const Url& url, CURLUPart part, unsigned flags = CURLU_DEFAULT_PORT) {
    char* value = nullptr;
    if (curl_url_get(url.get(), part, &value, flags) != CURLUE_OK) return {};
    std::string out = value;
    curl_free(value);
    return out;
}

// Where a request goes, and what the server at the other end is called.
struct Target {
    std::string shown;  // For people: without what may be secret.
    std::string url;    // With the host that the certificate must be for.
    std::string host;
    std::string port;
    std::string
        connect_to;  // Set when the server is dialled under another name than the certificate's.
    std::string host_header;  // Then the Host that it is still told.
    bool secure = false;
};

std::string without_brackets(const std::string& host) {
    return host.size() > 2 && host.front() == '[' ? host.substr(1, host.size() - 2) : host;
}

Result<Target> make_target(const config::Otlp& settings) {
    const Url url(curl_url());
    if (!url || curl_url_set(url.get(), CURLUPART_URL, settings.endpoint.c_str(), 0) != CURLUE_OK) {
        return Error{
            ErrorCode::invalid_config,
            "\"" + settings.endpoint + "\" is not a URL; write it as http://HOST:4318/v1/traces"};
    }
    const Url shown(curl_url_dup(url.get()));
    Target target;
    target.url = settings.endpoint;
    target.host = part_of(url, CURLUPART_HOST);
    target.port = part_of(url, CURLUPART_PORT);
    target.secure = part_of(url, CURLUPART_SCHEME) == "https";
    for (const CURLUPart secret : {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY}) {
        curl_url_set(shown.get(), secret, nullptr, 0);
    }
    target.shown = part_of(shown, CURLUPART_URL, 0);
    const std::string& name = settings.tls.server_name_override;
    if (target.secure && !name.empty()) {
        target.connect_to = name + ":" + target.port + ":" + target.host + ":" + target.port;
        target.host_header = "Host: " + target.host + ":" + target.port;
        curl_url_set(url.get(), CURLUPART_HOST, name.c_str(), 0);
        target.url = part_of(url, CURLUPART_URL);
    }
    target.host = without_brackets(target.host);
    return target;
}

Result<void> check_files(const config::Tls& tls) {
    const std::pair<const char*, const std::string*> files[] = {
        {"tls.ca_file", &tls.ca_file},
        {"tls.cert_file", &tls.cert_file},
        {"tls.key_file", &tls.key_file},
    };
    for (const auto& [key, path] : files) {
        if (!path->empty() && ::access(path->c_str(), R_OK) != 0) {
            return Error{ErrorCode::invalid_config, std::string("cannot read ") + key + " " +
                                                        *path + ": " +
                                                        std::generic_category().message(errno) +
                                                        "; correct the path or its permissions"};
        }
    }
    return {};
}

bool is_header_name(std::string_view name) {
    return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return c > ' ' && c < 0x7f && !std::strchr("()<>@,;:\\\"/[]?={}", c);
    });
}

bool is_header_value(std::string_view value) {
    return std::all_of(value.begin(), value.end(),
                       [](unsigned char c) { return c == '\t' || (c >= ' ' && c != 0x7f); });
}

void add_line(HeaderList& list, const std::string& line) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    if (!longer) throw std::bad_alloc();
    (void)list.release();
    list.reset(longer);
}

Result<HeaderList> make_headers(const config::Otlp& settings, const Target& target) {
    HeaderList list;
    const auto add = [&list](const std::string& line) { add_line(list, line); };
    if (!target.host_header.empty()) add(target.host_header);
    add("Content-Type: application/x-protobuf");
    add("Expect:");  // Never wait for "100 Continue".
    if (settings.compression == config::Compression::gzip) add("Content-Encoding: gzip");
    for (const auto& [name, value] : settings.headers) {
        if (!is_header_name(name) || !is_header_value(value)) {
            return Error{ErrorCode::invalid_config,
                         "HTTP cannot send header \"" + name +
                             "\"; names are letters, digits and '-', values one line of text"};
        }
        // libcurl's way to say that a header is there but empty.
        std::string line = name;
        line.append(value.empty() ? ";" : ": ").append(value);
        add(line);
    }
    return list;
}

std::string header_of(CURL* easy, const char* name) {
    curl_header* header = nullptr;
    if (curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK) return {};
    return header->value;
}

}  // namespace

struct HttpClient::Handles {
    CURL* easy = nullptr;
    CURLM* multi = nullptr;
    Target target;
    HeaderList headers;
    HeaderList connect_to;
    char error[CURL_ERROR_SIZE] = {};
    Sink sink;
    Body body;
    CURLcode result = CURLE_OK;

    ~Handles() {
        if (easy) curl_easy_cleanup(easy);
        if (multi) curl_multi_cleanup(multi);
    }

    void set_up(const config::Otlp& settings, const std::string& user_agent);
    void set_up_tls(const config::Otlp& settings);
    HttpAnswer read();
};

void HttpClient::Handles::set_up(const config::Otlp& settings, const std::string& user_agent) {
    const auto timeout = static_cast<long>(settings.timeout.count());
    curl_easy_setopt(easy, CURLOPT_URL, target.url.c_str());
    if (!target.connect_to.empty()) {
        add_line(connect_to, target.connect_to);
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, connect_to.get());
    }
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(easy, CURLOPT_USERAGENT, user_agent.c_str());
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, timeout);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, read_body);
    curl_easy_setopt(easy, CURLOPT_READDATA, &body);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, seek_body);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, &body);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, write_answer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &sink);
    set_up_tls(settings);
}

void HttpClient::Handles::set_up_tls(const config::Otlp& settings) {
    const config::Tls& tls = settings.tls;
    if (!tls.ca_file.empty()) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, tls.ca_file.c_str());
        curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);  // That file and nothing else.
    }
    if (!tls.cert_file.empty()) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, tls.cert_file.c_str());
        curl_easy_setopt(easy, CURLOPT_SSLKEY, tls.key_file.c_str());
    }
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, tls.insecure_skip_verify ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, tls.insecure_skip_verify ? 0L : 2L);
}

HttpAnswer HttpClient::Handles::read() {
    HttpAnswer answer;
    if (sink.overflow) {
        answer.end = HttpAnswer::End::too_large;
    } else if (result == CURLE_OPERATION_TIMEDOUT) {
        answer.end = HttpAnswer::End::timeout;
    } else if (result != CURLE_OK) {
        answer.cause = error[0] != '\0' ? error : curl_easy_strerror(result);
        long number = 0;
        curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
        if (result == CURLE_COULDNT_CONNECT && number != 0) {
            answer.cause += ": " + std::generic_category().message(static_cast<int>(number));
        }
    } else {
        long code = 0;
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
        answer.end = HttpAnswer::End::answered;
        answer.code = static_cast<int>(code);
        answer.content_type = header_of(easy, "content-type");
        answer.retry_after = header_of(easy, "retry-after");
        answer.location = header_of(easy, "location");
        answer.body = std::move(sink.bytes);
    }
    return answer;
}

HttpClient::HttpClient(std::unique_ptr<Handles> handles) : handles_(std::move(handles)) {}

HttpClient::~HttpClient() = default;

Result<std::unique_ptr<HttpClient>> HttpClient::make(const config::Otlp& settings,
                                                     const std::string& user_agent) {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });

    if (Result<void> readable = check_files(settings.tls); !readable) return readable.error();
    Result<Target> target = make_target(settings);
    if (!target) return target.error();
    Result<HeaderList> headers = make_headers(settings, *target);
    if (!headers) return headers.error();
    auto handles = std::make_unique<Handles>();
    handles->easy = curl_easy_init();
    handles->multi = curl_multi_init();
    if (!handles->easy || !handles->multi) return Error{ErrorCode::io, "libcurl cannot start"};
    handles->headers = std::move(*headers);
    handles->target = std::move(*target);
    handles->sink.bytes_max = settings.response_bytes_max;
    handles->set_up(settings, user_agent);
    return std::unique_ptr<HttpClient>(new HttpClient(std::move(handles)));
}

HttpAnswer HttpClient::post(const std::vector<std::string_view>& slices, std::uint64_t bytes) {
    // OpenSSL writes without MSG_NOSIGNAL: a peer that has gone would raise SIGPIPE in this thread.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);

    handles_->body = {&slices};
    handles_->sink.bytes.clear();
    handles_->sink.overflow = false;
    handles_->error[0] = '\0';
    curl_easy_setopt(handles_->easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(bytes));
    curl_multi_add_handle(handles_->multi, handles_->easy);
    const bool ended = run();
    HttpAnswer answer = ended ? handles_->read() : HttpAnswer{HttpAnswer::End::cancelled};
    curl_multi_remove_handle(handles_->multi,
                             handles_->easy);  // Closes a connection in mid-request.
    handles_->body = {};
    return answer;
}

// False when it was cancelled.
bool HttpClient::run() {
    for (;;) {
        if (cancelled_.load(std::memory_order_acquire)) return false;  // Pairs with cancel().
        int running = 0;
        const CURLMcode performed = curl_multi_perform(handles_->multi, &running);
        if (performed != CURLM_OK || running == 0) {
            int left = 0;
            const CURLMsg* message = curl_multi_info_read(handles_->multi, &left);
            handles_->result = message ? message->data.result : CURLE_FAILED_INIT;
            return true;
        }
        curl_multi_poll(handles_->multi, nullptr, 0, poll_ms, nullptr);
    }
}

bool HttpClient::cancelled() const noexcept {
    return cancelled_.load(std::memory_order_acquire);  // Pairs with cancel().
}

const std::string& HttpClient::shown_url() const noexcept { return handles_->target.shown; }
const std::string& HttpClient::host() const noexcept { return handles_->target.host; }
const std::string& HttpClient::port() const noexcept { return handles_->target.port; }
bool HttpClient::is_secure() const noexcept { return handles_->target.secure; }

void HttpClient::cancel() noexcept {
    cancelled_.store(true, std::memory_order_release);  // Pairs with run().
    curl_multi_wakeup(handles_->multi);
}

}  // namespace oteld::exporters
