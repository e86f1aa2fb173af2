#include "router/metrics.h"

#include <prometheus/text_serializer.h>

namespace hylas::router {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

const prometheus::Histogram::BucketBoundaries kLatencyS = {0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8,
                                                           1.5,   3,     6,     12,   25,    50,   100, 200, 400};

const char* verdict_name(SideEnd::Verdict verdict) {
  switch (verdict) {
    case SideEnd::Verdict::kGood:
      return "good";
    case SideEnd::Verdict::kFailed:
      return "failed";
    case SideEnd::Verdict::kBusy:
      return "busy";
    case SideEnd::Verdict::kRefused:
      return "refused";
    case SideEnd::Verdict::kBroken:
      return "broken";
    case SideEnd::Verdict::kCancelled:
      return "cancelled";
  }
  return "";
}

MetricFamily gauge(const char* name, const char* help, double value) {
  ClientMetric metric;
  metric.gauge.value = value;
  return {std::string("hylas_router:") + name, help, MetricType::Gauge, {metric}};
}

// One gauge for each worker.
template <class Value>
MetricFamily worker_gauge(const WorkerSet& workers, const char* name, const char* help, Value value) {
  MetricFamily family = gauge(name, help, 0);
  family.metric.clear();
  for (const WorkerPtr& worker : workers.all()) {
    ClientMetric metric;
    metric.label = {{"worker", worker->url}, {"worker_type", kind_name(worker->address.kind)}};
    metric.gauge.value = double(value(*worker));
    family.metric.push_back(std::move(metric));
  }
  return family;
}

}  // namespace

RouterMetrics::RouterMetrics()
    : requests_(counter("requests_total", "Requests that have ended")),
      worker_requests_(counter("worker_requests_total", "Requests sent to workers that have ended there")),
      retries_(counter("retries_total", "Times a request was tried again").Add({})),
      request_s_(histogram("request_duration_seconds", "From a request to the end of its answer")),
      first_byte_s_(histogram("time_to_first_byte_seconds", "From a request to the first byte of its answer")),
      queue_s_(histogram("queue_time_seconds", "Time that a request waited before it was sent first")) {}

prometheus::Family<prometheus::Counter>& RouterMetrics::counter(const char* name, const char* help) {
  return prometheus::BuildCounter().Name(std::string("hylas_router:") + name).Help(help).Register(registry_);
}

prometheus::Histogram& RouterMetrics::histogram(const char* name, const char* help) {
  auto& family = prometheus::BuildHistogram().Name(std::string("hylas_router:") + name).Help(help).Register(registry_);
  return family.Add({}, kLatencyS);
}

void RouterMetrics::request_ended(const std::string& endpoint, const char* outcome, int status, int64_t total_us) {
  requests_.Add({{"endpoint", endpoint}, {"outcome", outcome}, {"code", std::to_string(status)}}).Increment();
  request_s_.Observe(double(total_us) * 1e-6);
}

void RouterMetrics::started(int64_t queued_us) { queue_s_.Observe(double(queued_us) * 1e-6); }

void RouterMetrics::first_byte(int64_t wait_us) { first_byte_s_.Observe(double(wait_us) * 1e-6); }

void RouterMetrics::side_ended(const Worker& worker, SideEnd::Verdict verdict) {
  worker_requests_
      .Add(
          {{"worker", worker.url}, {"worker_type", kind_name(worker.address.kind)}, {"outcome", verdict_name(verdict)}})
      .Increment();
}

std::string RouterMetrics::render(const WorkerSet& workers, size_t waiting, size_t active, int64_t now_us) const {
  std::vector<MetricFamily> families = {
      gauge("requests_waiting", "Requests that wait for an instance", double(waiting)),
      gauge("requests_active", "Requests at instances", double(active)),
      worker_gauge(workers, "worker_up", "1: the worker answers its health checks",
                   [](const Worker& worker) { return worker.health.up(); }),
      worker_gauge(workers, "worker_circuit_open", "0 closed, 1 open, 2 half open",
                   [&](const Worker& worker) { return int(worker.breaker.state(now_us)); }),
      worker_gauge(workers, "worker_sequences", "Sequences that the router has at the worker",
                   [](const Worker& worker) { return worker.sent().sequences; }),
      worker_gauge(workers, "worker_slots_free", "State slots that the worker reports free",
                   [](const Worker& worker) { return worker.load ? worker.load->slots_free : 0; }),
      worker_gauge(workers, "worker_pages_free", "KV pages that the worker reports free",
                   [](const Worker& worker) { return worker.load ? worker.load->pages_free : 0; }),
  };
  for (MetricFamily& one : registry_.Collect()) families.push_back(std::move(one));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace hylas::router
