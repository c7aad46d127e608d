// Setting up the client in code. Not needed for the first span: the environment is read on its own.
//
// Example:
//     oteld::TracerProvider provider{oteld::Settings{}
//                                        .service("orders", "1.4.0")
//                                        .sampler(oteld::trace_id_ratio(0.1))};
//     provider.make_global();
//     serve();
//     provider.shutdown(std::chrono::seconds(2));
//
// Used by: applications, once, near the start of main(). Libraries include api.hpp only.
// Threads: any. A provider's spans may outlive the TracerProvider object: what they need is never
// freed. https://opentelemetry.io/docs/specs/otel/trace/sdk/
#pragma once

#include "oteld/api.hpp"
#include "oteld/id_generator.hpp"
#include "oteld/processor.hpp"
#include "oteld/sampler.hpp"

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace oteld {

// What is said here beats the environment; what is not said comes from the standard OTEL_*
// variables.
class Settings {
public:
    Settings& service(std::string name, std::string version = {}) {
        service_name_ = std::move(name);
        service_version_ = std::move(version);
        return *this;
    }
    Settings& resource(std::string key, std::string value) {
        resource_.emplace_back(std::move(key), std::move(value));
        return *this;
    }
    Settings& resource_schema_url(std::string url) {
        schema_url_ = std::move(url);
        return *this;
    }

    // Code of the program's own, which costs the spans of this provider, and no other's. It is
    // shared with the provider, which keeps it as long as the process lives: a span may end late.
    //
    // One of sampler.hpp's is as quick as the environment's, which it replaces. OTEL_SDK_DISABLED
    // still turns everything off.
    Settings& sampler(SamplerPointer sampler) {
        sampler_ = std::move(sampler);
        return *this;
    }
    Settings& ids(IdGeneratorPointer ids) {
        ids_ = std::move(ids);
        return *this;
    }
    // Any number; they are called in this order.
    Settings& processor(ProcessorPointer processor) {
        if (processor != nullptr) processors_.push_back(std::move(processor));
        return *this;
    }
    // Turns instrumentation scopes (the names that tracers were made with) off or on: "noisy.lib",
    // or with a star at its end all that begin so. The first rule that matches a name counts; other
    // names are on. Spans of one that is off are not recorded and not counted; children have the
    // parent that it would have had.
    Settings& scope(std::string pattern, bool enabled) {
        scopes_.emplace_back(std::move(pattern), enabled);
        return *this;
    }

    // The rings are the process's, not the provider's: the first provider that says something about
    // them makes them, when it is made itself. What is out of bounds is said on standard error and
    // ignored.
    //
    // So many lanes are made at once, one a recording thread: 1 to 256.
    Settings& lanes(std::size_t count) {
        lanes_ = count;
        return *this;
    }
    // What a thread's first lane holds, in bytes: up to 2 MiB, rounded up to a power of two of at
    // least 16 KiB. 128 KiB where nothing is said.
    Settings& lane_size(std::size_t bytes) {
        lane_size_ = bytes;
        return *this;
    }
    // Off: the lanes made at once (2 where nothing is said) are all there will be, and the client
    // opens no file any more. Spans that find no lane or no room are dropped and counted. For
    // programs that must not pay for growth, or that put themselves into a sandbox (seccomp,
    // chroot) later: what they go on to use is named in client/README.md. Without a ring directory
    // at this moment nothing is recorded, and neither is anything in a fork's child, unless it
    // makes such a provider itself.
    Settings& growth(bool on) {
        growth_ = on;
        return *this;
    }

    [[nodiscard]] const SamplerPointer& sampler() const noexcept { return sampler_; }
    [[nodiscard]] const IdGeneratorPointer& ids() const noexcept { return ids_; }
    [[nodiscard]] const std::vector<ProcessorPointer>& processors() const noexcept {
        return processors_;
    }
    [[nodiscard]] const std::vector<std::pair<std::string, bool>>& scopes() const noexcept {
        return scopes_;
    }
    [[nodiscard]] std::optional<std::size_t> lanes() const noexcept { return lanes_; }
    [[nodiscard]] std::optional<std::size_t> lane_size() const noexcept { return lane_size_; }
    [[nodiscard]] bool growth() const noexcept { return growth_; }
    [[nodiscard]] const std::string& service_name() const noexcept { return service_name_; }
    [[nodiscard]] const std::string& service_version() const noexcept { return service_version_; }
    [[nodiscard]] const std::string& schema_url() const noexcept { return schema_url_; }
    [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& resource_attributes()
        const noexcept {
        return resource_;
    }

private:
    std::string service_name_, service_version_, schema_url_;
    std::vector<std::pair<std::string, std::string>> resource_;
    SamplerPointer sampler_;
    IdGeneratorPointer ids_;
    std::vector<ProcessorPointer> processors_;
    std::vector<std::pair<std::string, bool>> scopes_;
    std::optional<std::size_t> lanes_, lane_size_;
    bool growth_ = true;
};

namespace testing {
class Recorder;
}

// A resource, a sampler, processors and limits under which tracers record. Any number of them may
// be in a process. May throw std::bad_alloc when it is made.
class __attribute__((visibility("default"))) TracerProvider {
public:
    TracerProvider() : TracerProvider(Settings{}) {}
    explicit TracerProvider(const Settings& settings);

    [[nodiscard]] Tracer tracer(std::string_view name, std::string_view version = {},
                                std::string_view schema_url = {},
                                Attributes attributes = {}) const {
        return oteld::tracer(name, version, schema_url, attributes, provider_);
    }
    // Tracers of oteld::tracer() record under this provider from their next span on.
    void make_global() const noexcept;
    // The one under which they do now. None: nobody has needed one yet.
    [[nodiscard]] static std::optional<TracerProvider> global() noexcept;

    // Its processors' force_flush(), then the free function of that name, all within the timeout as
    // far as the processors keep to what is left of it. False: something was not done in time.
    bool force_flush(std::chrono::nanoseconds timeout) const noexcept;
    // From now on its tracers record nothing and its processors see nothing; spans that are open
    // are delivered when they end. Then as force_flush(), with the processors' shutdown(). False
    // also if it was shut down before: then nothing happens.
    bool shutdown(std::chrono::nanoseconds timeout) const noexcept;

    // For wrappers: what oteld::tracer() takes as its provider.
    [[nodiscard]] const void* raw() const noexcept { return provider_; }

private:
    friend class testing::Recorder;
    explicit TracerProvider(const void* provider) noexcept : provider_(provider) {}
    TracerProvider(const Settings& settings, bool local);

    const void* provider_;
};

// For wrappers whose API says beforehand whether a tracer records. False: spans of tracers with
// this name are neither recorded nor counted, because of Settings::scope(), shutdown() or
// OTEL_SDK_DISABLED. Samplers and the daemon decide later. A provider of null: the global one.
[[nodiscard]] __attribute__((visibility("default"))) bool enabled(
    std::string_view tracer_name, const void* provider = nullptr) noexcept;
// `changed` is called whenever that may have become another: after each make_global() and
// shutdown(), on their thread, for as long as the process lives. The same one a second time changes
// nothing. May throw std::bad_alloc.
__attribute__((visibility("default"))) void on_enabled_change(void (*changed)() noexcept);

// Waits until every span that ended before the call is safe with the daemon, not for a network;
// processors are asked by TracerProvider::force_flush() only. False: the time is over, or spans
// wait and there is no daemon; nothing is lost by that, the spans stay in the ring.
__attribute__((visibility("default"))) bool force_flush(std::chrono::nanoseconds timeout) noexcept;

// Exceptions that left samplers, id generators and processors of the program's own, and ids of
// zeros, since the process started.
__attribute__((visibility("default"))) std::uint64_t hook_failures() noexcept;

// Spans of this process that were dropped since it started (or since its fork), for whatever
// reason; `oteld status` shows the reasons.
__attribute__((visibility("default"))) std::uint64_t spans_dropped() noexcept;
// Of these, the ones that were dropped when they started, as their thread found no lane (cap,
// memory limit, full file system): their recording() was false.
__attribute__((visibility("default"))) std::uint64_t spans_without_lane() noexcept;

}  // namespace oteld
