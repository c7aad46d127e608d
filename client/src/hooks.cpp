#include "hooks.hpp"

#include "clock.hpp"
#include "signals.hpp"

#include "oteld/detail/encode.hpp"

#include <cstring>
#include <new>
#include <optional>

namespace oteld::sdk {
namespace {

constinit std::atomic<std::uint64_t> failures{0};

void count_failure(const char* hook, const char* why) noexcept {
    if (failures.fetch_add(1, std::memory_order_relaxed) == 0)
        warn("%s failed: %s (further failures are only counted)", hook, why);
    if (Process* process = this_process()) process->count(shm::ProcessCounter::hook_failures);
}

// Calls the program's code. Nothing of it gets out: exceptions are counted, a cancellation waits,
// errno is as before.
template <class Function>
bool call(const Provider& provider, const char* hook, Function function) noexcept {
    Thread& thread = this_thread;
    const ErrnoKept errno_kept;
    const CancellationOff no_cancellation;
    const HookFrame frame{&provider, thread.hooks};
    thread.hooks = &frame;
    bool well = true;
    try {
        function();
    } catch (const std::exception& e) {
        count_failure(hook, e.what());
        well = false;
    } catch (...) {
        count_failure(hook, "an exception that is no std::exception");
        well = false;
    }
    thread.hooks = frame.outer;
    return well;
}

// Lends the span to a hook as the class that it knows.
template <class Function>
void lend(abi::Span& span, const char* hook, Function function) noexcept {
    Span lent;
    std::memcpy(static_cast<void*>(&lent.raw()), &span, sizeof span);
    call(*binding_of(span).provider, hook, [&] { function(lent); });
    std::memcpy(static_cast<void*>(&span), &lent.raw(), sizeof span);
    lent.raw().record = nullptr;
    lent.raw().context = {};
}

// What came from a sampler, in the shape that the encoder takes. Refers to it.
struct Tree {
    std::vector<std::vector<Value>> arrays;
    std::vector<std::vector<Attribute>> maps;

