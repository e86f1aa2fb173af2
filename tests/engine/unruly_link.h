#pragma once
// A link whose puts are late and out of order, and do what a test wants to see survived.
#include <memory>

#include "transfer/link.h"

namespace hylas::test {

struct Unruliness {
  uint64_t seed = 1;
  int64_t delay_us_max = 3000;  // of each put, at random: later ones overtake it
  int damaged_put = -1;         // the put with this number arrives with one bit flipped
  int cut_at_put = -1;          // the peer is lost in the middle of this one
};

std::unique_ptr<Link> make_unruly_link(std::unique_ptr<Link> link, const Unruliness& unruliness);

}  // namespace hylas::test
