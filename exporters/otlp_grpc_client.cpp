#include "exporters/otlp_grpc_client.hpp"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/compression.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/status.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>

namespace oteld::exporters {

namespace {

// Copying less than this is cheaper than keeping count of it.
constexpr std::size_t lent_bytes_min = 512;

// How long a finished call may hold on to lent memory before its connection is closed.
constexpr std::chrono::milliseconds patience{1000};
constexpr std::chrono::milliseconds glance{50};

// Servers allow a ping each five minutes. What we want is the other half: with keep-alive on, the
// kernel closes a connection whose peer has acknowledged nothing for as long as a whole request may
// take.
constexpr int keepalive_time_ms = 300'000;

grpc_slice slice_of(std::string_view text) {
    return grpc_slice_from_copied_buffer(text.data(), text.size());
}

std::string text_of(const grpc_slice& slice) {
    return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

// Keeps count of the slices that gRPC holds of memory that is ours. Lives until the last one is
// back.
class Loans {
public:
    static Loans* open() { return new Loans; }

    grpc_slice lend(std::string_view memory) {
        {
            const std::lock_guard lock(mutex_);
            ++out_;
        }
        return grpc_slice_new_with_user_data(const_cast<char*>(memory.data()), memory.size(),
                                             &Loans::give_back, this);
    }

    // False when some are still out after that time.
    bool wait_for(std::chrono::milliseconds time) {
        std::unique_lock lock(mutex_);
        return all_back_.wait_for(lock, time, [this] { return out_ == 0; });
    }

    // Nobody asks any more: whoever comes last cleans up.
    void close() {
        std::unique_lock lock(mutex_);
        closed_ = true;
        if (out_ != 0) return;
        lock.unlock();
        delete this;
    }

private:
    static void give_back(void* self_pointer) {
        auto* self = static_cast<Loans*>(self_pointer);
        std::unique_lock lock(self->mutex_);
        if (--self->out_ != 0) return;
        // Notifies under the lock: the waiter may close and so destroy this object as soon as it is
        // free.
        self->all_back_.notify_all();
        if (!self->closed_) return;
        lock.unlock();
        delete self;
    }

    std::mutex mutex_;
    std::condition_variable all_back_;
    std::size_t out_ = 0;  // Guarded by mutex_.
    bool closed_ = false;  // Guarded by mutex_.
};

Result<std::string> read_file(const std::string& path, const char* key) {
    std::ifstream file(path, std::ios::binary);
    std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file || content.empty()) {
        return Error{ErrorCode::invalid_config,
                     std::string("cannot read ") + key + " " + path + ": " +
                         (errno != 0 ? std::strerror(errno) : "it is empty") +
                         "; correct the path or its permissions"};
    }
    return content;
}

struct Pems {
    std::string ca;
    std::string cert;
    std::string key;
};

// Read for each connection, so that renewed certificates are found without a restart.
Result<Pems> read_pems(const config::Tls& tls) {
    Pems pems;
    const std::array<std::pair<const char*, std::pair<const std::string*, std::string*>>, 3> files{{
        {"tls.ca_file", {&tls.ca_file, &pems.ca}},
        {"tls.cert_file", {&tls.cert_file, &pems.cert}},
        {"tls.key_file", {&tls.key_file, &pems.key}},
    }};
    for (const auto& [key, file] : files) {
        if (file.first->empty()) continue;
        Result<std::string> content = read_file(*file.first, key);
        if (!content) return content.error();
        *file.second = std::move(*content);
    }
    return pems;
}

grpc_channel_credentials* make_verifying_credentials(const Pems& pems) {
    grpc_ssl_pem_key_cert_pair pair{pems.key.c_str(), pems.cert.c_str()};
    return grpc_ssl_credentials_create_ex(pems.ca.empty() ? nullptr : pems.ca.c_str(),
                                          pems.cert.empty() ? nullptr : &pair, nullptr, nullptr);
}

// tls.insecure_skip_verify: encrypted, but to whom is not checked.
grpc_channel_credentials* make_trusting_credentials(const Pems& pems) {
    grpc_tls_credentials_options* options = grpc_tls_credentials_options_create();
    grpc_tls_credentials_options_set_verify_server_cert(options, 0);
    grpc_tls_credentials_options_set_check_call_host(options, 0);
    grpc_tls_certificate_verifier* anyone = grpc_tls_certificate_verifier_no_op_create();
    grpc_tls_credentials_options_set_certificate_verifier(options, anyone);
    grpc_tls_certificate_verifier_release(anyone);
    if (!pems.cert.empty()) {
        grpc_tls_identity_pairs* pairs = grpc_tls_identity_pairs_create();
        grpc_tls_identity_pairs_add_pair(pairs, pems.key.c_str(), pems.cert.c_str());
        grpc_tls_certificate_provider* provider =
            grpc_tls_certificate_provider_static_data_create(nullptr, pairs);
        grpc_tls_credentials_options_set_certificate_provider(options, provider);
        grpc_tls_certificate_provider_release(provider);
        grpc_tls_credentials_options_watch_identity_key_cert_pairs(options);
    }
    return grpc_tls_credentials_create(options);
}

Result<grpc_channel_credentials*> make_credentials(const GrpcClientSettings& settings) {
    if (!settings.secure) return grpc_insecure_credentials_create();
    Result<Pems> pems = read_pems(settings.tls);
    if (!pems) return pems.error();
    grpc_channel_credentials* credentials = settings.tls.insecure_skip_verify
                                                ? make_trusting_credentials(*pems)
                                                : make_verifying_credentials(*pems);
    if (!credentials) {
        return Error{ErrorCode::invalid_config,
                     "tls.ca_file, tls.cert_file or tls.key_file is not in PEM form"};
    }
    return credentials;
}

class ChannelArguments {
public:
    void add(const char* key, int value) {
        grpc_arg argument{};
        argument.type = GRPC_ARG_INTEGER;
        argument.key = const_cast<char*>(key);
        argument.value.integer = value;
        arguments_.push_back(argument);
    }
    void add(const char* key, const std::string& value) {  // The string must outlive this.
        grpc_arg argument{};
        argument.type = GRPC_ARG_STRING;
        argument.key = const_cast<char*>(key);
        argument.value.string = const_cast<char*>(value.c_str());
        arguments_.push_back(argument);
    }
    grpc_channel_args get() { return {arguments_.size(), arguments_.data()}; }

private:
    std::vector<grpc_arg> arguments_;
};

ChannelArguments make_arguments(const GrpcClientSettings& settings) {
    ChannelArguments arguments;
    const auto most =
        std::min<std::uint64_t>(settings.response_bytes_max, std::numeric_limits<int>::max());
    arguments.add(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, static_cast<int>(most));
    arguments.add(GRPC_ARG_PRIMARY_USER_AGENT_STRING, settings.user_agent);
    arguments.add(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_time_ms);
    arguments.add(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(settings.timeout.count()));
    // Answers are small. Finding out how large a window they could use costs a ping each request.
    arguments.add(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    // A connection of its own, which nobody else keeps alive or in back-off after we have closed
    // it.
    arguments.add(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    // Retries are decided by delivery.cpp, not by what a DNS record says.
    arguments.add(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    if (settings.secure && !settings.tls.server_name_override.empty()) {
        arguments.add(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, settings.tls.server_name_override);
    }
    return arguments;
}

Result<void> check_headers(const std::vector<std::pair<std::string, std::string>>& headers) {
    for (const auto& [name, value] : headers) {
        const grpc_slice key = slice_of(name);
        const grpc_slice content = slice_of(value);
        const bool key_fits = grpc_header_key_is_legal(key) != 0 && name.rfind("grpc-", 0) != 0;
        const bool value_fits =
            grpc_is_binary_header(key) != 0 || grpc_header_nonbin_value_is_legal(content) != 0;
        grpc_slice_unref(key);
        grpc_slice_unref(content);
        if (!key_fits) {
            return Error{
                ErrorCode::invalid_config,
                "gRPC cannot send a header named \"" + name +
                    "\"; names are lower-case letters, digits, '-', '_' and '.', and do not "
                    "begin with grpc-"};
        }
        if (!value_fits) {
            return Error{ErrorCode::invalid_config, "gRPC cannot send the value of header " + name +
                                                        "; values are printable ASCII"};
        }
    }
    return {};
}

// gRPC says "received from peer" also of what it found out itself while it waited for the peer.
bool is_about_connection(std::string_view text) {
    constexpr std::array<std::string_view, 8> starts{
        "Deadline Exceeded",  "Socket closed",
        "recvmsg:",           "sendmsg:",
        "Connection reset",   "Transport closed",
        "keepalive watchdog", "Received message larger than max"};
    return std::any_of(starts.begin(), starts.end(), [&](std::string_view start) {
        return text.substr(0, start.size()) == start;
    });
}

// Everything that one call needs, released at its end.
class Call {
public:
    Call(grpc_call* call, grpc_completion_queue* queue, grpc_byte_buffer* request)
        : call_(call), queue_(queue), request_(request) {
        grpc_metadata_array_init(&initial_);
        grpc_metadata_array_init(&trailing_);
    }
    ~Call() {
        grpc_byte_buffer_destroy(request_);
        if (response_) grpc_byte_buffer_destroy(response_);
        grpc_slice_unref(text_);
        gpr_free(const_cast<char*>(error_));
        grpc_metadata_array_destroy(&initial_);
        grpc_metadata_array_destroy(&trailing_);
        for (grpc_metadata& item : sent_) {
            grpc_slice_unref(item.key);
            grpc_slice_unref(item.value);
        }
        grpc_call_unref(call_);
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    void add_header(std::string_view name, std::string_view value) {
        grpc_metadata item{};
        item.key = slice_of(name);
        item.value = slice_of(value);
        sent_.push_back(item);
    }

    // Blocks until the answer is there, or the deadline or grpc_call_cancel has made one.
    GrpcAnswer run() {
        std::array<grpc_op, 3> send{};
        send[0].op = GRPC_OP_SEND_INITIAL_METADATA;
        send[0].data.send_initial_metadata.count = sent_.size();
        send[0].data.send_initial_metadata.metadata = sent_.data();
        send[1].op = GRPC_OP_SEND_MESSAGE;
        send[1].data.send_message.send_message = request_;
        send[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
        std::array<grpc_op, 3> receive{};
        receive[0].op = GRPC_OP_RECV_INITIAL_METADATA;
        receive[0].data.recv_initial_metadata.recv_initial_metadata = &initial_;
        receive[1].op = GRPC_OP_RECV_MESSAGE;
        receive[1].data.recv_message.recv_message = &response_;
        receive[2].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
        receive[2].data.recv_status_on_client.trailing_metadata = &trailing_;
        receive[2].data.recv_status_on_client.status = &code_;
        receive[2].data.recv_status_on_client.status_details = &text_;
        receive[2].data.recv_status_on_client.error_string = &error_;

        // Two batches: a write that is stuck holds up the end of sending, but not a deadline's
        // answer.
        grpc_call_error error =
            grpc_call_start_batch(call_, send.data(), send.size(), &sent_, nullptr);
        is_sending_ = error == GRPC_CALL_OK;
        if (is_sending_) {
            error = grpc_call_start_batch(call_, receive.data(), receive.size(), this, nullptr);
        }
        if (error != GRPC_CALL_OK) return {GRPC_STATUS_INTERNAL, grpc_call_error_to_string(error)};
        grpc_completion_queue_pluck(queue_, this, gpr_inf_future(GPR_CLOCK_REALTIME), nullptr);
        return read();
    }

    // False when a write is still under way after that time. Only once it is true may this be
    // destroyed.
    bool has_sent(std::chrono::milliseconds time) {
        if (is_sending_) {
            const gpr_timespec until = gpr_time_add(
                gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(time.count(), GPR_TIMESPAN));
            const grpc_event event = grpc_completion_queue_pluck(queue_, &sent_, until, nullptr);
            is_sending_ = event.type != GRPC_OP_COMPLETE;
        }
        return !is_sending_;
    }

private:
    GrpcAnswer read() {
        GrpcAnswer answer;
        answer.code = code_;
        answer.text = text_of(text_);
        for (std::size_t i = 0; i < trailing_.count; ++i) {
            const grpc_metadata& item = trailing_.metadata[i];
            if (text_of(item.key) == "grpc-status-details-bin")
                answer.status_details = text_of(item.value);
        }
        answer.from_server = error_ && std::strstr(error_, "received from peer") &&
                             !is_about_connection(answer.text);
        if (response_) read_response(answer.response);
        return answer;
    }

    void read_response(std::string& out) {
        grpc_byte_buffer_reader reader;
        if (grpc_byte_buffer_reader_init(&reader, response_) == 0) return;
        const grpc_slice whole = grpc_byte_buffer_reader_readall(&reader);
        out = text_of(whole);
        grpc_slice_unref(whole);
        grpc_byte_buffer_reader_destroy(&reader);
    }

    grpc_call* call_;
    grpc_completion_queue* queue_;
    grpc_byte_buffer* request_;
    bool is_sending_ = false;
    std::vector<grpc_metadata> sent_;
    grpc_metadata_array initial_;
    grpc_metadata_array trailing_;
    grpc_byte_buffer* response_ = nullptr;
    grpc_status_code code_ = GRPC_STATUS_UNKNOWN;
    grpc_slice text_ = grpc_empty_slice();
    const char* error_ = nullptr;  // Says where the status comes from.
};

}  // namespace

GrpcClient::GrpcClient(GrpcClientSettings settings) : settings_(std::move(settings)) {
    // What goes wrong is in each call's status; the library's own log would go to standard error.
    if (!std::getenv("GRPC_VERBOSITY")) gpr_set_log_function([](gpr_log_func_args*) {});
    grpc_init();
    queue_ = grpc_completion_queue_create_for_pluck(nullptr);
}

GrpcClient::~GrpcClient() {
    disconnect();
    if (is_abandoned_) return;  // What a stuck write still uses ends with the process.
    grpc_completion_queue_shutdown(queue_);
    grpc_completion_queue_destroy(queue_);
    grpc_shutdown();
}

Result<std::unique_ptr<GrpcClient>> GrpcClient::make(GrpcClientSettings settings) {
    std::unique_ptr<GrpcClient> client(new GrpcClient(std::move(settings)));
    if (Result<void> fits = check_headers(client->settings_.headers); !fits) return fits.error();
    if (Result<void> made = client->connect(); !made) return made.error();
    return client;
}

Result<void> GrpcClient::connect() {
    if (channel_) return {};
    Result<grpc_channel_credentials*> credentials = make_credentials(settings_);
    if (!credentials) return credentials.error();
    ChannelArguments arguments = make_arguments(settings_);
    const grpc_channel_args args = arguments.get();
    channel_ = grpc_channel_create(settings_.endpoint.c_str(), *credentials, &args);
    grpc_channel_credentials_release(*credentials);
    return {};
}

void GrpcClient::disconnect() {
    if (channel_) grpc_channel_destroy(channel_);
    channel_ = nullptr;
}

GrpcAnswer GrpcClient::call(const char* method, const std::vector<std::string_view>& slices) {
    Loans* loans = Loans::open();
    std::vector<grpc_slice> lent;
    lent.reserve(slices.size());
    for (const std::string_view slice : slices) {
        lent.push_back(slice.size() < lent_bytes_min ? slice_of(slice) : loans->lend(slice));
    }
    grpc_byte_buffer* request = grpc_raw_byte_buffer_create(lent.data(), lent.size());
    for (const grpc_slice& slice : lent) grpc_slice_unref(slice);
    GrpcAnswer answer = run(method, request, false);
    // A write that was under way when the call ended may still read from the memory. A cancelled
    // one need not be waited for: its batch stays as it is.
    if (!loans->wait_for(patience)) {
        disconnect();
        while (!loans->wait_for(glance) && !cancelled()) {
        }
    }
    loans->close();
    return answer;
}

GrpcAnswer GrpcClient::call(const char* method, Compressed gzipped) {
    const std::size_t bytes = gzipped.bytes;
    char* data = gzipped.data.release();
    grpc_slice slice = grpc_slice_new_with_user_data(
        data, bytes, [](void* memory) { delete[] static_cast<char*>(memory); }, data);
    grpc_byte_buffer* request =
        grpc_raw_compressed_byte_buffer_create(&slice, 1, GRPC_COMPRESS_GZIP);
    grpc_slice_unref(slice);
    return run(method, request, true);
}

GrpcAnswer GrpcClient::run(const char* method, grpc_byte_buffer* request, bool compressed) {
    if (Result<void> made = connect(); !made) {
        grpc_byte_buffer_destroy(request);
        return {GRPC_STATUS_UNAVAILABLE, made.error().message};
    }
    grpc_call* raw_call = make_call(method);
    auto call = std::make_unique<Call>(raw_call, queue_, request);
    for (const auto& [name, value] : settings_.headers) call->add_header(name, value);
    // With the request already compressed, this only announces it.
    if (compressed) call->add_header("grpc-internal-encoding-request", "gzip");
    if (!publish(raw_call)) return {GRPC_STATUS_CANCELLED, "cancelled"};
    GrpcAnswer answer = call->run();
    withdraw();
    // A connection that gave no answer is not trusted with the next request: that one dials anew,
    // at once.
    if (answer.code != GRPC_STATUS_OK && !answer.from_server) disconnect();
    if (!call->has_sent(patience)) {
        disconnect();
        while (!call->has_sent(glance) && !cancelled()) {
        }
        if (!call->has_sent(glance)) {
            (void)call
                .release();  // gRPC still writes into it; nothing will be called after cancel().
            is_abandoned_ = true;
        }
    }
    return answer;
}

grpc_call* GrpcClient::make_call(const char* method) {
    const gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_millis(settings_.timeout.count(), GPR_TIMESPAN));
    const grpc_slice path = slice_of(method);
    grpc_call* call = grpc_channel_create_call(channel_, nullptr, GRPC_PROPAGATE_DEFAULTS, queue_,
                                               path, nullptr, deadline, nullptr);
    grpc_slice_unref(path);
    return call;
}

bool GrpcClient::publish(grpc_call* call) {
    const std::lock_guard lock(mutex_);
    if (cancelled_) return false;
    call_ = call;
    return true;
}

void GrpcClient::withdraw() {
    const std::lock_guard lock(mutex_);
    call_ = nullptr;
}

bool GrpcClient::cancelled() noexcept {
    const std::lock_guard lock(mutex_);
    return cancelled_;
}

void GrpcClient::cancel() noexcept {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (call_) grpc_call_cancel(call_, nullptr);
}

}  // namespace oteld::exporters