    Value value(const RecordedValue& from) {
        using Recorded = RecordedValue;
        if (const auto* plain = std::get_if<bool>(&from.is)) return *plain;
        if (const auto* plain = std::get_if<std::int64_t>(&from.is)) return *plain;
        if (const auto* plain = std::get_if<double>(&from.is)) return *plain;
        if (const auto* text = std::get_if<std::string>(&from.is)) return std::string_view(*text);
        if (const auto* raw = std::get_if<Recorded::Bytes>(&from.is))
            return bytes{raw->data(), raw->size()};
        if (const auto* array = std::get_if<Recorded::Array>(&from.is)) {
            std::vector<Value> items;
            for (const RecordedValue& item : *array) items.push_back(value(item));
            arrays.push_back(std::move(items));
            return {arrays.back().data(), arrays.back().size()};
        }
        if (const auto* map = std::get_if<Recorded::Map>(&from.is)) {
            maps.push_back(list(*map));
            return {maps.back().data(), maps.back().size()};
        }
        return std::string_view();
    }
    std::vector<Attribute> list(const RecordedAttributes& from) {
        std::vector<Attribute> items;
        for (const RecordedAttribute& attribute : from)
            items.emplace_back(attribute.key, value(attribute.value));
        return items;
    }
};

// A parent as start() was given it, out of what the span keeps of it.
SpanContext parent_of(const abi::Span& span) noexcept {
    abi::Context parent{};
    const bool decides = (span.watched & watched_parent_decides) != 0;
    const unsigned sampled = (span.watched & watched_parent_sampled) != 0 ? 1U : 0U;
    if ((span.watched & watched_root) == 0) {
        std::memcpy(parent.trace_id, span.context.trace_id, sizeof parent.trace_id);
        std::memcpy(parent.span_id, span.record->parent_id, sizeof parent.span_id);
        parent.flags = static_cast<std::uint8_t>(span.context.flags | sampled);
        if (!decides)
            parent.remote = abi::remote_deferred;
        else if ((span.record->prefix.flags & detail::record_parent_remote) != 0)
            parent.remote = abi::remote_yes;
        parent.trace_state = span.context.trace_state;
    } else if (decides) {
        parent.flags = static_cast<std::uint8_t>(sampled);
        parent.remote = abi::remote_decided;
    }
    return SpanContext(parent);
}

template <std::size_t size>
void take_id(const std::uint8_t (&id)[size], std::uint8_t* record, std::uint8_t* context) {
    constexpr std::uint8_t zero[size] = {};
    if (std::memcmp(id, zero, size) == 0) return count_failure("an id generator", "an id of zeros");
    std::memcpy(record, id, size);
    std::memcpy(context, id, size);
}

void generate_ids(abi::Span& span, const Provider& provider) noexcept {
    IdGenerator& ids = *provider.hooks->ids;
    call(provider, "an id generator", [&] {
        std::uint8_t span_id[8] = {};
        ids.span_id(span_id);
        if ((span.watched & watched_root) != 0) {
            std::uint8_t trace_id[16] = {};
            ids.trace_id(trace_id);
            take_id(trace_id, span.record->trace_id, span.context.trace_id);
            const std::uint8_t flags = ids.random() ? 2 : 0;
            span.context.flags = span.record->trace_flags = flags;
        }
        take_id(span_id, span.record->span_id, span.context.span_id);
    });
}

SamplingResult decide(const abi::Span& span, const std::uint8_t* at, const Provider& provider,
                      const SpanContext& parent) noexcept {
    SamplingResult result;
    if (provider.hooks->sampler == nullptr) {
        std::uint64_t id_bytes;
        std::memcpy(&id_bytes, span.context.trace_id + 8, sizeof id_bytes);
        if (provider.sampler.samples(parent.raw(), (span.watched & watched_root) != 0, id_bytes))
            result.decision = Decision::record_and_sample;
        return result;
    }
    call(provider, "a sampler", [&] {
        result = provider.hooks->sampler->should_sample(ReadableSpan(span, at, 0), parent);
    });
    return result;
}

void set_trace_state(abi::Context& context, std::string_view text) noexcept {
    const SpanContext made(context.trace_id, context.span_id, 0, false, text);
    abi::release(context.trace_state);
    context.trace_state = made.raw().trace_state;
    abi::retain(context.trace_state);
}

std::uint8_t* put_attributes(abi::Span& span, std::uint8_t* at,
                             const RecordedAttributes& attributes) noexcept {
    if (attributes.empty()) return at;
    try {
        Tree tree;
        const std::vector<Attribute> list = tree.list(attributes);
        return detail::set_list(span, at, list.data(), list.size());
    } catch (const std::bad_alloc&) {
        for (std::size_t i = 0; i < attributes.size(); ++i)
            abi::count_dropped(span, abi::Dropped::attributes);
        return at;
    }
}

// Hooks of the same provider on the same thread are not entered again, and none after a shutdown.
bool hooks_run(const Provider& provider) noexcept {
    return !provider.stopped.load(std::memory_order_acquire) && !in_hook_of(this_thread, provider);
}

std::chrono::nanoseconds left_until(std::uint64_t deadline_ns) noexcept {
    const std::uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    if (now_ns >= deadline_ns) return std::chrono::nanoseconds(0);
    const std::uint64_t left = deadline_ns - now_ns;
    return std::chrono::nanoseconds(left > INT64_MAX ? INT64_MAX : static_cast<std::int64_t>(left));
}

}  // namespace

bool in_hook_of(const Thread& thread, const Provider& provider) noexcept {
    for (const HookFrame* frame = thread.hooks; frame != nullptr; frame = frame->outer)
        if (frame->provider == &provider) return true;
    return false;
}

ScopeBinding* bind(Scope& scope, const Provider& provider) noexcept {
    ScopeBinding* first = scope.bindings.load(std::memory_order_acquire);
    for (ScopeBinding* known = first; known != nullptr; known = known->next)
        if (known->provider == &provider) return known;
    const SignalsBlocked blocked;
    auto* fresh = new (std::nothrow) ScopeBinding{provider.limits, &provider, &scope, first};
    if (fresh == nullptr) return nullptr;
    // Two threads may bind the same at once, which costs an entry.
    while (!scope.bindings.compare_exchange_weak(fresh->next, fresh, std::memory_order_acq_rel)) {
    }
    return fresh;
}

void hooked_start(abi::Span* span, std::uint8_t* at) noexcept {
    const Provider& provider = *binding_of(*span).provider;
    const SpanContext parent = parent_of(*span);
    span->watched |= watched_started;
    if (provider.hooks->ids != nullptr) generate_ids(*span, provider);
    const SamplingResult result = decide(*span, at, provider, parent);
    bool sampled = result.decision == Decision::record_and_sample;
    if (result.trace_state)
        set_trace_state(span->context, *result.trace_state);
    else if (provider.hooks->sampler == nullptr && parent.raw().remote != 0)
        check_threshold(
            span->context,
            provider.sampler.parent_based && (span->watched & watched_parent_decides) != 0,
            sampled);
    if (!sampled) at = result.decision == Decision::drop ? nullptr : make_private(*span, at);
    count_started(*span, sampled);
    if (at == nullptr) {
        discard(*span);
        return;
    }
    if (sampled) {
        span->context.flags |= 1U;
        span->record->trace_flags |= 1U;
    }
    at = put_attributes(*span, at, result.attributes);
    {
        const Inside inside(this_thread);
        at = put_trace_state(*span, at);
    }
    abi::publish(*span, at);
    for (const ProcessorPointer& processor : provider.hooks->processors) {
        if (span->record == nullptr) return;  // A hook has ended it.
        lend(*span, "on_start()", [&](Span& lent) { processor->on_start(lent, parent); });
    }
}

bool hooked_end(abi::Span& span, std::uint64_t end_time) noexcept {
    if ((span.watched & watched_ending) != 0) return false;
    // By a library that was built before there were hooks at the start.
    if ((span.watched & watched_started) == 0) hooked_start(&span, span.cursor);
    if (span.record == nullptr) return false;
    const Provider& provider = *binding_of(span).provider;
    if (hooks_run(provider)) {
        span.watched |= watched_ending;
        for (const ProcessorPointer& processor : provider.hooks->processors)
            lend(span, "on_ending()", [&](Span& lent) { processor->on_ending(lent); });
        const ReadableSpan view(span, nullptr, end_time);
        for (const ProcessorPointer& processor : provider.hooks->processors)
            call(provider, "on_end()", [&] { processor->on_end(view); });
    }
    return span.record != nullptr;
}

bool flush_processors(const Provider& provider, std::uint64_t deadline_ns) noexcept {
    if (provider.hooks == nullptr) return true;
    bool all = true;
    for (const ProcessorPointer& processor : provider.hooks->processors) {
        bool done = false;
        call(provider, "force_flush()",
             [&] { done = processor->force_flush(left_until(deadline_ns)); });
        all = all && done;
    }
    return all;
}

bool shut_down_processors(const Provider& provider, std::uint64_t deadline_ns) noexcept {
    if (provider.hooks == nullptr) return true;
    bool all = true;
    for (const ProcessorPointer& processor : provider.hooks->processors) {
        bool done = false;
        call(provider, "shutdown()", [&] { done = processor->shutdown(left_until(deadline_ns)); });
        all = all && done;
    }
    return all;
}

std::uint64_t hook_failure_count() noexcept { return failures.load(std::memory_order_relaxed); }

}  // namespace oteld::sdk
