// A user's program with Boost.Asio. Compiled and run by run.py as program.cpp is; Boost's own
// headers are a system's, ours are not.
#include <boost/asio.hpp>

#include <oteld/asio.hpp>
#include <oteld/testing.hpp>

#include <string>

namespace {

namespace net = boost::asio;

#if defined(__cpp_impl_coroutine)
net::awaitable<int> inner(oteld::Tracer tracer) {
    auto span = tracer.scope("inner");
    net::steady_timer timer(co_await net::this_coro::executor, std::chrono::microseconds(1));
    co_await timer.async_wait(net::use_awaitable);
    co_return 1;
}
net::awaitable<void> outer(oteld::Tracer tracer) {
    auto span = tracer.scope("outer");
    co_await oteld::traced(tracer, "traced", inner(tracer));
}
constexpr std::size_t spans_of_awaitable = 3;
#else
constexpr std::size_t spans_of_awaitable = 0;
#endif

}  // namespace

int main() {
    oteld::testing::Recorder recorder;
    const oteld::Tracer tracer = oteld::tracer("platforms.asio");
    net::io_context io;
    const auto executor = oteld::asio::with_context(io);
    const auto strand = net::make_strand(executor);
    net::steady_timer timer(io, std::chrono::microseconds(1));
    {
        auto span = tracer.scope("before");
        timer.async_wait(
            oteld::asio::bind([&](boost::system::error_code) { (void)tracer.scope("handler"); }));
        net::post(oteld::asio::with_context(io), [&] { (void)tracer.scope("posted"); });
    }
    net::post(strand, [&] { (void)tracer.scope("on strand"); });
#if defined(__cpp_impl_coroutine)
    net::co_spawn(oteld::asio::with_context(io), outer(tracer), net::detached);
#endif
    io.run();
    const std::string before = recorder.find("before").context.span_id_hex();
    return recorder.spans().size() == 4 + spans_of_awaitable &&
                   recorder.find("handler").parent.span_id_hex() == before &&
                   recorder.find("posted").parent.span_id_hex() == before
               ? 0
               : 1;
}
