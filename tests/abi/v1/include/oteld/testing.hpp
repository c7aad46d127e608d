// For tests of one's own: collects what the code under test records, without a daemon.
//
// Example:
//     oteld::testing::Recorder recorder;
//     checkout(order);
//     assert(recorder.find("checkout")["order.id"] == "A-12345");
//     std::puts(recorder.tree().c_str());
//
// Used by: tests. Needs the client. While it lives it is the global provider: tracers of
// oteld::tracer(), however old, record into it, and nothing goes into a ring. The environment's
// sampler and limits hold, so OTEL_SDK_DISABLED or always_off leave it empty. Recorders may be
// nested; the inner one gets everything, and they end in reverse order.
// Threads: any; the recorder is made and destroyed by one.
#pragma once

#include "oteld/client.hpp"

namespace oteld::testing {

class __attribute__((visibility("default"))) Recorder {
public:
    Recorder() : Recorder(Settings{}) {}
    // With a resource, a sampler, further processors, ... of one's own.
    explicit Recorder(Settings settings);
    // What had been global is so again. Spans that are still open go nowhere.
    ~Recorder();
    Recorder(const Recorder&) = delete;
    Recorder& operator=(const Recorder&) = delete;

    // In the order in which they ended.
    [[nodiscard]] std::vector<RecordedSpan> spans() const { return kept_->spans(); }
    // The first one of that name. Throws std::out_of_range, naming those that there are, when there
    // is none.
    [[nodiscard]] RecordedSpan find(std::string_view name) const;
    void clear() { kept_->clear(); }
    // A line for each span, children indented below their parents, by the time of their start:
    //   checkout  order.id="A-12345"
    //     charge  ERROR "card declined"
    [[nodiscard]] std::string tree() const;

private:
    std::shared_ptr<InMemoryExporter> kept_;
    TracerProvider provider_;
    const void* before_;
};

}  // namespace oteld::testing
