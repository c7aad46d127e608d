// An HTTP service that is told whom to call: what a trace looks like across processes.
//
//   relay --port PORT        0: any free one, printed in front of "listening"
//
// POST /test takes a JSON array of {"url": ..., "arguments": ...} and posts the arguments of each
// to its url, one after the other, with the trace's headers. That is the protocol of the W3C's test
// suite for trace contexts (https://github.com/w3c/trace-context/tree/main/test).
// Each connection has a thread; requests on it are served one by one. Finished spans are printed on
// standard error, and go to oteld where there is one.

#include <oteld/client.hpp>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using nlohmann::json;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

const oteld::Tracer tracer = oteld::tracer("relay", "1.0.0");

struct Url {
    std::string host, port, target;
};

// Of the form http://host[:port][/target].
Url parse_url(const std::string& text) {
    const std::string scheme = "http://";
    if (text.compare(0, scheme.size(), scheme) != 0)
        throw std::invalid_argument("not an http url: " + text);
    const std::string rest = text.substr(scheme.size());
    const std::size_t slash = rest.find('/');
    const std::string authority = rest.substr(0, slash);
    const std::size_t colon = authority.rfind(':');
    Url url{authority.substr(0, colon), "80",
            slash == std::string::npos ? "/" : rest.substr(slash)};
    if (colon != std::string::npos) url.port = authority.substr(colon + 1);
    if (url.host.empty() || url.port.empty()) throw std::invalid_argument("no host: " + text);
    return url;
}

// The client span is current while the headers are written: it is what the other side continues.
unsigned post(const std::string& address, const json& arguments) {
    auto span = tracer.scope("POST", {{"http.request.method", "POST"}, {"url.full", address}},
                             oteld::client);
    try {
        const Url url = parse_url(address);
        span.set("server.address", url.host).set("server.port", std::atoi(url.port.c_str()));
        Request request{http::verb::post, url.target, 11};
        request.set(http::field::host, url.host + ":" + url.port);
        request.set(http::field::content_type, "application/json");
        request.set(http::field::connection, "close");
        request.body() = arguments.dump();
        request.prepare_payload();
        oteld::inject(request);

        asio::io_context io;
        tcp::socket socket(io);
        asio::connect(socket, tcp::resolver(io).resolve(url.host, url.port));
        http::write(socket, request);
        boost::beast::flat_buffer buffer;
        Response response;
        http::read(socket, buffer, response);
        span.set("http.response.status_code", response.result_int());
        if (response.result_int() >= 400)
            span.set("error.type", std::to_string(response.result_int())).error();
        return response.result_int();
    } catch (const std::exception& e) {
        span.exception(e).error(e.what());
        span.set("error.type", "exception");
        return 0;
    }
}

// Throws json::exception if the body is not what it should be.
json relay(const json& calls) {
    json answers = json::array();
    if (calls.is_null()) return answers;
    for (const json& call : calls) {
        const std::string url = call.at("url").get<std::string>();
        answers.push_back({{"url", url}, {"status", post(url, call.value("arguments", json()))}});
    }
    return answers;
}

Response answer(http::status status, const std::string& body) {
    Response response{status, 11};
    response.set(http::field::content_type, "application/json");
    response.body() = body;
    return response;
}

Response serve(const Request& request, oteld::Span& span) {
    if (request.target() != "/test") return answer(http::status::not_found, "null");
    if (request.method() != http::verb::post)
        return answer(http::status::method_not_allowed, "null");
    try {
        return answer(http::status::ok, relay(json::parse(request.body())).dump());
    } catch (const json::exception& e) {
        span.exception(e);
        return answer(http::status::bad_request, json{{"error", e.what()}}.dump());
    }
}

Response handle(const Request& request, const std::string& client) {
    // Baggage and the caller's span first, then a span of our own under it.
    const auto caller = oteld::attach(oteld::extract(request));
    const std::string method(request.method_string());
    const bool known = request.target() == "/test";
    auto span = tracer.scope(known ? method + " /test" : method,
                             {{"http.request.method", method},
                              {"url.scheme", "http"},
                              {"url.path", std::string(request.target())},
                              {"client.address", client}},
                             oteld::server);
    if (known) span.set("http.route", "/test");
    Response response = serve(request, span);
    span.set("http.response.status_code", response.result_int());
    return response;
}

void serve_connection(tcp::socket socket) {
    boost::beast::error_code error;
    const std::string client = socket.remote_endpoint(error).address().to_string();
    boost::beast::flat_buffer buffer;
    for (;;) {
        Request request;
        http::read(socket, buffer, request, error);
        if (error) break;
        Response response = handle(request, client);
        response.keep_alive(request.keep_alive());
        response.prepare_payload();
        http::write(socket, response, error);
        if (error || !request.keep_alive()) break;
    }
    socket.shutdown(tcp::socket::shutdown_both, error);
}

int usage() {
    std::fprintf(stderr, "usage: relay --port PORT\n");
    return 2;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3 || std::strcmp(arguments[1], "--port") != 0) return usage();
    char* end = nullptr;
    const unsigned long port = std::strtoul(arguments[2], &end, 10);
    if (*end != 0 || end == arguments[2] || port > 65535) return usage();
    try {
        // Also shown here, so that there is something to see without an oteld.
        const oteld::TracerProvider provider{
            oteld::Settings{}.processor(std::make_shared<oteld::ConsoleExporter>(stderr))};
        provider.make_global();
        asio::io_context io;
        tcp::acceptor acceptor(
            io, {asio::ip::make_address("127.0.0.1"), static_cast<unsigned short>(port)});
        if (port == 0) std::printf("port %u\n", acceptor.local_endpoint().port());
        std::printf("listening\n");
        std::fflush(stdout);
        for (;;) std::thread(serve_connection, acceptor.accept()).detach();
    } catch (const std::exception& e) {
        std::fprintf(stderr, "relay: %s\n", e.what());
        return 1;
    }
}
