// A small order service, to look at: four threads, nested spans, a slow query, errors, events and
// links.
//
//   orders [--seconds S] [--progress FILE]
//
// --progress names a file with one 64-bit count: spans whose end has returned. It is mapped, so it
// is right even when the program is killed. The last line on standard output is JSON: {"ended":N}.

#include <oteld/client.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

const oteld::Tracer shop = oteld::tracer("shop.orders", "1.4.0");
const oteld::Tracer database = oteld::tracer("shop.database", "2.0.1");

std::atomic<std::uint64_t>* ended_count = nullptr;

struct Order {
    std::string id;
    int lines;
    double total;
    bool slow_query;
    bool declined;
};

// Ends the span and counts it, in this order: a span that was counted has ended.
template <class Span>
void finish(Span& span) {
    span.end();
    ended_count->fetch_add(1, std::memory_order_release);
}

void query(const char* statement, bool slow) {
    auto span = database.scope(slow ? "SELECT stock" : "SELECT customer",
                               {{"db.system.name", "postgresql"}, {"db.query.text", statement}},
                               oteld::client);
    std::this_thread::sleep_for(slow ? 60ms : 1ms);
    span.set("db.response.returned_rows", slow ? 18211 : 1);
    if (slow) span.event("sequential scan", {{"table", "stock"}, {"rows", 1800000}});
    finish(span);
}

void charge(const Order& order) {
    auto span =
        shop.scope("charge card", {{"payment.amount", order.total}, {"payment.currency", "EUR"}},
                   oteld::client);
    std::this_thread::sleep_for(2ms);
    if (order.declined) {
        const char* reason = "card declined by issuer";
        span.exception(std::runtime_error(reason)).error(reason);
        finish(span);
        throw std::runtime_error(reason);
    }
    finish(span);
}

void checkout(const Order& order, const oteld::SpanContext& previous) {
    auto span = shop.scope(
        "POST /orders",
        {{"http.request.method", "POST"}, {"http.route", "/orders"}, {"order.id", order.id}},
        oteld::server, oteld::link_to(previous, {{"reason", "same customer"}}));
    span.set("order.lines", order.lines)
        .set("order.tags", {"web", "gift"})
        .set("order.total", order.total);
    try {
        query("SELECT * FROM customer WHERE id = $1", false);
        query("SELECT * FROM stock WHERE sku LIKE '%x%'", order.slow_query);
        charge(order);
        span.set("http.response.status_code", 201);
    } catch (const std::exception& e) {
        span.set("http.response.status_code", 502).error(e.what());
    }
    finish(span);
}

void worker(int number, std::chrono::steady_clock::time_point until) {
    std::mt19937 random(static_cast<unsigned>(number) + 1);
    oteld::SpanContext previous;
    for (int i = 0; std::chrono::steady_clock::now() < until; ++i) {
        const Order order{"A-" + std::to_string(number) + "-" + std::to_string(i),
                          static_cast<int>(random() % 9) + 1,
                          static_cast<double>(random() % 20000) / 100, random() % 16 == 0,
                          random() % 11 == 0};
        auto batch = shop.scope("handle connection", {{"worker", number}});
        checkout(order, previous);
        previous = batch.context();
        finish(batch);
    }
}

std::atomic<std::uint64_t>* map_progress(const char* path) {
    static std::atomic<std::uint64_t> local{0};
    if (path == nullptr) return &local;
    const int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    void* map = file < 0 || ftruncate(file, 8) != 0
                    ? MAP_FAILED
                    : mmap(nullptr, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) {
        std::fprintf(stderr, "orders: cannot map %s: %s\n", path, std::strerror(errno));
        std::exit(1);
    }
    return static_cast<std::atomic<std::uint64_t>*>(map);
}

}  // namespace

int main(int count, char** arguments) {
    double seconds = 2;
    const char* progress = nullptr;
    for (int i = 1; i < count; ++i) {
        if (std::strcmp(arguments[i], "--seconds") == 0 && i + 1 < count)
            seconds = std::strtod(arguments[++i], nullptr);
        else if (std::strcmp(arguments[i], "--progress") == 0 && i + 1 < count)
            progress = arguments[++i];
        else {
            std::fprintf(stderr, "usage: orders [--seconds S] [--progress FILE]\n");
            return 2;
        }
    }
    const oteld::TracerProvider provider{oteld::Settings{}.service("orders", "1.4.0")};
    provider.make_global();
    ended_count = map_progress(progress);
    const auto until =
        std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::nanoseconds>(
                                               std::chrono::duration<double>(seconds));
    std::vector<std::thread> workers;
    workers.reserve(4);
    for (int i = 0; i < 4; ++i) workers.emplace_back(worker, i, until);
    for (std::thread& thread : workers) thread.join();
    std::printf("{\"ended\":%llu}\n", static_cast<unsigned long long>(ended_count->load()));
}
