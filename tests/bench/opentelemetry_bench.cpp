// The span of spans.hpp through opentelemetry-cpp: on this client by the bridge, with its own SDK
// and batch processor, without an SDK; beside the same span through our headers.
//
// Usage: opentelemetry_bench [PORT]   OTELD_DIR names an existing ring directory.
// A figure is what the calling thread pays for a span. "cpu" is what the whole process pays until
// its provider is shut down, by the spans that its exporter delivered, and "delivered" how many of
// a hundred these were. PORT is that of an OTLP/gRPC backend on the loopback; without one that case
// is left out. Nobody drains the rings: the program moves the daemon's cursors between the rounds.
// The SDK's worker has 2 ms between two rounds of 220 spans, and every setting its default.

#include "tests/bench/measure.hpp"
#include "tests/bench/spans.hpp"
#include "tests/bench/stand_in.hpp"

#include "oteld/opentelemetry.hpp"
#include "oteld/opentelemetry_context.hpp"

#include <opentelemetry/sdk/trace/batch_span_processor.h>
#include <opentelemetry/sdk/trace/batch_span_processor_options.h>
#include <opentelemetry/sdk/trace/exporter.h>
#include <opentelemetry/sdk/trace/span_data.h>
#include <opentelemetry/sdk/trace/tracer_provider.h>
#include <opentelemetry/trace/noop.h>
#include <opentelemetry/trace/scope.h>
#if defined(OTELD_BENCH_OTLP_GRPC)
#include <opentelemetry/exporters/otlp/otlp_grpc_exporter_factory.h>
#include <opentelemetry/exporters/otlp/otlp_grpc_exporter_options.h>
#endif

#include <atomic>
#include <cstdlib>
#include <ctime>
#include <string>
#include <thread>

