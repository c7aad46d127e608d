#include "daemon/pipeline.hpp"

#include "exporters/console.hpp"
#include "exporters/module.hpp"
#include "exporters/otlp_json_file.hpp"
#include "exporters/trace_store.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace oteld::daemon {
namespace {

using Kind = config::ExporterSettings::Kind;
using exporters::Exporter;

// Takes everything and does nothing: what is left then is the cost of the daemon itself.
class NopExporter final : public Exporter {
public:
    exporters::SendResult send(const exporters::Batch&) override { return {}; }
    void cancel() noexcept override {}
};

Result<std::unique_ptr<Exporter>> make_exporter(const config::ExporterSettings& exporter,
                                                const std::string& state_directory) {
    switch (exporter.kind) {
        case Kind::otlp_grpc:
        case Kind::otlp_http: return exporters::make_from_module(exporter, modules_directory());
        case Kind::debug: return exporters::make_console(exporter);
        case Kind::file: return exporters::make_otlp_json_file(exporter);
        case Kind::trace_store: return exporters::make_trace_store(exporter, state_directory);
        case Kind::nop: return std::unique_ptr<Exporter>(new NopExporter);
    }
    return Error{ErrorCode::unsupported, "exporter " + exporter.name + " is of an unknown kind"};
}

// Files and the trace store have one writer; what goes over the network may have several requests
// under way.
std::uint32_t consumers_of(const config::ExporterSettings& exporter) {
    return config::is_local(exporter.kind) ? 1 : std::max(exporter.queue.num_consumers, 1U);
}

Result<std::vector<std::unique_ptr<Exporter>>> make_consumers(
    const config::ExporterSettings& exporter, const std::string& state_directory) {
    std::vector<std::unique_ptr<Exporter>> consumers;
    for (std::uint32_t i = 0; i < consumers_of(exporter); ++i) {
        auto made = make_exporter(exporter, state_directory);
        if (!made) return made.error();
        consumers.push_back(std::move(*made));
    }
    return consumers;
}

}  // namespace

Result<std::unique_ptr<Pipeline>> build_pipeline(const config::Settings& settings,
                                                 const shm::DirectoryHandle& directory) {
    // send: one exporter object for each request that may be under way.
    std::vector<std::vector<std::unique_ptr<Exporter>>> consumers;
    std::vector<std::string> names;
    for (const config::ExporterSettings& exporter : settings.exporters) {
        auto made = make_consumers(exporter, settings.state_directory);
        if (!made) return made.error();
        consumers.push_back(std::move(*made));
        names.push_back(exporter.name);
    }

    auto built = std::make_unique<Pipeline>();
    Pipeline& pipeline = *built;
    auto control = shm::ControlPageFile::open(directory);
    if (!control) return control.error();
    pipeline.control = std::move(*control);
    pipeline.control->publish_recording(settings.shm.recording);

    // settle: results come back to the thread that owns the spool.
    auto spool = Spool::open(directory, settings.shm.spool_bytes, names);
    if (!spool) return spool.error();
    pipeline.spool = std::move(*spool);
    pipeline.inbox = std::make_unique<Inbox>([page = pipeline.control.get()] { page->wake(); });

    // batch, enqueue: a queue and threads for each exporter.
    for (std::size_t i = 0; i < settings.exporters.size(); ++i)
        pipeline.workers.push_back(std::make_unique<ExportWorker>(
            settings.exporters[i], pipeline.spool->exporter_words()[i], std::move(consumers[i]),
            *pipeline.inbox));

    // drain, validate: from the rings into the spool.
    const char* stop_after = ::getenv("OTELD_TEST_STOP_AFTER");
    const DrainThread::Parts parts{directory, *pipeline.control, *pipeline.spool, *pipeline.inbox,
                                   pipeline.workers};
    pipeline.drain =
        std::make_unique<DrainThread>(parts, settings.shm, stop_after == nullptr ? "" : stop_after);
    return built;
}

std::string modules_directory() {
    std::error_code error;
    const std::filesystem::path binary = std::filesystem::read_symlink("/proc/self/exe", error);
    const std::filesystem::path folder = binary.parent_path();
    if (std::filesystem::is_directory(folder / "modules", error)) return folder / "modules";
    return folder.parent_path() / "lib" / "oteld";
}

}  // namespace oteld::daemon
