// One connection to one gRPC server and one unary call at a time, in raw bytes: what is to be sent
// lies in the caller's memory and is lent to gRPC, not copied.
//
// Used by: otlp_grpc.cpp. Threads: `call` one at a time; `cancel` any.
// Never lets go of a lent byte too early: `call` returns only when gRPC has given everything back,
// also after a deadline. Only once `cancel` was called may bytes still be out, until the caller's
// process ends. Wraps gRPC's C core: a request compressed by us cannot be expressed in its C++.
#pragma once

#include "config/result.hpp"
#include "config/settings.hpp"
#include "exporters/otlp_gzip.hpp"

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct grpc_call;
struct grpc_channel;
struct grpc_completion_queue;
struct grpc_byte_buffer;

namespace oteld::exporters {

struct GrpcClientSettings {
    std::string endpoint;  // host:port or unix:PATH
    bool secure = false;
    config::Tls tls;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string user_agent;
    std::uint64_t response_bytes_max = 0;
    std::chrono::milliseconds timeout{0};  // For a call, and for a peer that acknowledges nothing.
};

struct GrpcAnswer {
    int code = 0;                // grpc_status_code
    std::string text;            // What the server or gRPC itself says.
    std::string status_details;  // grpc-status-details-bin
    std::string response;
    bool from_server = false;  // False: the text is gRPC's own, about the connection, say.
};

class GrpcClient {
public:
    // Fails when a file cannot be read or a header cannot be sent.
    [[nodiscard]] static Result<std::unique_ptr<GrpcClient>> make(GrpcClientSettings settings);
    ~GrpcClient();
    GrpcClient(const GrpcClient&) = delete;
    GrpcClient& operator=(const GrpcClient&) = delete;

    // `method` is "/package.Service/Method".
    [[nodiscard]] GrpcAnswer call(const char* method, const std::vector<std::string_view>& slices);
    [[nodiscard]] GrpcAnswer call(const char* method, Compressed gzipped);

    // Ends the call under way and all later ones with CANCELLED.
    void cancel() noexcept;
    [[nodiscard]] bool cancelled() noexcept;

private:
    explicit GrpcClient(GrpcClientSettings settings);

    Result<void> connect();
    void disconnect();
    GrpcAnswer run(const char* method, grpc_byte_buffer* request, bool compressed);
    grpc_call* make_call(const char* method);
    bool publish(grpc_call* call);
    void withdraw();

    GrpcClientSettings settings_;
    grpc_channel* channel_ = nullptr;
    grpc_completion_queue* queue_ = nullptr;
    bool is_abandoned_ = false;  // A call that was cancelled could not be taken down.

    std::mutex mutex_;
    grpc_call* call_ = nullptr;  // Guarded by mutex_.
    bool cancelled_ = false;     // Guarded by mutex_.
};

}  // namespace oteld::exporters
