#include "router/router_server.h"

#include "base/clock.h"
#include "base/log.h"
#include "router/routes.h"
#include "serve/api_error.h"

namespace hylas::router {
namespace {

constexpr int64_t kTickUs = 20'000;
constexpr int64_t kFileUs = 1'000'000;
constexpr int64_t kFlushUs = 5'000'000;  // for the last bytes of answers
constexpr int kPoolThreads = 2;
constexpr size_t kPoolTasksMax = 65536;

}  // namespace

RouterContext::RouterContext(EventLoop& loop, RouterOptions given)
    : options(std::move(given)),
      loop(loop),
      client(UpstreamClient::create(options.upstream_threads, options.connect_us_max)),
      workers(options),
      selector(workers, options),
      dispatcher(loop, *client, selector, metrics, options,
                 [this](const WorkerPtr& worker, bool refused) { monitor.suspect(worker, refused); }),
      monitor(loop, *client, workers, options,
              {.changed = [this] { dispatcher.pump(); },
               .went_down = [this](const WorkerPtr& worker) { dispatcher.worker_down(worker); }}),
      pool(kPoolThreads, kPoolTasksMax) {}

bool RouterContext::ready() const {
  int64_t at_us = now_us();
  auto some = [&](WorkerKind kind) { return !workers.usable(kind, at_us).empty(); };
  return !stopping && (some(WorkerKind::kWhole) || (some(WorkerKind::kPrefill) && some(WorkerKind::kDecode)));
}

RouterServer::RouterServer(std::unique_ptr<HttpServer> http, RouterOptions options)
    : context_(std::make_unique<RouterContext>(loop_, std::move(options))), http_(std::move(http)) {}

RouterServer::~RouterServer() {
  http_.reset();  // first: no more requests, and those under way learn that their clients are gone
  loop_.stop();
}

Status RouterServer::add_workers() {
  for (const WorkerAddress& address : context_->options.workers) HYLAS_TRY(context_->workers.add(address, false));
  if (!context_->options.workers_file.empty()) {
    file_.emplace(context_->options.workers_file);
    HYLAS_ASSIGN(auto listed, file_->changes());
    context_->workers.follow_file(*listed);
  }
  return {};
}

Status RouterServer::start() {
  HYLAS_TRY(add_workers());
  loop_.post([this] { tick(); });
  RouterContext* context = context_.get();
  auto handler = [context](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    handle_request(*context, std::move(request), std::move(reply));
  };
  return http_->start(handler, [](int status, const std::string& message) { return error_json(status, message); });
}

void RouterServer::tick() {
  int64_t at_us = now_us();
  if (file_ && at_us >= next_file_us_) {
    next_file_us_ = at_us + kFileUs;
    read_workers_file();
  }
  context_->monitor.tick(at_us, context_->dispatcher.waits_for_memory());
  context_->dispatcher.tick(at_us);
  loop_.after(kTickUs, [this] { tick(); });
}

void RouterServer::read_workers_file() {
  auto listed = file_->changes();
  if (!listed.ok()) return log::warn("the workers stay as they are: {}", listed.error().message);
  if (*listed) context_->workers.follow_file(**listed);
}

void RouterServer::stop(int64_t timeout_us) {
  context_->stopping = true;
  http_->stop_accepting();
  loop_.post([this] { context_->dispatcher.stop_taking(); });
  if (http_->wait_idle(timeout_us)) return;
  abort_all();
  http_->wait_idle(kFlushUs);
}

void RouterServer::abort_all() {
  loop_.post([this] { context_->dispatcher.abort_all(); });
}

}  // namespace hylas::router