namespace {

using namespace oteld;
namespace otel = ::opentelemetry;
namespace sdk = ::opentelemetry::sdk::trace;
using Provider = otel::nostd::shared_ptr<otel::trace::TracerProvider>;
using Function = void (*)(int, std::string_view);

constexpr int rounds = 300;
constexpr int calls = 200;
constexpr int warm_up = 20;

otel::nostd::shared_ptr<otel::trace::Tracer> their_tracer;

void set_five(otel::trace::Span& span, int i, std::string_view customer) {
    span.SetAttribute("order.id", "A-12345");
    span.SetAttribute("lines", i);
    span.SetAttribute("total", 12.5 + i);
    span.SetAttribute("ok", true);
    span.SetAttribute("customer", otel::nostd::string_view(customer.data(), customer.size()));
}

[[gnu::noinline]] void their_span(int i, std::string_view customer) {
    const auto span = their_tracer->StartSpan("checkout");
    set_five(*span, i, customer);
    span->End();
}

[[gnu::noinline]] void their_span_at_the_start(int i, std::string_view customer) {
    their_tracer->StartSpan(
        "checkout", {{"order.id", "A-12345"},
                     {"lines", i},
                     {"total", 12.5 + i},
                     {"ok", true},
                     {"customer", otel::nostd::string_view(customer.data(), customer.size())}});
}

[[gnu::noinline]] void their_span_current(int i, std::string_view customer) {
    const auto span = their_tracer->StartSpan("checkout");
    const otel::trace::Scope scope(span);
    set_five(*span, i, customer);
}

std::atomic<std::uint64_t> delivered{0};

// Counts what goes on to another exporter; without one, delivers to nowhere.
class Counted : public sdk::SpanExporter {
public:
    explicit Counted(std::unique_ptr<sdk::SpanExporter> to) : to_(std::move(to)) {}
    std::unique_ptr<sdk::Recordable> MakeRecordable() noexcept override {
        if (to_ != nullptr) return to_->MakeRecordable();
        return std::make_unique<sdk::SpanData>();
    }
    otel::sdk::common::ExportResult Export(
        const otel::nostd::span<std::unique_ptr<sdk::Recordable>>& spans) noexcept override {
        const std::size_t count = spans.size();
        const auto result =
            to_ != nullptr ? to_->Export(spans) : otel::sdk::common::ExportResult::kSuccess;
        if (result == otel::sdk::common::ExportResult::kSuccess) delivered += count;
        return result;
    }
    bool ForceFlush(std::chrono::microseconds timeout) noexcept override {
        return to_ == nullptr || to_->ForceFlush(timeout);
    }
    bool Shutdown(std::chrono::microseconds timeout) noexcept override {
        return to_ == nullptr || to_->Shutdown(timeout);
    }

private:
    std::unique_ptr<sdk::SpanExporter> to_;
};

Provider sdk_provider(std::unique_ptr<sdk::SpanExporter> to) {
    std::unique_ptr<sdk::SpanExporter> exporter = std::make_unique<Counted>(std::move(to));
    std::unique_ptr<sdk::SpanProcessor> processor = std::make_unique<sdk::BatchSpanProcessor>(
        std::move(exporter), sdk::BatchSpanProcessorOptions{});
    return Provider(std::make_shared<sdk::TracerProvider>(std::move(processor)));
}

double cpu_ns() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

void measure_one(const char* name, Provider provider, Function function, std::string_view customer,
                 bool batches) {
    delivered = 0;
    const double before = cpu_ns();
    their_tracer = provider->GetTracer("bench", "1");
    const bench::Figures figures = bench::measure(
        rounds, calls, [&](int i) { function(i, customer); },
        [&] {
            if (batches)
                std::this_thread::sleep_for(std::chrono::milliseconds(2));
            else
                bench::move_cursors();
            for (int i = 0; i < warm_up; ++i) function(i, customer);
        });
    their_tracer = {};
    provider = {};  // The SDK's is shut down by that.
    constexpr double spans = rounds * (calls + warm_up);
    const double arrived = batches ? static_cast<double>(delivered) : spans;
    std::printf("{\"name\":\"%s\",\"p10\":%.2f,\"median\":%.2f,\"cpu\":%.2f,\"delivered\":%.1f}\n",
                name, figures.p10, figures.median,
                (cpu_ns() - before) / (arrived > 0 ? arrived : 1), 100 * arrived / spans);
    std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
    if (std::getenv("OTELD_DIR") == nullptr || !bench::bench_tracer.span("probe").recording()) {
        std::fprintf(stderr, "opentelemetry_bench: OTELD_DIR names no ring directory\n");
        return 1;
    }
    const std::string customer =
        count > 2 ? arguments[2] : "someone";  // Not known to the compiler.
    const Provider nothing(std::make_shared<otel::trace::NoopTracerProvider>());
    const auto bridge = [] { return opentelemetry_provider(); };
    measure_one("header", bridge(), bench::header_span, customer, false);
    measure_one("bridge", bridge(), their_span, customer, false);
    measure_one("bridge, at the start", bridge(), their_span_at_the_start, customer, false);
    measure_one("bridge, current", bridge(), their_span_current, customer, false);
    measure_one("no SDK", nothing, their_span, customer, false);
    measure_one("no SDK, current", nothing, their_span_current, customer, false);
    measure_one("SDK, batches to nowhere", sdk_provider(nullptr), their_span, customer, true);
    measure_one("SDK, batches to nowhere, current", sdk_provider(nullptr), their_span_current,
                customer, true);
#if defined(OTELD_BENCH_OTLP_GRPC)
    if (count > 1) {
        otel::exporter::otlp::OtlpGrpcExporterOptions options;
        options.endpoint = std::string("http://127.0.0.1:") + arguments[1];
        options.use_ssl_credentials = false;
        measure_one("SDK, batches to OTLP/gRPC",
                    sdk_provider(otel::exporter::otlp::OtlpGrpcExporterFactory::Create(options)),
                    their_span, customer, true);
    }
#endif
    otel::context::RuntimeContext::SetRuntimeContextStorage(opentelemetry_context_storage());
    measure_one("bridge, current in one context", bridge(), their_span_current, customer, false);
}
