#include "engine/disaggregation.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "engine/decode_handoff.h"
#include "engine/prefill_handoff.h"
#include "transfer/shared_memory.h"

namespace hylas {
namespace {

InstanceLayout layout_of(const Startup& startup) {
  InstanceLayout layout;
  layout.model = startup.info.model_name;
  layout.weights = startup.fingerprint;
  layout.page_size = startup.scheduler.page_size;
  layout.pages = startup.scheduler.landing_slots > 0 ? startup.scheduler.landing_pages : startup.scheduler.pages;
  layout.slots = startup.scheduler.landing_slots > 0 ? startup.scheduler.landing_slots : startup.scheduler.slots;
  layout.sizes = startup.info.parallel;
  for (const std::unique_ptr<Rank>& rank : startup.ranks) layout.ranks.push_back(rank->layout());
  return layout;
}

// What this instance's states are sent from, or land in.
std::vector<Region> regions_of(const Startup& startup) {
  std::vector<Region> regions;
  for (const std::unique_ptr<Rank>& rank : startup.ranks) {
    if (const LandingArea* landing = rank->landing()) {
      regions.push_back({landing->memory(), landing->memory_bytes()});
    } else {
      regions.push_back({rank->pools().memory(), rank->pools().memory_bytes()});
    }
  }
  return regions;
}

std::vector<const void*> memory_of(const Startup& startup) {
  std::vector<const void*> memory;
  for (const Region& region : regions_of(startup)) memory.push_back(region.data);
  return memory;
}

// Links read and write host memory: states of a GPU go through some of it, on either side.
bool stages_transfers(const EngineOptions& options) { return options.device != "cpu" || options.stage_transfers; }

// Whoever chooses UCX's transports chooses here, too.
bool shares_memory() { return allows_shm(ucx_transports()); }

// A way to the link for each rank whose memory that cannot read.
Result<std::vector<std::unique_ptr<Stager>>> make_stagers(const Startup& startup, Link& link) {
  std::vector<std::unique_ptr<Stager>> stagers;
  StagerOptions options;
  for (const std::unique_ptr<Rank>& rank : startup.ranks) {
    const size_t needed = largest_write_bytes(rank->layout(), startup.scheduler.page_size);
    options.block_bytes = std::max(options.block_bytes, needed);
  }
  log::info("states leave through host memory: {} blocks of {} MiB for each rank", options.blocks,
            options.block_bytes >> 20);
  for (const std::unique_ptr<Rank>& rank : startup.ranks) {
    HYLAS_ASSIGN(stagers.emplace_back(), Stager::make(rank->device(), link, options));
  }
  return stagers;
}

// UCX's names for the devices: InfiniBand ones with their port. Those that this machine lacks are left out, with a
// warning: the same command line starts on a machine without RDMA.
std::string ucx_devices(const std::string& names) {
  std::string devices;
  for (size_t begin = 0; begin < names.size();) {
    const size_t end = std::min(names.find(',', begin), names.size());
    const std::string name = names.substr(begin, end - begin);
    begin = end + 1;
    const std::string device = name.substr(0, name.find(':'));
    const bool is_rdma = std::filesystem::exists("/sys/class/infiniband/" + device);
    if (!is_rdma && !std::filesystem::exists("/sys/class/net/" + device)) {
      log::warn("--disaggregation-ib-device {}: this machine has no such device; states travel over others", name);
      continue;
    }
    devices += devices.empty() ? "" : ",";
    devices += is_rdma && device == name ? name + ":1" : name;
  }
  return devices;
}

}  // namespace

Status add_landing(const EngineOptions& options, Startup& startup) {
  if (options.role != InstanceRole::kDecode || !stages_transfers(options)) return {};
  SchedulerOptions& scheduler = startup.scheduler;
  LandingNeeds needs{.pages = scheduler.pages, .slots = scheduler.slots};
  needs.prompt_pages = scheduler.longest_prompt_pages();
  for (const std::unique_ptr<Rank>& rank : startup.ranks) {
    needs.page_bytes += rank->layout().bytes_per_token() * scheduler.page_size;
    needs.slot_bytes += rank->layout().bytes_per_sequence();
  }
  const LandingSize size = choose_landing(needs);
  for (const std::unique_ptr<Rank>& rank : startup.ranks) HYLAS_TRY(rank->allocate_landing(size.pages, size.slots));
  scheduler.landing_pages = size.pages;
  scheduler.landing_slots = size.slots;
  log::info("states land in host memory first: {} pages and {} slots{}, {} MiB", size.pages, size.slots,
            scheduler.groups > 1 ? " of each dp group" : "",
            (size.pages * needs.page_bytes + size.slots * needs.slot_bytes) >> 20);
  return {};
}

Result<std::unique_ptr<Disaggregation>> Disaggregation::open(const EngineOptions& options, Startup& startup,
                                                             Scheduler& scheduler, Handoff::Post post,
                                                             std::unique_ptr<Link> link) {
  auto all = std::unique_ptr<Disaggregation>(new Disaggregation);
  if (options.role == InstanceRole::kWhole) {
    all->handoff_ = std::make_unique<Handoff>(scheduler);
    return all;
  }
  all->link_ = std::move(link);
  if (!all->link_) {
    HYLAS_ASSIGN(all->link_, make_nearest_link(shares_memory(), {.devices = ucx_devices(options.transfer_devices)}));
  }
  if (options.disaggregation_secret.empty()) {
    log::warn("no --disaggregation-secret: whoever reaches the bootstrap port can take part");
  }
  if (options.role == InstanceRole::kPrefill) {
    HYLAS_TRY(all->open_prefill(options, startup, scheduler, std::move(post)));
  } else {
    HYLAS_TRY(all->open_decode(options, startup, scheduler, std::move(post)));
  }
  return all;
}

Status Disaggregation::open_prefill(const EngineOptions& options, Startup& startup, Scheduler& scheduler,
                                    Handoff::Post post) {
  HYLAS_TRY(link_->open(regions_of(startup)));
  const PrefillHandoffOptions prefill{.page_size = startup.scheduler.page_size, .seed = startup.scheduler.seed};
  auto handoff = std::make_unique<PrefillHandoff>(scheduler, prefill);
  PrefillHandoff* mine = handoff.get();
  handoff_ = std::move(handoff);
  const InstanceLayout layout = layout_of(startup);
  std::vector<std::unique_ptr<Stager>> stagers;
  if (stages_transfers(options)) {
    HYLAS_ASSIGN(stagers, make_stagers(startup, *link_));
  }
  const Sender::OnSent on_sent = [mine, post](SentReport report) {
    post([mine, report = std::move(report)] { mine->on_sent(report); });
  };
  sender_ = std::make_unique<Sender>(layout, memory_of(startup), *link_, on_sent, std::move(stagers));
  for (const std::unique_ptr<Rank>& rank : startup.ranks) rank->send_through(sender_.get());
  PrefillPortOptions port{.address = options.bootstrap, .secret = options.disaggregation_secret, .layout = layout};
  HYLAS_ASSIGN(auto opened, PrefillPort::open(port, *link_, *sender_, [mine, post](PrefillPort::Event event) {
                 post([mine, event = std::move(event)] { mine->on_event(event); });
               }));
  startup.info.bootstrap_port = opened->port();
  log::info("prefills for other instances, which connect to {}",
            to_string(HostPort{options.bootstrap.host, opened->port()}));
  mine->connect(std::move(opened));
  return {};
}

// No sequence is there yet: the memory is still as it was allocated, all zeros, and stays so.
Result<std::vector<Region>> Disaggregation::share(std::vector<Region> regions) {
  for (Region& region : regions) {
    if (region.bytes == 0) continue;
    HYLAS_ASSIGN(FileHandle file, make_shared_file(region.bytes));
    HYLAS_TRY(put_in_place(file.number(), region.data, region.bytes));
    region.file = files_.emplace_back(std::move(file)).number();
  }
  return regions;
}

Status Disaggregation::open_decode(const EngineOptions& options, Startup& startup, Scheduler& scheduler,
                                   Handoff::Post post) {
  std::vector<Region> regions = regions_of(startup);
  if (shares_memory()) {
    HYLAS_ASSIGN(regions, share(std::move(regions)));
  }
  HYLAS_TRY(link_->open(regions));
  for (const std::unique_ptr<Rank>& rank : startup.ranks) {
    if (LandingArea* landing = rank->landing()) {
      landing->open(
          [&scheduler, post](uint64_t sequence) { post([&scheduler, sequence] { scheduler.on_copied(sequence); }); });
    }
  }
  auto handoff = std::make_unique<DecodeHandoff>(scheduler);
  DecodeHandoff* mine = handoff.get();
  handoff_ = std::move(handoff);
  DecodePortOptions port;
  port.secret = options.disaggregation_secret;
  port.layout = layout_of(startup);
  port.memory = memory_of(startup);
  port.link = link_.get();
  mine->connect(DecodePort::make(std::move(port), [mine, post](DecodePort::Event event) {
    post([mine, event = std::move(event)] { mine->on_event(event); });
  }));
  log::info("decodes what other instances prefill, which requests name by bootstrap_host and bootstrap_port");
  return {};
}

}  // namespace hylas
